"""Rates out of counters: who is compared with whom, and what stays unknown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid.control.sampler import MEMORY_EVERY_NS, SECOND, STUCK_NS, Sampler, WorkerSample
from hybrid.ground.states import Life
from hybrid.shared.scoreboard import UNKNOWN, Cell
from tests.support.fake_pool import PID, FakePool


@pytest.fixture
def pool() -> Iterator[FakePool]:
    """Two workers that have done nothing yet."""
    pool = FakePool(2)
    yield pool
    pool.close()


def sampler_of(pool: FakePool) -> Sampler:
    """Return a sampler by the pool's clock, to which every worker has as many bytes as its pid says."""
    return Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: pid)


def second(pool: FakePool, sampler: Sampler, **done: int) -> WorkerSample:
    """Let the worker in slot 0 work for a second, with a sample in the middle; return the last."""
    for _ in range(2):
        pool.now_ns += SECOND // 2
        pool.work(0, **done)
        sample = sampler.sample()[0]
    return sample


def test_rates_are_those_of_the_last_second(pool: FakePool) -> None:
    """Requests, connections and loop use, by the clock of the worker's ticks."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=5, accepted=1, busy_ns=SECOND // 10)
    sample = second(pool, sampler, requests=50, accepted=10, busy_ns=SECOND // 4)
    assert (sample.requests_per_s, sample.accepted_per_s, sample.loop_use) == (100, 20, 0.5)
    assert (sample.requests, sample.accepted) == (110, 22)


@pytest.mark.parametrize(
    "failed", [{"handler_errors": 8}, {"server_errors": 8}, {"handler_errors": 3, "server_errors": 8}]
)
def test_errors_are_those_of_the_handler_or_those_that_it_says(pool: FakePool, failed: dict[str, int]) -> None:
    """An exception of an HTTP application is both, and is one error; a 503 that it says is one, too."""
    sampler = sampler_of(pool)
    second(pool, sampler)
    sample = second(pool, sampler, **failed)
    assert (sample.errors, sample.errors_per_s) == (8, 8.0)


def test_first_sample_knows_no_rates(pool: FakePool) -> None:
    """One reading tells nothing about now; what needs none is there."""
    sample = sampler_of(pool).sample()[0]
    assert (sample.requests_per_s, sample.loop_use, sample.lag_s) == (None, None, None)
    assert (sample.pid, sample.life, sample.age_s, sample.memory_bytes) == (PID + 1000, "ready", 0, PID + 1000)


def test_a_look_before_or_after_a_tick_makes_no_difference(pool: FakePool) -> None:
    """The rate is over the time between ticks: a look that catches one tick more does not see a higher one."""
    sampler = sampler_of(pool)
    rates = []
    for step in range(60):
        pool.now_ns += SECOND // 16
        if step % 4 == 0:
            pool.work(0, requests=25)
        if step % 9 == 0 or step % 16 == 0:
            rates.append(sampler.sample()[0].requests_per_s)
    assert set(rates[4:]) == {100.0}


def test_many_who_look_see_the_same(pool: FakePool) -> None:
    """Whoever looks right after another is not told the rates of the milliseconds between."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=50)
    sample = second(pool, sampler, requests=50)
    pool.now_ns += SECOND // 1000
    again = sampler.sample()[0]
    assert again.requests_per_s == sample.requests_per_s == 100


def test_new_worker_in_a_slot_is_not_compared_with_the_old(pool: FakePool) -> None:
    """Its counters begin at zero: no rate at first, never one below zero, and then its own."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=1000)
    pool.spawn(0)
    sample = second(pool, sampler, requests=3)
    assert sample.requests == 6 and sample.requests_per_s in (None, 6)
    assert second(pool, sampler, requests=3).requests_per_s == 6


def test_same_pid_is_not_the_same_worker(pool: FakePool) -> None:
    """Pids come back; the moment of a spawn does not."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=7)
    pid = pool.scoreboard.row(0)[Cell.PID]
    pool.now_ns += SECOND
    pool.spawn(0)
    pool.scoreboard.row(0)[Cell.PID] = pid
    assert sampler.sample()[0].requests_per_s is None


def test_what_is_not_measured_stays_unknown(pool: FakePool) -> None:
    """Never zero: loop use where the loop hides it, and an accept queue that nobody sees."""
    sampler = sampler_of(pool)
    second(pool, sampler)
    pool.scoreboard.row(0).store_line(Cell.MEASURED_NS, [UNKNOWN] * 8)
    pool.now_ns += SECOND
    sample = sampler.sample()[0]
    assert (sample.loop_use, sample.run_queue, sample.lag_s, sample.lag_max_s) == (None, None, None, None)
    assert (sample.measured_ns, sample.accept_queue, sample.accept_queue_limit) == (None, None, None)


def test_blocked_loop_is_fully_used(pool: FakePool) -> None:
    """It has not ticked, so it has measured nothing: it is in the middle of something, and serves nobody."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=9)
    for _ in range(4):
        pool.now_ns += STUCK_NS // 2
        sample = sampler.sample()[0]
    assert (sample.loop_use, sample.requests_per_s) == (1.0, 0.0)
    assert sample.heartbeat_age_s == 2.0


def test_loop_that_is_not_to_turn_yet_is_not_blocked(pool: FakePool) -> None:
    """Who boots has no loop, however old the heartbeat in its row: what it does is unknown."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=9)
    pool.scoreboard.row(0)[Cell.LIFE] = Life.STARTING
    for _ in range(4):
        pool.now_ns += STUCK_NS // 2
        sample = sampler.sample()[0]
    assert (sample.life, sample.loop_use) == ("starting", None)


def test_after_a_long_pause_nothing_is_known(pool: FakePool) -> None:
    """An average over the hour since somebody last looked is no rate of now."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=9)
    pool.now_ns += 3600 * SECOND
    pool.work(0, requests=10**6)
    assert sampler.sample()[0].requests_per_s is None
    assert second(pool, sampler, requests=4).requests_per_s == 8


def test_vacant_slots_are_not_shown(pool: FakePool) -> None:
    """Who is gone does nothing; who starts or drains is shown."""
    pool.scoreboard.row(0).reset()
    pool.scoreboard.row(1)[Cell.LIFE] = Life.DRAINING
    assert [(each.slot, each.life) for each in sampler_of(pool).sample()] == [(1, "draining")]


def test_memory_is_read_every_few_seconds(pool: FakePool) -> None:
    """A look at it walks the page tables of a worker that has better to do."""
    looked: list[int] = []

    def look(pid: int) -> int:
        looked.append(pid)
        return 4096

    sampler = Sampler(pool.scoreboard, pool.clock_ns, memory=look)
    for _ in range(20):
        assert sampler.sample()[0].memory_bytes == 4096
        pool.now_ns += SECOND // 10
    assert len(looked) == 2
    pool.now_ns += MEMORY_EVERY_NS
    sampler.sample()
    assert len(looked) == 4
    sampler.sample(with_memory=False)
    assert len(looked) == 4


def test_slow_look_at_memory_is_taken_less_often(pool: FakePool) -> None:
    """One that takes 100 ms, of a worker with very many pages, comes every 20 s; and not two in one sample."""
    looked: list[int] = []

    def slow(pid: int) -> int:
        looked.append(pid)
        pool.now_ns += SECOND // 10
        return 4096

    sampler = Sampler(pool.scoreboard, pool.clock_ns, memory=slow)
    sampler.sample()
    assert len(looked) == 1
    sampler.sample()
    assert len(set(looked)) == 2
    pool.now_ns += MEMORY_EVERY_NS * 3
    sampler.sample()
    assert len(looked) == 2
    pool.now_ns += MEMORY_EVERY_NS
    sampler.sample()
    assert len(looked) == 3


@pytest.mark.parametrize("error", [ProcessLookupError, PermissionError, ValueError])
def test_memory_that_cannot_be_read_is_unknown(pool: FakePool, error: type[Exception]) -> None:
    """The worker has just ended, or is not ours."""

    def refuse(pid: int) -> int:
        raise error(pid)

    assert Sampler(pool.scoreboard, pool.clock_ns, memory=refuse).sample()[0].memory_bytes is None


@pytest.mark.parametrize("garbage", [UNKNOWN, UNKNOWN - 1, 1 << 63, 1 << 62, (1 << 62) - 1, 0])
def test_garbage_in_a_row_harms_nothing(pool: FakePool, garbage: int) -> None:
    """No sample fails whatever a worker writes, the other worker is shown, and nothing is below zero."""
    sampler = sampler_of(pool)
    for _ in range(4):
        row = pool.scoreboard.row(0)
        for cell in range(len(row.cells)):
            row[cell] = garbage
        pool.now_ns += SECOND
        pool.work(1, requests=8)
        samples = sampler.sample()
    assert samples[-1].slot == 1 and samples[-1].requests_per_s == 8
    for sample in samples:
        for name in WorkerSample.__slots__:
            value = getattr(sample, name)
            assert not isinstance(value, (int, float)) or value >= 0, (name, value)
        assert sample.loop_use is None or sample.loop_use <= 1


def test_counter_that_falls_gives_no_rate(pool: FakePool) -> None:
    """Nothing but garbage does that."""
    sampler = sampler_of(pool)
    second(pool, sampler, requests=100)
    pool.scoreboard.row(0)[Cell.REQUESTS] = 3
    pool.now_ns += SECOND
    pool.work(0)
    assert sampler.sample()[0].requests_per_s is None
