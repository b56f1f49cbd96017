"""How to stop and go on where the loop's epoll cannot be reached: close the server, make another."""

from __future__ import annotations

import asyncio
import logging

from hybrid.ground.errors import ListenError
from hybrid.worker.acceptors.loop_server import LoopServer
from hybrid.worker.acceptors.raw_server import RawServer

_logger = logging.getLogger("hybrid.error")


class Reopening:
    """Opens and closes a server as wanted; does for a loop without an epoll what a ``Seat`` does for others.

    Wake-ups are plain here: everybody is woken, so that none can be lost with us.
    Runs in: worker, in its loop. Closes: nothing that the server does not. Never raises.
    """

    def __init__(self, server: LoopServer | RawServer) -> None:
        self._server = server
        self._is_open = True
        self._wanted = True
        self._following: asyncio.Task[None] | None = None

    def enter(self) -> None:
        """Have the server open."""
        self._want(True)

    def exit(self) -> None:
        """Have the server closed."""
        self._want(False)

    def renew(self) -> None:
        """Have the server open: tries again if that failed."""
        self._want(True)

    async def close(self) -> None:
        """Wait until the server is closed."""
        self._want(False)
        if self._following is not None:
            await self._following

    def _want(self, is_open: bool) -> None:
        self._wanted = is_open
        if self._following is None and self._wanted is not self._is_open:
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        try:
            while self._wanted is not self._is_open:
                if self._wanted:
                    await self._server.open()
                else:
                    await self._server.close()
                self._is_open = not self._is_open
        except ListenError as error:
            _logger.error("%s The next heartbeat tries again.", error)
        finally:
            self._following = None
