"""The one shape in which the server is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hybrid.control.sampler import SECOND, Sampler, WorkerSample
from hybrid.control.snapshot import WORKER_KEYS, balance, snapshot, totals, worker_rows
from hybrid.control.status_page import plain
from hybrid.ground.states import Cause, Life, Readiness
from hybrid.shared.notices import Logged, Resized
from hybrid.shared.scoreboard import UNKNOWN, Cell
from tests.support.fake_pool import FakePool

POOL_KEYS = {
    *("phase", "readiness", "stance", "generation", "target", "least", "most", "standby", "size_reason"),
    *("app", "kind", "addresses", "reload"),
}
TOTALS_KEYS = {
    *("workers", "ready", "connections", "accepted_per_s", "requests_per_s", "errors_per_s", "loop_use", "run_queue"),
    *("lag_s", "memory_bytes", "accept_queue", "accept_queue_limit", "accept_wait_s", "balance", "replaced"),
}
ONE = WorkerSample(
    slot=0,
    seat=0,
    pid=7,
    life="ready",
    generation=1,
    age_s=1.0,
    connections=4,
    limit=None,
    accepted=9,
    requests=0,
    errors=0,
    pauses=0,
)


@pytest.fixture
def pool() -> Iterator[FakePool]:
    """Three workers; the last is parked."""
    pool = FakePool(3, least=1, most=6, size_reason="one for each CPU")
    pool.scoreboard.row(2)[Cell.LIFE] = Life.PARKED
    yield pool
    pool.close()


def taken(pool: FakePool) -> dict[str, object]:
    """Return a snapshot, a second after the first look."""
    sampler = Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: 1000)
    pool.now_ns += SECOND
    for slot in (0, 1):
        pool.work(slot, requests=100, accepted=10, busy_ns=SECOND // 2, active=5 + slot)
    pool.work(2, accept_queue=3)
    return snapshot(pool, sampler)


def part(whole: dict[str, object], name: str) -> dict[str, object]:
    """Return a part that is an object."""
    found = whole[name]
    assert isinstance(found, dict)
    return found


def test_snapshot_is_complete(pool: FakePool) -> None:
    """Every key that is promised, in every part; and JSON can hold it."""
    shown = taken(pool)
    assert shown.keys() == {"version", "now", "parent", "pool", "totals", "workers", "sizing"}
    assert part(shown, "parent").keys() == {"pid", "uptime_s"}
    assert part(shown, "pool").keys() == POOL_KEYS
    assert part(shown, "totals").keys() == TOTALS_KEYS
    workers = shown["workers"]
    assert isinstance(workers, list) and all(worker.keys() == set(WORKER_KEYS) for worker in workers)
    assert json.loads(json.dumps(shown, allow_nan=False)) == {**shown, "workers": workers}


def test_totals_add_up(pool: FakePool) -> None:
    """Sums over all who live; loop use is the mean of those that serve."""
    figures = part(taken(pool), "totals")
    assert (figures["workers"], figures["ready"], figures["connections"]) == (3, 2, 11)
    assert (figures["requests_per_s"], figures["accepted_per_s"], figures["loop_use"]) == (200, 20, 0.5)
    assert figures["memory_bytes"] == 3000
    assert figures["replaced"] == {cause.name.lower(): 0 for cause in Cause}


def test_readiness_is_the_scoreboards(pool: FakePool) -> None:
    """What the load balancer is told, at once, not what the parent said last."""
    pool.scoreboard.readiness = Readiness.LEAVING
    assert part(taken(pool), "pool")["readiness"] == "leaving"


def test_last_decision_is_shown_with_its_inputs(pool: FakePool) -> None:
    """The last of several, whatever else happened since; None before the first."""
    assert part(taken(pool), "sizing") == {"on": True, "last": None}
    pool.notice(Resized(before=1, target=2, reason="queue", inputs={"queue": 9}, at=1.0, number=1))
    pool.notice(Resized(before=2, target=3, reason="demand", inputs={"busy": 1.7}, at=2.0, number=2))
    pool.notice(Logged(text="hello", at=3.0, number=3))
    assert part(taken(pool), "sizing")["last"] == {
        "at": 2.0,
        "before": 2,
        "target": 3,
        "reason": "demand",
        "inputs": {"busy": 1.7},
    }


def test_input_that_is_no_number_is_unknown(pool: FakePool) -> None:
    """No browser parses what Python writes for it."""
    pool.notice(Resized(inputs={"wait": float("inf"), "lag": float("nan"), "busy": 1.0}, number=1))
    last = part(taken(pool), "sizing")["last"]
    assert isinstance(last, dict) and last["inputs"] == {"wait": None, "lag": None, "busy": 1.0}
    assert plain(pool.history[-1])["inputs"] == last["inputs"]


def test_fixed_size_is_no_sizing(pool: FakePool) -> None:
    """least == most."""
    pool.pool = replace(pool.pool, least=3, most=3)
    assert part(taken(pool), "sizing")["on"] is False


def test_shared_accept_queue_is_counted_once() -> None:
    """All workers see the same queue: the youngest look at it is the figure."""
    seen = [
        replace(ONE, measured_ns=SECOND, accept_queue=9, accept_queue_limit=100),
        replace(ONE, slot=1, measured_ns=2 * SECOND, accept_queue=4, accept_queue_limit=100),
        replace(ONE, slot=2),
    ]
    figures = totals(seen)
    assert (figures["accept_queue"], figures["accept_queue_limit"]) == (4, 100)


def test_own_accept_queues_are_added() -> None:
    """``--accept reuseport``: each worker has its own; a look that is long ago counts no more."""
    seen = [
        replace(ONE, measured_ns=100 * SECOND, accept_queue=9, accept_queue_limit=100),
        replace(ONE, slot=1, measured_ns=101 * SECOND, accept_queue=4, accept_queue_limit=100),
        replace(ONE, slot=2, measured_ns=1 * SECOND, accept_queue=50, accept_queue_limit=100),
    ]
    figures = totals(seen, own_queues=True)
    assert (figures["accept_queue"], figures["accept_queue_limit"]) == (13, 200)


@pytest.mark.parametrize(
    ("queue", "rate", "wait_s"), [(0, None, 0.0), (0, 0.0, 0.0), (20, 10.0, 2.0), (20, 0.0, None), (None, 10.0, None)]
)
def test_wait_is_the_queue_by_the_rate(queue: int | None, rate: float | None, wait_s: float | None) -> None:
    """Little's law; unknown where nobody accepts at all."""
    seen = [replace(ONE, measured_ns=SECOND, accept_queue=queue, accept_queue_limit=100, accepted_per_s=rate)]
    assert totals(seen)["accept_wait_s"] == wait_s


@pytest.mark.parametrize(
    ("counts", "index"),
    [
        ((5, 5, 5, 5), 1.0),
        ((20, 0, 0, 0), 0.25),
        ((10, 10, 0, 0), 0.5),
        ((9, 0), None),
        ((3,), None),
        ((), None),
        ((1, 0, 0, 0), None),
    ],
)
def test_balance(counts: tuple[int, ...], index: float | None) -> None:
    """1 is even, 1/n all at one; a handful of connections says nothing."""
    assert balance(counts) == index


def test_nobody_there_is_unknown_not_zero() -> None:
    """No worker: no loop is idle."""
    figures = totals([])
    assert figures["workers"] == 0
    assert (figures["loop_use"], figures["requests_per_s"], figures["accept_queue"]) == (None, None, None)


def test_rows_are_ordered_by_seat() -> None:
    """Who replaces whom stands beside it, whatever slot it has."""
    rows = worker_rows(
        [replace(ONE, slot=3, seat=1), replace(ONE, slot=5, seat=0, generation=2), replace(ONE, slot=2, seat=0)]
    )
    assert [(row["seat"], row["slot"]) for row in rows] == [(0, 2), (0, 5), (1, 3)]


def test_hostile_scoreboard_gives_json_all_the_same(pool: FakePool) -> None:
    """Whatever a worker writes into the shared memory."""
    sampler = Sampler(pool.scoreboard, pool.clock_ns, memory=lambda pid: 0)
    for garbage in (UNKNOWN, 1 << 63, (1 << 62) - 1, 12345):
        for slot in (0, 1):
            row = pool.scoreboard.row(slot)
            for cell in range(len(row.cells)):
                row[cell] = garbage
        pool.now_ns += SECOND
        json.dumps(snapshot(pool, sampler), allow_nan=False)
