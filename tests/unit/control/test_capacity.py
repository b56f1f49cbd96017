"""What a pool has to spare, and the weight that a balancer gives to it: the formula, its average, the closed loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.control.capacity import LEAST_WEIGHT, MOST_LOAD, SMOOTH_S, Capacity, Smoothed, capacity
from hybrid.control.sampler import WorkerSample


def worker(life: str = "ready", loop_use: float | None = 0.0, **more: Any) -> WorkerSample:
    """Return a worker of which only what counts is said."""
    figures: dict[str, Any] = {
        **dict.fromkeys(("slot", "seat", "pid", "generation", "connections", "accepted", "requests", "errors"), 0),
        "pauses": 0,
        "age_s": 1.0,
        "limit": None,
        **more,
    }
    return WorkerSample(life=life, loop_use=loop_use, **figures)


# ── the formula ──


def test_idle_pool_has_all_to_spare() -> None:
    """Spare and weight are whole."""
    now = capacity([worker(), worker()], wanted=2)
    assert (now.load, now.present, now.spare, now.weight) == (0.0, 1.0, 1.0, 1.0)


def test_load_is_the_mean_of_those_who_accept() -> None:
    """What a parked or a draining worker does is on its way out."""
    lives = ("parked", "draining", "starting", "killing")
    gone = [worker(life, loop_use=1.0) for life in lives]
    assert capacity([worker(loop_use=0.2), worker(loop_use=0.4), *gone], wanted=2).load == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("loop_use", "connections", "limit", "load"),
    [
        (0.3, 900, 1000, 0.9),
        (0.9, 300, 1000, 0.9),
        (None, 500, 1000, 0.5),
        (None, 500, None, 0.0),
        (0.3, 2000, 1000, 1.0),
        (0.3, 5, 0, 0.3),
    ],
)
def test_use_is_what_runs_out_first(loop_use: float | None, connections: int, limit: int | None, load: float) -> None:
    """The loop, or the connections; what is unknown is not counted."""
    one = worker(loop_use=loop_use, connections=connections, limit=limit)
    assert capacity([one], wanted=1).load == pytest.approx(load)


def test_threads_are_used_up_while_the_loop_sleeps() -> None:
    """By requests where they are counted; a connection has a thread of its own else. More than all is all."""
    wsgi: dict[str, Any] = {"requests": 100, "threads": 8, "connections": 50}
    assert capacity([worker(**wsgi, in_flight=6)], wanted=1).load == 0.75
    assert capacity([worker(**wsgi, in_flight=60)], wanted=1).load == 1.0
    assert capacity([worker(threads=8, connections=4)], wanted=1).load == 0.5


def test_missing_workers_are_not_there_to_spare() -> None:
    """One of four, hardly busy: less than a quarter."""
    now = capacity([worker(loop_use=0.2)], wanted=4)
    assert now.spare == now.weight == pytest.approx(0.2)


def test_more_workers_than_wanted_are_no_more_than_all() -> None:
    """During a reload both generations are there for a moment."""
    assert capacity([worker()] * 5, wanted=4).present == 1.0
    assert capacity([worker()], wanted=0).present == 1.0


def test_nobody_ready_is_nothing_to_spare() -> None:
    """And the least of weights; the agent says "drain" then."""
    now = capacity([worker("parked"), worker("starting")], wanted=2)
    assert (now.load, now.present, now.spare, now.weight) == (MOST_LOAD, 0.0, 0.0, LEAST_WEIGHT)


def test_queue_counts_as_the_time_that_it_takes() -> None:
    """Twenty in the queue of a pool that accepts a hundred a second wait 0.2 s; all workers see the same twenty."""
    both = [worker(loop_use=0.5, accepted_per_s=50.0, accept_queue=20, measured_ns=1)] * 2
    assert capacity(both, wanted=2).load == pytest.approx(0.7)


def test_own_queues_are_all_of_the_queue() -> None:
    """Under ``--accept reuseport`` twenty wait for one worker and forty for the other: sixty wait, 0.6 s each."""
    both = [
        worker(loop_use=0.5, accepted_per_s=50.0, accept_queue=each, accept_queue_limit=64, measured_ns=1)
        for each in (20, 40)
    ]
    assert capacity(both, wanted=2, own_queues=True).load == pytest.approx(1.1)


def test_one_newcomer_of_an_idle_pool_is_no_queue_of_hours() -> None:
    """Nobody came in the last second, so the rate is nothing; it counts as one a second."""
    assert capacity([worker(accepted_per_s=0.0, accept_queue=1, measured_ns=1)], wanted=1).load == 1.0
    assert capacity([worker(accepted_per_s=None, accept_queue=4096, measured_ns=1)], wanted=1).load == MOST_LOAD


# ── the weight ──


@given(st.floats(0, MOST_LOAD), st.floats(0, MOST_LOAD), st.floats(0, 1))
def test_weight_falls_with_the_load_and_stays_in_bounds(one: float, other: float, present: float) -> None:
    """From all to one per cent; never 0, which would be DRAIN."""
    lower, higher = sorted((one, other))
    light, heavy = Capacity(lower, present), Capacity(higher, present)
    assert LEAST_WEIGHT <= heavy.weight <= light.weight <= 1.0
    assert 0.0 <= heavy.spare <= light.spare <= 1.0
    assert heavy.weight >= heavy.spare


@given(st.floats(0.001, MOST_LOAD), st.floats(1.0001, 1.5))
def test_weight_answers_with_no_more_than_it_was_asked(load: float, factor: float) -> None:
    """A load that is larger by a factor takes the weight down by no more than this factor: so the loop closes."""
    assert Capacity(load, 1.0).weight / Capacity(min(MOST_LOAD, load * factor), 1.0).weight <= factor * 1.000001


def test_spare_is_the_weight_while_half_is_spare() -> None:
    """And above it the weight is no cliff."""
    for load in (0.0, 0.25, 0.5):
        assert Capacity(load, 1.0).weight == Capacity(load, 1.0).spare
    assert Capacity(1.0, 1.0).weight == 0.25
    assert Capacity(1.0, 1.0).spare == 0.0


# ── the average ──


def test_average_does_not_depend_on_how_often_it_is_asked() -> None:
    """After one time constant two thirds of a step are seen, in one look or in fifty."""
    results = []
    for looks in (1, 50):
        smoothed = Smoothed()
        smoothed(Capacity(0.0, 1.0), 100.0)
        for look in range(1, looks + 1):
            seen = smoothed(Capacity(1.0, 1.0), 100.0 + SMOOTH_S * look / looks)
        results.append(seen.load)
    assert results == [pytest.approx(0.632, abs=0.001)] * 2


def test_first_look_is_taken_as_it_is() -> None:
    """Nobody begins at nothing, or at everything."""
    assert Smoothed()(Capacity(0.4, 0.5), 7.0) == Capacity(0.4, 0.5)


def test_missing_workers_are_seen_at_once() -> None:
    """And a pool without any remembers no load of theirs."""
    smoothed = Smoothed()
    smoothed(Capacity(0.2, 1.0), 1.0)
    assert smoothed(Capacity(0.2, 0.25), 1.1).present == 0.25
    assert smoothed(Capacity(MOST_LOAD, 0.0), 1.2).present == 0.0
    assert smoothed(Capacity(0.2, 1.0), 1.3).load == pytest.approx(0.2)


def test_clock_that_stands_still_changes_nothing() -> None:
    """Two looks at the same moment."""
    smoothed = Smoothed()
    smoothed(Capacity(0.2, 1.0), 1.0)
    assert smoothed(Capacity(0.9, 1.0), 1.0).load == pytest.approx(0.2)


# ── the closed loop ──

STEP_S = 1.0
DELAY = 3
"""Steps from a share to the weight that it causes: the window of the rates, the look, the period of the balancer."""


def last_swing(demand: float, speeds: tuple[float, float], weigh: Callable[[float], float]) -> tuple[float, float]:
    """Let two pools and a balancer go on for ten minutes; return between what the share of the first swings then.

    Args: demand: what the clients ask for, in pools of speed 1. weigh: the weight of an averaged load.
    """
    shares = [0.9] * (DELAY + 1)  # far from even
    averages = (Smoothed(), Smoothed())
    for step in range(600):
        share = shares[-1 - DELAY]
        loads = (demand * share / speeds[0], demand * (1 - share) / speeds[1])
        seen = [smoothed(Capacity(load, 1.0), step * STEP_S) for smoothed, load in zip(averages, loads, strict=True)]
        first, second = (weigh(each.load) for each in seen)
        shares.append(first / (first + second))
    return min(shares[-100:]), max(shares[-100:])


@pytest.mark.parametrize("demand", [0.2, 1.0, 1.8, 1.99, 2.5])
def test_balancer_and_weights_settle(demand: float) -> None:
    """However much is asked for, two equal pools come to half of it each, from far away, and stay."""
    low, high = last_swing(demand, (1.0, 1.0), lambda load: Capacity(load, 1.0).weight)
    assert low == pytest.approx(0.5, abs=0.001)
    assert high == pytest.approx(0.5, abs=0.001)


def test_slower_pool_gets_less() -> None:
    """Of two machines, the one that is half as fast is not sent half."""
    low, high = last_swing(0.9, (1.0, 0.5), lambda load: Capacity(load, 1.0).weight)
    assert 0.57 < low <= high < 0.7
    assert high - low < 0.001


def test_plain_spare_would_swing() -> None:
    """Why the weight is not simply what is spare: nine parts in ten used, and the load goes to and fro for ever."""
    low, high = last_swing(1.8, (1.0, 1.0), lambda load: max(LEAST_WEIGHT, 1 - load))
    assert high - low > 0.1
