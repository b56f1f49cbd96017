"""Request bodies: bytes in, decoded bytes out, never one byte past the end.

A chunk is handed on as it comes and never gathered. What is refused: everything that another parser could read in
another way, and framing that costs more than it carries. Sources: RFC 9112 §6, §7; RFC 9110 §6.5.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final, Protocol

from hybrid.http.errors import HttpError
from hybrid.http.fields import FIELD_BYTES, Fields, parse_fields

_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?=;|\Z)")
"""A chunk's size. No blank before the semicolon: RFC 9112 §7.1.1 calls it bad white space, and nobody needs it."""

_LINE_BYTES: Final = 256
"""A size and its extensions, which are passed over, at most; without the CRLF."""
_TRAILER_BYTES: Final = 8192
_TRAILER_COUNT: Final = 32
_FREE_FRAMING_BYTES: Final = 16384
_FRAMING_PER_BYTE: Final = 8
"""A body may have so many bytes of framing for each of its own, and 16 KiB besides. One byte in a chunk has 5."""
_NOT_IN_TRAILERS: Final = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect "
    b"forwarded host if-match if-modified-since if-none-match if-range if-unmodified-since max-forwards "
    b"proxy-authorization range set-cookie te trailer transfer-encoding upgrade x-forwarded-for x-forwarded-host "
    b"x-forwarded-proto".split()
)
"""Dropped: what frames, routes, changes or authenticates a request must stand before its body (RFC 9110 §6.5.1)."""


class Body(Protocol):
    """A body that is coming in."""

    is_complete: bool
    """Its last byte was fed."""

    def feed(self, data: bytes, start: int) -> int:
        """Use ``data`` from ``start`` on; return the index of the first byte that is not of the body.

        Raises: HttpError 400, 413, 431: where the next request begins is not known any more.
        """
        ...

    def take(self) -> bytes:
        """Return the decoded bytes that were fed since the last call."""
        ...


def body_of(fields: Fields, limit_bytes: int) -> Body | None:
    """Return what reads the body that a head announces; None if there is none.

    Args: limit_bytes: of the decoded body; 0: no limit. Raises: HttpError 413: it is announced to be longer.
    """
    if fields.chunked:
        return ChunkedBody(limit_bytes)
    length = fields.content_length
    if length <= 0:
        return None
    if limit_bytes and length > limit_bytes:
        raise HttpError(413, f"a body of {length} bytes, {limit_bytes} are allowed")
    return LengthBody(length)


class LengthBody:
    """A body of known length. Source: RFC 9112 §6.2."""

    __slots__ = ("_left", "_new", "is_complete")

    def __init__(self, length: int) -> None:
        self._left = length
        self._new: list[bytes] = []
        self.is_complete = length == 0

    def feed(self, data: bytes, start: int) -> int:
        """Use what is there of the body. Raises: nothing."""
        end = min(len(data), start + self._left)
        self._left -= end - start
        self._new.append(data if end - start == len(data) else data[start:end])
        self.is_complete = self._left == 0
        return end

    def take(self) -> bytes:
        """Return what was fed since the last call."""
        new, self._new = self._new, []
        return new[0] if len(new) == 1 else b"".join(new)


class _Part(IntEnum):
    """What the next byte of a chunked body belongs to."""

    SIZE = 0
    """The line with a chunk's size."""
    DATA = 1
    """The chunk itself."""
    END = 2
    """The CRLF behind it."""
    TRAILER = 3
    """The fields behind the last chunk, or the empty line that ends them."""


class ChunkedBody:
    """A body in chunks. ``trailers``: the fields behind it, once complete. Source: RFC 9112 §7.1."""

    __slots__ = ("_framing", "_left", "_limit", "_new", "_part", "_rest", "_size", "is_complete", "trailers")

    def __init__(self, limit_bytes: int = 0) -> None:
        """``limit_bytes``: of the decoded body; 0: no limit."""
        self._limit = limit_bytes
        self._part = _Part.SIZE
        self._left = 0
        """Of the chunk, still to come."""
        self._rest = b""
        """A line, or a CRLF, that is not whole yet."""
        self._new: list[bytes] = []
        self._size = 0
        self._framing = 0
        self.is_complete = False
        self.trailers: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes, start: int) -> int:
        """Use what is there of the body. Raises: HttpError."""
        kept = len(self._rest)
        if kept:
            data = self._rest + data[start:]
            position = 0
            self._rest = b""
        else:
            position = start
        while not self.is_complete:
            if self._part is _Part.DATA:
                after = self._data(data, position)
            elif self._part is _Part.SIZE:
                after = self._size_line(data, position)
            elif self._part is _Part.END:
                after = self._chunk_end(data, position)
            else:
                after = self._trailer(data, position)
            if after < 0:
                if self._part is not _Part.DATA:
                    self._rest = data[position:]
                position = len(data)
                break
            position = after
        if self._framing > _FREE_FRAMING_BYTES + _FRAMING_PER_BYTE * self._size:
            raise HttpError(400, f"{self._framing} bytes of chunk framing for a body of {self._size}")
        return position - kept + start if kept else position

    def take(self) -> bytes:
        """Return what was decoded since the last call."""
        new, self._new = self._new, []
        return new[0] if len(new) == 1 else b"".join(new)

    # Each returns the index after its part, or -1: it is not whole yet.

    def _size_line(self, data: bytes, start: int) -> int:
        end = data.find(b"\r\n", start, start + _LINE_BYTES + 2)
        if end < 0:
            if len(data) - start > _LINE_BYTES + 1:
                raise HttpError(400, f"a chunk size with extensions of more than {_LINE_BYTES} bytes")
            # A byte that cannot stand here is refused as soon as it comes; a CR may be half of the line's end.
            line = data[start:-1] if data.endswith(b"\r") else data[start:]
            if line.translate(None, FIELD_BYTES):
                raise HttpError(400, f"not a chunk size: {line[:80]!r}")
            return -1
        line = data[start:end]
        match = _SIZE.match(line)
        if match is None or line.translate(None, FIELD_BYTES):
            raise HttpError(400, f"not a chunk size: {line[:80]!r}")
        size = int(match.group(), 16)
        self._framing += end + 2 - start
        if size == 0:
            self._part = _Part.TRAILER
            return end + 2
        self._size += size
        if self._limit and self._size > self._limit:
            raise HttpError(413, f"a body of at least {self._size} bytes, {self._limit} are allowed")
        self._left = size
        self._part = _Part.DATA
        return end + 2

    def _data(self, data: bytes, start: int) -> int:
        end = min(len(data), start + self._left)
        if end > start:
            self._new.append(data[start:end])
            self._left -= end - start
        if self._left:
            return -1
        self._part = _Part.END
        return end

    def _chunk_end(self, data: bytes, start: int) -> int:
        end = data[start : start + 2]
        if end == b"\r\n":
            self._framing += 2
            self._part = _Part.SIZE
            return start + 2
        if end and end != b"\r":
            raise HttpError(400, f"not the end of a chunk: {end!r}")
        return -1

    def _trailer(self, data: bytes, start: int) -> int:
        if data.startswith(b"\r\n", start):
            self.is_complete = True
            return start + 2
        end = data.find(b"\r\n\r\n", start, start + _TRAILER_BYTES + 4)
        if end < 0:
            if len(data) - start > _TRAILER_BYTES + 3:
                raise HttpError(431, f"trailers of more than {_TRAILER_BYTES} bytes")
            return -1
        fields = parse_fields(data[start:end], _TRAILER_COUNT)
        self.trailers = [pair for pair in fields.pairs if pair[0] not in _NOT_IN_TRAILERS]
        self.is_complete = True
        return end + 4
