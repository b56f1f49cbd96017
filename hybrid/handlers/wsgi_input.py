"""What a WSGI application reads the request's body from, and what it writes its errors to.

Source: PEP 3333, "Input and Error Streams".
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from typing import Any

from hybrid.connection.failures import log

READ_BYTES = 65536
"""Taken from the loop at a time by an application that reads in small pieces."""


def input_of(take: Callable[[], bytes]) -> io.BufferedReader:
    """Return ``wsgi.input`` for a body that is still coming; ``take`` returns its next piece, or nothing at its end."""
    return io.BufferedReader(_Incoming(take), READ_BYTES)


class _Incoming(io.RawIOBase):
    """A body as it comes. Runs in: the thread of its request, which it makes wait."""

    def __init__(self, take: Callable[[], bytes]) -> None:
        self._take = take
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill what is there already, or comes next; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(self._take())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def readall(self) -> bytes:
        """Return all of it."""
        pieces = [bytes(self._rest)]
        self._rest = memoryview(b"")
        while piece := self._take():
            pieces.append(piece)
        return b"".join(pieces)


class Errors(io.TextIOBase):
    """``wsgi.errors``: each line becomes a record in our log. The same for all requests; threads do not mix lines.

    ``was_used``: whether anything was ever written; then who ends a request flushes what is left of its last line.
    """

    def __init__(self, name: str) -> None:
        self.was_used = False
        self._name = name
        self._mine = threading.local()

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, text: str) -> int:
        """Log whole lines; keep the rest."""
        self.was_used = True
        *lines, rest = (getattr(self._mine, "rest", "") + text).split("\n")
        self._mine.rest = rest
        for line in lines:
            self._log(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]  # typeshed says Iterable[Any]
        """Write one after another."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what is no whole line."""
        rest, self._mine.rest = getattr(self._mine, "rest", ""), ""
        if rest:
            self._log(rest)

    def _log(self, line: str) -> None:
        if line.strip():
            log.error("app %s: %s", self._name, line.rstrip())
