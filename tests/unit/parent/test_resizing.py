"""The rules about how many serve and how many stand by, without a process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.ground.states import Cause, Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pace
from hybrid.parent import pool as p
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op
from hybrid.shared.pool_size import parse
from tests.unit.parent.world import IMPORTED, PLAN, World

LINGER_S = 5.0


def ranged(workers: str, standby: int = 0) -> World:
    """Return a pool that sizes itself, booted, for a while already."""
    world = World(replace(PLAN, size=parse(workers), standby=standby))
    world.boots()
    comes_up(world)
    world.now += 10 * pace.STABLE_S
    return world


def comes_up(world: World) -> None:
    """Let everybody who was asked for become ready."""
    while starting := world.starting():
        world.comes_up(starting[0], 3000 + world.pool.slots[starting[0]].ticket)


def sized(world: World, target: int, *loads: int) -> list[act.Action]:
    """Let the sizing want ``target``; ``loads``: open connections of each slot."""
    return world.happens(ev.Sized(target, "because", (("queue", 3.0),), loads, LINGER_S))


def lives(world: World) -> list[str]:
    """Return where the worker of each slot is in its life."""
    return [slot.life.name for slot in world.pool.slots]


def told(world: World, op: Op) -> list[int]:
    """Return whom the last look saw told so."""
    return [action.slot for action in world.actions if isinstance(action, act.Tell) and action.op is op]


@pytest.mark.parametrize(
    ("workers", "least", "most"), [("1..6", 1, 6), ("2..", 2, 2), ("auto..", 1, 3), ("auto..2", 1, 2), ("3..3", 3, 3)]
)
def test_pool_begins_with_the_fewest(workers: str, least: int, most: int) -> None:
    """What auto means is known once the app is imported: two CPUs here."""
    world = ranged(workers)
    assert (world.pool.least, world.pool.target, world.pool.most) == (least, least, most)
    assert lives(world) == ["READY"] * least


def test_growing_starts_workers_and_says_why() -> None:
    """The decision is in the log with its figures, and an action for those who tell of it."""
    world = ranged("1..6")
    sized(world, 3, 4)
    assert world.of(act.Resized) == [act.Resized(1, 3, "because", (("queue", 3.0),))]
    assert "sizing: because" in world.log() and world.pool.size_reason == "because"
    assert world.starting() == [1, 2]


def test_sizing_stays_within_the_bounds() -> None:
    """Whatever is wanted."""
    world = ranged("2..3")
    sized(world, 9)
    assert world.pool.target == 3
    sized(world, 1, 0, 0, 0)
    assert world.pool.target == 2


def test_worn_worker_that_stands_by_is_ready_until_it_is_renewed() -> None:
    """Whichever slot its successor boots in: when somebody dies, it serves at once."""
    world = ranged("1..3", standby=1)
    sized(world, 2)
    comes_up(world)
    world.happens(ev.SlotAsked(0, ev.SlotIntent.DRAIN, "control"))  # slot 0 becomes free
    comes_up(world)
    world.dies(0)
    spare = next(slot for slot in world.pool.slots if slot.duty is p.Duty.SPARE)
    world.happens(ev.WornOut(spare.index, spare.ticket, "it is old", Cause.LIFETIME))
    assert world.starting() == [0] and world.pool.slots[0].seat == spare.seat
    world.dies(1)
    assert told(world, Op.UNPARK) == [spare.index]


def test_boots_that_fail_wait_however_often_the_size_changes() -> None:
    """A step down and up again is no reason to try at once what has failed a moment ago; a reload is."""
    world = ranged("1..3")
    sized(world, 2)
    for _ in range(4):
        world.dies(1, ev.Exit(code=3), Report(step="lifespan", error="no"))
        wait_s = (world.pool.slots[1].deadline or 0.0) - world.now
        world.passes(wait_s)
    world.dies(1, ev.Exit(code=3), Report(step="lifespan", error="no"))
    due = world.pool.slots[1].deadline
    sized(world, 1, 0, 0)
    sized(world, 2, 0, 0)
    assert world.starting() == [] and world.pool.slots[1].deadline == due
    world.passes(2 * wait_s)
    assert world.starting() == [1]
    world.dies(1, ev.Exit(code=3), Report(step="lifespan", error="no"))
    sized(world, 1, 0, 0)
    for begin in (world.asks, world.resolves, world.imports):
        begin()
    assert world.starting() == [1]


def test_what_forbids_to_grow_is_told() -> None:
    """The size stays; the log and those who tell of it have the reason."""
    world = ranged("1..6")
    world.happens(ev.Sized(1, "contended", is_barred=True))
    assert "more would be wanted: contended" in world.log() and world.pool.target == 1
    assert world.of(act.Resized) == [act.Resized(1, 1, "contended")]


def test_shrinking_parks_the_emptiest_and_nobody_leaves() -> None:
    """What it holds is served on."""
    world = ranged("1..3")
    sized(world, 3)
    comes_up(world)
    sized(world, 2, 5, 1, 7)
    assert told(world, Op.PARK) == [1] and told(world, Op.DRAIN) == []
    assert [slot.duty for slot in world.pool.slots] == [p.Duty.SERVE, p.Duty.SPARE, p.Duty.SERVE]


def test_growing_unparks_first() -> None:
    """A parked worker accepts in milliseconds; whoever was parked last is the warmest."""
    world = ranged("1..4")
    sized(world, 3)
    comes_up(world)
    sized(world, 2, 5, 1, 7)
    world.now += 1
    sized(world, 1, 5, 1, 7)
    assert lives(world) == ["PARKED", "PARKED", "READY"]
    sized(world, 2, 0, 0, 7)
    assert told(world, Op.UNPARK) == [0] and world.starting() == []
    sized(world, 4, 0, 0, 7)
    assert told(world, Op.UNPARK) == [1] and world.starting() == [3]


def test_parked_worker_leaves_after_a_while_if_it_holds_nothing() -> None:
    """One at a time; one that still serves somebody stays, and so does one of which nothing is known."""
    world = ranged("1..3")
    sized(world, 3)
    comes_up(world)
    sized(world, 1, 5, 1, 7)
    assert lives(world) == ["PARKED", "PARKED", "READY"]
    sized(world, 1, 0, 0, 7)
    assert told(world, Op.DRAIN) == []
    world.now += LINGER_S
    sized(world, 1, 2, 1, 7)
    sized(world, 1)
    assert told(world, Op.DRAIN) == []
    sized(world, 1, 2, 0, 7)
    assert told(world, Op.DRAIN) == [1]
    assert "worker 1 (pid 3002) leaves: it is parked, holds nothing" in world.log()
    sized(world, 1, 0, 0, 7)
    assert told(world, Op.DRAIN) == [0]


def test_standby_boots_and_is_parked() -> None:
    """It does not count among those that serve, and the server does not wait for it to say that it is ready."""
    world = World(replace(PLAN, size=parse("1..3"), standby=1))
    world.boots()
    assert lives(world) == ["READY", "PARKED"] and "is ready, and stands by" in world.log()
    assert world.pool.announced and world.pool.target == 1


def test_server_is_ready_before_its_standbys() -> None:
    """They serve nobody yet."""
    world = World(replace(PLAN, workers=1, standby=1))
    world.happens(ev.Started(), IMPORTED)
    world.comes_up(0, 1000)
    assert world.of(act.Announce) and lives(world) == ["READY", "STARTING"]


def test_standby_that_is_used_is_replaced() -> None:
    """It serves at once, and another boots to stand by."""
    world = ranged("1..3", standby=1)
    sized(world, 2, 1, 0)
    assert told(world, Op.UNPARK) == [1] and world.starting() == [2]
    comes_up(world)
    assert lives(world) == ["READY", "READY", "PARKED"]


def test_killed_standby_is_replaced() -> None:
    """As any worker is."""
    world = ranged("1..3", standby=1)
    world.dies(1)
    assert world.starting() == [1]
    comes_up(world)
    assert lives(world) == ["READY", "PARKED"]


def test_standby_takes_over_from_one_that_dies() -> None:
    """Whoever is started in its place stands by then. In a pool of fixed size, too."""
    world = World(replace(PLAN, workers=2, standby=1))
    world.boots()
    world.dies(0)
    assert told(world, Op.UNPARK) == [2] and world.starting() == [0]
    comes_up(world)
    assert lives(world) == ["PARKED", "READY", "READY"]


def test_surplus_spare_that_dies_is_not_replaced() -> None:
    """Nobody needed it."""
    world = ranged("1..2")
    sized(world, 2)
    comes_up(world)
    sized(world, 1, 3, 0)
    world.dies(1)
    assert lives(world) == ["READY", "VACANT"] and not world.pool.slots[1].wanted


def test_worker_that_still_boots_is_parked_when_it_is_there() -> None:
    """The wish is over before it was granted; nobody else is disturbed for it."""
    world = ranged("1..3")
    sized(world, 2)
    sized(world, 1, 9)
    assert told(world, Op.PARK) == []
    comes_up(world)
    assert lives(world) == ["READY", "PARKED"]


def test_nothing_is_sized_while_nobody_is_to_accept() -> None:
    """The queue grows because the pool was parked as a whole: more workers would be parked as well."""
    world = ranged("1..3", standby=1)
    world.happens(ev.Asked(ev.Intent.PARK, "SIGWINCH"))
    sized(world, 3)
    assert world.pool.target == 1
    world.happens(ev.Asked(ev.Intent.PARK, "SIGWINCH"))
    assert lives(world) == ["READY", "PARKED"], "the standby stays parked"


def test_worn_spare_is_renewed_as_a_spare() -> None:
    """It stands by until the fresh one is there, which stands by then."""
    world = ranged("1..3", standby=1)
    world.happens(ev.WornOut(1, world.pool.slots[1].ticket, "it is old", Cause.LIFETIME))
    comes_up(world)
    assert told(world, Op.DRAIN) == [1] or lives(world)[1] == "DRAINING"
    assert [slot.life for slot in world.pool.slots] == [Life.READY, Life.DRAINING, Life.PARKED]


# ── with a reload ────────────────────────────────────────────────────────────────────────────────────────────


def reloads(world: World, workers: str = "", standby: int = 0) -> None:
    """Have the server reload; ``workers``: what the settings say now."""
    world.asks()
    world.resolves(replace(world.pool.plan, size=parse(workers), standby=standby) if workers else None)
    world.imports()
    while starting := world.starting():
        world.comes_up(starting[0], 5000 + world.pool.slots[starting[0]].ticket)


def test_new_generation_is_as_large_as_the_old_one() -> None:
    """The load is the same; standbys follow, when it serves."""
    world = ranged("1..6", standby=1)
    sized(world, 3)
    comes_up(world)
    reloads(world)
    serving = [slot for slot in world.pool.slots if slot.generation == 2 and slot.life is Life.READY]
    parked = [slot for slot in world.pool.slots if slot.generation == 2 and slot.life is Life.PARKED]
    assert (world.pool.target, len(serving), len(parked)) == (3, 3, 1)


def test_reload_reads_the_bounds_anew() -> None:
    """The size is fit to them."""
    world = ranged("1..6")
    sized(world, 4)
    comes_up(world)
    reloads(world, "1..2", standby=2)
    assert (world.pool.target, world.pool.least, world.pool.most, world.pool.standby) == (2, 1, 2, 2)


def test_nothing_is_sized_during_a_reload() -> None:
    """Two generations are there: what is measured is about neither."""
    world = ranged("1..6")
    world.asks()
    world.resolves()
    sized(world, 5)
    assert world.pool.target == 1


def test_reload_that_fails_leaves_spares_parked() -> None:
    """Whoever was parked for the new generation accepts again, and nobody else."""
    world = ranged("1..3", standby=1)
    world.asks()
    world.resolves()
    world.imports()
    coming = world.starting()
    assert len(coming) == 1
    world.dies(coming[0], ev.Exit(code=1))
    assert lives(world)[:2] == ["READY", "PARKED"]
