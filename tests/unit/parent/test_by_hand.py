"""What is asked by hand of the size or of one worker: what becomes of it, and what is answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.ground.states import Cause, Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op
from tests.unit.parent.test_resizing import comes_up, lives, ranged, sized, told
from tests.unit.parent.world import PLAN, World


@pytest.fixture
def world() -> World:
    """Three workers, a fixed size."""
    world = World(replace(PLAN, workers=3))
    world.boots()
    world.now += 10
    return world


def asks(world: World, slot: int, intent: ev.SlotIntent) -> act.Answer:
    """Ask something of one worker; return the answer."""
    world.happens(ev.SlotAsked(slot, intent, "control", 7))
    (answer,) = [action for action in world.actions if isinstance(action, act.Answer)]
    assert answer.token == 7
    return answer


def counted(world: World) -> list[Cause]:
    """Return why workers had to be replaced, as it is counted."""
    return [cause for cause in Cause for _ in range(world.pool.replaced[cause])]


def scales(world: World, least: int, most: int, *loads: int) -> act.Answer:
    """Ask for other bounds; return the answer."""
    world.happens(ev.ScaleAsked(least, most, "control", 8, loads))
    (answer,) = [action for action in world.actions if isinstance(action, act.Answer)]
    return answer


# ── one worker ───────────────────────────────────────────────────────────────────────────────────────────────


def test_parked_by_hand_stays_parked(world: World) -> None:
    """Nobody is started in its place, and SIGWINCH twice does not call it back."""
    assert asks(world, 1, ev.SlotIntent.PARK).ok and told(world, Op.PARK) == [1]
    assert world.starting() == []
    world.happens(ev.Asked(ev.Intent.PARK, "SIGWINCH"), ev.Asked(ev.Intent.PARK, "SIGWINCH"))
    assert lives(world) == ["READY", "PARKED", "READY"]
    assert asks(world, 1, ev.SlotIntent.UNPARK).ok and told(world, Op.UNPARK) == [1]
    assert lives(world) == ["READY"] * 3


def test_sized_pool_does_without_one_that_is_parked_by_hand() -> None:
    """Another takes its place, since the size is of those that serve."""
    world = ranged("2..3")
    asks(world, 0, ev.SlotIntent.PARK)
    assert world.starting() == [2]
    comes_up(world)
    assert lives(world) == ["PARKED", "READY", "READY"]
    sized(world, 2, 0, 0, 0)
    assert lives(world) == ["PARKED", "READY", "READY"]


def test_spare_that_is_unparked_by_hand_is_one_more() -> None:
    """Else the rules would park one at once."""
    world = ranged("1..2", standby=1)
    assert asks(world, 1, ev.SlotIntent.UNPARK).ok
    assert world.pool.target == 2 and lives(world)[:2] == ["READY", "READY"]
    assert world.starting() == [2], "another stands by"


def test_drained_by_hand_is_replaced_at_once(world: World) -> None:
    """It finishes what it holds."""
    answer = asks(world, 2, ev.SlotIntent.DRAIN)
    assert answer == act.Answer(7, True, "worker 2 (pid 1003) drains; another starts in its place")
    assert told(world, Op.DRAIN) == [2] and world.starting() == [3]
    assert world.pool.slots[3].seat == 2


def test_killed_by_hand_is_replaced(world: World) -> None:
    """As one that somebody else has killed."""
    assert asks(world, 0, ev.SlotIntent.KILL).ok
    assert world.of(act.Signal) == [act.Signal(0, 9)]
    world.dies(0, report=Report(step="ready"))
    assert world.starting() == [0] and "another starts" in world.log()
    assert counted(world) == [Cause.DIED]


def test_told_to_leave_and_killed_at_its_deadline_is_counted_as_told(world: World) -> None:
    """SIGTERM is why it had to be replaced; so it is where it leaves in time. Whoever comes after it begins anew."""
    for ticket in (1, 4):
        world.happens(ev.WorkerDraining(0, ticket, 1.0))
        world.passes(60)
        assert world.of(act.Signal) == [act.Signal(0, 9)]
        world.dies(0, report=Report(step="ready"))
        comes_up(world)
    assert counted(world) == [Cause.TOLD] * 2
    asks(world, 0, ev.SlotIntent.KILL)
    world.dies(0, report=Report(step="ready"))
    assert counted(world) == [Cause.DIED, Cause.TOLD, Cause.TOLD]


def test_draining_worker_may_be_killed(world: World) -> None:
    """Somebody does not want to wait."""
    asks(world, 0, ev.SlotIntent.DRAIN)
    assert asks(world, 0, ev.SlotIntent.KILL).text == "worker 0 (pid 1001) is killed"


def test_worker_that_is_being_forked_is_not_killed_by_hand(world: World) -> None:
    """Nobody knows its pid; to give up on its fork would end the mold. When the fork is told it may be killed."""
    world.dies(1, report=Report(step="ready"))
    before = world.pool
    answer = asks(world, 1, ev.SlotIntent.KILL)
    assert not answer.ok and answer.text.endswith("the worker is being forked. Ask again in a moment")
    assert world.pool == before and not world.of(act.EndMold)
    world.happens(ev.Forked(1, world.pool.slots[1].ticket, 2001))
    assert asks(world, 1, ev.SlotIntent.KILL).ok and world.of(act.Signal) == [act.Signal(1, 9)]


@pytest.mark.parametrize("intent", ev.SlotIntent)
@pytest.mark.parametrize("slot", [9, -1])
def test_slot_without_a_worker_is_told_so(world: World, intent: ev.SlotIntent, slot: int) -> None:
    """And nothing else is done."""
    before = world.pool
    answer = asks(world, slot, intent)
    assert not answer.ok
    assert answer.text.endswith("there is no worker. Workers are in slots 0, 1, 2")
    assert world.pool == before


def test_nothing_is_done_while_the_server_stops(world: World) -> None:
    """Everybody leaves as it is."""
    world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    assert asks(world, 0, ev.SlotIntent.PARK) == act.Answer(7, False, "the server is stopping")


def test_parked_during_a_reload_may_be_unparked_after_it_failed(world: World) -> None:
    """What was asked by hand is not undone by what a reload undoes."""
    asks(world, 1, ev.SlotIntent.PARK)
    world.asks()
    world.resolves()
    world.imports()
    world.dies(world.starting()[0], ev.Exit(code=1))
    assert lives(world)[:3] == ["READY", "PARKED", "READY"]


def test_unparked_worker_of_a_sized_pool_serves() -> None:
    """Whoever came in its place stands back, not the worker that was asked for, whichever seat it has."""
    world = ranged("1..4")
    sized(world, 3)
    comes_up(world)
    asks(world, 2, ev.SlotIntent.PARK)
    comes_up(world)
    sized(world, 2, 0, 0, 0, 0)
    assert lives(world) == ["READY", "READY", "PARKED", "PARKED"]
    assert asks(world, 2, ev.SlotIntent.UNPARK).ok
    assert lives(world) == ["READY", "PARKED", "READY", "PARKED"] and world.pool.target == 2


@pytest.mark.parametrize("stages", range(3))
def test_drained_during_a_reload_is_replaced_at_once(stages: int) -> None:
    """By one of the generation that serves: the one that is coming may take its time, or not come up at all."""
    world = World(replace(PLAN, workers=1))
    world.boots()
    for begin in (world.asks, world.resolves, world.imports)[: stages + 1]:
        begin()
    answer = asks(world, 0, ev.SlotIntent.DRAIN)
    assert answer.text.endswith("another starts in its place")
    fresh = [slot for slot in world.pool.slots if slot.generation == 1 and slot.life is Life.STARTING]
    assert [(slot.wanted, slot.seat) for slot in fresh] == [(True, 0)]
    world.comes_up(fresh[0].index, 77)
    assert world.pool.slots[fresh[0].index].life is Life.READY


def test_drained_after_its_successor_serves_is_not_replaced(world: World) -> None:
    """The new generation has its seat."""
    for begin in (world.asks, world.resolves, world.imports):
        begin()
    world.comes_up(world.starting()[0], 77)
    starting = world.starting()
    assert asks(world, 0, ev.SlotIntent.DRAIN).text == "worker 0 (pid 1001) drains"
    assert world.starting() == starting


# ── the size ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_scale_to_a_number_fixes_the_size() -> None:
    """The sizing is off then; whoever is too many leaves."""
    world = ranged("1..6")
    assert scales(world, 3, 3, 0).text == "workers: 3; 3 now, 1 before"
    comes_up(world)
    assert not world.pool.is_sized and lives(world) == ["READY"] * 3
    scales(world, 2, 2, 4, 0, 4)
    assert told(world, Op.DRAIN) == [1], "the emptiest"


def test_scale_to_a_range_turns_the_sizing_on(world: World) -> None:
    """It begins with the size that there is, if that is within."""
    assert scales(world, 1, 8).text == "workers: 1 to 8; 3 now, 3 before"
    assert world.pool.is_sized and world.pool.target == 3
    scales(world, 5, 0)
    assert (world.pool.least, world.pool.most, world.pool.target) == (5, 8, 5)


@pytest.mark.parametrize(("least", "most"), [(5, 2), (1, 5000), (4, 0)])
def test_bounds_that_make_no_sense_are_refused(world: World, least: int, most: int) -> None:
    """(The most is 3 here.)"""
    answer = scales(world, least, most)
    assert not answer.ok and "Give 1 to" in answer.text
    assert world.pool.target == 3


@pytest.mark.parametrize("after", [1, 2, 3])
def test_scale_during_a_reload_is_about_the_new_generation_too(world: World, after: int) -> None:
    """However far it has come: else it would be taken back a moment later."""
    world.asks()
    if after == 1:
        scales(world, 1, 1)
    world.resolves()
    if after == 2:
        scales(world, 1, 1)
    world.imports()
    if after == 3:
        scales(world, 1, 1)
    comes_up(world)
    assert world.pool.generation == 2
    assert (world.pool.least, world.pool.target, world.pool.most) == (1, 1, 1)


@pytest.mark.parametrize("by", ["scale", "signal"])
def test_who_is_parked_by_hand_goes_first(world: World, by: str) -> None:
    """A smaller pool is one of those that serve: were they let go instead, nobody would accept."""
    asks(world, 1, ev.SlotIntent.PARK)
    for _ in range(2):
        world.happens(ev.Asked(ev.Intent.FEWER, "SIGTTOU") if by == "signal" else ev.ScaleAsked(1, 1, "somebody"))
    wanted = [slot for slot in world.pool.slots if slot.wanted]
    assert [(slot.index, slot.life) for slot in wanted] == [(0, Life.READY)]


@pytest.mark.parametrize(("intent", "bounds", "target"), [(ev.Intent.MORE, (3, 4), 3), (ev.Intent.FEWER, (1, 1), 1)])
def test_one_more_or_fewer_moves_the_bound_of_a_range(intent: ev.Intent, bounds: tuple[int, int], target: int) -> None:
    """One more: the fewest there are to be. One fewer: the most. The sizing would take it back otherwise."""
    world = ranged("1..4")
    sized(world, 2)
    comes_up(world)
    world.happens(ev.Asked(intent, "SIGTT", loads=(3, 0)))
    assert (world.pool.least, world.pool.most) == bounds and world.pool.target == target


def test_standby_may_be_asked_for() -> None:
    """More are booted; fewer leave."""
    world = ranged("1..2")
    world.happens(ev.StandbyAsked(2, "control", 5))
    said = "standby is set until the settings are read anew (reload, restart)"
    assert world.of(act.Answer) == [act.Answer(5, True, said)]
    comes_up(world)
    assert [slot.life for slot in world.pool.slots] == [Life.READY, Life.PARKED, Life.PARKED]
    world.happens(ev.StandbyAsked(-1, "control", 6))
    assert [action.ok for action in world.actions if isinstance(action, act.Answer)] == [False]
    assert world.pool.standby == 2


def test_nobody_waits_without_a_token(world: World) -> None:
    """A signal hears no answer."""
    world.happens(ev.SlotAsked(0, ev.SlotIntent.PARK, "somebody"), ev.ScaleAsked(9, 1, "somebody"))
    assert not world.of(act.Answer)
    assert world.pool.slots[0].duty is p.Duty.HELD
