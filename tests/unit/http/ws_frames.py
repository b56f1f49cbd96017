"""A client's frames as bytes, right ones and wrong ones, and the reader that is fed with them: whole, cut, and cut."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import cycle
from operator import xor

from hybrid.http.deflate import DeflateParameters, Inflater
from hybrid.http.frames import Event, FrameReader

MASK = b"\x37\xfa\x21\x3d"
"""The mask of the RFC's examples: §5.7."""


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """Return ``payload`` under ``mask``, byte by byte as §5.3 says."""
    return bytes(map(xor, payload, cycle(mask)))


def head(first: int, size: int, *, mask: bytes | None = MASK, form: int = 0) -> bytes:
    """Return a frame's header. Args: form: 7, 16 or 64, the bits of the length; 0: the shortest."""
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    second = 0 if mask is None else 0x80
    length = {
        7: bytes([second | size & 0x7F]),
        16: bytes([second | 126]) + (size & 0xFFFF).to_bytes(2, "big"),
        64: bytes([second | 127]) + (size & 2**64 - 1).to_bytes(8, "big"),
    }[form]
    return bytes([first]) + length + (mask or b"")


def sent(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, form: int = 0) -> bytes:
    """Return a frame of a client. Args: rsv: the three reserved bits as a number: 4 is RSV1."""
    return head(fin << 7 | rsv << 4 | opcode, len(payload), form=form) + masked(payload)


def text(payload: str | bytes, *, fin: bool = True) -> bytes:
    """Return a text frame."""
    return sent(1, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def rest(payload: str | bytes, *, fin: bool = True) -> bytes:
    """Return a continuation frame."""
    return sent(0, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return sent(8, code.to_bytes(2, "big") + reason)


def in_frames(opcode: int, payload: bytes, sizes: Iterable[int], *, rsv: int = 0) -> bytes:
    """Return a message in fragments of these sizes, and one more for what is left."""
    frames = []
    for size in sizes:
        frames.append(sent(opcode, payload[:size], fin=False, rsv=rsv))
        payload, opcode, rsv = payload[size:], 0, 0
    return b"".join(frames) + sent(opcode, payload, rsv=rsv)


class Compressor:
    """The other side of an :class:`Inflater`: a client that deflates."""

    def __init__(self, bits: int = 15, *, alone: bool = False) -> None:
        self._bits, self._alone = bits, alone
        self._stream = self._new()

    def _new(self) -> zlib._Compress:
        return zlib.compressobj(9, zlib.DEFLATED, -max(self._bits, 9))

    def deflate(self, data: bytes) -> bytes:
        """Return a message's payload."""
        if self._alone:
            self._stream = self._new()
        return (self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


@dataclass(frozen=True)
class Case:
    """What a client sends, and what comes of it.

    ``events``: what becomes whole; ``code``: of the fault, 0: none. ``between``: whether nothing is unfinished after
    it. ``deflate``: what was agreed on. ``limit``, ``limit_frame``: bytes.
    """

    name: str
    data: bytes
    events: list[Event] = field(default_factory=list)
    code: int = 0
    between: bool = True
    deflate: DeflateParameters | None = None
    limit: int = 16 * 1024 * 1024
    limit_frame: int = 0

    def reader(self) -> FrameReader:
        """Return a reader for it."""
        return FrameReader(self.limit, self.limit_frame, None if self.deflate is None else Inflater(self.deflate))

    @property
    def outcome(self) -> tuple[list[Event], int, bool]:
        """What :func:`outcome` has to be."""
        return self.events, self.code, self.between


def drain(reader: FrameReader, data: bytes) -> list[Event]:
    """Return all that ``data`` makes whole, also what is returned in a second call."""
    events = reader.feed(data)
    while reader.has_more:
        events += reader.feed(b"")
    return events


def outcome(reader: FrameReader, pieces: Iterable[bytes]) -> tuple[list[Event], int, bool]:
    """Return what comes of these pieces: what became whole, the code of the fault, whether nothing is unfinished."""
    events = [event for piece in pieces for event in drain(reader, piece)]
    return events, 0 if reader.error is None else reader.error.code, reader.is_between
