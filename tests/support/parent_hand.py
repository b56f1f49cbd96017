"""The parent's hand, borrowed: send a worker records that nothing in this version makes the parent send.

A copy of the parent's end of the worker's channel is taken out of the running parent, so what is tested is the real
pool. Which of the parent's channels is whose, is found out by trying: who parks, it was.
Source: pidfd_getfd(2); it needs the right to trace the process, as its own user has.
"""

from __future__ import annotations

import ctypes
import os
import socket

from hybrid.shared import messages
from hybrid.shared.messages import Op, Record
from hybrid.shared.procfs import open_descriptors
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell
from tests.support.eventually import eventually
from tests.support.server import Server

_PIDFD_GETFD = 438
_PATIENCE_S = 5.0
"""Who has not parked by then is no worker. One of the workers has, mostly at once, before anybody else is tried."""
_libc = ctypes.CDLL(None, use_errno=True)


class Hand:
    """One worker's channel. Closes: the copy, on leaving ``with``."""

    def __init__(self, server: Server, slot: int) -> None:
        self._server = server
        self._slot = slot
        channels = _channels(server.pid)
        try:
            self._channel = next(channel for channel in channels if self._is_ours(channel))
            channels.remove(self._channel)
        finally:
            for channel in channels:
                channel.close()

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def park(self) -> None:
        """Have the worker accept no more; wait until it says so."""
        messages.send(self._channel, Record(Op.PARK))
        eventually(lambda: is_away(self._server, self._slot))

    def unpark(self) -> None:
        """Have it accept again."""
        messages.send(self._channel, Record(Op.UNPARK))
        eventually(lambda: not is_away(self._server, self._slot))

    def look(self) -> None:
        """Have the worker look at what its heartbeat looks at."""
        messages.send(self._channel, Record(Op.LOOK))

    def _is_ours(self, channel: socket.socket) -> bool:
        try:
            messages.send(channel, Record(Op.PARK))
        except OSError:
            return False
        try:
            parked = eventually(lambda: _away(self._server), _PATIENCE_S)
        except AssertionError:
            return False  # no worker's
        messages.send(channel, Record(Op.UNPARK))
        eventually(lambda: not _away(self._server))
        return parked == [self._slot]


def is_away(server: Server, slot: int) -> bool:
    """Return whether the worker says that it takes no connections."""
    return slot in _away(server)


def _away(server: Server) -> list[int]:
    """Return the slots of the workers that say so."""
    board = server._scoreboard()
    try:
        return [row.slot for row in board.rows() if row[Cell.PID] and row[Cell.ACTIVE] & NOT_ACCEPTING]
    finally:
        board.close()


def _channels(pid: int) -> list[socket.socket]:
    """Return copies of the SEQPACKET sockets of a process, the newest first: a mold is older than its workers."""
    pidfd = os.pidfd_open(pid)
    found = []
    try:
        for number, link in reversed(open_descriptors(pid)):
            if not link.startswith("socket:"):
                continue
            fd = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
            if fd < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            copy = socket.socket(fileno=fd)
            if copy.family == socket.AF_UNIX and copy.type & socket.SOCK_SEQPACKET == socket.SOCK_SEQPACKET:
                found.append(copy)
            else:
                copy.close()
    finally:
        os.close(pidfd)
    return found
