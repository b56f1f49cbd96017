"""One accept(2) on a listening socket, as a socket object; and whether one would find something."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable

from hybrid.shared.accept4 import BLOCKING, EXHAUSTED, accept4


class RawListener:
    """A listener, as far as its connections are served with blocking sockets. Closes: nothing.

    hot: ``socket.accept`` asks for the peer's address and puts it into words, and looks up the family's name for each
    connection; this takes a third of the time (CPython 3.11).
    """

    __slots__ = ("_family", "_protocol", "_type", "fd", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._family, self._type, self._protocol = int(sock.family), int(sock.type), sock.proto

    def accept(self) -> socket.socket | None:
        """Return the next connection as a blocking socket; None: there is none, or it was over before it was accepted.

        Runs in: worker, in any thread; the listener is non-blocking.
        Raises: OSError of :data:`~hybrid.shared.accept4.EXHAUSTED`, or because the listener is broken.
        """
        fd = accept4(self.fd, BLOCKING)
        return socket.socket(self._family, self._type, self._protocol, fd) if fd >= 0 else None

    def accept_or(self, exhausted: Callable[[], None]) -> socket.socket | None:
        """Do the same; call ``exhausted`` when descriptors run out. Raises: OSError: the listener is broken."""
        try:
            return self.accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            exhausted()
            return None


def any_readable(sockets: Iterable[socket.socket]) -> bool:
    """Return whether a connection waits on one of the listeners now."""
    poll = select.poll()  # not select(2), which knows descriptors below 1024 only
    for each in sockets:
        poll.register(each.fileno(), select.POLLIN)
    return bool(poll.poll(0))
