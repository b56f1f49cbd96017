"""How many connections wait to be accepted: what the clients of a slow server notice first.

Source: tcp(7), TCP_INFO; net/ipv4/tcp.c, tcp_get_info: on a listening socket ``tcpi_unacked`` is the length of the
accept queue and ``tcpi_sacked`` its limit (what listen(2) was given, at most net.core.somaxconn).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from hybrid.meters.unix_diag import Queue, UnixDiag

_TCP_LISTEN = 10
_TCP_INFO = struct.Struct("=B23xII")  # struct tcp_info of linux/tcp.h: state, …, unacked, sacked


def tcp_queue(listener: socket.socket) -> Queue | None:
    """Return the accept queue of a listening TCP socket; None: it does not listen. Raises: nothing."""
    try:
        state, length, limit = _TCP_INFO.unpack(
            listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        )
    except (OSError, struct.error):  # closed, no TCP, a kernel that tells less
        return None
    return Queue(length, limit) if state == _TCP_LISTEN else None


class AcceptQueues:
    """The queues of several listening sockets. Closes: what it opened to ask the kernel, never a listener.

    The kernel lets one more wait than the limit says, on each socket.
    """

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        self._listeners = tuple(listeners)
        self._unix = UnixDiag()

    def read(self) -> Queue | None:
        """Return lengths and limits, added up. Raises: nothing.

        None, unless every one is known: a sum that leaves one out would look like a shorter queue.
        """
        if not self._listeners:
            return None
        length = limit = 0
        for listener in self._listeners:
            queue = self._unix.queue(listener) if listener.family == socket.AF_UNIX else tcp_queue(listener)
            if queue is None:
                return None
            length += queue.length
            limit += queue.limit
        return Queue(length, limit)

    def close(self) -> None:
        """Close what was opened to ask the kernel. May be called twice."""
        self._unix.close()
