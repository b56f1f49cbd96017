"""What one thread waits on to accept: an epoll of its own, and a way to call it back.

A thread could simply block in accept(2), as the textbook's do. But then nobody can call it back: closing or shutting
down the socket ends it for every process, and a receive timeout would wake each idle thread several times a second.
So a thread first tries to accept, which is all it needs while connections wait; only when none does, it enters the
listeners into its epoll, sleeps in it, and takes them out again. EPOLLEXCLUSIVE makes that as good as a blocking
accept: one sleeper is woken, the one that waits longest, since each enters at the tail of the wait queue. (Entries
that stay while their thread is busy would be walked over for each connection of everybody else.)

Source: accept(2), epoll_ctl(2) EPOLLEXCLUSIVE, eventfd(2).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from hybrid.worker.acceptors.exclusive import EXCLUSIVE
from hybrid.worker.acceptors.raw_accept import RawListener


class Watch:
    """The listeners that one thread sleeps on.

    Runs in: worker; :meth:`take` in the thread, one at a time, everything else in the loop. What both do to the epoll
    may cross: an entry that is there already, or is not there any more, is no error.
    Closes: its epoll, on :meth:`close`.
    """

    def __init__(self, bell_fd: int) -> None:
        """``bell_fd``: readable while nobody is to wait here."""
        self._epoll = select.epoll()
        self._epoll.register(bell_fd, select.EPOLLIN)
        self._bell_fd = bell_fd
        self._listeners: dict[int, RawListener] = {}
        """Never changed, only replaced: the thread goes through it."""
        self._recent: list[RawListener] = []
        """Where the last connection came from: tried before sleeping."""

    def add(self, listener: socket.socket) -> None:
        """Wait for connections on ``listener`` too; a thread that sleeps is woken by them as well."""
        fd = listener.fileno()
        self._listeners = {**self._listeners, fd: RawListener(listener)}
        self._enter(fd)

    def remove(self, listener: socket.socket) -> None:
        """Wait on it no longer. A thread that was woken for a connection on it still takes that one."""
        fd = listener.fileno()
        self._listeners = {other: each for other, each in self._listeners.items() if other != fd}
        self._recent = []
        self._exit(fd)

    def renew(self) -> None:
        """Have a sleeper look at the queues: heals a wake-up that was lost with somebody who died of it."""
        for fd in self._listeners:
            if self._exit(fd):  # somebody sleeps
                self._enter(fd)

    def take(self, is_wanted: Callable[[], bool]) -> socket.socket | None:
        """Return the next connection, or None once it is not wanted any more and none is left that woke us.

        Raises: OSError: no descriptor or memory for it, or the listener is broken.
        """
        ready = self._recent
        while True:
            for listener in ready:
                sock = listener.accept()
                if sock is not None:
                    return sock
            if not is_wanted():
                return None
            self._recent = ready = self._sleep()

    def close(self) -> None:
        """Let go of the epoll; nobody waits here any more."""
        self._epoll.close()

    def _sleep(self) -> list[RawListener]:
        """Wait until a listener has a connection, or the bell rings; return those that have."""
        listeners = self._listeners
        for fd in listeners:
            self._enter(fd)
        events = self._epoll.poll()
        for fd in listeners:
            self._exit(fd)
        for fd, _mask in events:
            if fd not in listeners and fd != self._bell_fd:
                self._exit(fd)  # added or removed while we were on our way in
        return [listeners[fd] for fd, _mask in events if fd in listeners]

    def _enter(self, fd: int) -> None:
        try:
            self._epoll.register(fd, EXCLUSIVE)
        except OSError:
            pass  # it is there already

    def _exit(self, fd: int) -> bool:
        try:
            self._epoll.unregister(fd)
        except OSError:
            return False  # it is not there
        return True
