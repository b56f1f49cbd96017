"""A job is split without loss, travels as JSON, and what came of its parts adds up."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.bench.jobs import (
    Job,
    Mode,
    Outcome,
    Reply,
    job_line,
    merge,
    outcome_line,
    read_job,
    read_outcome,
    split,
)

clients = st.integers(1, 9)


@given(clients, st.floats(1, 5000), st.floats(0.01, 2))
def test_schedule_is_dealt_out_whole(count: int, per_s: float, for_s: float) -> None:
    """Every slot of the schedule belongs to one client, and is due when it would be with a single one."""
    job = Job(Mode.OPEN, 1, start_s=100.0, per_s=per_s, for_s=for_s)
    parts = split(job, count)
    due = sorted(part.due_s(number) for part in parts for number in range(part.planned))
    assert due == pytest.approx([job.due_s(number) for number in range(job.planned)])


@given(clients, st.integers(0, 500), st.sampled_from([Mode.CLOSED, Mode.BURST, Mode.STEADY]))
def test_connections_are_divided(count: int, connections: int, mode: Mode) -> None:
    """None is lost, and no client has two more than another."""
    shares = [part.connections for part in split(Job(mode, 1, connections=connections), count)]
    assert sum(shares) == connections and max(shares) - min(shares) <= 1


@given(clients, st.integers(1, 500))
def test_held_connections_are_planned_once_each(count: int, connections: int) -> None:
    """They follow a schedule."""
    parts = split(Job(Mode.HOLD, 1, connections=connections, per_s=100), count)
    assert sum(part.planned for part in parts) == connections


def test_special_request_has_one_client() -> None:
    """Otherwise there would be as many blocks as clients."""
    parts = split(Job(Mode.OPEN, 1, per_s=10, for_s=1, special="block 500\n"), 3)
    assert [part.special for part in parts] == ["block 500\n", "", ""]


def test_job_travels() -> None:
    """Through JSON and back it is the same."""
    job = Job(Mode.STEADY, 7000, 1.5, 2.0, 64, 10.0, "\xff\r\n", Reply("line"), index=1, of=2)
    assert read_job(job_line(job)) == job


def test_outcome_travels_with_every_sample() -> None:
    """To the last bit."""
    outcome = Outcome(array("d", [0.1, 1 / 3]), array("d", [0.5]), array("d"), reset=2, planned=5, wall_s=1.25)
    assert read_outcome(outcome_line(outcome)) == outcome


def test_outcomes_add_up_and_the_busiest_client_counts() -> None:
    """Counts are sums; shares of time are the greatest."""
    one = Outcome(array("d", [0.1]), refused=1, planned=3, wall_s=1.0, busiest=0.95)
    two = Outcome(array("d", [0.2]), reset=2, planned=4, wall_s=1.1, busiest=0.20, waiting=0.5)
    both = merge([one, two])
    assert list(both.latencies_s) == [0.1, 0.2]
    assert (both.refused, both.reset, both.lost, both.planned) == (1, 2, 3, 7)
    assert (both.wall_s, both.busiest, both.waiting) == (1.1, 0.95, 0.5)
