"""How long a thread ran, and how long it could have run and had no CPU.

One thread, not the process: what executor threads of the app wait for says nothing about the loop.

Source: proc(5) and Documentation/scheduler/sched-stats.rst: "time spent on the cpu", "time spent waiting on a
runqueue", both in ns, "# of timeslices run on this cpu". The first is brought up to date by the scheduler's tick, so it
may be some ms behind.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class ThreadTime(NamedTuple):
    """What a thread has had since it began."""

    on_cpu_ns: int
    waiting_ns: int
    """Runnable, and not running."""


class RunQueue:
    """The accounts of one thread. Closes: its descriptor, on :meth:`close`.

    Args: ``proc``: the directory to read, so that tests can bring their own.
    """

    def __init__(self, pid: int, tid: int, proc: str = "/proc") -> None:
        try:
            self._fd = os.open(f"{proc}/{pid}/task/{tid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no such thread, or a kernel that does not account
            self._fd = -1

    def read(self) -> ThreadTime | None:
        """Return the accounts; None: the kernel does not keep them, or the thread is gone. Raises: nothing."""
        if self._fd < 0:
            return None
        try:
            on_cpu_ns, waiting_ns, times = map(int, os.pread(self._fd, 100, 0).split())
        except (OSError, ValueError):
            return None
        # Without the accounting the kernel prints zeros. A thread was given a CPU at least once, though it may not
        # have used any time that was accounted for yet.
        return ThreadTime(on_cpu_ns, waiting_ns) if times else None

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
