"""The parent's shell: owns the descriptors, runs one poll loop, turns the world into events and actions into calls.

What it never does: import the app or asyncio, wait for a lock or a slow disk, parse what another process wrote.
Whatever the kernel refuses becomes an event for :mod:`hybrid.parent.core`, which decides.

Source: poll(2), pidfd_open(2), waitid(2) WNOWAIT, prctl(2) PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable

from hybrid.ground.clock import monotonic, monotonic_ns
from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent import core
from hybrid.parent import pool as p
from hybrid.parent.draft import LIVING
from hybrid.parent.house import House
from hybrid.parent.sizing import CpuFacts, MemoryFacts
from hybrid.parent.spawn import Child, Heirloom, ask_for_worker, send_listeners, start_mold
from hybrid.shared import boot_report, cgroup, messages, procfs
from hybrid.shared.messages import Op, Record
from hybrid.shared.scoreboard import Cell

INTENTS = {
    signal.SIGTERM: p.Intent.STOP,
    signal.SIGINT: p.Intent.STOP,
    signal.SIGQUIT: p.Intent.STOP_NOW,
    signal.SIGUSR1: p.Intent.REOPEN_LOGS,
}
UNUSED = (signal.SIGHUP, signal.SIGUSR2)
"""Their default action would end the parent without a drain."""
LONGEST_POLL_MS = 2**31 - 1
"""What poll(2) takes: a C int."""
LAST_WORDS = 300
"""Records heard of a process that is gone. A channel holds about 280; its children may talk on in its name."""


class Parent:
    """One running pool.

    Runs in: parent. Closes: everything in its :class:`~hybrid.parent.house.House`, before :meth:`run` returns.
    """

    def __init__(self, house: House, pool: p.Pool) -> None:
        self._house = house
        self._pool = pool
        self._mold: Child | None = None
        self._workers: dict[int, Child] = {}
        self._events: deque[p.Event] = deque([p.Started()])
        self._poll = select.poll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._exit_code: ExitCode | None = None
        self._actions: dict[type, Callable[..., None]] = {
            p.StartMold: self._start_mold,
            p.EndMold: self._end_mold,
            p.Spawn: self._spawn,
            p.Tell: self._tell,
            p.Signal: self._signal,
            p.Vacate: self._vacate,
            p.Write: self._write,
            p.Announce: self._announce,
            p.Fail: self._fail,
            p.StopListening: self._stop_listening,
            p.ReopenLogs: self._reopen_logs,
            p.Quit: self._quit,
        }

    # ── the loop ──

    def run(self) -> ExitCode:
        """Run until no child is left; return what the command exits with."""
        self._watch(self._house.wakeup.fileno(), self._on_signals)
        if self._house.host is not None:
            self._watch(self._house.host.fileno(), self._on_host)
        while True:
            self._decide()
            if self._exit_code is not None:
                return self._exit_code
            for fd, _mask in self._poll.poll(patience_ms(core.next_deadline(self._pool), monotonic())):
                if fd in self._watched:  # an earlier callback of this round may have closed it
                    self._watched[fd]()
            self._reap_strangers()
            self._events.append(p.TimePassed())

    def _decide(self) -> None:
        while self._events and self._exit_code is None:
            before = self._pool
            self._pool, actions = core.step(before, self._events.popleft(), monotonic())
            self._publish(before)  # before anybody is told: who hears "ready" finds it in the scoreboard
            for action in actions:
                self._actions[type(action)](action)

    def _publish(self, before: p.Pool) -> None:
        """Write what changed into the parent's line of each row."""
        for slot, old in zip(self._pool.slots, before.slots or self._pool.slots, strict=True):
            if slot is not old:
                row = self._house.scoreboard.row(slot.index)
                row[Cell.LIFE], row[Cell.PID] = slot.life, slot.pid if slot.life is not Life.VACANT else 0

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._poll.register(fd, select.POLLIN)
        self._watched[fd] = callback

    def _unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    # ── the world → events ──

    def _on_signals(self) -> None:
        for number in self._house.wakeup.take():
            if number in INTENTS:
                self._events.append(p.Asked(INTENTS[signal.Signals(number)], signal.Signals(number).name))
            elif number in UNUSED:
                self._house.log.write("warning", f"{signal.Signals(number).name}: this version has no use for it")

    def _on_host(self) -> None:
        host = self._house.host
        assert host is not None
        record, descriptors, is_open = messages.receive(host)
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self._unwatch(host.fileno())
            self._events.append(p.Asked(p.Intent.STOP, "the program that started this server is gone"))
        elif record is not None and record.op is Op.HOST_DRAIN:
            self._events.append(p.Asked(p.Intent.STOP, "asked by the program", record.a / 1000))

    def _on_mold(self) -> None:
        mold = self._mold
        assert mold is not None
        try:
            record, descriptors, is_open = messages.receive(mold.channel)
        except BlockingIOError:
            return
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self._unwatch(mold.channel.fileno())
            return
        if record is not None:
            self._heard_from_mold(mold, record)

    def _heard_from_mold(self, mold: Child, record: Record) -> None:
        generation = self._pool.mold.generation
        if record.op is Op.IMPORTED:
            self._events.append(p.MoldImported(generation, _cpus(), _memory(record)))
        elif record.op is Op.UNSAFE:
            self._events.append(p.MoldUnsafe(generation, boot_report.read(mold.report_fd)))
        elif record.op is Op.IMPORT_FAILED:
            self._events.append(p.MoldImportFailed(generation, boot_report.read(mold.report_fd)))
        elif record.op is Op.FORKED:
            self._adopt(record.slot, record.a, record.b)
        elif record.op is Op.FORK_FAILED and record.slot in self._workers:
            self._events.append(p.ForkFailed(record.slot, record.a, os.strerror(record.b & 0xFFFF)))

    def _adopt(self, slot: int, ticket: int, pid: int) -> None:
        """Take hold of a worker the mold has forked: only now is its pid known, and nobody else can reap it.

        Only now is it listened to, too: it may be ready before the mold has said so, and READY waits in its channel.
        The mold ran the app's code, with less rights than ours perhaps: a pid that it reports has to be our child's.
        """
        child = self._workers.get(slot)
        if child is None or child.pid or self._pool.slots[slot].ticket != ticket:
            return
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):
            self._events.append(p.ForkFailed(slot, ticket, f"process {pid} is no child of the parent's"))
            return
        try:
            child.open_pidfd(pid)
        except OSError as error:  # no descriptor left: a worker we cannot hold must not serve
            os.kill(pid, signal.SIGKILL)
            self._events.append(p.ForkFailed(slot, ticket, f"cannot open its pidfd: {error.strerror}"))
            return
        self._watch(child.pidfd, lambda: self._reap_worker(slot, ticket))
        self._watch(child.channel.fileno(), lambda: self._on_worker(slot, ticket))
        self._events.append(p.Forked(slot, ticket, pid))

    def _on_worker(self, slot: int, ticket: int) -> None:
        """Hear one record: a worker that never stops talking does not keep the parent from the others."""
        child = self._workers[slot]
        try:
            record, descriptors, is_open = messages.receive(child.channel)
        except BlockingIOError:
            return
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self._unwatch(child.channel.fileno())  # its exit comes through the pidfd
        elif record is not None and record.op is Op.READY:
            if not self._pool.announced:
                self._house.served = boot_report.read(child.report_fd)
            self._events.append(p.WorkerReady(slot, ticket))
        elif record is not None and record.op is Op.DRAINING:
            self._events.append(p.WorkerDraining(slot, ticket, record.a / 1000))

    def _reap_worker(self, slot: int, ticket: int) -> None:
        child = self._workers[slot]
        left = _wait(os.P_PIDFD, child.pidfd)
        if left is not None:
            self._hear_last_words(child.channel)
            self._unwatch(child.pidfd)
            self._events.append(p.WorkerExited(slot, ticket, left, boot_report.read(child.report_fd)))

    def _hear_last_words(self, channel: socket.socket) -> None:
        """Hear what a process said before it went: READY and the exit may have come in one poll."""
        for _ in range(LAST_WORDS):
            if channel.fileno() not in self._watched or not _has_news(channel):
                return
            self._watched[channel.fileno()]()

    def _reap_mold(self) -> None:
        mold = self._mold
        assert mold is not None
        left = _wait(os.P_PIDFD, mold.pidfd)
        if left is None:
            return
        self._hear_last_words(mold.channel)
        report = boot_report.read(mold.report_fd)
        if report.step == "exec":
            self._events.append(p.MoldImportFailed(self._pool.mold.generation, report))
        self._unwatch(mold.pidfd)
        self._unwatch(mold.channel.fileno())
        mold.close()
        self._mold = None
        self._events.append(p.MoldExited(self._pool.mold.generation, left))

    def _reap_strangers(self) -> None:
        """Reap processes that landed here because we are the subreaper, without taking a worker's status.

        While a fork is outstanding nobody is a stranger for certain, so nobody is reaped.
        """
        while not any(slot.pid == 0 for slot in self._pool.slots if slot.life in LIVING):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or any(found.si_pid == child.pid for child in self._children()):
                return  # ours: its pidfd is readable
            _wait(os.P_PID, found.si_pid)

    def _children(self) -> list[Child]:
        return [*self._workers.values(), *([self._mold] if self._mold else [])]

    # ── actions → calls ──

    def _start_mold(self, action: p.StartMold) -> None:
        house = self._house
        heirloom = Heirloom(house.settings_fd, house.scoreboard.fd, house.life_read, house.log.fd, house.addresses)
        try:
            mold = start_mold(heirloom, house.settings, action.generation, action.preload, house.identity)
        except OSError as error:
            house.log.write("error", f"cannot start the mold: {error.strerror}")
            self._events.append(p.MoldExited(action.generation, p.Exit(code=127)))
            return
        self._mold = mold
        self._watch(mold.channel.fileno(), self._on_mold)
        self._watch(mold.pidfd, self._reap_mold)
        try:
            send_listeners(mold, [listener.socket for listener in house.listeners])
        except OSError:
            pass  # it died already; its pidfd tells

    def _end_mold(self, action: p.EndMold) -> None:
        if self._mold is None:
            return
        if action.kill:
            self._mold.kill(signal.SIGKILL)
            return
        try:
            messages.send(self._mold.channel, Record(Op.LEAVE))
        except OSError:
            pass  # it died already, or does not read: its deadline stands

    def _spawn(self, action: p.Spawn) -> None:
        row = self._house.scoreboard.use_slot(action.slot)
        row[Cell.LIFE], row[Cell.GENERATION], row[Cell.SPAWNED_NS] = Life.STARTING, action.generation, monotonic_ns()
        row[Cell.SPAWNS] = self._pool.slots[action.slot].spawns
        try:
            if self._mold is None:
                raise OSError(0, "the mold is gone")
            child = ask_for_worker(self._mold, action.slot, action.ticket, action.generation)
        except OSError as error:
            self._events.append(p.ForkFailed(action.slot, action.ticket, error.strerror or str(error)))
            return
        self._workers[action.slot] = child

    def _tell(self, action: p.Tell) -> None:
        child = self._workers.get(action.slot)
        if child is not None:
            try:
                messages.send(child.channel, Record(action.op, action.slot, a=action.a, b=action.b, c=action.c))
            except OSError:
                pass  # gone (its pidfd tells) or stopped with a full channel (its deadline stands)

    def _signal(self, action: p.Signal) -> None:
        child = self._workers.get(action.slot)
        if child is not None:
            child.kill(action.number)

    def _vacate(self, action: p.Vacate) -> None:
        child = self._workers.pop(action.slot, None)
        if child is not None:
            self._unwatch(child.channel.fileno())
            if child.pidfd >= 0:
                self._unwatch(child.pidfd)
            child.close()
        self._house.scoreboard.row(action.slot).reset()  # VACANT is 0

    def _write(self, action: p.Write) -> None:
        self._house.log.write(action.level, action.message, action.detail)

    def _announce(self, action: p.Announce) -> None:
        self._house.announce(self._pool.size_reason, action.workers, action.seconds, self._pool.mold.preload)

    def _fail(self, action: p.Fail) -> None:
        self._house.tell_failure(action.code, action.message, action.detail)

    def _stop_listening(self, action: p.StopListening) -> None:
        self._house.close_listeners()

    def _reopen_logs(self, action: p.ReopenLogs) -> None:
        fd = self._house.reopen_log()
        if fd is None:
            return
        for child in self._children():
            try:
                messages.send(child.channel, Record(Op.REOPEN_LOGS), (fd,))
            except OSError as error:
                self._house.log.write("warning", f"process {child.pid} keeps the old log file: {error.strerror}")
        os.close(fd)

    def _quit(self, action: p.Quit) -> None:
        self._exit_code = action.code


def patience_ms(deadline: float | None, now: float) -> float | None:
    """Return how long poll(2) may wait for ``deadline``: a little longer, or a part of it if it is far away."""
    return None if deadline is None else min(max(0.0, (deadline - now) * 1000 + 1), LONGEST_POLL_MS)


def _has_news(channel: socket.socket) -> bool:
    """Return whether there is something to read; not by select(2), which knows descriptors below 1024 only."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _wait(kind: int, which: int) -> p.Exit | None:
    """Reap one process; None when it has not exited."""
    try:
        found = os.waitid(kind, which, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return p.Exit()
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return p.Exit(code=found.si_status)
    return p.Exit(signal=found.si_status)


def _cpus() -> CpuFacts:
    return CpuFacts(affinity=procfs.cpu_affinity(), quota=cgroup.cgroup_cpu_quota())


def _memory(record: Record) -> MemoryFacts:
    return MemoryFacts(
        limit_bytes=cgroup.memory_limit_bytes(), mold_private_bytes=record.a, mold_resident_bytes=record.b
    )


def run(house: House) -> ExitCode:
    """Run a pool in ``house`` until it has left; return the exit code."""
    worker, timeout = house.settings.worker, house.settings.timeout
    plan = p.Plan(
        workers=None if worker.workers == "auto" else int(worker.workers),
        preload=house.settings.app.preload,
        grace_s=timeout.grace_s,
        boot_s=timeout.boot_s,
        boot_attempts=timeout.boot_attempts,
    )
    return Parent(house, p.Pool(plan)).run()
