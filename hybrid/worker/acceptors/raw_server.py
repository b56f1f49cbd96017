"""The loop waits for connections on a listener, and gives the accepted sockets away, as they are.

What ``create_server`` is for handlers that run in the loop, for those that do not: same calls, same rules for the
entry in the loop's epoll. One connection for each wake-up: taking more buys nothing, and others are idle.
"""

from __future__ import annotations

import asyncio
import socket

from hybrid.ground.errors import ListenError
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.raw_accept import RawListener
from hybrid.worker.acceptors.receptions import Reception


class RawServer:
    """Accepts on the listener itself; can be closed and opened again.

    Runs in: worker, in its loop. Closes: nothing: the listener is its owner's, and what was accepted is given away.
    """

    def __init__(self, listener: socket.socket, reception: Reception, intake: Intake) -> None:
        self._listener = listener
        self._raw = RawListener(listener)
        self._reception = reception
        self._intake = intake
        self._is_open = False

    @property
    def description(self) -> str:
        """Who serves what is accepted, for the boot line."""
        return self._reception.description

    async def open(self) -> int:
        """Accept; return the descriptor that the loop waits on. Raises: ListenError: it is no listener."""
        listener = self._listener
        try:
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise OSError("it does not listen")
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener.fileno(), self._take_one)
        except OSError as error:
            raise ListenError(f"cannot accept on {listener!r}: {error}. Give a listening stream socket.") from error
        self._is_open = True
        return listener.fileno()

    async def close(self) -> None:
        """Accept no more; every accepted connection has been counted when this returns."""
        await asyncio.sleep(0)  # what this turn was woken for is accepted in it
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
        await self._reception.settle()

    def end(self) -> None:
        """Nothing more is accepted, now or later."""
        self._reception.end()

    def take_all(self) -> None:
        """Take what waits."""
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        if not self._is_open:
            return False
        sock = self._raw.accept_or(self._intake.exhausted)
        if sock is not None:
            self._reception.take(sock)
        return sock is not None
