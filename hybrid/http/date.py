"""The header lines that every response has, made once a second."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from time import time


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
                self._bytes = b"date: " + formatdate(second, usegmt=True).encode("ascii") + b"\r\n" + self._server
        return self._bytes
