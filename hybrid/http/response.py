r"""Responses: what an application says in, bytes out.

The head is held back until the first piece of the body, so that both leave in one write. How the body is framed is
decided here, never by the application: its Content-Length is counted, its Transfer-Encoding dropped. Nothing that it
says can end a line: a CR, LF or NUL in a header is an error, not a second response.

Sources: RFC 9110 §6.4.1, §8.6, §15; RFC 9112 §4, §6, §7, §9.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from http import HTTPStatus
from typing import Final

from hybrid.http.errors import HttpError
from hybrid.http.fields import FIELD_BYTES, TOKEN
from hybrid.http.head import Head

_STATUS_LINES: Final[dict[int, bytes]] = {
    status: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CLASSES: Final = ("Informational", "Success", "Redirection", "Client Error", "Server Error")
_LAST_CHUNK: Final = b"0\r\n\r\n"
Pairs = Iterable[tuple[bytes, bytes]]


class Step(IntEnum):
    """How far a response has come."""

    NEW = 0
    """Nothing was said."""
    HELD = 1
    """The head was said, and is held back for the first piece of the body."""
    BODY = 2
    """The head is written."""
    TRAILERS = 3
    """The body is complete, trailers follow."""
    COMPLETE = 4
    """Everything is written."""


class Framing(IntEnum):
    """How the peer knows where the body ends."""

    NONE = 0
    """There is none, whatever the application sends: HEAD, 204, 304."""
    LENGTH = 1
    """Content-Length."""
    CHUNKED = 2
    """Chunks: HTTP/1.1, and the application did not say how long it is."""
    CLOSE = 3
    """The connection closes: the same in HTTP/1.0."""


class Response:
    """The response to one request. Never used again: an application may hold on to it.

    Every call raises RuntimeError where it does not fit, ValueError for what cannot be sent.

    ``must_close``: nothing may follow it on this connection; settled once it is complete.
    """

    __slots__ = ("_framing", "_head", "_left", "_lines", "_step", "_with_trailers", "must_close")

    def __init__(self, head: Head) -> None:
        self._head = head
        self._step = Step.NEW
        self._framing = Framing.NONE
        self._left = 0
        """Of a body whose length was said, still to come."""
        self._lines = b""
        self._with_trailers = False
        self.must_close = not head.keep_alive

    @property
    def has_begun(self) -> bool:
        """Whether a byte of it may have left: it cannot be replaced by another one."""
        return self._step > Step.HELD

    @property
    def is_complete(self) -> bool:
        """Whether its last byte was returned."""
        return self._step is Step.COMPLETE

    def start(
        self, status: int, headers: Pairs, standing: bytes, *, close: bool = False, trailers: bool = False
    ) -> None:
        r"""Take the head. Args: standing: lines that every response has, each with its CRLF; close: end with this one.

        Of ``standing``, a date or server that the application says itself is left out.
        """
        if self._step is not Step.NEW:
            raise RuntimeError("the response has started already: http.response.start is sent once")
        if not 200 <= status <= 999:
            raise ValueError(f"cannot respond with status {status!r}: a response has a number from 200 to 999")
        lines = [_STATUS_LINES.get(status) or _status_line(status)]
        length, standing = self._take_headers(status, headers, standing, lines)
        self.must_close |= close
        head = self._head
        if status in (204, 304) or head.method == "HEAD":
            self._framing = Framing.NONE
        elif length >= 0:
            self._framing, self._left = Framing.LENGTH, length
        elif head.version == "1.1":
            self._framing, self._with_trailers = Framing.CHUNKED, trailers
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            self._framing, self.must_close = Framing.CLOSE, True
        lines.append(standing)
        if self.must_close:
            lines.append(b"connection: close\r\n")
        elif head.version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._lines = b"".join(lines)
        self._step = Step.HELD

    def _take_headers(self, status: int, headers: Pairs, standing: bytes, lines: list[bytes]) -> tuple[int, bytes]:
        """Add what the application says to ``lines``; return its content-length, or -1, and what is left to stand."""
        length = -1
        own = b""
        for name, value in headers:
            lower = name.lower()
            if not name or name.translate(None, TOKEN) or value.translate(None, FIELD_BYTES):
                raise _unfit(name, value)
            if lower == b"content-length":
                before, length = length, _length(value, length)
                if status == 204 or before >= 0:  # not with a 204 (RFC 9110 §8.6), and not twice
                    continue
            elif lower == b"transfer-encoding":
                continue  # framing is ours
            elif lower == b"connection":
                if b"close" in value.lower():
                    self.must_close = True
                    continue  # said below, once
            elif lower == b"date" or lower == b"server":
                own += lower
            lines += (name, b": ", value, b"\r\n")
        return length, _without(standing, own) if own else standing

    def body(self, data: bytes, more: bool) -> bytes:
        """Return what is to be written for a piece of the body, with the head before the first one."""
        if self._step not in (Step.HELD, Step.BODY):
            raise RuntimeError(
                "http.response.body was sent before http.response.start"
                if self._step is Step.NEW
                else "http.response.body was sent after the end of the response"
            )
        framing = self._framing
        if framing is Framing.LENGTH:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError(f"the body is {-self._left} bytes longer than its content-length")
            if self._left and not more:
                raise RuntimeError(f"the body is {self._left} bytes shorter than its content-length")
        elif framing is Framing.CHUNKED:
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            if not more and not self._with_trailers:
                data += _LAST_CHUNK
        elif framing is Framing.NONE:
            data = b""
        if self._step is Step.HELD:
            data = self._lines + data if data else self._lines
            self._lines = b""
            self._step = Step.BODY
        if not more:
            self._step = Step.TRAILERS if self._with_trailers else Step.COMPLETE
        return data

    def trailers(self, headers: Pairs, more: bool) -> bytes:
        """Return what is to be written for trailers; they were announced at the start."""
        if self._step is not Step.TRAILERS:
            raise RuntimeError(
                "http.response.trailers was sent where no trailers were announced, or before the body's end"
            )
        self._lines += _lines(headers)
        if more:
            return b""
        self._step = Step.COMPLETE
        return b"0\r\n" + self._lines + b"\r\n"

    def informational(self, status: int, headers: Pairs) -> bytes:
        """Return a response before the response: 103 (RFC 8297). Raises: RuntimeError: it is too late for one."""
        if self._step is not Step.NEW:
            raise RuntimeError(f"a {status} was sent after http.response.start")
        return (_STATUS_LINES.get(status) or _status_line(status)) + _lines(headers) + b"\r\n"


def refusal(error: HttpError) -> bytes:
    """Return a whole response that says no more than the status, and closes."""
    line = _STATUS_LINES.get(error.status) or _status_line(error.status)
    phrase = line[13:-2] + b"\n"
    return (
        line
        + b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(phrase)
        + phrase
    )


def _lines(headers: Pairs) -> bytes:
    """Return header lines. Raises: ValueError: one is none, or would be more than one."""
    lines = []
    for name, value in headers:
        if not name or name.translate(None, TOKEN) or value.translate(None, FIELD_BYTES):
            raise _unfit(name, value)
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def _unfit(name: bytes, value: bytes) -> ValueError:
    """Return why a header cannot be sent: it would end the line, or worse."""
    if not name or name.translate(None, TOKEN):
        return ValueError(f"cannot send a header named {name!r}: a name is a token (RFC 9110 §5.1)")
    return ValueError(f"cannot send header {name!r}: its value {value[:80]!r} holds a control byte")


def _length(value: bytes, before: int) -> int:
    value = value.strip()
    if not value.isdigit() or before not in (-1, int(value)):
        raise ValueError(f"cannot send content-length {value[:80]!r}: it is one whole number, said once")
    return int(value)


def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {_CLASSES[status // 100 - 1] if status < 600 else 'Unknown'}\r\n".encode()


def _without(standing: bytes, own: bytes) -> bytes:
    """Return the standing lines without those that the application says itself."""
    lines = standing.splitlines(keepends=True)
    return b"".join(line for line in lines if line.partition(b":")[0] not in own)
