"""The accept queue of a unix socket, asked of the kernel by netlink.

TCP tells by getsockopt; a unix socket has no such option, and /proc/net/unix does not show the queue. ``ss -lx`` gets
it this way. No privilege is needed.

Source: sock_diag(7), netlink(7); linux/unix_diag.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_UDIAG_SHOW_RQLEN = 0x10
_UNIX_DIAG_RQLEN = 4
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
_TCP_LISTEN = 10

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBHIIIII")  # unix_diag_req: family, protocol, pad, states, inode, show, cookie
_ANSWER = struct.Struct("=BBBBIII")  # unix_diag_msg: family, type, state, pad, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_LENGTHS = struct.Struct("=II")  # unix_diag_rqlen: of a listener, its queue and its limit


class Queue(NamedTuple):
    """An accept queue: how many connections wait in it, and how many may."""

    length: int
    limit: int


class Netlink(Protocol):
    """What is asked of the netlink socket; tests bring a kernel of their own."""

    def send(self, data: bytes, /) -> int:
        """Ask."""
        ...

    def recv(self, count: int, /) -> bytes:
        """Return the answer. Raises: BlockingIOError: there is none."""
        ...

    def close(self) -> None:
        """End."""
        ...


def open_netlink() -> Netlink:
    """Return a socket to the kernel. Raises: OSError: there is no such kernel, or no descriptor left."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)


class UnixDiag:
    """One netlink socket, opened at the first question. Closes: it, on :meth:`close`.

    It sees the sockets of the network namespace it was opened in.
    """

    def __init__(self, connect: Callable[[], Netlink] = open_netlink) -> None:
        self._connect = connect
        self._netlink: Netlink | None = None
        self._sequence = 0

    def queue(self, listener: socket.socket) -> Queue | None:
        """Return the accept queue of a listening unix socket; None: unknown. Raises: nothing."""
        try:
            inode = os.fstat(listener.fileno()).st_ino
            queue = self._ask(inode & 0xFFFFFFFF)
        except (OSError, struct.error):  # closed; no netlink, no unix_diag; an answer we cannot read
            queue = None
        if queue is None:
            self.close()  # what else it might have to say answers no question of ours
        return queue

    def close(self) -> None:
        """Close the netlink socket; the next question opens another. May be called twice."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _ask(self, inode: int) -> Queue | None:
        if self._netlink is None:
            self._netlink = self._connect()
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ANY_STATE, inode, _UDIAG_SHOW_RQLEN, _NO_COOKIE, _NO_COOKIE)
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0)
        self._netlink.send(head + body)
        # The kernel answers within the call: whoever finds nothing here has no answer to wait for.
        return parse(self._netlink.recv(4096), self._sequence, inode)


def parse(answer: bytes, sequence: int, inode: int) -> Queue | None:
    """Return what an answer says of the listener ``inode``; None: an error, or the answer to another question.

    Raises: struct.error: it ends too early.
    """
    length, kind, _flags, answered, _port = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY or answered != sequence:
        return None
    family, _type, state, _pad, found, _cookie, _cookie_high = _ANSWER.unpack_from(answer, _HEADER.size)
    if (family, state, found) != (socket.AF_UNIX, _TCP_LISTEN, inode):
        return None
    at = _HEADER.size + _ANSWER.size
    while at < min(length, len(answer)):
        size, name = _ATTRIBUTE.unpack_from(answer, at)
        if name == _UNIX_DIAG_RQLEN:
            return Queue(*_LENGTHS.unpack_from(answer, at + _ATTRIBUTE.size))
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return None
