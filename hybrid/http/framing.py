"""How the peer knows where the body of a response ends, and the memo of how the last response began."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

Pairs = Iterable[tuple[bytes, bytes]]


class Framing(IntEnum):
    """How the peer knows where the body ends."""

    NONE = 0
    """There is none, whatever the application sends: HEAD, 204, 205, 304."""
    LENGTH = 1
    """Content-Length."""
    CHUNKED = 2
    """Chunks: HTTP/1.1, and the application did not say how long it is."""
    CLOSE = 3
    """The connection closes: the same in HTTP/1.0."""


class StartMemo:
    """The last ordinary start of a response on a listener: HTTP/1.1, not to HEAD.

    hot: ASGI hello; an application that answers with the same headers again costs one comparison. Headers that differ
    each time cost a comparison more; they are kept at every eighth miss only.
    """

    __slots__ = ("_misses", "closes", "framing", "headers", "held", "is_event_stream", "left", "standing", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Pairs = ()
        self.standing = b""
        self.held = b""
        self.framing = Framing.NONE
        self.left = 0
        self.closes = False
        self.is_event_stream = False
        self._misses = 0

    def offer(self, status: int, headers: Pairs, standing: bytes) -> bool:
        """Take a start, if it is its turn and nobody can change the headers afterwards; return whether it was taken."""
        self._misses += 1
        if self._misses % 8 or not isinstance(headers, (list, tuple)) or not is_exact(headers):
            return False
        self.status, self.standing = status, standing
        self.headers = headers if isinstance(headers, tuple) else headers.copy()
        return True


def is_exact(headers: Iterable[Any]) -> bool:
    """Return whether headers are what :data:`Pairs` says, by type: nobody can change a pair afterwards."""
    return all(type(header) is tuple and [type(part) for part in header] == [bytes, bytes] for header in headers)


def exact(headers: Iterable[Any]) -> list[tuple[bytes, bytes]]:
    """Return headers by what :data:`Pairs` says: ASGI lets a pair be any iterable of two, compiled code only a tuple.

    Raises: TypeError: one is no pair of bytes; text is met most.
    """
    pairs: list[tuple[bytes, bytes]] = []
    for header in headers:
        parts = list(header) if isinstance(header, Iterable) and not isinstance(header, (bytes, str)) else []
        if len(parts) != 2 or not all(isinstance(part, (bytes, bytearray, memoryview)) for part in parts):
            raise TypeError(f"cannot send header {header!r:.120}: it is a pair of a name and a value, both bytes")
        pairs.append((bytes(parts[0]), bytes(parts[1])))
    return pairs
