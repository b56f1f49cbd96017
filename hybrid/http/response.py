r"""Responses: what an application says in, bytes out.

The head is held back until the first piece of the body, so that both leave in one write. How the body is framed is
decided here, never by the application: its Content-Length is counted, its Transfer-Encoding dropped. Nothing that it
says can end a line: a CR, LF or NUL in a header is an error, not a second response.

Sources: RFC 9110 §6.4.1, §8.6, §15; RFC 9112 §4, §6, §7, §9.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final

from hybrid.http.fields import TOKEN, has_control
from hybrid.http.framing import Framing, Pairs, StartMemo, exact, is_exact
from hybrid.http.head import Head
from hybrid.http.lifecycle import (
    COMPLETE,
    HELD,
    HINT,
    LAST,
    LAST_BEFORE_TRAILERS,
    LAST_TRAILER,
    NEW,
    PIECE,
    START,
    STEP_AFTER,
    TRAILER,
)
from hybrid.http.status import status_line

_LAST_CHUNK: Final = b"0\r\n\r\n"
_NO_BYTES: Final = b"content-length: 0\r\n"
_CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"


class _Field(IntEnum):
    """What a header of the application's means to us."""

    PLAIN = 0
    """Nothing."""
    LENGTH = 1
    CODING = 2
    CONNECTION = 3
    STANDING = 4
    """One of the lines that every response has."""
    TYPE = 5


_COMMON = (
    "Accept-Ranges Access-Control-Allow-Credentials Access-Control-Allow-Headers Access-Control-Allow-Methods "
    "Access-Control-Allow-Origin Access-Control-Expose-Headers Access-Control-Max-Age Age Allow Cache-Control "
    "Content-Disposition Content-Encoding Content-Language Content-Location Content-Range Content-Security-Policy "
    "Cross-Origin-Opener-Policy ETag Expires Last-Modified Link Location Permissions-Policy "
    "Referrer-Policy Retry-After Set-Cookie Strict-Transport-Security Vary Via WWW-Authenticate "
    "X-Content-Type-Options X-Frame-Options X-Request-ID"
)
_OURS: Final = {
    "Content-Length": _Field.LENGTH,
    "Transfer-Encoding": _Field.CODING,
    "Connection": _Field.CONNECTION,
    "Date": _Field.STANDING,
    "Server": _Field.STANDING,
    "Content-Type": _Field.TYPE,
}
_FIELDS: Final[dict[bytes, _Field]] = {
    spelling: _OURS.get(name, _Field.PLAIN)
    for name in (*_COMMON.split(), *_OURS)
    for spelling in (name.encode(), name.lower().encode(), name.title().encode())
}
"""Common names as applications write them: a hit is a token, and needs no second look."""
_NOT_IN_TRAILERS: Final = frozenset(
    b"cache-control connection content-encoding content-length content-range content-type date expires host keep-alive "
    b"location proxy-connection retry-after set-cookie te trailer transfer-encoding upgrade vary".split()
)
"""What frames or steers must stand before the body (RFC 9110 §6.5.1)."""
_NOT_IN_1XX: Final = frozenset((b"content-length", b"transfer-encoding", b"connection"))
"""A 1xx has no body and closes nothing: RFC 9110 §8.6, RFC 9112 §6.1."""


_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing
_IS_PLAIN, _IS_LENGTH, _IS_CODING, _IS_CONNECTION, _IS_STANDING, _IS_TYPE = _Field
# hot: whole response, 2 headers; a member by its own name costs 90 ns less than through its class (CPython 3.11).


class Response:
    """The response to one request. Never used again: an application may hold on to it.

    Every call raises RuntimeError where it does not fit, ValueError for what cannot be sent.

    ``must_close``: nothing may follow it on this connection; settled once it is complete. ``is_event_stream``: its head
    says that events follow, without end; once it has started. ``is_complete``: its last byte was returned.
    """

    __slots__ = (
        "_framing",
        "_head",
        "_held",
        "_left",
        "_memo",
        "_step",
        "_trailers",
        "_with_trailers",
        "is_complete",
        "is_event_stream",
        "must_close",
    )

    def __init__(self, head: Head, memo: StartMemo | None = None) -> None:
        """``memo``: shared by the responses of a listener."""
        self._head = head
        self._memo = memo
        self._step = NEW
        self._framing = _NONE
        self._left = 0
        """Of a body whose length was said, still to come."""
        self._held = b""
        """The head, until the first piece of the body comes."""
        self._trailers = b""
        self._with_trailers = False
        self.must_close = not head.keep_alive
        self.is_event_stream = False
        self.is_complete = False  # hot: ASGI hello; as a property 60,311 instructions, 59,147 so

    @property
    def has_begun(self) -> bool:
        """Whether a byte of it may have left: it cannot be replaced by another one."""
        return self._step is not NEW and self._step is not HELD

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body are sent; once it has started."""
        return self._framing is not _NONE

    @property
    def left(self) -> int:
        """Bytes still to come of a body whose length was said; -1: it was not, or there is none."""
        return self._left if self._framing is _LENGTH else -1

    def say_length(self, size: int) -> None:
        """Say how long the body is, if that was not said. Between its start and its first piece."""
        if self._step is not HELD or self._framing is not _CHUNKED:
            return
        before, _, after = self._held.rpartition(_CHUNKED_LINE)  # the last one: it is ours
        self._held = b"%bcontent-length: %d\r\n%b" % (before, size, after)
        self._framing, self._left = _LENGTH, size

    def head_alone(self) -> bytes:
        """Return the head; the whole body, whose length was said, leaves by another way (sendfile)."""
        if self._step is not HELD or self._framing is not _LENGTH:
            raise RuntimeError("only a body whose length was said can leave by another way, and only whole")
        held, self._held, self._left, self._step = self._held, b"", 0, COMPLETE
        self.is_complete = True
        return held

    def start(
        self, status: int, headers: Pairs, standing: bytes, *, close: bool = False, trailers: bool = False
    ) -> None:
        r"""Take the head. Args: standing: lines that every response has, each with its CRLF; close: end with this one.

        Of ``standing``, a date or server that the application says itself is left out.
        """
        after = STEP_AFTER[self._step][START]
        if after is None:
            raise RuntimeError("the response has started already: http.response.start is sent once")
        self._with_trailers = trailers
        self.must_close |= close
        head, memo = self._head, self._memo
        closes = self.must_close
        if head.method == "HEAD" or head.version == "1.0":
            memo = None
        elif (
            memo is not None
            and memo.standing is standing
            and memo.status == status
            and memo.closes is closes
            and memo.headers == headers
        ):
            self._held, self._framing, self._left = memo.held, memo.framing, memo.left
            self.is_event_stream = memo.is_event_stream
            self._step = after
            return
        self._held = self._make(status, headers, standing)
        self._step = after
        if memo is not None and self.must_close is closes and memo.offer(status, headers, standing):
            memo.held, memo.framing, memo.left, memo.closes = self._held, self._framing, self._left, closes
            memo.is_event_stream = self.is_event_stream

    def _make(self, status: int, headers: Pairs, standing: bytes) -> bytes:
        """Return the head, and settle how the body is framed."""
        if not 200 <= status <= 999:
            raise ValueError(f"cannot respond with status {status!r}: a response has a number from 200 to 999")
        if not isinstance(headers, (list, tuple)):
            headers = list(headers)  # they may be there to be read once
        lines: list[bytes] = []
        try:
            length, own_standing = self._take_headers(status, headers, standing, lines)
            block = b"".join(lines)
        except (TypeError, ValueError, AttributeError):
            if is_exact(headers):
                raise
            return self._make(status, exact(headers), standing)
        if has_control(b"".join(lines[2::4])):  # the values; names are tokens
            raise _unfit_among(lines)
        head = self._head
        coding = b""
        if status in (204, 205, 304) or head.method == "HEAD":
            self._framing = _NONE
            if status == 205:  # unlike the others it has content, of no bytes: RFC 9110 §15.3.6
                coding = _NO_BYTES
        elif length >= 0:
            self._framing, self._left = _LENGTH, length
        elif head.version == "1.1":
            self._framing, coding = _CHUNKED, _CHUNKED_LINE
        else:
            self._framing, self.must_close = _CLOSE, True
        if self.must_close:
            end = b"connection: close\r\n\r\n"
        else:
            end = b"\r\n" if head.version == "1.1" else b"connection: keep-alive\r\n\r\n"
        return b"".join((status_line(status), block, coding, own_standing, end))

    def _take_headers(self, status: int, headers: Pairs, standing: bytes, lines: list[bytes]) -> tuple[int, bytes]:
        """Add what the application says to ``lines``; return its content-length, or -1, and what is left to stand."""
        length = -1
        own: list[bytes] = []
        for name, value in headers:
            field = _FIELDS.get(name)
            if field is None:
                if not name or name.translate(None, TOKEN):
                    raise _unfit(name, value)
                field = _FIELDS.get(name.lower(), _IS_PLAIN)
            if field is not _IS_PLAIN:
                if field is _IS_LENGTH:
                    before, length = length, _length(value, length)
                    if status in (204, 205) or before >= 0:  # a 204 has none (RFC 9110 §8.6), a 205 ours; not twice
                        continue
                elif field is _IS_CODING:
                    continue  # framing is ours
                elif field is _IS_CONNECTION:
                    value = self._options(value)
                    if not value:
                        continue
                elif field is _IS_TYPE:
                    self.is_event_stream = value.lower().startswith(b"text/event-stream")
                else:
                    own.append(name.lower())
            lines += (name, b": ", value, b"\r\n")
        return length, standing_without(standing, own) if own else standing

    def _options(self, value: bytes) -> bytes:
        """Return what Connection lists, without whether it closes: that is said once, below, and by us."""
        others = []
        for option in value.split(b","):
            option = option.strip()
            lower = option.lower()
            if lower == b"close":
                self.must_close = True
            elif option and lower != b"keep-alive":
                others.append(option)
        return b", ".join(others)

    def body(self, data: bytes | bytearray | memoryview, more: object) -> bytes:
        """Return what is to be written for a piece of the body, with the head before the first one.

        Args: more: its truth counts, as everywhere here: an application may say 1.
        A piece that is refused changes nothing: it is not written, and it is not counted.
        """
        said = PIECE if more else LAST_BEFORE_TRAILERS if self._with_trailers else LAST
        step = self._step
        after = STEP_AFTER[step][said]
        if after is None:
            raise RuntimeError(
                "http.response.body was sent before http.response.start"
                if step is NEW
                else "http.response.body was sent after the end of the response"
            )
        if type(data) is not bytes:
            data = _as_bytes(data)
        framing = self._framing
        if framing is _LENGTH:
            left = self._left - len(data)
            if left < 0:
                raise RuntimeError(f"the body is {-left} bytes longer than its content-length")
            if left and not more:
                raise RuntimeError(f"the body is {left} bytes shorter than its content-length")
            self._left = left
        elif framing is _CHUNKED:
            if data:
                data = b"%x\r\n%b\r\n%b" % (len(data), data, _LAST_CHUNK if said is LAST else b"")
            elif said is LAST:
                data = _LAST_CHUNK
        elif framing is _NONE:
            data = b""
        if step is HELD:
            data = self._held + data
            self._held = b""
        self._step = after
        self.is_complete = after is COMPLETE
        return data

    def trailers(self, headers: Iterable[Any], more: object) -> bytes:
        """Return what is to be written for trailers; they were announced at the start.

        Nothing, where the response cannot carry them: without chunks. They may always be dropped (RFC 9110 §6.5.1).
        """
        after = STEP_AFTER[self._step][TRAILER if more else LAST_TRAILER]
        if after is None:
            raise RuntimeError(
                "http.response.trailers was sent where no trailers were announced, or before the body's end"
            )
        lines = header_lines(headers, _NOT_IN_TRAILERS)
        self._step = after
        self.is_complete = after is COMPLETE
        if self._framing is not _CHUNKED:
            return b""
        self._trailers += lines
        return b"" if more else b"0\r\n" + self._trailers + b"\r\n"

    def informational(self, status: int, headers: Iterable[Any]) -> bytes:
        """Return a response before the response: 103 (RFC 8297). To a client of HTTP/1.0: nothing (RFC 9110 §15.2).

        Raises: RuntimeError: it is too late for one; ValueError: it would not be one. 101 ends HTTP: not said here.
        """
        if STEP_AFTER[self._step][HINT] is None:
            raise RuntimeError(f"a {status} was sent after http.response.start")
        if not 100 <= status <= 199 or status == 101:
            raise ValueError(f"cannot send status {status!r} before a response: 100 and 102 to 199 may come before")
        lines = header_lines(headers, _NOT_IN_1XX)
        if self._head.version == "1.0":
            return b""
        return status_line(status) + lines + b"\r\n"


_TOO_LATE: Final = "in a trailer or a 1xx: it belongs to the head of the response"


def header_lines(headers: Iterable[Any], refused: frozenset[bytes], why: str = _TOO_LATE) -> bytes:
    """Return header lines, of what :func:`~hybrid.http.framing.exact` takes.

    Args: refused: lower-cased names that are not the application's to say here; why: the end of the message about it.
    Raises: ValueError: one is none, would be more than one, or is refused; TypeError: one is no pair of bytes.
    """
    lines = []
    for name, value in exact(headers):
        if not name or name.translate(None, TOKEN) or has_control(value):
            raise _unfit(name, value)
        if name.lower() in refused:
            raise ValueError(f"cannot send {name!r} {why}")
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def _as_bytes(data: object) -> bytes:
    """Return what an application gave for bytes. Raises: TypeError: text, or nothing of the kind; it was not sent."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"cannot send a body of type {type(data).__name__}: it is bytes")


def _unfit_among(lines: list[bytes]) -> ValueError:
    """Return why the first header that cannot be sent cannot; of ``lines`` each header is four."""
    for name, value in zip(lines[::4], lines[2::4], strict=True):
        if has_control(value):
            return _unfit(name, value)
    raise AssertionError("no header holds a control byte")


def _unfit(name: bytes, value: bytes) -> ValueError:
    """Return why a header cannot be sent: it would end the line, or worse."""
    if not name or name.translate(None, TOKEN):
        return ValueError(f"cannot send a header named {name!r}: a name is a token (RFC 9110 §5.1)")
    return ValueError(f"cannot send header {name!r}: its value {value[:80]!r} holds a control byte")


def _length(value: bytes, before: int) -> int:
    value = value.strip()
    length = int(value) if value.isdigit() else -1
    if length < 0 or (before >= 0 and before != length):
        raise ValueError(f"cannot send content-length {value[:80]!r}: it is one whole number, said once")
    return length


def standing_without(standing: bytes, own: list[bytes]) -> bytes:
    """Return the standing lines without those in ``own``, lower-cased: the application says them itself."""
    lines = standing.splitlines(keepends=True)
    return b"".join(line for line in lines if line.partition(b":")[0].lower() not in own)
