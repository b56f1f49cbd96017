"""The parts of accepting that need no loop: who rotates, the stage table, the choice by name, counting descriptors."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import socket

import pytest

from hybrid.connection.registry import Door, Registry
from hybrid.ground.errors import IllegalTransition, UsageError
from hybrid.shared.machine import advance
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell, Scoreboard
from hybrid.worker.acceptors import descriptors, make_acceptors
from hybrid.worker.acceptors.acceptor import STAGES, Factory, Site, Stage, StageEvent
from hybrid.worker.acceptors.asyncio_listener import AsyncioListener
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.shared import should_rotate


@pytest.mark.parametrize(
    ("mine", "least", "rotates"),
    [
        (1, 1, False),
        (2, 1, True),
        (0, NOT_ACCEPTING, False),
    ],
)
def test_only_a_worker_above_the_fewest_rotates(mine: int, least: int, rotates: bool) -> None:
    """Whoever holds the fewest stays for the next connection."""
    assert should_rotate(mine, least) is rotates


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
        make_acceptors("nonsense", Site((listener,), 1, factory_for), intake)
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


def test_a_new_worker_counts_at_once_for_who_holds_the_fewest() -> None:
    """A slot used for the first time is looked at from the next accept on; one that takes nothing never."""
    scoreboard = Scoreboard.create(4, 0)
    row = scoreboard.use_slot(0)
    intake = Intake(Registry(row), scoreboard, 100)
    row[Cell.ACTIVE] = 7
    assert intake.fewest() == 7
    scoreboard.use_slot(2)
    assert intake.fewest() == 7
    scoreboard.row(2)[Cell.ACTIVE] = 3
    assert intake.fewest() == 3


def test_asyncio_is_given_one_connection_per_wake_up() -> None:
    """Its accept loop hears "enough" after each connection, so that other workers get the next."""
    with (
        socket.create_server(("127.0.0.1", 0)) as outside,
        AsyncioListener.of(outside, outside.dup().detach(), _never) as listener,
    ):
        outside.setblocking(False)
        clients = [socket.create_connection(outside.getsockname()) for _ in range(2)]
        for _ in clients:
            listener.accept()[0].close()
            with pytest.raises(BlockingIOError):
                listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()
        clients.append(socket.create_connection(outside.getsockname()))
        listener.shut = True
        with pytest.raises(BlockingIOError):
            listener.accept()
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("code", "exhausted"),
    [(errno.EMFILE, 1), (errno.ENFILE, 1), (errno.ENOMEM, 1), (errno.ECONNABORTED, 0), (errno.ENETDOWN, 0)],
)
def test_an_accept_that_fails_ends_nothing_on_asyncio(code: int, exhausted: int) -> None:
    """An error of one accept ends nothing: the loop hears "nothing there"; shortage is told to the intake."""
    told: list[int] = []

    class Failing(AsyncioListener):
        def _accept(self) -> None:
            raise OSError(code, os.strerror(code))

    with socket.create_server(("127.0.0.1", 0)) as outside:
        listener = Failing.of(outside, outside.dup().detach(), lambda: told.append(code))
        with listener, pytest.raises(BlockingIOError):
            listener.accept()
    assert len(told) == exhausted


def _never() -> None:
    raise AssertionError("not exhausted")
