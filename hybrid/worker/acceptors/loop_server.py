"""The loop's own server on a listener: ``loop.create_server`` with its traps covered.

``create_server`` is the cheapest way in: an own accept loop on ``add_reader`` costs 14 µs more per connection.
"""

from __future__ import annotations

import asyncio
import os
import socket

from hybrid.ground.errors import ListenError
from hybrid.worker.acceptors.acceptor import Entrance, Factory
from hybrid.worker.acceptors.asyncio_listener import AsyncioListener
from hybrid.worker.acceptors.intake import Intake

_OPEN_TURNS = 3
"""Turns of the loop until an accepted connection has been opened: asyncio takes a task step and a callback."""


class LoopServer:
    """Serves a duplicate of the listener, so that it can be closed and opened again.

    Runs in: worker, in its loop. Closes: the duplicate. Neither loop calls shutdown(2) on it, which would end the
    listener for every process.
    """

    def __init__(self, entrance: Entrance, factory: Factory, intake: Intake) -> None:
        self._entrance = entrance
        self._factory = factory
        self._intake = intake
        self._served: socket.socket | None = None
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> int:
        """Accept; return the descriptor that the loop waits on.

        Raises: ListenError: the loop does not take the listener.
        """
        listener = self._entrance.listener
        loop = asyncio.get_running_loop()
        served: socket.socket
        try:
            fd = os.dup(listener.fileno())
            if isinstance(loop, asyncio.BaseEventLoop):
                served = AsyncioListener.of(listener, fd, self._intake.exhausted)
            else:
                served = socket.socket(listener.family, listener.type, listener.proto, fileno=fd)
            self._served = served
            # Also for unix sockets: create_unix_server would, on 3.13+, remove the file when this worker leaves.
            self._server = await loop.create_server(self._factory, sock=served, backlog=self._entrance.backlog)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            if self._served is not None:
                self._served.close()
            raise ListenError(f"cannot accept on {listener!r}: {error}. Give a listening stream socket.") from error
        return fd

    async def close(self) -> None:
        """Accept no more; every accepted connection has been opened when this returns."""
        if isinstance(self._served, AsyncioListener):
            self._served.shut = True  # asyncio drops a connection whose transport it makes after the close
        for _ in range(_OPEN_TURNS):
            await asyncio.sleep(0)
        if self._server is not None:
            self._server.close()
        self._server = self._served = None
