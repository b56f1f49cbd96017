"""What the kernel has counted for a process and all below it: CPU time and context switches.

A wall-clock figure on a machine that does other things too says little; the scheduler's run time says what the work
cost. It is read from each process's CPU clock, which other processes may read too and which, unlike
``/proc/PID/task/*/schedstat``, still has the time of threads that ended: a server that starts a thread for each
connection would otherwise cost nothing.

Source: clock_getcpuclockid(3), proc(5); kernel/time/posix-cpu-timers.c (``~pid << 3 | CPUCLOCK_SCHED``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2


def pin(cpu: int) -> None:
    """Run this process on one CPU only, where the machine has that many; its parent may be pinned to another."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # as many of them as its cpuset has
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[min(cpu, len(allowed) - 1)]})


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all below it that live; what ends meanwhile is left out."""
    yield pid
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children = file.read().split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def process_cpu_ns(pid: int) -> int:
    """Return the CPU time that a process itself has used so far, in ns, ended threads included. Raises: OSError."""
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


def tree_cpu_ns(pid: int) -> int:
    """Return the CPU time that a process, its threads and its children have used so far, in ns.

    Living processes count by their CPU clock, threads that ended included. Ended and reaped children count by what
    their parent has inherited (cutime + cstime, printed in steps of 10 ms).
    """
    total = 0
    for each in tree(pid):
        try:
            total += process_cpu_ns(each)
            total += _inherited_ns(each)
        except OSError:  # it ended, and is in its parent's cutime now or soon
            continue
    return total


def _inherited_ns(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * 1_000_000_000 // _TICKS_PER_S


def tree_switches(pid: int) -> int:
    """Return the context switches, voluntary and not, of the threads that live in a process and all below it.

    Of threads and processes that ended the kernel tells nobody but their own parent: for one thread or one child for
    each connection this is the least that it can have been.
    """
    return sum(_switches(path) for each in tree(pid) for path in _status_files(each))


def _status_files(pid: int) -> list[str]:
    try:
        return [f"/proc/{pid}/task/{task}/status" for task in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _switches(path: str) -> int:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if "ctxt_switches:" in line]
    except OSError:
        return 0
    return sum(int(line.rpartition(":")[2]) for line in lines)


def own_schedule_ns() -> tuple[int, int]:
    """Return how long the calling (only) thread of this process ran, and how long it waited for a CPU, in ns."""
    with open("/proc/self/schedstat", encoding="ascii") as file:
        ran, waited, _ = file.read().split()
    return int(ran), int(waited)
