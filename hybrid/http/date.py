"""The header lines that every response has, made once a second."""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime, time
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(second: int) -> str:
    """Return a moment, in seconds since 1970, as HTTP writes it: ``Sun, 06 Nov 1994 08:49:37 GMT``.

    Not by ``email.utils``: that imports 1 MB of modules, which every process of ours would hold.
    Source: RFC 9110 §5.6.7.
    """
    year, month, day, hour, minute, sec, weekday, _, _ = gmtime(second)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{sec:02} GMT"


class StandingLines:
    r"""``date: …\r\nserver: …\r\n``, as far as they are wanted; call it for the bytes of now.

    Source: RFC 9110 §6.6.1 (Date), §10.2.4 (Server), §5.6.7 (the form of a date).
    """

    __slots__ = ("_bytes", "_clock", "_second", "_server", "_with_date")

    def __init__(self, server: str = "hybrid", *, date: bool = True, clock: Callable[[], float] = time) -> None:
        """``server``: empty for none."""
        self._server = f"server: {server}\r\n".encode("latin-1") if server else b""
        self._with_date = date
        self._clock = clock
        self._second = -1
        self._bytes = self._server

    def __call__(self) -> bytes:
        """Return the lines."""
        if self._with_date:
            second = int(self._clock())
            if second != self._second:
                self._second = second
                self._bytes = b"date: " + http_date(second).encode("ascii") + b"\r\n" + self._server
        return self._bytes
