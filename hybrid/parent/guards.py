"""What forbids the pool to grow, whatever the load asks for: too little memory, a CPU quota that is used up.

What they look at costs more than a number in a row, so they look seldom: memory and the quota's account once a second,
and of the workers' memory, of which the kernel has to go through the page tables, one worker at a time and for no more
than a hundredth of the time.

Runs in: parent. The third guard, the loops' waiting for CPUs, needs no file: :mod:`hybrid.parent.sensors` has it. Of
workers whose code runs in threads that says little, so what they use of the CPUs is looked at here.
Source: Documentation/admin-guide/cgroup-v2.rst on ``memory.current`` and ``cpu.stat``; proc(5) on smaps_rollup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hybrid.parent.auto_size import LEAST_WORKER_BYTES
from hybrid.shared import cgroup, procfs

SECOND = 1_000_000_000
LOOK_NS = SECOND
"""Between two looks."""
MEMORY_SHARE = 100
"""A worker's memory is looked at for at most one part in so many of the time."""
RESERVE_SHARE = 20
"""One part in so many of all memory stays free: what the workers that are there still grow by."""
FULL_SHARE = 0.9
"""Of the CPUs, used by the workers, is all of them: the rest is the system's, and ours."""
THROTTLED_SHARE = 0.1
"""Held up by the quota for so much of the time (of one CPU), more workers would only be held up, too."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guards say.

    ``can_boot``: one more worker would fit into memory. ``throttled``: the CPU quota, or the CPUs, are used up.
    ``free_bytes``, ``need_bytes``: what the first of them was decided by; -1: nobody knows.
    """

    can_boot: bool = True
    throttled: bool = False
    free_bytes: int = -1
    need_bytes: int = LEAST_WORKER_BYTES


def judge_memory(free_bytes: int | None, limit_bytes: int | None, need_bytes: int) -> bool:
    """Return whether another worker, which is to become as large as ``need_bytes``, fits and leaves a reserve."""
    if free_bytes is None:
        return True
    return free_bytes - need_bytes >= (limit_bytes or 0) // RESERVE_SHARE


def judge_cpus(used: float, cores: float) -> bool:
    """Return whether the workers use so much of ``cores`` that more of them would only divide it differently."""
    return used >= FULL_SHARE * cores


@dataclass(frozen=True, slots=True)
class Kernel:
    """Where the figures come from; tests bring others."""

    free_bytes: Callable[[], int | None] = cgroup.memory_free_bytes
    limit_bytes: Callable[[], int | None] = cgroup.memory_limit_bytes
    throttled_ns: Callable[[], int | None] = cgroup.cpu_throttled_ns
    private_bytes: Callable[[int], int] = procfs.memory_private_bytes
    cpu_ns: Callable[[int], int] = procfs.cpu_ns


@dataclass(slots=True)
class _Cpu:
    """The accounts at the last look: the quota's, and those of the workers, by pid."""

    at_ns: int = 0
    held_ns: int | None = None
    used_ns: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Memory:
    """What each worker has of its own, by pid, and when the next of them may be asked about."""

    private: dict[int, int] = field(default_factory=dict)
    due_ns: int = 0


class Guards:
    """Looks once a second, and remembers in between.

    Runs in: parent. Closes: nothing. Raises: nothing; what cannot be read forbids nothing.
    """

    def __init__(self, clock_ns: Callable[[], int], kernel: Kernel | None = None) -> None:
        self._clock_ns = clock_ns
        self._kernel = kernel or Kernel()
        self._cpu = _Cpu()
        self._memory = _Memory()
        self._due_ns = 0
        self._verdict = Verdict()

    def look(self, pids: Iterable[int], cores: float = 0.0) -> Verdict:
        """Return what they say now. ``pids``: the workers that serve.

        ``cores``: CPUs that they may use, if what they use is to be looked at; 0: it is not.
        """
        now_ns = self._clock_ns()
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + LOOK_NS
            self._verdict = self._judge(now_ns, tuple(pids), cores)
        return self._verdict

    def _judge(self, now_ns: int, pids: tuple[int, ...], cores: float) -> Verdict:
        self._measure_one(now_ns, pids)
        need_bytes = max([LEAST_WORKER_BYTES, *self._memory.private.values()])
        free_bytes = self._kernel.free_bytes()
        fits = judge_memory(free_bytes, self._kernel.limit_bytes(), need_bytes)
        throttled = self._is_throttled(now_ns, pids if cores else (), cores)
        return Verdict(fits, throttled, -1 if free_bytes is None else free_bytes, need_bytes)

    def _measure_one(self, now_ns: int, pids: tuple[int, ...]) -> None:
        """Ask about one worker: one of which nothing is known, else the one that was asked about longest ago."""
        memory = self._memory
        memory.private = {pid: size for pid, size in memory.private.items() if pid in pids}
        if not pids or now_ns < memory.due_ns:
            return
        pid = next((pid for pid in pids if pid not in memory.private), None) or next(iter(memory.private))
        memory.private.pop(pid, None)  # it comes back as the last one
        try:
            memory.private[pid] = self._kernel.private_bytes(pid)
        except OSError:
            pass  # gone, or no business of ours
        memory.due_ns = now_ns + MEMORY_SHARE * (self._clock_ns() - now_ns)

    def _is_throttled(self, now_ns: int, pids: tuple[int, ...], cores: float) -> bool:
        before, after = self._cpu, _Cpu(now_ns, self._kernel.throttled_ns(), self._used(pids))
        self._cpu = after
        span_ns = now_ns - before.at_ns
        used_ns = sum(used - before.used_ns[pid] for pid, used in after.used_ns.items() if pid in before.used_ns)
        if used_ns and judge_cpus(used_ns / span_ns, cores):
            return True
        if before.held_ns is None or after.held_ns is None:
            return False
        return after.held_ns - before.held_ns > THROTTLED_SHARE * span_ns

    def _used(self, pids: tuple[int, ...]) -> dict[int, int]:
        used: dict[int, int] = {}
        for pid in pids:
            try:
                used[pid] = self._kernel.cpu_ns(pid)
            except OSError:
                continue  # gone
        return used
