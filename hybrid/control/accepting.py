"""Takes connections off a listener of control's, and waits in peace when descriptors run out.

Not asyncio's own way (``create_server``): without descriptors it tries as many times in a row as its backlog has
places, logs a line for each try, and has each followed by one more a second later, which registers the listener anew
and does the same. A crowd at the door of a control with few descriptors wrote 8000 lines a second.

Source: accept(2); BaseSelectorEventLoop._accept_connection() in CPython 3.10 to 3.13.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from hybrid.shared.accept4 import OF_ONE_CONNECTION

AT_ONCE = 32
"""Connections that are taken before somebody else's turn comes."""
AGAIN_S = 1.0
"""After which it is tried again; meanwhile who comes waits in the listener's queue."""
NEWS_EVERY_S = 60.0
"""Between two lines in the log about it."""

_log = logging.getLogger("hybrid.error")


class Accepting:
    """Makes a connection of each who comes, from now on. Runs in: control, in its loop.

    Closes: ``listener``, on :meth:`close`; connections are their protocols'. Args: factory: makes their protocols.
    """

    def __init__(self, listener: socket.socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._listener = listener
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._welcoming: set[asyncio.Task[None]] = set()
        self._quiet_until = 0.0
        listener.setblocking(False)
        self._begin()

    def close(self) -> None:
        """Take nobody any more. May be called twice."""
        if self._retry is not None:
            self._retry.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _begin(self) -> None:
        self._retry = None
        self._loop.add_reader(self._listener, self._take)

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in OF_ONE_CONNECTION:
                    continue
                self._pause(error)
                return
            sock.setblocking(False)
            task = self._loop.create_task(self._welcome(sock))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, sock)
        except OSError:  # it left already
            sock.close()

    def _pause(self, error: OSError) -> None:
        self._loop.remove_reader(self._listener)
        self._retry = self._loop.call_later(AGAIN_S, self._begin)
        if self._loop.time() >= self._quiet_until:
            self._quiet_until = self._loop.time() + NEWS_EVERY_S
            _log.error("control takes no connection: %s; who comes waits", error.strerror or error)
