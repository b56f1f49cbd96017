"""What one thread waits on to accept: an epoll of its own with the listeners in it, and a way to call it off.

A thread could simply block in accept(2), as the textbook's do. But then nobody can call it back: closing or shutting
down the socket ends it for every process, and a receive timeout would wake each idle thread several times a second.
So a thread first tries to accept, which is all it needs while connections wait; only when none does, it sleeps in an
epoll of its own. EPOLLEXCLUSIVE makes that as good as a blocking accept: one sleeper is woken, the one that waits
longest, since each goes to the tail of the wait queue after it was woken.

Source: accept(2), epoll_ctl(2) EPOLLEXCLUSIVE, eventfd(2).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from hybrid.worker.acceptors.exclusive import EXCLUSIVE
from hybrid.worker.acceptors.raw_accept import accept


class Watch:
    """The listeners that one thread sleeps on.

    Runs in: worker; :meth:`take` in the thread, one at a time, everything else in the loop.
    Closes: its epoll, on :meth:`close`.
    """

    def __init__(self, bell_fd: int) -> None:
        """``bell_fd``: readable while nobody is to wait here."""
        self._epoll = select.epoll()
        self._epoll.register(bell_fd, select.EPOLLIN)
        self._listeners: dict[int, socket.socket] = {}
        self._recent: list[socket.socket] = []
        """Where the last connection came from: tried before sleeping."""

    def add(self, listener: socket.socket) -> None:
        """Wait for connections on ``listener`` too."""
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), EXCLUSIVE)

    def remove(self, listener: socket.socket) -> None:
        """Wait on it no longer. A thread that was woken for a connection on it still takes that one."""
        if self._listeners.pop(listener.fileno(), None) is not None:
            self._epoll.unregister(listener.fileno())
            self._recent = []

    def renew(self) -> None:
        """See what waits in the queues: heals a wake-up that was lost with somebody who died of it."""
        for fd in tuple(self._listeners):
            self._rotate(fd)

    def take(self, is_wanted: Callable[[], bool]) -> socket.socket | None:
        """Return the next connection, or None once it is not wanted any more and none is left that woke us.

        Raises: OSError: no descriptor or memory for it (see ``raw_accept``).
        """
        ready = self._recent
        has_slept = False
        while True:
            for listener in ready:
                sock = accept(listener)
                if sock is not None:
                    self._recent = [listener]
                    if has_slept:
                        self._rotate(listener.fileno())
                    return sock
            if not is_wanted():
                return None
            ready = [self._listeners[fd] for fd, _mask in self._epoll.poll() if fd in self._listeners]
            has_slept = True

    def close(self) -> None:
        """Let go of the epoll; nobody waits here any more."""
        self._epoll.close()

    def _rotate(self, fd: int) -> None:
        """Go to the tail of the wait queue: the next connection is somebody else's, if somebody else waits."""
        try:
            self._epoll.unregister(fd)
            self._epoll.register(fd, EXCLUSIVE)
            if fd not in self._listeners:
                self._epoll.unregister(fd)
        except (OSError, ValueError):
            pass  # the loop removed it, or rotated it itself, meanwhile
