"""The listening socket as asyncio's accept loop should see it.

asyncio (not uvloop) calls ``listen(backlog)`` and then, on each wake-up, ``accept()`` up to ``backlog`` times in a
row: with the kernel's 4096 one worker swallows the queue, with a small number it shrinks the queue of all. And on
EMFILE it takes the listener out of its selector for a second, in which nobody may touch the registration.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from hybrid.shared.accept4 import EXHAUSTED, OF_ONE_CONNECTION


class AsyncioListener(socket.socket):
    """A listener that gives one connection per wake-up, as libuv does, and no error that passes."""

    on_exhausted: Callable[[], None]
    """Called when there is no descriptor or memory for another connection, which stays in the queue."""
    shut = False
    """Set to leave what comes to others."""
    _enough = False

    @classmethod
    def of(cls, listener: socket.socket, fd: int, on_exhausted: Callable[[], None]) -> AsyncioListener:
        """Return one on ``fd``, a descriptor of ``listener``'s socket that it closes."""
        made = cls(listener.family, listener.type, listener.proto, fileno=fd)
        made.on_exhausted = on_exhausted
        return made

    def listen(self, backlog: int = 0, /) -> None:
        """Do nothing: the socket listens already, with the backlog of the settings."""

    def accept(self) -> tuple[socket.socket, object]:
        """Return the next connection, once per wake-up.

        Raises: BlockingIOError: enough, nothing there, or an error that passes: asyncio goes on at the next wake-up.
            OSError: the listener itself is broken.
        Source: accept(2), "Linux accept() passes already-pending network errors on the new socket".
        """
        if self._enough or self.shut:
            self._enough = False
            raise BlockingIOError
        try:
            accepted = super().accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self.on_exhausted()
            elif error.errno not in OF_ONE_CONNECTION:
                raise
            raise BlockingIOError from error
        self._enough = True
        return accepted
