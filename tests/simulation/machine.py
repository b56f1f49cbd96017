"""Simulated time, and CPUs that are shared fairly by whoever wants one."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

SWITCHING = 0.04
"""What each runnable thread beyond the cores costs all of them, as a share of one core's work: a switch every few
milliseconds, and caches that are cold after it."""


class Clock:
    """Calls that are due at some time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call ``call`` at ``when``; what is due at the same time, in the order of asking."""
        heapq.heappush(self._calls, (when, next(self._numbers), call))

    def run(self, cpu: Cpu, until: float) -> None:
        """Let everything happen that happens before ``until``."""
        calls = self._calls
        while True:
            due = calls[0][0] if calls else until
            done_at = cpu.done_at
            if min(due, done_at) >= until:
                self.now = until
                cpu.advance(until)
                return
            if done_at <= due:
                self.now = done_at
                cpu.finish()
            else:
                self.now = due
                heapq.heappop(calls)[2]()


class Cpu:
    """``cores`` cores, shared equally by all runnable threads: each progresses at the same pace.

    ``worked`` is how far a thread would be that had been runnable all the time, so a piece of work that begins now is
    done when ``worked`` has grown by its length. ``waited`` is how long such a thread would have waited for a CPU.
    """

    def __init__(self, clock: Clock, cores: int) -> None:
        self.done_at = float("inf")
        self.waited = 0.0
        self._clock = clock
        self._cores = cores
        self._worked = 0.0
        self._at = 0.0
        self._work: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def advance(self, now: float) -> None:
        """Bring the figures up to ``now``."""
        passed = now - self._at
        self._at = now
        if not self._work:
            return
        share = min(1.0, self._cores / len(self._work))
        self._worked += passed * self._pace()
        self.waited += passed * (1.0 - share)

    def run(self, work_s: float, done: Callable[[], None]) -> None:
        """Call ``done`` when ``work_s`` seconds of CPU time have been given to a thread that wants them now."""
        self.advance(self._clock.now)
        heapq.heappush(self._work, (self._worked + work_s, next(self._numbers), done))
        self._foresee()

    def finish(self) -> None:
        """End the piece of work that is done first. To be called at ``done_at``."""
        self.advance(self._clock.now)
        done = heapq.heappop(self._work)[2]
        self._foresee()
        done()

    def _pace(self) -> float:
        wanting, cores = len(self._work), self._cores
        if wanting <= cores:
            return 1.0
        return cores / wanting / (1.0 + SWITCHING * (wanting - cores) / cores)

    def _foresee(self) -> None:
        self.done_at = self._at + (self._work[0][0] - self._worked) / self._pace() if self._work else float("inf")
