"""The parent's children: what they say and how they end, as events for :mod:`hybrid.parent.core`.

A child is a process whose pid only the kernel and the mold know at first, so it is adopted: its pid comes from the
mold, its pidfd from the kernel, and only then is it listened to. What it says is a record of fixed size; what fits
nothing is passed over.

Source: pidfd_open(2), waitid(2) WNOWAIT, prctl(2) PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from hybrid.ground.states import Cause
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.auto_size import CpuFacts, MemoryFacts
from hybrid.parent.handover import HeldChild
from hybrid.parent.porter import Porter
from hybrid.parent.spawn import Child
from hybrid.parent.watch import Watch
from hybrid.shared import boot_report, cgroup, messages, procfs
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op, Record

LAST_WORDS = 300
"""Records heard of a process that is gone. A channel holds about 280; its children may talk on in its name."""


class Children:
    """The molds and the workers.

    Runs in: parent. Closes: each child's descriptors, when it is forgotten.
    """

    def __init__(self, watch: Watch, events: deque[ev.Event], pool: Callable[[], p.Pool], porter: Porter) -> None:
        self.molds: dict[int, Child] = {}
        """By generation."""
        self.workers: dict[int, Child] = {}
        self.attendants: list[Child] = []
        """The file watcher of ``--reload`` and the control process, if there are any: no work is theirs to lose."""
        self.served = Report()
        """What the first worker that became ready said it serves."""
        self.others: set[int] = set()
        """Pids of children that somebody else reaps."""
        self.events = events
        """Where what they say and how they end is put."""
        self.watch = watch
        """The poll that they are listened to with."""
        self._pool = pool
        self._porter = porter

    def all(self) -> list[Child]:
        """Return every child that has not been reaped."""
        return [*self.workers.values(), *self.molds.values(), *self.attendants]

    # ── from one program to the next ──

    def held(self) -> tuple[tuple[HeldChild, ...], tuple[HeldChild, ...]]:
        """Return molds and workers, as a successor takes them over."""
        return _held(self.molds), _held(self.workers)

    def take_over(self, molds: Sequence[HeldChild], workers: Sequence[HeldChild]) -> None:
        """Go on with children of the program before us. Raises: OSError: no descriptor is left for one of them."""
        for each in molds:
            mold = _taken_over(each)
            mold.open_pidfd(each.pid)
            self.watch_mold(each.number, mold)
        for each in workers:
            self.workers[each.number] = _taken_over(each)
            if each.pid:
                ticket = self._pool().slots[each.number].ticket
                self.workers[each.number].open_pidfd(each.pid)
                self._listen_to(each.number, ticket)

    # ── attendants ──

    def attend(self, child: Child, hear: Callable[[], None], reap: Callable[[], None]) -> None:
        """Listen to an attendant that was started. ``hear``: it has said something, or can be told again."""
        self.attendants.append(child)
        self.watch.add(child.channel.fileno(), hear)
        self.watch.add(child.pidfd, reap)

    def part(self, child: Child) -> tuple[ev.Exit, Report] | None:
        """Reap an attendant and close what is ours of it; return how it left. None: it has not."""
        left = wait_for(os.P_PIDFD, child.pidfd)
        if left is None:
            return None
        report = boot_report.read(child.report_fd)
        self.watch.drop(child.channel.fileno())
        self.watch.drop(child.pidfd)
        self.attendants.remove(child)
        child.close()
        return left, report

    # ── molds ──

    def watch_mold(self, generation: int, mold: Child) -> None:
        """Listen to a mold that was started."""
        self.molds[generation] = mold
        self.watch.add(mold.channel.fileno(), lambda: self._on_mold(generation))
        self.watch.add(mold.pidfd, lambda: self._reap_mold(generation))

    def _on_mold(self, generation: int) -> None:
        mold = self.molds[generation]
        try:
            record, descriptors, is_open = messages.receive(mold.channel)
        except BlockingIOError:
            return
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self.watch.drop(mold.channel.fileno())
            return
        if record is not None:
            self._heard_from_mold(generation, record)

    def _heard_from_mold(self, generation: int, record: Record) -> None:
        report_fd = self.molds[generation].report_fd
        if record.op is Op.IMPORTED:
            self.events.append(ev.MoldImported(generation, _cpus(), _memory(record)))
        elif record.op is Op.UNSAFE:
            self.events.append(ev.MoldUnsafe(generation, boot_report.read(report_fd)))
        elif record.op is Op.IMPORT_FAILED:
            self.events.append(ev.MoldImportFailed(generation, boot_report.read(report_fd)))
        elif record.op is Op.FORKED:
            self._adopt(record.slot, record.a, record.b)
        elif record.op is Op.FORK_FAILED and record.slot in self.workers:
            self.events.append(ev.ForkFailed(record.slot, record.a, os.strerror(record.b & 0xFFFF)))

    def _reap_mold(self, generation: int) -> None:
        mold = self.molds[generation]
        left = wait_for(os.P_PIDFD, mold.pidfd)
        if left is None:
            return
        self.watch.hear_out(mold.channel.fileno(), LAST_WORDS)
        report = boot_report.read(mold.report_fd)
        if report.step == "exec":
            self.events.append(ev.MoldImportFailed(generation, report))
        self.watch.drop(mold.pidfd)
        self.watch.drop(mold.channel.fileno())
        mold.close()
        del self.molds[generation]
        gc.collect()  # CPython's lists of free tuples shrink in a full collection only, and we make no garbage for one
        self.events.append(ev.MoldExited(generation, left))

    # ── workers ──

    def _adopt(self, slot: int, ticket: int, pid: int) -> None:
        """Take hold of a worker the mold has forked: only now is its pid known, and nobody else can reap it.

        Only now is it listened to, too: it may be ready before the mold has said so, and READY waits in its channel.
        The mold ran the app's code, with less rights than ours perhaps: a pid that it reports has to be our child's.
        """
        child = self.workers.get(slot)
        if child is None or child.pid or self._pool().slots[slot].ticket != ticket:
            return  # one that is no longer waited for: it finds its channel closed
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):
            self.events.append(ev.ForkFailed(slot, ticket, f"process {pid} is no child of the parent's"))
            return
        try:
            child.open_pidfd(pid)
        except OSError as error:  # no descriptor left: a worker we cannot hold must not serve
            os.kill(pid, signal.SIGKILL)
            self.events.append(ev.ForkFailed(slot, ticket, f"cannot open its pidfd: {error.strerror}"))
            return
        self._listen_to(slot, ticket)
        self.events.append(ev.Forked(slot, ticket, pid))

    def _listen_to(self, slot: int, ticket: int) -> None:
        child = self.workers[slot]
        self.watch.add(child.pidfd, lambda: self._reap_worker(slot, ticket))
        self.watch.add(child.channel.fileno(), lambda: self._on_worker(slot, ticket))
        self._porter.adopted(slot)

    def _on_worker(self, slot: int, ticket: int) -> None:
        """Hear one record: a worker that never stops talking does not keep the parent from the others."""
        child = self.workers[slot]
        try:
            record, descriptors, is_open = messages.receive(child.channel)
        except BlockingIOError:
            return
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self.watch.drop(child.channel.fileno())  # its exit comes through the pidfd
        elif record is not None and record.op is Op.READY:
            if not self._pool().announced:
                self.served = boot_report.read(child.report_fd)
            self.events.append(ev.WorkerReady(slot, ticket))
        elif record is not None and record.op is Op.WORN_OUT and record.a in _WORN:
            self.events.append(ev.WornOut(slot, ticket, *_worn(record)))
        elif record is not None and record.op is Op.DRAINING:
            self.events.append(ev.WorkerDraining(slot, ticket, record.a / 1000))

    def _reap_worker(self, slot: int, ticket: int) -> None:
        child = self.workers[slot]
        left = wait_for(os.P_PIDFD, child.pidfd)
        if left is not None:
            self.watch.hear_out(child.channel.fileno(), LAST_WORDS)  # READY and the exit may have come in one poll
            self.watch.drop(child.pidfd)
            self._porter.gone(slot)  # before anybody is asked for in its place
            self.events.append(ev.WorkerExited(slot, ticket, left, boot_report.read(child.report_fd)))

    def forget_worker(self, slot: int) -> None:
        """Let go of the worker that was in ``slot``, reaped or never forked."""
        self._porter.gone(slot)
        child = self.workers.pop(slot, None)
        if child is not None:
            self.watch.drop(child.channel.fileno())
            if child.pidfd >= 0:
                self.watch.drop(child.pidfd)
            child.close()

    # ── strangers ──

    def reap_strangers(self) -> None:
        """Reap processes that landed here because we are the subreaper, without taking a worker's status.

        While a fork is outstanding nobody is a stranger for certain, so nobody is reaped.
        """
        while not any(slot.pid == 0 for slot in self._pool().slots if slot.life in p.LIVING):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in self.others or any(found.si_pid == child.pid for child in self.all()):
                return  # ours: its pidfd is readable
            wait_for(os.P_PID, found.si_pid)


def _held(children: Mapping[int, Child]) -> tuple[HeldChild, ...]:
    return tuple(
        HeldChild(number, child.pid, child.channel.fileno(), child.report_fd, child.dump_fd, child.wake_fd)
        for number, child in children.items()
    )


def _taken_over(held: HeldChild) -> Child:
    channel = socket.socket(fileno=held.channel)
    channel.setblocking(False)
    return Child(channel, held.report, dump_fd=held.dump, wake_fd=held.wake)


_WORN: dict[int, str] = {
    Cause.REQUESTS: "it has served {value} (--max-requests; its share: {limit})",
    Cause.LIFETIME: "it is {value} s old (--max-lifetime; its share: {limit} s)",
    Cause.MEMORY: "it has {value} MB of its own (--max-memory; its share: {limit} MB)",
}


def _worn(record: Record) -> tuple[str, Cause]:
    """Return why a worker is to be replaced, in words, and to be counted. Raises: KeyError: for nothing we know."""
    words, cause = _WORN[Cause(record.a)], Cause(record.a)
    unit = 1 << 20 if cause is Cause.MEMORY else 1
    return words.format(value=record.b // unit, limit=record.c // unit), cause


def wait_for(kind: int, which: int) -> ev.Exit | None:
    """Reap one process without waiting; None when it has not exited."""
    try:
        found = os.waitid(kind, which, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return ev.Exit()
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return ev.Exit(code=found.si_status)
    return ev.Exit(signal=found.si_status)


def _cpus() -> CpuFacts:
    return CpuFacts(affinity=procfs.cpu_affinity(), quota=cgroup.cgroup_cpu_quota())


def _memory(record: Record) -> MemoryFacts:
    return MemoryFacts(
        limit_bytes=cgroup.memory_limit_bytes(), mold_private_bytes=record.a, mold_resident_bytes=record.b
    )
