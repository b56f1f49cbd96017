"""When a worker leaves a wake-up or a queue behind, the others are told to look, at once."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.shared.messages import Op
from tests.unit.parent.world import PLAN, World


@pytest.fixture
def world() -> World:
    """A pool of three workers, all ready."""
    world = World(replace(PLAN, workers=3))
    world.boots()
    return world


def told(world: World) -> list[int]:
    """Return whom the last look saw told to look."""
    return [action.slot for action in world.actions if isinstance(action, act.Tell) and action.op is Op.LOOK]


def test_worker_that_dies_makes_the_others_look(world: World) -> None:
    """Whatever it was woken for and did not take, somebody takes now; its row is vacant by then."""
    actions = world.dies(1)
    assert told(world) == [0, 2]
    assert actions.index(act.Vacate(1)) < actions.index(act.Tell(0, Op.LOOK))


def test_worker_that_drains_makes_the_others_look(world: World) -> None:
    """What waits in a queue of its own is nobody's any more."""
    world.happens(ev.WorkerDraining(0, world.pool.slots[0].ticket, 30.0))
    assert told(world) == [1, 2]


def test_only_who_is_ready_is_told_to_look(world: World) -> None:
    """A worker that boots looks by itself; one that drains takes nothing."""
    world.happens(ev.WorkerDraining(0, world.pool.slots[0].ticket, 30.0))
    world.dies(1)
    assert [slot.life for slot in world.pool.slots] == [Life.DRAINING, Life.STARTING, Life.READY]
    assert told(world) == [2]


def test_nobody_looks_while_the_pool_stops(world: World) -> None:
    """Everybody leaves, and takes what waits as he does so."""
    world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    world.dies(1, ev.Exit(signal=signal.SIGTERM))
    assert told(world) == []
