"""What other processes say, at the wrong time or untruly: it is passed over, and ends no worker and no parent."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from hybrid.ground.clock import LONGEST_S
from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import stopping
from hybrid.shared.boot_report import Report
from tests.unit.parent.world import IMPORTED, KILLED, PLAN, World


@pytest.fixture
def asked() -> World:
    """A pool of one worker, which the mold was asked for under ticket 1."""
    world = World(replace(PLAN, workers=1))
    world.happens(ev.Started(), IMPORTED)
    return world


@pytest.fixture
def ready(asked: World) -> World:
    """A pool of one worker, ready."""
    asked.comes_up(0, 7)
    return asked


def life(world: World) -> Life:
    """Return where the only place is in its life."""
    return world.pool.slots[0].life


def test_late_answer_about_an_earlier_spawn_is_ignored(asked: World) -> None:
    """A ticket tells an old fork from the present one."""
    asked.happens(ev.MoldExited(1, KILLED), IMPORTED)
    asked.happens(ev.Forked(0, 1, 77))
    assert asked.pool.slots[0].pid == 0


def test_worker_that_says_ready_twice_is_ready(ready: World) -> None:
    """A word too many from a worker changes nothing."""
    assert not ready.happens(ev.WorkerReady(0, 1))
    assert life(ready) is Life.READY


def test_nobody_is_ready_before_its_fork_was_reported(asked: World) -> None:
    """A worker without a pid cannot be signalled or reaped, so it does not count; the fork ends it not."""
    asked.happens(ev.WorkerReady(0, 1))
    assert life(asked) is Life.STARTING
    assert not asked.happens(ev.Forked(0, 1, 7))
    assert asked.comes_up(0, 7)
    assert life(asked) is Life.READY


def test_fork_that_is_reported_twice_ends_nobody(ready: World) -> None:
    """The first report counts; a worker that is well is not signalled."""
    assert not ready.happens(ev.Forked(0, 1, 8))
    assert ready.pool.slots[0].pid == 7


@pytest.mark.parametrize("leaving", [Life.DRAINING, Life.KILLING])
def test_worker_told_to_leave_before_its_fork_was_reported_is_signalled(asked: World, leaving: Life) -> None:
    """It could not hear before; it is told again."""
    asked.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    if leaving is Life.KILLING:
        asked.passes(stopping.CANCEL_S + stopping.ABORT_S)
    assert life(asked) is leaving
    number = signal.SIGKILL if leaving is Life.KILLING else signal.SIGTERM
    assert asked.happens(ev.Forked(0, 1, 7)) == [act.Signal(0, number)]


@pytest.mark.parametrize("end", [ev.MoldExited(1, KILLED), ev.ForkFailed(0, 1, "no memory")])
def test_fork_that_came_to_nothing_after_ready(asked: World, end: ev.Event) -> None:
    """READY, and then the mold dies or takes it back: the place is free, and a word behind it is nobody's."""
    asked.happens(ev.WorkerReady(0, 1), end, ev.WorkerReady(0, 1))
    assert life(asked) is Life.VACANT


def test_fork_that_failed_after_it_was_reported_is_not_believed(ready: World) -> None:
    """Who was seen to live does so."""
    assert not ready.happens(ev.ForkFailed(0, 1, "no memory"))
    assert life(ready) is Life.READY


@pytest.mark.parametrize("word", [ev.WorkerReady(0, 1), ev.WorkerDraining(0, 1, 30.0)])
def test_word_of_a_worker_that_is_gone_is_not_its_successors(ready: World, word: ev.Event) -> None:
    """A child of the dead one may still hold its channel; so may the same poll."""
    ready.dies(0)
    assert not ready.happens(word)
    assert life(ready) is Life.STARTING
    ready.comes_up(0, 8)
    assert not ready.happens(word)
    assert life(ready) is Life.READY


def test_word_of_a_worker_that_is_gone_is_nobodys_in_a_free_place(asked: World) -> None:
    """It died of its boot, and the place waits."""
    asked.happens(ev.Forked(0, 1, 7))
    asked.dies(0, ev.Exit(code=3), Report("lifespan", "no database"))
    assert not asked.happens(ev.WorkerReady(0, 1))
    assert life(asked) is Life.VACANT


def test_worker_takes_no_longer_than_its_grace(ready: World) -> None:
    """Who says that it drains for ever is killed when the configured grace is over."""
    ready.happens(ev.WorkerDraining(0, 1, float(1 << 63)))
    ready.passes(PLAN.grace_s + stopping.CANCEL_S + stopping.LEAVE_S)
    assert act.Signal(0, signal.SIGKILL) in ready.actions


def test_program_cannot_ask_for_a_grace_that_no_record_holds(ready: World) -> None:
    """``drain(grace_s=1e300)`` is a long time, not the end of the parent."""
    ready.happens(ev.Asked(ev.Intent.STOP, "asked by the program", float(1 << 64)))
    (told,) = ready.of(act.Tell)
    assert isinstance(told, act.Tell) and told.a == LONGEST_S * 1000


def test_spawns_are_counted_by_the_parent(ready: World) -> None:
    """The scoreboard's count is a copy of ours: the memory is everybody's."""
    assert ready.pool.slots[0].spawns == 1
    ready.dies(0)
    assert ready.pool.slots[0].spawns == 2
