"""The parent's rules, without a process: what each event makes of the pool."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pace, stopping
from hybrid.parent import pool as p
from hybrid.parent.core import FORKS_AT_ONCE
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op
from tests.unit.parent.world import IMPORTED, KILLED, PLAN, World


@pytest.fixture
def world() -> World:
    """A pool of two workers, all ready, for a while already."""
    world = World()
    world.boots()
    world.now += 10 * pace.STABLE_S
    return world


def test_workers_are_spawned_once_the_mold_can_fork() -> None:
    """No worker is asked for before the app is imported; then all at once."""
    world = World()
    assert world.happens(ev.Started()) == [act.StartMold(1, preload=True)]
    world.happens(IMPORTED)
    assert [a.slot for a in world.of(act.Spawn) if isinstance(a, act.Spawn)] == [0, 1]


def test_pool_is_announced_when_every_worker_is_ready() -> None:
    """Whoever waits hears once, and not before the last worker."""
    world = World()
    world.happens(ev.Started(), IMPORTED, ev.Forked(0, 1, 10), ev.WorkerReady(0, 1), ev.Forked(1, 2, 11))
    assert not world.of(act.Announce)
    world.happens(ev.WorkerReady(1, 2))
    assert len(world.of(act.Announce)) == 1
    world.dies(0)
    world.comes_up(0, 12)
    assert not world.of(act.Announce)


def test_auto_size_is_what_the_machine_allows() -> None:
    """``--workers auto`` takes its size from the facts that come with the import."""
    world = World(replace(PLAN, workers=None))
    world.happens(ev.Started(), IMPORTED)
    assert len(world.pool.slots) == 2
    assert "affinity" in world.pool.size_reason


def test_killed_worker_is_replaced_at_once(world: World) -> None:
    """A worker that served and died costs no waiting."""
    world.dies(1)
    assert [a.slot for a in world.of(act.Spawn) if isinstance(a, act.Spawn)] == [1]
    assert world.of(act.Vacate) == [act.Vacate(1)]


def test_every_worker_killed_is_every_worker_replaced(world: World) -> None:
    """The pool heals from the loss of all."""
    world.dies(0)
    world.dies(1)
    for slot in world.pool.slots:
        assert slot.life is Life.STARTING


def test_crash_loop_backs_off_and_the_others_serve_on(world: World) -> None:
    """Quick deaths wait 0, 0.5, 0.75 … 30 s; the healthy worker is not touched."""
    waits = []
    world.dies(1)
    for _ in range(14):
        world.comes_up(1, 50)
        world.dies(1)
        deadline = world.pool.slots[1].deadline
        if world.pool.slots[1].life is Life.VACANT:
            assert deadline is not None
            waits.append(deadline - world.now)
            world.passes(waits[-1])
        assert world.pool.slots[1].life is Life.STARTING
    assert waits[:3] == pytest.approx([0.5, 0.75, 1.125])
    assert max(waits) == 30.0
    assert world.pool.slots[0].life is Life.READY


def test_worker_that_lived_resets_the_backoff(world: World) -> None:
    """A death after a stable life is not part of a crash loop."""
    for _ in range(5):
        world.dies(1)
        assert world.pool.slots[1].life is Life.STARTING
        world.comes_up(1, 50)
        world.now += pace.STABLE_S


def test_first_boot_that_fails_n_times_ends_the_server() -> None:
    """Exit code 3 with the report, told to whoever waits."""
    world = World(replace(PLAN, workers=1))
    world.happens(ev.Started(), IMPORTED)
    report = Report("lifespan", "OSError: no database", "Traceback …", ExitCode.BOOT_FAILED)
    for attempt in range(3):
        slot = world.pool.slots[0]
        world.happens(ev.Forked(0, slot.ticket, 7))
        world.dies(0, ev.Exit(code=3), report)
        if attempt < 2:
            world.passes(60.0)
    assert world.pool.exit_code is ExitCode.BOOT_FAILED
    (fail,) = world.of(act.Fail)
    assert isinstance(fail, act.Fail) and "no database" in fail.message and fail.detail == "Traceback …"
    world.happens(ev.MoldExited(1, ev.Exit()))
    assert world.of(act.Quit) == [act.Quit(ExitCode.BOOT_FAILED)]


def test_boot_failure_shows_its_traceback_once() -> None:
    """Two workers that fail the same way are one traceback."""
    world = World()
    world.happens(ev.Started(), IMPORTED, ev.Forked(0, 1, 7), ev.Forked(1, 2, 8))
    report = Report("lifespan", "OSError: no database", "Traceback …", ExitCode.BOOT_FAILED)
    world.dies(0, ev.Exit(code=3), report)
    assert any(isinstance(a, act.Write) and a.detail for a in world.actions)
    world.dies(1, ev.Exit(code=3), report)
    assert not any(isinstance(a, act.Write) and a.detail for a in world.actions)
    assert any(isinstance(a, act.Write) and "as before" in a.message for a in world.actions)


def test_app_that_cannot_be_imported_ends_the_server_at_once() -> None:
    """A typo in the target is not retried: exit code 4."""
    world = World()
    world.happens(ev.Started(), ev.MoldImportFailed(1, Report("import", "no module named x", "", 4)))
    assert world.pool.exit_code is ExitCode.APP_NOT_LOADED
    assert world.of(act.Fail)


def test_app_that_cannot_be_imported_by_a_worker_ends_the_server_at_once() -> None:
    """The same without preload, where the import happens after the fork."""
    world = World(replace(PLAN, preload="off"))
    world.happens(ev.Started(), IMPORTED, ev.Forked(0, 1, 7))
    world.dies(0, ev.Exit(code=4), Report("load", "no module named x", "", 4))
    assert world.pool.exit_code is ExitCode.APP_NOT_LOADED


def test_pool_never_gives_up_after_its_first_success(world: World) -> None:
    """Boot failures of a server that once ran are retried for ever."""
    world.dies(1)
    for _ in range(20):
        slot = world.pool.slots[1]
        world.happens(ev.Forked(1, slot.ticket, 50))
        world.dies(1, ev.Exit(code=3), Report("lifespan", "OSError: no database", "", 3))
        assert world.pool.phase is p.Phase.RUNNING
        world.passes(31.0)


def test_unsafe_import_falls_back_to_no_preload() -> None:
    """``--preload auto``: the reasons are logged, and a mold that imports only hybrid takes over."""
    world = World()
    unsafe = Report("fork safety", "not fork-safe", "thread Thread-1", 3)
    world.happens(ev.Started(), ev.MoldUnsafe(1, unsafe))
    assert any(isinstance(a, act.Write) and "Thread-1" in a.detail for a in world.actions)
    world.happens(ev.MoldExited(1, ev.Exit()))
    assert world.of(act.StartMold) == [act.StartMold(1, preload=False)]


def test_unsafe_import_is_an_error_when_preload_is_on() -> None:
    """``--preload on`` means it."""
    world = World(replace(PLAN, preload="on"))
    world.happens(ev.Started(), ev.MoldUnsafe(1, Report("fork safety", "not fork-safe", "thread Thread-1", 3)))
    assert world.pool.exit_code is ExitCode.BOOT_FAILED


def test_dead_mold_is_replaced_and_its_workers_stay(world: World) -> None:
    """Workers do not need the mold that forked them."""
    world.happens(ev.MoldExited(1, KILLED))
    assert world.of(act.StartMold) == [act.StartMold(1, preload=True)]
    assert all(slot.life is Life.READY for slot in world.pool.slots)
    world.dies(0)
    assert not world.of(act.Spawn)
    world.happens(IMPORTED)
    assert [a.slot for a in world.of(act.Spawn) if isinstance(a, act.Spawn)] == [0]


def test_fork_that_was_never_reported_is_asked_for_again() -> None:
    """The mold died with a request in its hands."""
    world = World()
    world.happens(ev.Started(), IMPORTED, ev.MoldExited(1, KILLED))
    assert all(slot.life is Life.VACANT for slot in world.pool.slots)
    world.happens(IMPORTED)
    assert len(world.of(act.Spawn)) == 2


def test_worker_that_does_not_boot_in_time_is_killed() -> None:
    """``--boot-timeout`` is the deadline from spawn to READY."""
    world = World()
    world.happens(ev.Started(), IMPORTED, ev.Forked(0, 1, 7), ev.Forked(1, 2, 8))
    world.passes(PLAN.boot_s)
    assert act.Signal(0, signal.SIGKILL) in world.actions
    world.dies(0)
    assert world.pool.slots[0].failures == 1


def test_mold_that_does_not_import_in_time_is_killed() -> None:
    """A hanging import does not hang the server."""
    world = World()
    world.happens(ev.Started())
    world.passes(PLAN.boot_s)
    assert act.EndMold(1, kill=True) in world.actions


def test_parent_that_was_held_up_kills_nobody_for_it() -> None:
    """Whoever boots, imports or leaves has the time in which the parent could not hear that he is done."""
    world = World()
    world.happens(ev.Started())
    world.now += PLAN.boot_s
    world.happens(ev.HeldUp(PLAN.boot_s), IMPORTED, ev.Forked(0, 1, 7), ev.Forked(1, 2, 8))
    assert f"held up for {PLAN.boot_s:.1f} s" in world.log()
    world.now += 2 * PLAN.boot_s
    world.happens(ev.HeldUp(PLAN.boot_s + 1), ev.TimePassed(), ev.WorkerReady(0, 1))
    assert world.pool.slots[0].life is Life.READY and not world.of(act.Signal)
    world.passes(1)
    assert world.of(act.Signal) == [act.Signal(1, signal.SIGKILL)], "its own time has passed"
    assert not world.happens(ev.HeldUp(5.0)), "nobody waits for anything: nothing to be told"


def test_reload_has_the_time_in_which_the_parent_was_held_up(world: World) -> None:
    """The settings may be there, and not heard of."""
    world.asks()
    world.now += PLAN.boot_s
    world.happens(ev.HeldUp(PLAN.boot_s), ev.TimePassed())
    assert "reload failed" not in world.log()
    world.passes(PLAN.boot_s)
    assert "reload failed" in world.log()


def test_stop_drains_every_worker_within_the_grace(world: World) -> None:
    """SIGTERM: drain; the worker that does not leave is killed after grace and a little."""
    world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    assert world.of(act.Tell) == [act.Tell(i, Op.DRAIN, a=30_000, c=1) for i in (0, 1)]
    world.passes(29.9)
    assert not world.of(act.Signal)
    world.passes(stopping.CANCEL_S + stopping.LEAVE_S + 0.1)
    assert act.Signal(0, signal.SIGKILL) in world.actions


@pytest.mark.parametrize("asks", [2, 3, 4])
def test_each_further_signal_takes_the_next_step(world: World, asks: int) -> None:
    """Drain, cancel, abort, kill."""
    for _ in range(asks):
        world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
        world.now += stopping.REPEAT_S
    steps = (p.StopStep.DRAIN, p.StopStep.CANCEL, p.StopStep.ABORT, p.StopStep.KILL)
    assert world.pool.stop_step is steps[asks - 1]
    expected: dict[int, act.Action] = {
        2: act.Tell(0, Op.DRAIN, a=0, c=1),
        3: act.Tell(0, Op.DRAIN, a=0, b=1, c=1),
        4: act.Signal(0, signal.SIGKILL),
    }
    assert expected[asks] in world.actions


def test_a_storm_of_one_signal_is_one_wish(world: World) -> None:
    """A terminal and a wrapper that both pass SIGTERM on do not cut anyone."""
    for _ in range(1000):
        world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    assert world.pool.stop_step is p.StopStep.DRAIN


def test_stop_now_cuts_at_once(world: World) -> None:
    """SIGQUIT goes straight to the third step."""
    world.happens(ev.Asked(ev.Intent.STOP_NOW, "SIGQUIT"))
    assert act.Tell(0, Op.DRAIN, a=0, b=1, c=1) in world.actions


def test_pool_leaves_when_its_last_child_has() -> None:
    """Exit code 0 for an asked-for stop, after workers and mold."""
    world = World()
    world.boots()
    world.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    world.dies(0, ev.Exit())
    world.dies(1, ev.Exit())
    assert not world.of(act.Quit)
    world.happens(ev.MoldExited(1, ev.Exit()))
    assert world.of(act.Quit) == [act.Quit(ExitCode.OK)]


def test_stop_during_boot_ends_what_was_started() -> None:
    """SIGTERM while the app is imported, and while workers boot."""
    world = World()
    world.happens(ev.Started(), ev.Asked(ev.Intent.STOP, "SIGTERM"))
    assert act.EndMold(1, kill=True) in world.actions
    world.happens(ev.MoldExited(1, KILLED))
    assert world.of(act.Quit) == [act.Quit(ExitCode.OK)]
    world = World()
    world.happens(ev.Started(), IMPORTED, ev.Forked(0, 1, 7), ev.Asked(ev.Intent.STOP, "SIGTERM"))
    assert act.Signal(0, signal.SIGTERM) in world.actions
    world.happens(ev.Forked(1, 2, 8))  # the answer was on its way
    assert act.Signal(1, signal.SIGTERM) in world.actions


def test_worker_sent_sigterm_drains_and_is_replaced(world: World) -> None:
    """TERM to a worker drains that worker; its place is filled when it has left."""
    world.happens(ev.WorkerDraining(0, 1, 30.0))
    assert world.pool.slots[0].life is Life.DRAINING
    world.dies(0, ev.Exit())
    assert len(world.of(act.Spawn)) == 1


def test_fork_that_fails_is_tried_again_later(world: World) -> None:
    """EAGAIN from fork is a condition, not the end."""
    world.dies(0)
    ticket = world.pool.slots[0].ticket
    world.happens(ev.ForkFailed(0, ticket, "Resource temporarily unavailable"))
    assert world.pool.slots[0].life is Life.VACANT
    world.passes(0.5)
    assert len(world.of(act.Spawn)) == 1


def test_fork_that_always_fails_ends_the_first_boot() -> None:
    """A machine that allows no process is a failed boot, not an endless one."""
    world = World(replace(PLAN, workers=1))
    world.happens(ev.Started(), IMPORTED)
    for _ in range(PLAN.boot_attempts):
        assert world.pool.phase is p.Phase.BOOTING
        world.happens(ev.ForkFailed(0, world.pool.slots[0].ticket, "Resource temporarily unavailable"))
        failed = world.of(act.Fail)
        world.passes(60.0)
    assert world.pool.exit_code is ExitCode.BOOT_FAILED
    assert [a.message for a in failed if isinstance(a, act.Fail)] == [
        "cannot fork worker 0: Resource temporarily unavailable"
    ]


def test_mold_that_dies_at_each_fork_ends_the_first_boot() -> None:
    """A mold that imports but never brings forth a worker counts as a failed boot each time."""
    world = World()
    world.happens(ev.Started())
    for _ in range(PLAN.boot_attempts):
        assert world.pool.phase is p.Phase.BOOTING
        world.happens(IMPORTED, ev.MoldExited(1, ev.Exit(code=9)))
        failed = world.of(act.Fail)
        world.passes(60.0)
    assert len(failed) == 1
    assert world.pool.exit_code is ExitCode.BOOT_FAILED


def test_mold_that_keeps_dying_backs_off(world: World) -> None:
    """After the first death at once, then later and later; one that stays a while is forgiven."""
    waits = []
    for _ in range(5):
        world.happens(ev.MoldExited(1, KILLED))
        waits.append(0.0 if world.of(act.StartMold) else (world.pool.mold.deadline or 0.0) - world.now)
        world.passes(waits[-1])
        world.happens(IMPORTED)
    assert waits[:2] == [0.0, 0.0]  # the first life was a long one, the second death is nobody's loop yet
    assert waits[2:] == pytest.approx([0.5, 0.75, 1.125])
    world.now += pace.STABLE_S
    world.happens(ev.MoldExited(1, KILLED))
    assert world.of(act.StartMold)


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_mold_that_cannot_be_executed_any_more_backs_off(preload: str) -> None:
    """The interpreter was removed under a running server: it is tried again, later and later, never at once."""
    world = World(replace(PLAN, preload=preload))
    world.boots()
    world.now += 10 * pace.STABLE_S
    world.happens(ev.MoldExited(1, KILLED))
    for _ in range(5):
        world.happens(ev.MoldImportFailed(1, Report("exec", "no such file")), ev.MoldExited(1, ev.Exit(code=127)))
        assert not world.of(act.StartMold)
        assert world.pool.phase is p.Phase.RUNNING
        world.passes(30.0)
        assert world.of(act.StartMold)
    assert world.pool.mold.failures == 5


def test_preload_that_is_not_safe_any_more_backs_off() -> None:
    """``--preload on``, and the app was changed under a running server: shown, and tried again later."""
    world = World(replace(PLAN, preload="on"))
    world.boots()
    world.now += 10 * pace.STABLE_S
    world.happens(ev.MoldExited(1, KILLED))
    world.happens(ev.MoldUnsafe(1, Report("fork safety", "not fork-safe", "thread", 3)), ev.MoldExited(1, KILLED))
    assert not world.of(act.StartMold)
    world.passes(pace.backoff_s(1))
    assert world.of(act.StartMold)


def test_report_with_an_unknown_exit_code_is_a_failed_boot() -> None:
    """What a worker wrote cannot end the parent in any other way than it ends."""
    world = World(replace(PLAN, workers=1, boot_attempts=1))
    world.happens(ev.Started(), IMPORTED, ev.Forked(0, 1, 7))
    world.dies(0, ev.Exit(code=3), Report("lifespan", "no database", exit_code=99))
    assert world.pool.exit_code is ExitCode.BOOT_FAILED


def test_forks_are_asked_for_a_few_at_a_time() -> None:
    """A thousand requests at once would not fit into the mold's channel; each answer lets another one out."""
    world = World(replace(PLAN, workers=1000))
    world.happens(ev.Started(), IMPORTED)
    asked = [a.slot for a in world.of(act.Spawn) if isinstance(a, act.Spawn)]
    assert len(asked) == FORKS_AT_ONCE
    world.happens(ev.Forked(0, world.pool.slots[0].ticket, 7))
    assert [a.slot for a in world.of(act.Spawn) if isinstance(a, act.Spawn)] == [FORKS_AT_ONCE]
