"""A connection line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import EndOfStream, IncompleteRead

if TYPE_CHECKING:
    from hybrid.connection.connection import Connection


class Lines:
    """The iterator that :meth:`Connection.lines` returns. A class, not an async generator: nothing to finalise."""

    __slots__ = ("_connection", "_limit")

    def __init__(self, connection: Connection, limit: int) -> None:
        self._connection = connection
        self._limit = limit

    def __aiter__(self) -> Lines:
        """Return itself: lines are consumed, a second loop goes on where the first one stopped."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next line; the last one may lack its newline.

        Raises: what :meth:`Connection.receive_until` raises, save that the end of the stream ends the loop.
        """
        try:
            line = await self._connection.receive_until(b"\n", self._limit)
        except IncompleteRead:
            try:
                line = await self._connection.receive(self._limit)
            except EndOfStream:
                raise StopAsyncIteration from None
        return line[:-1] if line.endswith(b"\r") else line
