"""Fixed records between parent, mold and workers, one per SEQPACKET message.

Fixed size and no text: the parent never parses what another process wrote. An unknown operation is an error
on the sending side and ignored with a log line on the receiving side, so that a newer worker cannot end an
older parent.

Source: unix(7), SOCK_SEQPACKET keeps message borders; recvmsg(2), MSG_CMSG_CLOEXEC.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

_LAYOUT = struct.Struct("<HHIQQQ")
RECORD_BYTES = _LAYOUT.size
MAX_DESCRIPTORS = 64
"""Per message. The kernel takes 253 (SCM_MAX_FD)."""


class Op(IntEnum):
    """What a record says. The comment gives direction and arguments."""

    # parent → mold
    LISTENERS = 1
    """a = number of listeners that follow in all; descriptors: the next of them."""
    SPAWN = 2
    """slot; a = ticket, b = seat.

    Descriptors: worker's channel, boot report, stacks, the pipe that asks for them; with ``--accept passing`` its pass
    channel, too.
    """
    LEAVE = 3
    """End the mold."""
    # mold → parent
    IMPORTED = 10
    """The app is imported and fork-safe. a = private memory in bytes, b = resident memory in bytes."""
    UNSAFE = 11
    """The import left something that does not survive a fork; the boot report says what."""
    IMPORT_FAILED = 12
    """The import failed; the boot report says why."""
    FORKED = 13
    """slot; a = ticket, b = pid."""
    FORK_FAILED = 14
    """slot; a = ticket, b = errno."""
    # parent → worker
    PARK = 20
    UNPARK = 21
    DRAIN = 22
    """a = grace in milliseconds, b = 1: cut at once, c = 1: everybody leaves, so the queue is the worker's too.

    Again, with less grace: skip to the next step.
    """
    REOPEN_LOGS = 23
    """a = which of them (:class:`Log`); descriptors: its new file."""
    LOOK = 24
    """A worker is gone or takes nothing any more: look now at what the heartbeat looks at."""
    LEVEL = 25
    """a = weight of the least important level that is written from now on. To the mold as well."""
    # worker → parent
    READY = 30
    PARKED = 31
    UNPARKED = 32
    BOOT_FAILED = 33
    """The boot report says at which step and why; a = exit code."""
    DRAINING = 34
    """The worker was sent SIGTERM itself and drains; a = grace in milliseconds."""
    WORN_OUT = 35
    """The worker has reached a limit; a = which (:class:`~hybrid.ground.states.Cause`).

    b = what it has, c = the limit: requests, seconds, bytes. It serves on."""
    # host (hybrid.serve) → parent
    HOST_DRAIN = 40
    """a = grace in milliseconds."""
    # watcher → parent
    CHANGED = 50
    """Files that are watched have changed; a = how many. The watcher has said in the log which."""
    # control → parent. a = token: the answer bears it (:class:`~hybrid.shared.notices.Answered`).
    CONTROL_RELOAD = 60
    CONTROL_SCALE = 61
    """b = least, c = most; 0: as it is. The same number twice: that many, always."""
    CONTROL_PARK = 62
    """slot."""
    CONTROL_UNPARK = 63
    """slot."""
    CONTROL_DRAIN = 64
    """slot."""
    CONTROL_KILL = 65
    """slot."""
    CONTROL_DUMP = 66
    """slot; the answer has the stacks."""
    CONTROL_SET = 67
    """slot = which knob (:mod:`hybrid.shared.knobs`), b = its value."""
    CONTROL_STOP = 68
    """b = 1: cut connections; else they may finish."""
    CONTROL_REOPEN_LOGS = 69
    CONTROL_UPGRADE = 70
    CONTROL_TURNS = 71
    """Nothing is to be done: that an answer comes is what is asked for."""


class Log(IntEnum):
    """A log that has a file of its own."""

    ERROR = 0
    ACCESS = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One message: an operation, the slot it is about, and up to three numbers."""

    op: Op
    slot: int = 0
    generation: int = 0
    a: int = 0
    b: int = 0
    c: int = 0

    def pack(self) -> bytes:
        """Return the record's bytes."""
        return _LAYOUT.pack(self.op, self.slot, self.generation, self.a, self.b, self.c)


def unpack(data: bytes) -> Record | None:
    """Return the record, or None when the bytes are no record of this version."""
    if len(data) != RECORD_BYTES:
        return None
    op, slot, generation, a, b, c = _LAYOUT.unpack(data)
    try:
        return Record(Op(op), slot, generation, a, b, c)
    except ValueError:
        return None


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends that keep message borders; both CLOEXEC."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, record: Record, descriptors: tuple[int, ...] = ()) -> None:
    """Send one record, with copies of ``descriptors``.

    Raises: OSError: the other end is gone (EPIPE, ECONNRESET) or its buffer is full (EAGAIN).
    """
    send_bytes(channel, record.pack(), descriptors)


def send_bytes(channel: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message of raw bytes, with copies of ``descriptors``. Raises: OSError, as :func:`send`."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    channel.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive_bytes(channel: socket.socket, limit_bytes: int = 65536, flags: int = 0) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors that came with it; ``b""`` when the other end is gone.

    An empty message looks the same (see :func:`is_over`); descriptors that came with it are closed.
    Args: flags: MSG_DONTWAIT on a channel whose O_NONBLOCK somebody else may have cleared.
    Raises: BlockingIOError: nothing to read on a non-blocking channel.
    """
    flags |= socket.MSG_CMSG_CLOEXEC
    room = socket.CMSG_LEN(MAX_DESCRIPTORS * array.array("i").itemsize)
    try:
        data, ancillary, _flags, _address = channel.recvmsg(limit_bytes, room, flags)
    except ConnectionResetError:
        # It left with something of ours unread. The kernel says that once, before what the other end had sent.
        data, ancillary, _flags, _address = channel.recvmsg(limit_bytes, room, flags)
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    if not data:
        for fd in descriptors:
            os.close(fd)
        return data, []
    return data, list(descriptors)


def receive(channel: socket.socket) -> tuple[Record | None, list[int], bool]:
    """Return ``(record, descriptors, open)``; ``open`` is False when the other end is gone.

    ``record`` is None for a message that is no record of this version, or empty; its descriptors are closed.
    Raises: BlockingIOError: nothing to read on a non-blocking channel.
    """
    data, descriptors = receive_bytes(channel)
    if not data:
        return None, [], not is_over(channel)
    record = unpack(data)
    if record is None:
        for fd in descriptors:
            os.close(fd)
        return None, [], True
    return record, descriptors, True


def is_over(channel: socket.socket) -> bool:
    """Return whether the other end is gone: recvmsg(2) returns 0 then, but for an empty message, too."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
