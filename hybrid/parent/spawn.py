"""How the parent makes children: mold and file watcher by fork and exec, a worker by asking the mold.

The parent is small and has one thread, so a fork of it is cheap and safe; what runs between fork and exec is
only system calls.

Source: fork(2), execve(2), prctl(2) PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from hybrid.parent.actions import Spawn
from hybrid.shared import boot_report, messages, prctl, stack_dump
from hybrid.shared.handed import app_environment
from hybrid.shared.privileges import Identity, drop
from hybrid.shared.settings import Settings
from hybrid.shared.start import control_command, mold_command, watcher_command
from hybrid.shared.tls_files import open_tls_files

EVERY_SIGNAL = signal.valid_signals()
UNTIL_READY = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Ignored by the mold until its own handlers, which do nothing, are there: these reach whole process groups."""


@dataclass(slots=True)
class Child:
    """A process the parent watches. Closes: its descriptors, on :meth:`close`."""

    channel: socket.socket
    report_fd: int
    pid: int = 0
    pidfd: int = -1
    dump_fd: int = -1
    """A worker's: where it leaves its stacks when they are asked for (:mod:`hybrid.shared.stack_dump`)."""
    wake_fd: int = -1
    """A worker's: the pipe through which it is asked."""

    def open_pidfd(self, pid: int) -> None:
        """Take hold of the process. Raises: OSError: there is none of that pid."""
        self.pidfd = os.pidfd_open(pid)
        self.pid = pid

    def kill(self, number: int) -> None:
        """Send a signal; a process that is gone already is not an error."""
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Let go of the process; it may still run."""
        self.channel.close()
        for fd in (self.report_fd, self.pidfd, self.dump_fd, self.wake_fd):
            if fd >= 0:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class Heirloom:
    """Descriptors that the mold inherits from the parent, and its workers from the mold."""

    settings_fd: int
    scoreboard_fd: int
    life_fd: int
    log_fd: int
    access_fd: int
    """The access log's file, or stdout."""
    addresses: tuple[str, ...]
    """What the listeners listen on, in order."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Return all of them."""
        return (self.settings_fd, self.scoreboard_fd, self.life_fd, self.log_fd, self.access_fd)


@dataclass(frozen=True, slots=True)
class ControlHeirloom:
    """Descriptors that control inherits from the parent. ``doors``: kind and listening socket of each."""

    settings_fd: int
    scoreboard_fd: int
    log_fd: int
    doors: tuple[tuple[int, int], ...]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Return all of them."""
        return (self.settings_fd, self.scoreboard_fd, self.log_fd, *(fd for _kind, fd in self.doors))


def start_mold(
    heirloom: Heirloom, settings: Settings, generation: int, preload: bool, identity: Identity | None
) -> Child:
    """Fork and exec the interpreter that becomes the mold.

    Runs in: parent; between fork and exec, its child. ``identity``: whom the mold becomes before it runs anything.
    Raises: OSError: no descriptor, memory or process left; nothing was started.
    """
    tls_files = open_tls_files(settings.tls)
    orders = {
        "tls": tls_files,
        "settings": heirloom.settings_fd,
        "scoreboard": heirloom.scoreboard_fd,
        "life": heirloom.life_fd,
        "log": heirloom.log_fd,
        "access": heirloom.access_fd,
        "generation": generation,
        "preload": preload,
        "addresses": heirloom.addresses,
    }
    try:
        return _start(
            lambda ends: mold_command(settings, json.dumps({**orders, **ends})),
            (*heirloom.descriptors, *tls_files.values()),
            identity,
        )
    finally:
        for fd in tls_files.values():
            os.close(fd)


def start_watcher(settings_fd: int, log_fd: int, settings: Settings, identity: Identity | None) -> Child:
    """Fork and exec the interpreter that becomes the file watcher.

    Runs in, args and raises: as :func:`start_mold`; it sees what the app's user sees.
    """
    orders = {"settings": settings_fd, "log": log_fd}
    return _start(
        lambda ends: watcher_command(settings, json.dumps({**orders, **ends})), (settings_fd, log_fd), identity
    )


def start_control(heirloom: ControlHeirloom, settings: Settings, identity: Identity | None) -> Child:
    """Fork and exec the interpreter that becomes the control process.

    Runs in, args and raises: as :func:`start_mold`; it has no more rights than the app.
    """
    orders = {
        "settings": heirloom.settings_fd,
        "scoreboard": heirloom.scoreboard_fd,
        "log": heirloom.log_fd,
        "doors": heirloom.doors,
        "owner": os.geteuid(),
    }
    return _start(
        lambda ends: control_command(settings, json.dumps({**orders, **ends})), heirloom.descriptors, identity
    )


def _start(command: Callable[[dict[str, int]], list[str]], keep: tuple[int, ...], identity: Identity | None) -> Child:
    """Fork and exec an interpreter with a channel and a report of its own.

    Args: command: makes the command from the numbers that ``channel`` and ``report`` have there.
    """
    ours, theirs = messages.socketpair()
    report_fd = -1
    try:
        report_fd = boot_report.create()
        ends = {"channel": theirs.fileno(), "report": report_fd}
        pid = fork_exec(command(ends), (*keep, *ends.values()), identity, report_fd)
    except OSError:
        ours.close()
        if report_fd >= 0:
            os.close(report_fd)
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    child = Child(ours, report_fd)
    try:
        child.open_pidfd(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)  # ours, not reaped yet: a process that we cannot watch must not do anything
        child.close()
        raise
    return child


def fork_exec(command: list[str], keep: tuple[int, ...], identity: Identity | None, report_fd: int) -> int:
    """Start ``command`` as ``identity``, with the descriptors in ``keep``; return its pid.

    Runs in: parent. It dies with us. ``report_fd``: where it says why the command could not be started.
    Raises: OSError: no memory or process left.
    """
    # Without the mask, a signal that comes between fork and exec is written by the child into the parent's
    # wake-up pipe, and the parent believes it was told to stop.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, EVERY_SIGNAL)
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _exec(command, keep, identity, report_fd, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _exec(command: list[str], keep: tuple[int, ...], identity: Identity | None, report_fd: int, parent: int) -> None:
    """Become the command; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in EVERY_SIGNAL - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL, None):
                signal.signal(number, signal.SIG_DFL)
        for number in UNTIL_READY:
            signal.signal(number, signal.SIG_IGN)
        for fd in keep:
            os.set_inheritable(fd, True)
        if identity is not None:
            drop(identity)
        prctl.signal_at_parents_death(signal.SIGKILL)  # after the change of user, which would undo it
        if os.getppid() != parent:
            os._exit(0)  # it died before the kernel was asked
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(command[0], command, app_environment(os.environ))
    except BaseException as error:  # noqa: BLE001  # the child must not return into the parent's code
        boot_report.write(report_fd, boot_report.Report(step="exec", error=_explain(error, command[0], identity)))
    finally:
        os._exit(127)


def _explain(error: BaseException, path: str, identity: Identity | None) -> str:
    """Say why the interpreter could not be started, and what to do."""
    if isinstance(error, PermissionError) and identity is not None:
        who = identity.name or f"uid {identity.uid}"
        return f"{path}: {error.strerror} for {who}. Let --user run this interpreter, or use one that it can run."
    if isinstance(error, OSError):
        return f"{path}: {error.strerror}. Start the server anew with an interpreter that exists."
    return str(error)


def ask_for_worker(mold: Child, order: Spawn, ends: tuple[int, ...] = ()) -> Child:
    """Ask the mold to fork a worker; the answer comes as a FORKED or FORK_FAILED record.

    Args: ends: descriptors that the worker gets besides its channel, its boot report and those of its stacks.
    Raises: OSError: the mold is gone or does not read, or no descriptor is left; nothing was asked.
    """
    ours, theirs = messages.socketpair()
    ours.setblocking(False)
    child, read = Child(ours, -1), -1
    try:
        child.report_fd = boot_report.create()
        child.dump_fd, read, child.wake_fd = stack_dump.create()
        record = messages.Record(messages.Op.SPAWN, order.slot, order.generation, a=order.ticket, b=order.seat)
        messages.send(mold.channel, record, (theirs.fileno(), child.report_fd, child.dump_fd, read, *ends))
    except OSError:
        child.close()
        raise
    finally:
        theirs.close()
        if read >= 0:
            os.close(read)
    return child


def send_listeners(mold: Child, listeners: list[socket.socket]) -> None:
    """Hand the listening sockets to the mold, a few per message. Raises: OSError: the mold is gone."""
    for first in range(0, len(listeners), messages.MAX_DESCRIPTORS):
        some = tuple(s.fileno() for s in listeners[first : first + messages.MAX_DESCRIPTORS])
        messages.send(mold.channel, messages.Record(messages.Op.LISTENERS, a=len(listeners)), some)
