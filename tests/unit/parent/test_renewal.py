"""The rules about the number of workers and about worn ones, without a process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.ground.states import Cause, Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pace
from hybrid.shared.messages import Op
from tests.unit.parent.world import PLAN, World


@pytest.fixture
def world() -> World:
    """Three workers, all ready, for a while already."""
    world = World(replace(PLAN, workers=3))
    world.boots()
    world.now += 10 * pace.STABLE_S
    return world


def told(world: World, op: Op) -> list[int]:
    """Return whom the last look saw told so."""
    return [action.slot for action in world.actions if isinstance(action, act.Tell) and action.op is op]


def wears(world: World, slot: int, cause: Cause = Cause.LIFETIME) -> None:
    """Let the worker in ``slot`` say that it is worn."""
    world.happens(ev.WornOut(slot, world.pool.slots[slot].ticket, "it is old", cause))


def causes(world: World) -> dict[Cause, int]:
    """Return how many workers were replaced, by why."""
    return {cause: count for cause, count in zip(Cause, world.pool.replaced, strict=True) if count}


def test_worn_worker_is_replaced_before_it_leaves(world: World) -> None:
    """It serves until the fresh one is ready, and the reason is said."""
    wears(world, 1)
    assert "worker 1 (pid 1002) is to be replaced: it is old" in world.log()
    assert world.of(act.Spawn) == [act.Spawn(3, 4, 1, seat=1)]
    assert world.pool.slots[1].life is Life.READY
    world.comes_up(3, 2000)
    assert told(world, Op.DRAIN) == [1]
    world.dies(1, ev.Exit())
    assert not world.of(act.Spawn)
    assert causes(world) == {Cause.LIFETIME: 1}
    assert [slot.life for slot in world.pool.slots] == [Life.READY, Life.VACANT, Life.READY, Life.READY]


@pytest.mark.parametrize(
    ("cause", "served_s", "warns"), [(Cause.MEMORY, 5, 1), (Cause.MEMORY, 90, 0), (Cause.REQUESTS, 5, 0)]
)
def test_memory_that_is_reached_at_once_is_warned_of(cause: Cause, served_s: float, warns: int) -> None:
    """A limit below what the app needs would replace one worker after another, and nothing would say why."""
    world = World(replace(PLAN, workers=1))
    world.boots()
    world.now += served_s
    wears(world, 0, cause)
    assert world.log().count("has reached --max-memory after 5 s") == warns


def test_never_two_at_once(world: World) -> None:
    """The next one waits until the last one is gone."""
    wears(world, 0)
    wears(world, 1)
    assert world.starting() == [3]
    world.comes_up(3, 2000)
    assert world.starting() == []
    world.dies(0, ev.Exit())
    assert world.of(act.Spawn) == [act.Spawn(0, 5, 1, seat=1)]


def test_fresh_worker_that_does_not_boot_costs_nothing(world: World) -> None:
    """The worn one serves on; it is tried again, later and later."""
    wears(world, 1)
    world.dies(3, ev.Exit(code=3))
    assert world.pool.slots[1].life is Life.READY and not world.of(act.Spawn)
    world.passes(pace.backoff_s(1) + 0.01)
    assert [action.slot for action in world.actions if isinstance(action, act.Spawn)] == [3]


def test_worn_worker_that_dies_first(world: World) -> None:
    """Its successor is on the way already: nobody else is started."""
    wears(world, 1)
    world.dies(1)
    assert not world.of(act.Spawn) and "another was starting already" in world.log()
    world.comes_up(3, 2000)
    assert sorted(slot.seat for slot in world.pool.slots if slot.wanted) == [0, 1, 2]


def test_reload_comes_first(world: World) -> None:
    """It replaces all of them; a fresh worker on its way is let go with the old generation."""
    wears(world, 1)
    world.asks()
    wears(world, 2)
    assert world.starting() == [3]
    world.resolves()
    world.imports()
    while world.starting():
        for slot in world.starting():
            world.comes_up(slot, 3000 + slot)
    ready = [slot for slot in world.pool.slots if slot.life is Life.READY]
    assert [(slot.generation, slot.worn) for slot in ready] == [(2, "")] * 3


def test_words_that_do_not_fit_are_passed_over(world: World) -> None:
    """Of a worker that is gone, of one that drains, twice."""
    before = world.pool
    world.happens(ev.WornOut(0, 99, "a lie", Cause.MEMORY))
    assert world.pool == before
    wears(world, 0)
    first = world.pool
    wears(world, 0)
    assert world.pool == first


def test_one_more_and_one_fewer(world: World) -> None:
    """The newcomer takes the next seat; who leaves is the one in the last, and drains."""
    world.happens(ev.Asked(ev.Intent.MORE, "SIGTTIN"))
    assert world.of(act.Spawn) == [act.Spawn(3, 4, 1, seat=3)]
    world.comes_up(3, 2000)
    world.happens(ev.Asked(ev.Intent.FEWER, "SIGTTOU"))
    assert told(world, Op.DRAIN) == [3]
    world.dies(3, ev.Exit())
    assert not world.of(act.Spawn) and world.pool.target == 3


def test_last_worker_stays(world: World) -> None:
    """A server that was asked for serves."""
    for _ in range(5):
        world.happens(ev.Asked(ev.Intent.FEWER, "SIGTTOU"))
    assert world.pool.target == 1
    assert [slot.life for slot in world.pool.slots] == [Life.READY, Life.DRAINING, Life.DRAINING]


def test_everybody_parked_and_back(world: World) -> None:
    """SIGWINCH; a worker that becomes ready meanwhile is parked, too; once more, and all accept."""
    world.happens(ev.Asked(ev.Intent.PARK, "SIGWINCH"))
    assert told(world, Op.PARK) == [0, 1, 2]
    world.dies(0)
    world.comes_up(0, 2000)
    assert [slot.life for slot in world.pool.slots] == [Life.PARKED] * 3
    world.happens(ev.Asked(ev.Intent.PARK, "SIGWINCH"))
    assert told(world, Op.UNPARK) == [0, 1, 2]


def test_reload_lets_parked_workers_accept(world: World) -> None:
    """Who asks for new code wants it to serve."""
    world.happens(ev.Asked(ev.Intent.PARK, "SIGWINCH"))
    world.asks()
    assert told(world, Op.UNPARK) == [0, 1, 2]


def test_every_replacement_is_counted_by_its_cause(world: World) -> None:
    """Those that wore out, that died, that somebody else told to leave; never one that is not wanted."""
    wears(world, 0, Cause.MEMORY)
    world.dies(0, ev.Exit(signal=9))  # before its successor was there: it has died
    world.comes_up(3, 2000)
    world.dies(1, ev.Exit(code=1))
    world.comes_up(1, 2001)
    world.happens(ev.WorkerDraining(2, world.pool.slots[2].ticket, 30.0))
    world.dies(2, ev.Exit())
    world.comes_up(2, 2002)
    assert causes(world) == {Cause.DIED: 2, Cause.TOLD: 1}
    world.happens(ev.Asked(ev.Intent.FEWER, "SIGTTOU"))
    world.dies(2, ev.Exit())
    assert causes(world) == {Cause.DIED: 2, Cause.TOLD: 1}
