"""The parts of accepting that need no loop: who rotates, the stage table, the choice by name, counting descriptors."""

from __future__ import annotations

import itertools
import os
import resource
import socket

import pytest

from hybrid.connection.registry import Door, Registry
from hybrid.ground.errors import IllegalTransition, UsageError
from hybrid.shared.machine import advance
from hybrid.shared.scoreboard import NOT_ACCEPTING, Scoreboard
from hybrid.worker.acceptors import descriptors, make_acceptor
from hybrid.worker.acceptors.acceptor import STAGES, Entrance, Factory, Stage, StageEvent
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.shared import should_rotate


@pytest.mark.parametrize(
    ("mine", "least", "slack", "rotates"),
    [(1, 1, 0, False), (2, 1, 0, True), (5, 1, 4, False), (6, 1, 4, True), (0, NOT_ACCEPTING, 0, False)],
)
def test_only_a_worker_above_the_fewest_rotates(mine: int, least: int, slack: int, rotates: bool) -> None:
    """Whoever holds the fewest, give or take the slack, stays for the next connection."""
    assert should_rotate(mine, least, slack) is rotates


@pytest.mark.parametrize(("stage", "event"), list(itertools.product(Stage, StageEvent)))
def test_every_pair_of_the_stage_table(stage: Stage, event: StageEvent) -> None:
    """A listed pair leads where it says; any other is refused."""
    if (stage, event) in STAGES:
        assert advance(STAGES, stage, event) is STAGES[stage, event]
    else:
        with pytest.raises(IllegalTransition):
            advance(STAGES, stage, event)


def test_unknown_name_lists_the_known_ones() -> None:
    """--accept with a wrong name says which there are."""

    def factory_for(door: Door) -> Factory:
        raise NotImplementedError

    scoreboard = Scoreboard.create(1, 0)
    intake = Intake(Registry(scoreboard.use_slot(0)), scoreboard, 1)
    with socket.socket() as listener, pytest.raises(UsageError, match=r"--accept nonsense.*shared, shared=plain"):
        make_acceptor("nonsense", Entrance(listener, 1, factory_for), intake)
    assert intake.acceptors == []


def test_open_descriptors_are_counted_exactly() -> None:
    """Each one opened counts one, wherever its number lies, and no longer once it is closed."""
    before = descriptors.in_use()
    high = os.dup2(0, descriptors.soft_limit() - 1)
    low = os.dup(0)
    assert descriptors.in_use() == before + 2
    os.close(high)
    os.close(low)
    assert descriptors.in_use() == before


def test_without_proc_the_lowest_free_number_is_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc: the count is a lower bound, never an exception."""
    exact = descriptors.in_use()
    monkeypatch.setattr(descriptors, "_DIRECTORY", "/nonexistent")
    assert 3 <= descriptors.in_use() <= exact


@pytest.mark.parametrize(("limit", "reserve"), [(32, 8), (256, 16), (1024, 64), (1 << 20, 64)])
def test_a_few_descriptors_are_kept_back(limit: int, reserve: int) -> None:
    """The reserve is a sixteenth, between 8 and 64."""
    assert descriptors.reserve(limit) == reserve


def test_room_ends_at_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left for connections is the limit without what is open and what is kept back."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1024))
    monkeypatch.setattr(descriptors, "in_use", lambda: 100)
    assert (descriptors.room(), descriptors.connection_limit()) == (140, 140)
    monkeypatch.setattr(descriptors, "in_use", lambda: 250)
    assert (descriptors.room(), descriptors.connection_limit()) == (-10, 1)
