"""The pause before a stop (``--drain-delay``): not ready any more, and everything as before. No process, no waiting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import core, stopping
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from tests.unit.parent.world import IMPORTED, PLAN, World

STOP = ev.Asked(ev.Intent.STOP, "SIGTERM")
STOP_NOW = ev.Asked(ev.Intent.STOP_NOW, "SIGQUIT")


@pytest.fixture
def world() -> World:
    """A pool of two that serves, with a delay of 10 s."""
    world = World(replace(PLAN, drain_delay_s=10.0))
    world.boots()
    return world


def test_first_signal_says_so_and_nothing_else(world: World) -> None:
    """Nobody is told to leave, nothing is closed; the time is set."""
    actions = world.happens(STOP)
    assert [type(each) for each in actions] == [act.Write, act.Unready]
    assert "SIGTERM: stopping in 10 s; until then everything is served (--drain-delay)" in world.log()
    assert world.pool.phase is p.Phase.RUNNING and core.next_deadline(world.pool) == world.now + 10.0
    assert world.lives() == [(1, "READY"), (1, "READY")]


def test_drain_follows_when_it_is_over(world: World) -> None:
    """With the whole grace; and not a moment sooner."""
    world.happens(STOP)
    assert world.passes(9.9) == []
    world.passes(0.1)
    assert world.of(act.StopListening) and "stopping; open connections have 30 s to finish" in world.log()
    assert {each.a for each in world.of(act.Tell) if isinstance(each, act.Tell)} == {30_000}
    assert world.pool.stop_due is None and world.pool.stop_step is p.StopStep.DRAIN


def test_second_signal_skips_it(world: World) -> None:
    """Not one that comes at once: that is the same wish."""
    world.happens(STOP)
    world.now += stopping.REPEAT_S / 2
    assert world.happens(STOP) == []
    steps = []
    for _ in range(2):
        world.now += stopping.REPEAT_S
        world.happens(STOP)
        steps.append(world.pool.stop_step)
    assert steps == [p.StopStep.DRAIN, p.StopStep.CANCEL]


def test_stop_now_skips_it(world: World) -> None:
    """SIGQUIT, before it or in it."""
    world.happens(STOP, STOP_NOW)
    assert world.pool.stop_step is p.StopStep.ABORT and world.of(act.StopListening)


def test_worker_that_dies_in_it_is_replaced(world: World) -> None:
    """All is served as before."""
    world.happens(STOP)
    world.now += 1.0
    world.dies(0)
    assert world.starting() == [0] and world.of(act.Spawn)
    world.comes_up(0, 4711)
    assert [slot.life for slot in world.pool.slots] == [Life.READY, Life.READY]


def test_reload_in_it_is_refused(world: World) -> None:
    """Nobody is to meet the new code."""
    world.happens(STOP)
    world.asks()
    assert "SIGHUP: not reloading, the server is stopping" in world.log() and not world.of(act.Resolve)


def test_program_that_stops_its_server_waits_for_no_balancer(world: World) -> None:
    """``server.drain(grace_s)`` says when."""
    world.happens(ev.Asked(ev.Intent.STOP, "asked by the program", 5.0))
    assert world.pool.stop_step is p.StopStep.DRAIN


def test_pool_that_was_never_ready_has_no_delay() -> None:
    """Nobody was ever sent here; and it does not become ready in its last seconds."""
    world = World(replace(PLAN, drain_delay_s=10.0))
    world.happens(ev.Started(), IMPORTED)
    world.comes_up(0, 4711)
    assert world.pool.phase is p.Phase.RUNNING and not world.pool.announced
    world.happens(STOP)
    assert world.pool.stop_step is p.StopStep.DRAIN


@pytest.mark.parametrize("ask", [STOP, STOP_NOW])
def test_every_stop_is_the_end_of_readiness(ask: ev.Asked) -> None:
    """With a delay or without: first of all nothing new is to be sent here."""
    world = World()
    world.boots()
    kinds = [type(each) for each in world.happens(ask)]
    assert kinds.index(act.Unready) < kinds.index(act.StopListening)
