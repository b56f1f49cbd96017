"""One accept(2) on a listening socket, with the errors that are nobody's fault passed over."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterable

PASSING = {
    errno.ECONNABORTED,
    errno.EPERM,  # a firewall's rule
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENONET,
}
"""Errors of one connection, not of the listener."""
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""No descriptor or memory for another connection, which stays in the queue."""


def accept(listener: socket.socket) -> socket.socket | None:
    """Return the next connection as a blocking socket; None: there is none, or it failed before it was accepted.

    Runs in: worker, in any thread; the listener is non-blocking.
    Raises: OSError of :data:`EXHAUSTED`, or because the listener itself is broken.
    Source: accept(2), "Linux accept() passes already-pending network errors on the new socket".
    """
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in PASSING:
            return None
        raise


def any_readable(sockets: Iterable[socket.socket]) -> bool:
    """Return whether a connection waits on one of the listeners now."""
    poll = select.poll()  # not select(2), which knows descriptors below 1024 only
    for each in sockets:
        poll.register(each.fileno(), select.POLLIN)
    return bool(poll.poll(0))
