"""A simulated pool: who serves, boots, is parked; what its size is decided from; and what that size comes to."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import Protocol

from tests.simulation.machine import Clock, Cpu
from tests.simulation.scenarios import Scenario
from tests.simulation.worker import TICK_S, Line, Request, Stand, Worker

UNPARK_S = 0.005
WARM_S = 10.0
"""The first seconds do not count: every rule that finds the size by itself begins with two workers."""
LINGER_S = 30.0
"""How long a parked worker is kept that nobody needs."""


class Policy(Protocol):
    """A rule for the number of workers. ``parks``: what it no longer needs is parked, not ended."""

    every_s: float
    standby: int
    parks: bool

    def first(self, scenario: Scenario) -> int:
        """Return how many to begin with."""
        ...

    def target(self, pool: Pool) -> int:
        """Return how many should serve or boot from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What the workers that serve tell, of the time since their last but one tick. Erlangs, per second, seconds."""

    busy: float
    run_queue: float
    on_cpu: float
    accepted: float
    lag_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy made of a scenario: times in seconds, the mean number that served, and of all processes."""

    p50_s: float
    p95_s: float
    p99_s: float
    workers: float
    processes: float
    actions: int
    sizes: tuple[tuple[float, int], ...]


class Pool:
    """The workers of one run."""

    def __init__(self, scenario: Scenario, policy: Policy, seed: int) -> None:
        self.clock = Clock()
        self.cpu = Cpu(self.clock, scenario.cores)
        self.line = Line()
        self.scenario = scenario
        self.workers: list[Worker] = []
        self.sizes: list[tuple[float, int]] = []
        self.actions = 0
        self._policy = policy
        self._random = random.Random(seed)
        self._ticks = random.Random(seed + 1)
        self._target = policy.first(scenario)
        self._worker_s = self._process_s = self._counted_at = 0.0
        for _ in range(self._target):
            self._start(Stand.BOOTING, 0.0)
        for _ in range(policy.standby):
            self._start(Stand.RESERVING, 0.0)

    def run(self) -> Outcome:
        """Let the scenario happen; return what came of it."""
        self._arrive()
        self.clock.at(self._policy.every_s, self._decide)
        self.clock.run(self.cpu, self.scenario.for_s)
        self._count()
        # Who still waits at the end has waited this long at least.
        waiting = [(each.came_at, self.clock.now - each.came_at) for each in self.line.waiting]
        times = sorted(took_s for came_at, took_s in self.line.took + waiting if came_at >= WARM_S)
        p50, p95, p99 = (times[min(len(times) - 1, int(share * len(times)))] for share in (0.5, 0.95, 0.99))
        for_s = self.scenario.for_s - WARM_S
        return Outcome(
            p50, p95, p99, self._worker_s / for_s, self._process_s / for_s, self.actions, tuple(self.sizes)
        )  # fmt: skip

    # ── what a policy may look at ────────────────────────────────────────────────────────────────────────────

    def number(self, *stands: Stand) -> int:
        """Return how many workers stand so."""
        return sum(worker.stand in stands for worker in self.workers)

    def serving(self) -> list[Worker]:
        """Return the workers that serve."""
        return [worker for worker in self.workers if worker.stand is Stand.SERVING]

    def seen(self) -> Seen:
        """Return what the workers tell, as hybrid.parent.sensors reads it.

        One that is overdue is in a long callback: busy all the time. One that is parked serves what it holds.
        """
        busy = waited = on_cpu = accepted = 0.0
        lags: list[float] = []
        now = self.clock.now
        for worker in self.workers:
            if worker.stand not in (Stand.SERVING, Stand.PARKED):
                continue
            overdue = now - worker.due_at
            if worker.stand is Stand.SERVING:
                lags.append(max(worker.lag_s, overdue))
            if overdue > TICK_S / 2:
                busy += 1.0
                continue
            told, before = worker.told, worker.before
            for_s = told.at - before.at
            if for_s > 0:
                busy += (told.busy_s - before.busy_s) / for_s
                waited += (told.waited_s - before.waited_s) / for_s
                on_cpu += (told.on_cpu_s - before.on_cpu_s) / for_s
                accepted += (told.taken - before.taken) / for_s
        return Seen(max(0.0, busy - waited), waited, on_cpu, accepted, statistics.median_low(lags) if lags else 0.0)

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────

    def _arrive(self) -> None:
        now = self.clock.now
        self.line.came(Request(now, self.scenario.steps(self._random)))
        self.clock.at(now + self._random.expovariate(self.scenario.rate(now)), self._arrive)

    def _decide(self) -> None:
        self._count()
        self._resize(self._policy.target(self))
        self.clock.at(self.clock.now + self._policy.every_s, self._decide)

    def _resize(self, target: int) -> None:
        if target != self._target:
            self.actions += 1
            self._target = target
            self.sizes.append((self.clock.now, target))
        missing = target - self.number(Stand.SERVING, Stand.BOOTING)
        if missing > 0:
            missing = self._grow(missing)
        for worker in sorted(self.serving(), key=lambda each: each.held)[: max(0, -missing)]:
            worker.stand = Stand.PARKED if self._policy.parks else Stand.LEAVING
            worker.parked_at = self.clock.now
        self._tidy()

    def _grow(self, missing: int) -> int:
        """Unpark; let those serve that boot for the park; start the rest. Return 0: none is missing any more."""
        parked = [each for each in self.workers if each.stand is Stand.PARKED]
        parked.sort(key=lambda each: each.parked_at, reverse=True)
        for worker in parked[:missing]:
            worker.stand = Stand.BOOTING
            self.clock.at(self.clock.now + UNPARK_S, worker.ready)
        reserving = [each for each in self.workers if each.stand is Stand.RESERVING]
        left = max(0, missing - len(parked))
        for worker in reserving[:left]:
            worker.stand = Stand.BOOTING
        for _ in range(max(0, left - len(reserving))):
            self._start(Stand.BOOTING, self.scenario.boot_s)
        return 0

    def _tidy(self) -> None:
        """Let go of who is no longer needed, and keep ``standby`` in the park."""
        now, standby = self.clock.now, self._policy.standby
        parked = [each for each in self.workers if each.stand is Stand.PARKED]
        surplus = len(parked) - standby
        for worker in parked:
            if surplus > 0 and now - worker.parked_at > LINGER_S and not worker.held:
                worker.stand = Stand.LEAVING
                surplus -= 1
        self.workers = [each for each in self.workers if each.stand is not Stand.LEAVING or each.held]
        for _ in range(-surplus - self.number(Stand.RESERVING)):
            self._start(Stand.RESERVING, self.scenario.boot_s)

    def _start(self, stand: Stand, boot_s: float) -> None:
        # Workers tick at their own times, not all at once.
        worker = Worker((self.clock, self.cpu, self.line), stand, TICK_S * (0.5 + self._ticks.random() / 2))
        self.workers.append(worker)
        if boot_s:
            self.clock.at(self.clock.now + boot_s, worker.ready)
        else:
            worker.ready()

    def _count(self) -> None:
        passed = max(0.0, self.clock.now - max(WARM_S, self._counted_at))
        self._counted_at = self.clock.now
        self._worker_s += passed * self.number(Stand.SERVING, Stand.BOOTING)
        self._process_s += passed * len(self.workers)
