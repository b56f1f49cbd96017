"""The model itself: where theory knows the answer, it gives that answer."""

from __future__ import annotations

import pytest

from tests.simulation.machine import SWITCHING, Clock, Cpu
from tests.simulation.pool import UNPARK_S, Pool
from tests.simulation.rivals import Static
from tests.simulation.scenarios import Scenario, at_once, blocking, half_and_half
from tests.simulation.worker import Stand


def constant(cores: int, rate: float, compute_s: float, for_s: float = 200.0) -> Scenario:
    """Return a load that does not change."""
    return Scenario("", "", cores, for_s, lambda _now: rate, at_once(compute_s))


def times(scenario: Scenario, workers: int) -> list[float]:
    """Return all times of a run with a static size."""
    pool = Pool(scenario, Static(workers), 5)
    pool.run()
    return [took_s for _came_at, took_s in pool.line.took]


def test_one_worker_is_the_queue_of_the_textbook() -> None:
    """M/M/1: the mean time is service ÷ (1 − use)."""
    took = times(constant(cores=1, rate=50.0, compute_s=0.01), workers=1)
    assert sum(took) / len(took) == pytest.approx(0.01 / (1 - 0.5), rel=0.08)


def test_several_workers_are_the_queue_of_the_textbook() -> None:
    """M/M/2 with a use of 0.75: the mean time is service ÷ (1 − use²)."""
    took = times(constant(cores=2, rate=150.0, compute_s=0.01), workers=2)
    assert sum(took) / len(took) == pytest.approx(0.01 / (1 - 0.75**2), rel=0.08)


def test_awaiting_keeps_no_loop() -> None:
    """100 requests a second that await a second each are served by one worker that is hardly busy."""
    pool = Pool(Scenario("", "", 1, 60.0, lambda _now: 100.0, half_and_half(0.001, 1.0)), Static(1), 5)
    pool.run()
    assert pool.seen().busy == pytest.approx(0.1, abs=0.05)


def test_cores_are_shared_and_waiting_is_told() -> None:
    """Two threads on one core take twice as long, and what switching costs; half of it they wait."""
    clock = Clock()
    cpu = Cpu(clock, cores=1)
    done: list[float] = []
    for _ in range(2):
        cpu.run(1.0, lambda: done.append(clock.now))
    clock.run(cpu, 10.0)
    assert done == pytest.approx([2 * (1 + SWITCHING)] * 2)
    assert cpu.waited == pytest.approx(done[0] / 2)


def test_blocked_loops_use_no_cpu() -> None:
    """A blocked loop is busy, and a core is free for others."""
    pool = Pool(Scenario("", "", 1, 60.0, lambda _now: 60.0, blocking(0.001, 0.049)), Static(4), 5)
    pool.run()
    seen = pool.seen()
    assert seen.busy == pytest.approx(3.0, abs=0.8)
    assert seen.on_cpu < 0.2


class Steps:
    """A policy that follows a plan: the size from a time on."""

    every_s = 0.5
    parks = True

    def __init__(self, plan: dict[float, int], standby: int = 0) -> None:
        self.plan, self.standby = plan, standby

    def first(self, scenario: Scenario) -> int:
        """Begin as planned."""
        return self.plan[0.0]

    def target(self, pool: Pool) -> int:
        """Return what is planned for now."""
        return self.plan[max(when for when in self.plan if when <= pool.clock.now)]


def test_parked_workers_serve_again_within_milliseconds_and_leave_in_the_end() -> None:
    """Four, then one, then four: nobody boots; then one for long: the parked are let go."""
    pool = Pool(constant(4, 50.0, 0.01, for_s=100.0), Steps({0.0: 4, 10.0: 1, 20.0: 4, 30.0: 1}), 5)
    born = set(pool.workers)
    pool._arrive()
    pool.clock.at(0.5, pool._decide)
    pool.clock.run(pool.cpu, 20.5 + 2 * UNPARK_S)
    assert pool.number(Stand.SERVING) == 4
    assert set(pool.workers) == born
    pool.clock.run(pool.cpu, 70.0)
    assert len(pool.workers) == 1


def test_standby_is_replaced() -> None:
    """Who stood by and serves now is followed by another."""
    pool = Pool(constant(4, 50.0, 0.01, for_s=20.0), Steps({0.0: 1, 10.0: 2}, standby=1), 5)
    assert pool.number(Stand.PARKED) == 1
    pool.run()
    assert (pool.number(Stand.SERVING), pool.number(Stand.PARKED)) == (2, 1)


def test_same_seed_same_run() -> None:
    """A table can be made again."""
    scenario = constant(2, 100.0, 0.01, for_s=20.0)
    assert Pool(scenario, Static(2), 9).run() == Pool(scenario, Static(2), 9).run()
