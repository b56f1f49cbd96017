"""What a parent leaves to the program that takes its place: descriptors by number, and what it knows, as JSON.

The kernel keeps the process, its children and its descriptors through an execve(2); everything else is in
here, in a memfd.

Source: execve(2) (what is preserved), memfd_create(2).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from hybrid import __version__
from hybrid.ground.errors import HybridError
from hybrid.parent.pool import Pool
from hybrid.parent.sizing import Memory
from hybrid.shared.boot_report import Report
from hybrid.shared.plain import from_plain, to_plain
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.socket_file import SocketFile

FORMAT = 1
"""Of the handover: another one cannot be taken over."""
_MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class HeldListener:
    """A listening socket. See :class:`~hybrid.shared.listeners.Listener`."""

    fd: int
    address: str
    file: SocketFile | None = None
    adopted: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class HeldChild:
    """A mold or a worker. ``number``: its generation, or its slot. ``pid``: 0 while the fork is outstanding.

    ``dump``, ``wake``: see :class:`~hybrid.parent.spawn.Child`; -1: a mold's.
    """

    number: int
    pid: int
    channel: int
    report: int
    dump: int
    wake: int


@dataclass(frozen=True, slots=True)
class HeldChannel:
    """A pass channel (``--accept passing``). ``slot`` is -1 when its worker is gone.

    ``sent``: connections sent to the worker; ``takes``: whether it takes any.
    """

    slot: int
    ours: int
    theirs: int
    sent: int = 0
    takes: bool = False


@dataclass(frozen=True, slots=True)
class HeldQueues:
    """What the parent's part in accepting holds. ``more``: listening sockets of the seats after the first
    (``reuseport``). ``channels``, ``connections``: ``passing``."""

    more: tuple[int, ...] = ()
    is_complete: bool = False
    channels: tuple[HeldChannel, ...] = ()
    connections: tuple[int, ...] = ()

    def descriptors(self) -> Iterator[int]:
        """Yield all of them."""
        yield from (*self.more, *self.connections)
        for channel in self.channels:
            yield from (channel.ours, channel.theirs)


@dataclass(frozen=True, slots=True)
class HeldDoor:
    """A door of control: :class:`~hybrid.parent.doors.Door`. ``kind``: of :class:`~hybrid.shared.doors.DoorKind`."""

    kind: int
    fd: int
    address: str
    file: SocketFile | None = None


@dataclass(frozen=True, slots=True)
class Handover:
    """Everything a successor needs. A descriptor that is not there is -1."""

    pool: Pool
    settings: Settings
    scoreboard: int
    life: tuple[int, ...]
    """Both ends of the life pipe: the one to read, the one to write."""
    log: int
    access: int
    host: int
    pid_file: int
    listeners: tuple[HeldListener, ...]
    queues: HeldQueues
    molds: tuple[HeldChild, ...]
    workers: tuple[HeldChild, ...]
    served: Report
    doors: tuple[HeldDoor, ...] = ()
    news: tuple[str, ...] = ()
    """The last notices, as JSON: :class:`~hybrid.parent.noticing.Ledger`."""
    sizing: Memory = field(default_factory=Memory)
    """What the sizing remembers."""
    format: int = FORMAT
    version: str = __version__

    def descriptors(self) -> Iterator[int]:
        """Yield every descriptor that the successor needs."""
        singles = (self.scoreboard, *self.life, self.log, self.access, self.host, self.pid_file)
        yield from (fd for fd in singles if fd > 2)
        yield from (listener.fd for listener in self.listeners)
        yield from (door.fd for door in self.doors)
        yield from self.queues.descriptors()
        for child in (*self.molds, *self.workers):
            yield from (fd for fd in (child.channel, child.report, child.dump, child.wake) if fd >= 0)


def write(handover: Handover) -> int:
    """Return a memfd (close-on-exec) that holds ``handover``; the caller closes it. Raises: OSError."""
    fd = os.memfd_create("hybrid-handover", os.MFD_CLOEXEC)
    try:
        data = json.dumps(to_plain(handover)).encode()
        while data:
            data = data[os.write(fd, data) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(fd: int) -> Handover:
    """Return what :func:`write` has written, perhaps in another version of this program.

    Raises: HybridError: it cannot be taken over; says what does not fit.
    """
    try:
        plain = json.loads(os.pread(fd, _MOST_BYTES, 0))
        if plain.get("format") != FORMAT:
            raise ValueError(f"its format is {plain.get('format')!r}, and this version takes {FORMAT}")
        return from_plain(Handover, plain)
    except (ValueError, TypeError, AttributeError) as error:
        raise HybridError(f"cannot take over the running server: {error}. It takes a restart.") from error


def check(fd: int) -> Handover:
    """Try whether this program can take over, without doing it. Runs in: a child of the parent that is to be replaced.

    Raises: HybridError: it cannot.
    """
    handover = read(fd)
    Scoreboard.attach(os.dup(handover.scoreboard)).close()
    return handover
