"""Who lets a burst pass by: the arithmetic, with a clock and a registry of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hybrid.connection.registry import Registry
from hybrid.shared.scoreboard import NOT_ACCEPTING, Scoreboard
from hybrid.worker.acceptors.courtesy import CALM_S, PATIENCE, WINDOW_S, Courtesy, is_too_many


@dataclass(eq=False)
class Open:
    """A connection of which nothing is asked."""

    def start_draining(self) -> None: ...

    def cancel(self) -> None: ...

    def abort(self) -> None: ...


class Worker:
    """A worker among others, of which the emptiest has taken none."""

    def __init__(self) -> None:
        self.now = 100.0
        self.registry = Registry(Scoreboard.create(1, 0).use_slot(0))
        self.courtesy = Courtesy(self.registry, lambda: self.now)
        self.open: list[Open] = []

    def takes(self, after_s: float = 0.0001) -> bool:
        """Take a connection; return whether it waits now."""
        self.now += after_s
        self.open.append(Open())
        return self.courtesy.waits(self.registry.add(self.open[-1]), 0)

    def loses(self) -> None:
        """See the oldest connection end."""
        self.registry.remove(self.open.pop(0))


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.mark.parametrize(
    ("mine", "least", "too_many"),
    [(1, 0, False), (2, 0, True), (32, 31, False), (33, 31, True), (1062, 1000, False), (1063, 1000, True)],
)
def test_one_more_is_no_offence(mine: int, least: int, too_many: bool) -> None:
    """One, and of many a sixteenth."""
    assert is_too_many(mine, least) is too_many


@pytest.mark.parametrize("least", [25, 31, 32, 47, 48, 49, 100, 1000, 5000])
def test_two_workers_come_within_the_bar(least: int) -> None:
    """From 50 connections on, what is not too many is not more than 52 % of what two workers hold."""
    most = next(mine for mine in range(least, 2 * least) if is_too_many(mine + 1, least))
    assert most / (most + least) <= 0.52


def test_nobody_waits_for_workers_that_do_not_accept() -> None:
    """When no other accepts, the fewest are more than anybody can have."""
    assert not is_too_many(1_000_000, NOT_ACCEPTING)


def test_a_burst_is_left_to_others_for_a_while_only(worker: Worker) -> None:
    """It waits from the second connection on, so many times; then it takes what comes."""
    answers = [worker.takes() for _ in range(100)]
    assert answers == [False, *[True] * PATIENCE, *[False] * (99 - PATIENCE)]


def test_it_waits_again_in_the_next_window(worker: Worker) -> None:
    """While connections keep coming, the patience is renewed."""
    answers = [worker.takes(0.001) for _ in range(2000)]
    assert answers.count(True) == pytest.approx(PATIENCE * 2 / WINDOW_S, abs=PATIENCE)


def test_after_a_calm_it_waits_again(worker: Worker) -> None:
    """A burst has nothing to do with the one before."""
    for _ in range(100):
        worker.takes()
    assert worker.takes(CALM_S * 1.1)


def test_nobody_waits_while_connections_come_and_go(worker: Worker) -> None:
    """Each that ends is followed by another: beyond the first ones, in this window and all that follow it."""
    answers = []
    for _ in range(10_000):
        answers.append(worker.takes())
        if len(worker.open) > 10:
            worker.loses()
    assert answers.count(True) <= PATIENCE
    assert not any(answers[30:])


def test_those_that_were_open_before_say_nothing(worker: Worker) -> None:
    """A crowd leaves as another one comes: those that come may stay."""
    for _ in range(60):
        worker.takes()
    worker.now += 10
    answers = []
    for _ in range(10):
        worker.loses()
        answers.append(worker.takes())
    assert all(answers)


def test_when_they_stay_again_it_waits_again(worker: Worker) -> None:
    """What came and went is forgotten after a calm."""
    for _ in range(1000):
        worker.takes()
        if len(worker.open) > 10:
            worker.loses()
    assert worker.takes(CALM_S * 1.1)
