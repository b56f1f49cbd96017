"""Status lines, and whole responses that say no more than their status.

Sources: RFC 9110 §15; RFC 9112 §4.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from hybrid.http.errors import HttpError

_LINES: Final[dict[int, bytes]] = {
    status: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CLASSES: Final = ("Informational", "Success", "Redirection", "Client Error", "Server Error")


def status_line(status: int) -> bytes:
    """Return the status line, with a reason phrase also for a number that nobody has given one (RFC 9112 §4)."""
    line = _LINES.get(status)
    if line is None:
        phrase = _CLASSES[status // 100 - 1] if status < 600 else "Unknown"
        line = f"HTTP/1.1 {status} {phrase}\r\n".encode()
    return line


def refusal(error: HttpError, standing: bytes = b"", *, to_head: bool = False) -> bytes:
    """Return a whole response that says no more than the status, and closes.

    ``standing``: lines that every response has; a server with a clock says the date (RFC 9110 §6.6.1). ``to_head``:
    the request was HEAD: the head says how long the body would be.
    """
    line = status_line(error.status)
    phrase = refusal_body(error)
    return b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b" % (
        line,
        len(phrase),
        standing,
        b"" if to_head else phrase,
    )


def refusal_body(error: HttpError) -> bytes:
    """Return the body of a :func:`refusal`: the reason phrase."""
    return (status_line(error.status))[13:-2] + b"\n"
