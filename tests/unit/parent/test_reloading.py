"""The rules of a reload, without a process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pace
from hybrid.parent import pool as p
from hybrid.parent.reload_stages import Stage
from hybrid.parent.reloading import MOST_LEAVING
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op
from tests.unit.parent.world import IMPORTED, KILLED, PLAN, World


@pytest.fixture
def world() -> World:
    """Four workers, all ready, for a while already."""
    world = World(replace(PLAN, workers=4, max_surge=2))
    world.boots()
    world.now += 10 * pace.STABLE_S
    return world


def told(world: World, op: Op) -> list[int]:
    """Return whom the last look saw told so."""
    return [action.slot for action in world.actions if isinstance(action, act.Tell) and action.op is op]


def reload_to(world: World, stage: Stage) -> None:
    """Bring a reload to ``stage``; in the roll the canary serves, and two more boot."""
    world.asks()
    if stage >= Stage.IMPORT:
        world.resolves()
    if stage >= Stage.CANARY:
        world.imports()
    if stage >= Stage.ROLL:
        world.comes_up(4, 2000)


def finish(world: World) -> None:
    """Let everybody come up whom the reload starts."""
    while world.starting():
        for slot in world.starting():
            world.comes_up(slot, 3000 + slot)


def test_whole_way(world: World) -> None:
    """Settings, mold, canary, the others two at a time; each parks the one in its seat; then the old drain."""
    assert world.of(act.Resolve) == [] and world.asks() and world.of(act.Resolve) == [act.Resolve(2)]
    world.resolves()
    assert world.of(act.StartMold) == [act.StartMold(2, preload=True)]
    world.imports()
    assert world.of(act.Spawn) == [act.Spawn(4, 5, 2, seat=0)]
    world.comes_up(4, 2000)
    assert told(world, Op.PARK) == [0]
    assert world.starting() == [5, 6]
    world.comes_up(6, 2002)
    assert told(world, Op.PARK) == [2]
    assert world.starting() == [5, 7]
    world.comes_up(7, 2003)
    assert not world.of(act.Adopt)
    world.comes_up(5, 2001)
    assert told(world, Op.DRAIN) == [0, 1, 2, 3]
    assert world.of(act.EndMold) == [act.EndMold(1)]
    assert world.of(act.Adopt) == [act.Adopt(2)]
    assert world.lives() == [(1, "DRAINING")] * 4 + [(2, "READY")] * 4
    assert world.pool.reload == p.Reload()
    for slot in range(4):
        world.dies(slot, ev.Exit())
    world.happens(ev.MoldExited(1, ev.Exit()))
    assert [mold.generation for mold in world.pool.molds] == [2]
    assert world.lives() == [(2, "READY")] * 4


def test_next_reload_takes_the_slots_that_are_free(world: World) -> None:
    """Slots do not grow without bound, and seats stay 0 to n-1."""
    for generation in (2, 3, 4):
        world.asks()
        world.resolves()
        world.imports()
        finish(world)
        assert world.pool.generation == generation
        for slot in world.pool.slots:
            if slot.life is Life.DRAINING:
                world.dies(slot.index, ev.Exit())
    assert len(world.pool.slots) == 8
    assert sorted(slot.seat for slot in world.pool.slots if slot.wanted) == [0, 1, 2, 3]


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.IDLE])
def test_failure_at_any_stage_changes_nothing(world: World, stage: Stage) -> None:
    """The old generation accepts again at once, the new one leaves, the settings are forgotten."""
    reload_to(world, stage)
    generation = world.pool.reload.generation
    report = Report("import", "no such module", "Traceback …", 4)
    if stage is Stage.RESOLVE:
        world.happens(ev.ResolveFailed(generation, report))
    elif stage is Stage.IMPORT:
        world.happens(ev.MoldImportFailed(generation, report))
    else:
        world.dies(world.starting()[-1], ev.Exit(code=3), report)
    assert "reload failed" in world.log() and "no such module" in world.log()
    assert [slot.life for slot in world.pool.slots[:4]] == [Life.READY] * 4
    assert told(world, Op.UNPARK) == ([0] if stage is Stage.ROLL else [])
    assert told(world, Op.DRAIN) == ([4] if stage is Stage.ROLL else [])
    assert world.of(act.Discard) == [act.Discard(2)]
    assert not world.of(act.Fail) and world.pool.phase is p.Phase.RUNNING
    assert "no such module" in world.pool.reload.failure  # for whoever is told how it went
    assert replace(world.pool.reload, failure="") == p.Reload() and world.pool.generation == 1
    if stage > Stage.IMPORT:
        assert world.of(act.EndMold) == [act.EndMold(2)]
        world.happens(ev.MoldExited(2, ev.Exit()))
    assert [mold.generation for mold in world.pool.molds if mold.life is not p.MoldLife.LEAVING] == [1]


@pytest.mark.parametrize("stage", [Stage.IMPORT, Stage.CANARY, Stage.ROLL])
def test_new_mold_that_dies_ends_the_reload(world: World, stage: Stage) -> None:
    """There is nobody who could fork the rest."""
    reload_to(world, stage)
    world.happens(ev.MoldExited(2, KILLED))
    said = world.log()
    assert "reload failed: its mold was killed by SIGKILL" in said
    assert ("while it imported the app" in said) == (stage is Stage.IMPORT), "or nobody knows where to look"
    assert world.pool.mold_of(2) is None
    assert [slot.life for slot in world.pool.slots[:4]] == [Life.READY] * 4


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.IDLE])
def test_old_mold_that_dies_meanwhile_is_replaced(world: World, stage: Stage) -> None:
    """The old generation is whole until it is let go."""
    reload_to(world, stage)
    world.happens(ev.MoldExited(1, KILLED))
    assert world.of(act.StartMold) == [act.StartMold(1, preload=True)]
    assert world.pool.reload.stage is stage


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.IDLE])
def test_old_worker_that_dies_meanwhile(world: World, stage: Stage) -> None:
    """It is replaced by its own mold; but not where a new one serves in its seat already."""
    reload_to(world, stage)
    world.dies(0)
    assert [action.slot for action in world.actions if isinstance(action, act.Spawn)] == (
        [] if stage is Stage.ROLL else [0]
    )
    world.dies(3)
    assert [action.slot for action in world.actions if isinstance(action, act.Spawn)] == [3]
    assert world.pool.reload.stage is stage


def test_old_worker_that_boots_into_a_taken_seat_is_parked(world: World) -> None:
    """It was asked for before the canary served."""
    reload_to(world, Stage.CANARY)
    world.dies(0)
    world.comes_up(4, 2000)
    world.comes_up(0, 2009)
    assert world.pool.slots[0].life is Life.PARKED


def test_seats_that_were_lost_in_the_roll_are_filled_after_a_rollback(world: World) -> None:
    """An old worker that died parked was not missed; now it is."""
    reload_to(world, Stage.ROLL)
    world.dies(0)
    world.dies(5)
    assert "reload failed" in world.log()
    assert [action.slot for action in world.actions if isinstance(action, act.Spawn)] == [0]


def test_wishes_that_come_meanwhile_are_one_wish(world: World) -> None:
    """However many: one more reload, when this one is through."""
    reload_to(world, Stage.CANARY)
    for _ in range(3):
        world.asks()
        assert not world.of(act.Resolve)
    finish(world)
    world.happens(ev.TimePassed())
    assert world.pool.reload.generation == 3 and world.pool.reload.stage is Stage.RESOLVE
    world.resolves()
    world.imports()
    finish(world)
    assert world.pool.generation == 3 and world.pool.reload == p.Reload()


def test_wish_survives_a_reload_that_fails(world: World) -> None:
    """The error may be mended by now."""
    reload_to(world, Stage.IMPORT)
    world.asks()
    world.happens(ev.MoldImportFailed(2, Report("import", "no")))
    assert world.of(act.Resolve) == [act.Resolve(3)]


def test_generations_that_drain_are_bounded(world: World) -> None:
    """Each holds memory for a grace at most; the next reload waits for the oldest."""
    for _ in range(MOST_LEAVING):
        world.asks()
        world.resolves()
        world.imports()
        finish(world)
    world.asks()
    assert world.pool.reload.again and not world.of(act.Resolve)
    assert "reloading as soon as an earlier generation has drained" in world.log()
    for slot in world.pool.slots:
        if slot.generation == 1:
            world.dies(slot.index, ev.Exit())
    assert world.of(act.Resolve) == [act.Resolve(4)]


def test_wishes_that_wait_are_said_once(world: World) -> None:
    """A storm of signals is no storm of lines."""
    world.asks()
    world.asks()
    assert "as soon as the server has reloaded" in world.log()
    assert not world.asks()


def test_wish_during_the_boot_is_kept(world: World) -> None:
    """There is nothing to reload yet."""
    young = World(PLAN)
    young.happens(ev.Started())
    young.asks()
    assert not young.of(act.Resolve)
    young.happens(IMPORTED)
    young.comes_up(0, 10)
    assert young.of(act.Resolve) == [act.Resolve(2)]


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.IDLE])
def test_stop_ends_a_reload(world: World, stage: Stage) -> None:
    """Both generations leave, and with them both molds and whoever reads the settings."""
    reload_to(world, stage)
    world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    assert act.EndResolver() in world.actions
    for slot in world.pool.slots:
        if slot.life is not Life.VACANT:
            assert slot.life is Life.DRAINING
            world.dies(slot.index, ev.Exit())
    for mold in world.pool.molds:
        if mold.life is not p.MoldLife.ABSENT:
            world.happens(ev.MoldExited(mold.generation, ev.Exit()))
    assert world.pool.phase is p.Phase.STOPPED
    assert not world.asks("SIGHUP")[1:]


def test_resolver_that_hangs_costs_the_reload(world: World) -> None:
    """It has as long as a boot."""
    world.asks()
    world.passes(PLAN.boot_s + 0.1)
    assert act.EndResolver() in world.actions and "reload failed" in world.log()


def test_late_answers_are_passed_over(world: World) -> None:
    """Of a resolver that was given up, of a mold that was let go."""
    reload_to(world, Stage.IMPORT)
    world.happens(ev.MoldImportFailed(2, Report("import", "no")))
    before = world.pool
    world.happens(
        ev.Resolved(2, PLAN),
        ev.ResolveFailed(2, Report()),
        ev.MoldImportFailed(2, Report()),
        ev.MoldUnsafe(2, Report()),
    )
    assert world.pool == before and not world.actions


def test_fork_that_fails_ends_the_reload(world: World) -> None:
    """No process, no memory left: the old generation has what it needs."""
    reload_to(world, Stage.ROLL)
    slot = world.pool.slots[5]
    world.happens(ev.ForkFailed(5, slot.ticket, "Cannot allocate memory"))
    assert "reload failed: cannot fork worker 5: Cannot allocate memory" in world.log()


def test_unsafe_import_is_no_failure(world: World) -> None:
    """--preload auto starts another mold, which imports nothing, as at the boot."""
    reload_to(world, Stage.IMPORT)
    world.happens(ev.MoldUnsafe(2, Report("fork safety", detail="a thread")))
    assert world.of(act.EndMold) == [act.EndMold(2)]
    world.happens(ev.MoldExited(2, ev.Exit()))
    assert world.of(act.StartMold) == [act.StartMold(2, preload=False)]
    world.imports()
    finish(world)
    assert world.pool.generation == 2


def test_number_of_workers_follows_the_new_settings(world: World) -> None:
    """More, and fewer: seats that the new generation does not have leave with the old one."""
    for count in (6, 1):
        world.asks()
        world.resolves(replace(PLAN, workers=count))
        world.imports()
        finish(world)
        assert world.pool.target == count
        assert sum(slot.life is Life.READY for slot in world.pool.slots) == count


def test_worker_more_or_fewer_during_a_reload(world: World) -> None:
    """The wish holds for the generation that comes."""
    reload_to(world, Stage.ROLL)
    world.happens(ev.Asked(ev.Intent.MORE, "SIGTTIN"), ev.Asked(ev.Intent.MORE, "SIGTTIN"))
    finish(world)
    assert world.pool.target == 6
    assert sum(slot.life is Life.READY for slot in world.pool.slots) == 6


@pytest.mark.parametrize("workers", [False, True])
def test_first_boot_waits_for_a_change_where_files_are_watched(workers: bool) -> None:
    """``--reload``: whatever failed, mold or worker, is tried again with what is there then; nobody gives up."""
    young = World(replace(PLAN, waits_for_change=True))
    young.happens(ev.Started())
    if workers:
        young.happens(IMPORTED)
        young.happens(ev.Forked(0, 1, 10), ev.Forked(1, 2, 11))
        young.dies(0, ev.Exit(code=4), Report("load", "no such name", "Traceback", 4))
    else:
        young.happens(ev.MoldImportFailed(1, Report("import", "no such module", "Traceback", 4)))
    assert "waiting for a change" in young.log() and not young.of(act.Fail) and not young.of(act.Quit)
    young.asks("app.py changed")
    young.happens(ev.MoldExited(1, ev.Exit()))
    assert young.of(act.StartMold) == [act.StartMold(1, preload=True)]
    young.happens(IMPORTED)
    if workers:
        young.dies(1, ev.Exit())
    for slot in young.starting():
        young.comes_up(slot, 20 + slot)
    assert young.of(act.Announce) and young.pool.phase is p.Phase.RUNNING
    assert sorted(slot.seat for slot in young.pool.slots if slot.life is Life.READY) == [0, 1]


def levels(world: World) -> list[str]:
    """Return the levels of what the last look wrote."""
    return [action.level for action in world.actions if isinstance(action, act.Write)]


def test_what_fails_while_a_change_is_waited_for_is_said_once() -> None:
    """It is tried again, for a library that has been installed meanwhile; the same failure is no news then."""
    young = World(replace(PLAN, waits_for_change=True))
    failed = ev.MoldImportFailed(1, Report("import", "no such module", "Traceback", 4))
    young.happens(ev.Started(), failed)
    assert levels(young) == ["error", "info"]
    young.happens(ev.MoldExited(1, ev.Exit()))
    young.passes(60)
    assert young.of(act.StartMold)
    young.happens(failed)
    assert levels(young) == ["debug"]
    young.happens(ev.MoldExited(1, ev.Exit()))
    young.asks("app.py changed")
    young.happens(failed)
    assert levels(young) == ["error", "info"]


def test_worker_that_failed_often_waits_for_a_change_too() -> None:
    """A lifespan is tried three times, each with a line; then it is said that a change is waited for."""
    young = World(replace(PLAN, workers=1, waits_for_change=True))
    young.happens(ev.Started(), IMPORTED)
    said = []
    for _ in range(4):
        young.happens(ev.Forked(0, young.pool.slots[0].ticket, 10))
        young.dies(0, ev.Exit(code=3), Report("lifespan", "no database", "Traceback", 3))
        said.append(levels(young))
        young.passes(60)
    assert said == [["error"], ["error"], ["error", "info"], ["debug"]]
