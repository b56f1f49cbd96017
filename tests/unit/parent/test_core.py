"""The parent's rules, without a process: what each event makes of the pool."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent import core
from hybrid.parent import pool as p
from hybrid.parent.sizing import CpuFacts, MemoryFacts
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op

PLAN = p.Plan(workers=2, preload="auto", grace_s=30.0, boot_s=60.0, boot_attempts=3)
CPUS = CpuFacts(affinity=2, quota=None)
MEMORY = MemoryFacts(limit_bytes=8 << 30, mold_private_bytes=20 << 20, mold_resident_bytes=30 << 20)
IMPORTED = p.MoldImported(1, CPUS, MEMORY)
KILLED = p.Exit(signal=signal.SIGKILL)


class World:
    """A pool and a clock; remembers what was asked for since the last look."""

    def __init__(self, plan: p.Plan = PLAN) -> None:
        self.pool = p.Pool(plan)
        self.now = 100.0
        self.actions: list[p.Action] = []

    def happens(self, *events: p.Event) -> list[p.Action]:
        """Let events happen; return what the parent does about them."""
        self.actions = []
        for event in events:
            self.pool, actions = core.step(self.pool, event, self.now)
            self.actions += actions
        return self.actions

    def passes(self, seconds: float) -> list[p.Action]:
        """Let time pass."""
        self.now += seconds
        return self.happens(p.TimePassed())

    def boots(self) -> None:
        """Bring the pool to where every worker is ready."""
        self.happens(p.Started(), IMPORTED)
        for slot in self.pool.slots:
            self.happens(p.Forked(slot.index, slot.ticket, 1000 + slot.ticket), p.WorkerReady(slot.index))

    def dies(self, slot: int, exit: p.Exit = KILLED, report: Report | None = None) -> list[p.Action]:
        """Let the worker in ``slot`` be reaped."""
        return self.happens(p.WorkerExited(slot, self.pool.slots[slot].ticket, exit, report or Report()))

    def of(self, kind: type) -> list[p.Action]:
        """Return the actions of one kind that the last look saw."""
        return [action for action in self.actions if isinstance(action, kind)]


@pytest.fixture
def world() -> World:
    """A pool of two workers, all ready, for a while already."""
    world = World()
    world.boots()
    world.now += 10 * core.STABLE_S
    return world


def test_workers_are_spawned_once_the_mold_can_fork() -> None:
    """No worker is asked for before the app is imported; then all at once."""
    world = World()
    assert world.happens(p.Started()) == [p.StartMold(1, preload=True)]
    world.happens(IMPORTED)
    assert [a.slot for a in world.of(p.Spawn) if isinstance(a, p.Spawn)] == [0, 1]


def test_pool_is_announced_when_every_worker_is_ready() -> None:
    """Whoever waits hears once, and not before the last worker."""
    world = World()
    world.happens(p.Started(), IMPORTED, p.Forked(0, 1, 10), p.WorkerReady(0), p.Forked(1, 2, 11))
    assert not world.of(p.Announce)
    world.happens(p.WorkerReady(1))
    assert len(world.of(p.Announce)) == 1
    world.dies(0)
    ticket = world.pool.slots[0].ticket
    world.happens(p.Forked(0, ticket, 12), p.WorkerReady(0))
    assert not world.of(p.Announce)


def test_auto_size_is_what_the_machine_allows() -> None:
    """``--workers auto`` takes its size from the facts that come with the import."""
    world = World(replace(PLAN, workers=None))
    world.happens(p.Started(), IMPORTED)
    assert len(world.pool.slots) == 2
    assert "affinity" in world.pool.size_reason


def test_killed_worker_is_replaced_at_once(world: World) -> None:
    """A worker that served and died costs no waiting."""
    world.dies(1)
    assert [a.slot for a in world.of(p.Spawn) if isinstance(a, p.Spawn)] == [1]
    assert world.of(p.Vacate) == [p.Vacate(1)]


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
        slot = world.pool.slots[1]
        world.happens(p.Forked(1, slot.ticket, 50), p.WorkerReady(1))
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
        slot = world.pool.slots[1]
        assert slot.life is Life.STARTING
        world.happens(p.Forked(1, slot.ticket, 50), p.WorkerReady(1))
        world.now += core.STABLE_S


def test_first_boot_that_fails_n_times_ends_the_server() -> None:
    """Exit code 3 with the report, told to whoever waits."""
    world = World(replace(PLAN, workers=1))
    world.happens(p.Started(), IMPORTED)
    report = Report("lifespan", "OSError: no database", "Traceback …", ExitCode.BOOT_FAILED)
    for attempt in range(3):
        slot = world.pool.slots[0]
        world.happens(p.Forked(0, slot.ticket, 7))
        world.dies(0, p.Exit(code=3), report)
        if attempt < 2:
            world.passes(60.0)
    assert world.pool.exit_code is ExitCode.BOOT_FAILED
    (fail,) = world.of(p.Fail)
    assert isinstance(fail, p.Fail) and "no database" in fail.message and fail.detail == "Traceback …"
    world.happens(p.MoldExited(1, p.Exit()))
    assert world.of(p.Quit) == [p.Quit(ExitCode.BOOT_FAILED)]


def test_boot_failure_shows_its_traceback_once() -> None:
    """Two workers that fail the same way are one traceback."""
    world = World()
    world.happens(p.Started(), IMPORTED, p.Forked(0, 1, 7), p.Forked(1, 2, 8))
    report = Report("lifespan", "OSError: no database", "Traceback …", ExitCode.BOOT_FAILED)
    world.dies(0, p.Exit(code=3), report)
    assert any(isinstance(a, p.Write) and a.detail for a in world.actions)
    world.dies(1, p.Exit(code=3), report)
    assert not any(isinstance(a, p.Write) and a.detail for a in world.actions)
    assert any(isinstance(a, p.Write) and "as before" in a.message for a in world.actions)


def test_app_that_cannot_be_imported_ends_the_server_at_once() -> None:
    """A typo in the target is not retried: exit code 4."""
    world = World()
    world.happens(p.Started(), p.MoldImportFailed(1, Report("import", "no module named x", "", 4)))
    assert world.pool.exit_code is ExitCode.APP_NOT_LOADED
    assert world.of(p.Fail)


def test_app_that_cannot_be_imported_by_a_worker_ends_the_server_at_once() -> None:
    """The same without preload, where the import happens after the fork."""
    world = World(replace(PLAN, preload="off"))
    world.happens(p.Started(), IMPORTED, p.Forked(0, 1, 7))
    world.dies(0, p.Exit(code=4), Report("load", "no module named x", "", 4))
    assert world.pool.exit_code is ExitCode.APP_NOT_LOADED


def test_pool_never_gives_up_after_its_first_success(world: World) -> None:
    """Boot failures of a server that once ran are retried for ever."""
    world.dies(1)
    for _ in range(20):
        slot = world.pool.slots[1]
        world.happens(p.Forked(1, slot.ticket, 50))
        world.dies(1, p.Exit(code=3), Report("lifespan", "OSError: no database", "", 3))
        assert world.pool.phase is p.Phase.RUNNING
        world.passes(31.0)


def test_unsafe_import_falls_back_to_no_preload() -> None:
    """``--preload auto``: the reasons are logged, and a mold that imports only hybrid takes over."""
    world = World()
    unsafe = Report("fork safety", "not fork-safe", "thread Thread-1", 3)
    world.happens(p.Started(), p.MoldUnsafe(1, unsafe))
    assert any(isinstance(a, p.Write) and "Thread-1" in a.detail for a in world.actions)
    world.happens(p.MoldExited(1, p.Exit()))
    assert world.of(p.StartMold) == [p.StartMold(1, preload=False)]


def test_unsafe_import_is_an_error_when_preload_is_on() -> None:
    """``--preload on`` means it."""
    world = World(replace(PLAN, preload="on"))
    world.happens(p.Started(), p.MoldUnsafe(1, Report("fork safety", "not fork-safe", "thread Thread-1", 3)))
    assert world.pool.exit_code is ExitCode.BOOT_FAILED


def test_dead_mold_is_replaced_and_its_workers_stay(world: World) -> None:
    """Workers do not need the mold that forked them."""
    world.happens(p.MoldExited(1, KILLED))
    assert world.of(p.StartMold) == [p.StartMold(1, preload=True)]
    assert all(slot.life is Life.READY for slot in world.pool.slots)
    world.dies(0)
    assert not world.of(p.Spawn)
    world.happens(IMPORTED)
    assert [a.slot for a in world.of(p.Spawn) if isinstance(a, p.Spawn)] == [0]


def test_fork_that_was_never_reported_is_asked_for_again() -> None:
    """The mold died with a request in its hands."""
    world = World()
    world.happens(p.Started(), IMPORTED, p.MoldExited(1, KILLED))
    assert all(slot.life is Life.VACANT for slot in world.pool.slots)
    world.happens(IMPORTED)
    assert len(world.of(p.Spawn)) == 2


def test_late_answer_about_an_earlier_spawn_is_ignored() -> None:
    """A ticket tells an old fork from the present one."""
    world = World()
    world.happens(p.Started(), IMPORTED, p.MoldExited(1, KILLED), IMPORTED)
    world.happens(p.Forked(0, 1, 77))
    assert world.pool.slots[0].pid == 0


def test_worker_that_does_not_boot_in_time_is_killed() -> None:
    """``--boot-timeout`` is the deadline from spawn to READY."""
    world = World()
    world.happens(p.Started(), IMPORTED, p.Forked(0, 1, 7), p.Forked(1, 2, 8))
    world.passes(PLAN.boot_s)
    assert p.Signal(0, signal.SIGKILL) in world.actions
    world.dies(0)
    assert world.pool.slots[0].failures == 1


def test_mold_that_does_not_import_in_time_is_killed() -> None:
    """A hanging import does not hang the server."""
    world = World()
    world.happens(p.Started())
    world.passes(PLAN.boot_s)
    assert p.EndMold(kill=True) in world.actions


def test_stop_drains_every_worker_within_the_grace(world: World) -> None:
    """SIGTERM: drain; the worker that does not leave is killed after grace and a little."""
    world.happens(p.Asked(p.Intent.STOP, "SIGTERM"))
    assert world.of(p.Tell) == [p.Tell(i, Op.DRAIN, a=30_000) for i in (0, 1)]
    world.passes(29.9)
    assert not world.of(p.Signal)
    world.passes(core.CANCEL_S + core.LEAVE_S + 0.1)
    assert p.Signal(0, signal.SIGKILL) in world.actions


@pytest.mark.parametrize("asks", [2, 3, 4])
def test_each_further_signal_takes_the_next_step(world: World, asks: int) -> None:
    """Drain, cancel, abort, kill."""
    for _ in range(asks):
        world.happens(p.Asked(p.Intent.STOP, "SIGTERM"))
        world.now += core.REPEAT_S
    assert world.pool.stop_step == asks
    expected: dict[int, p.Action] = {
        2: p.Tell(0, Op.DRAIN, a=0),
        3: p.Tell(0, Op.DRAIN, a=0, b=1),
        4: p.Signal(0, signal.SIGKILL),
    }
    assert expected[asks] in world.actions


def test_a_storm_of_one_signal_is_one_wish(world: World) -> None:
    """A terminal and a wrapper that both pass SIGTERM on do not cut anyone."""
    for _ in range(1000):
        world.happens(p.Asked(p.Intent.STOP, "SIGTERM"))
    assert world.pool.stop_step is p.StopStep.DRAIN


def test_stop_now_cuts_at_once(world: World) -> None:
    """SIGQUIT goes straight to the third step."""
    world.happens(p.Asked(p.Intent.STOP_NOW, "SIGQUIT"))
    assert p.Tell(0, Op.DRAIN, a=0, b=1) in world.actions


def test_pool_leaves_when_its_last_child_has() -> None:
    """Exit code 0 for an asked-for stop, after workers and mold."""
    world = World()
    world.boots()
    world.happens(p.Asked(p.Intent.STOP, "SIGTERM"))
    world.dies(0, p.Exit())
    world.dies(1, p.Exit())
    assert not world.of(p.Quit)
    world.happens(p.MoldExited(1, p.Exit()))
    assert world.of(p.Quit) == [p.Quit(ExitCode.OK)]


def test_stop_during_boot_ends_what_was_started() -> None:
    """SIGTERM while the app is imported, and while workers boot."""
    world = World()
    world.happens(p.Started(), p.Asked(p.Intent.STOP, "SIGTERM"))
    assert p.EndMold(kill=True) in world.actions
    world.happens(p.MoldExited(1, KILLED))
    assert world.of(p.Quit) == [p.Quit(ExitCode.OK)]
    world = World()
    world.happens(p.Started(), IMPORTED, p.Forked(0, 1, 7), p.Asked(p.Intent.STOP, "SIGTERM"))
    assert p.Signal(0, signal.SIGTERM) in world.actions
    world.happens(p.Forked(1, 2, 8))  # the answer was on its way
    assert p.Signal(1, signal.SIGTERM) in world.actions


def test_worker_sent_sigterm_drains_and_is_replaced(world: World) -> None:
    """TERM to a worker drains that worker; its place is filled when it has left."""
    world.happens(p.WorkerDraining(0, 30.0))
    assert world.pool.slots[0].life is Life.DRAINING
    world.dies(0, p.Exit())
    assert len(world.of(p.Spawn)) == 1


def test_fork_that_fails_is_tried_again_later(world: World) -> None:
    """EAGAIN from fork is a condition, not the end."""
    world.dies(0)
    ticket = world.pool.slots[0].ticket
    world.happens(p.ForkFailed(0, ticket, "Resource temporarily unavailable"))
    assert world.pool.slots[0].life is Life.VACANT
    world.passes(0.5)
    assert len(world.of(p.Spawn)) == 1


# ── any order of events ──────────────────────────────────────────────────────────────────────────────────────


class Machine:
    """Children that do whatever the test draws, as the kernel would let them."""

    def __init__(self, plan: p.Plan) -> None:
        self.world = World(plan)
        self.mold = False
        self.asked: list[tuple[int, int]] = []
        self.alive: dict[int, int] = {}
        self.quit: ExitCode | None = None
        self.next_pid = 10

    def see(self, event: p.Event) -> None:
        for action in self.world.happens(event):
            assert self.quit is None, "an action after Quit"
            if isinstance(action, p.StartMold):
                assert not self.mold, "two molds"
                self.mold = True
            elif isinstance(action, p.Spawn):
                assert self.mold and action.slot not in self.alive, "a spawn into an occupied slot"
                self.asked.append((action.slot, action.ticket))
            elif isinstance(action, p.Quit):
                assert not self.alive and not self.mold, "quit with a child left"
                self.quit = action.code

    def options(self) -> list[str]:
        """Return what can happen now."""
        choices = ["time", "stop", "stop now"]
        if self.mold:
            choices += ["imported", "import failed", "unsafe", "mold dies"]
        if self.mold and self.asked:
            choices += ["forked", "fork failed"]
        if self.alive:
            choices += ["ready", "worker dies", "worker drains", "boot fails"]
        return choices

    def happen(self, what: str, pick: int) -> None:
        slots = sorted(self.alive)
        slot = slots[pick % len(slots)] if slots else 0
        mold_life = self.world.pool.mold.life
        if what == "time":
            self.world.now += (0.1, 1.0, 40.0, 100.0)[pick % 4]
            self.see(p.TimePassed())
        elif what in ("stop", "stop now"):
            self.world.now += 0.3
            self.see(p.Asked(p.Intent.STOP if what == "stop" else p.Intent.STOP_NOW, "test"))
        elif what == "mold dies":
            self.mold, self.asked = False, []
            self.see(p.MoldExited(1, KILLED))
        elif what in ("imported", "import failed", "unsafe") and mold_life is p.MoldLife.IMPORTING:
            event = {"imported": IMPORTED, "import failed": p.MoldImportFailed(1, Report("import", "no", "", 4))}
            self.see(event.get(what, p.MoldUnsafe(1, Report("fork safety", "no", "thread", 3))))
        elif what in ("forked", "fork failed"):
            asked, ticket = self.asked.pop(0)
            if what == "forked":
                self.next_pid += 1
                self.alive[asked] = ticket
                self.see(p.Forked(asked, ticket, self.next_pid))
            else:
                self.see(p.ForkFailed(asked, ticket, "EAGAIN"))
        elif what == "ready" and self.world.pool.slots[slot].life in (Life.STARTING, Life.DRAINING, Life.KILLING):
            self.see(p.WorkerReady(slot))
        elif what == "worker drains":
            self.see(p.WorkerDraining(slot, 30.0))
        elif what in ("worker dies", "boot fails"):
            ticket = self.alive.pop(slot)
            report = Report("lifespan", "no", "tb", 3) if what == "boot fails" else Report("ready")
            self.see(p.WorkerExited(slot, ticket, KILLED, report))


@settings(max_examples=150, deadline=None)
@given(
    choices=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=60),
    preload=st.sampled_from(["auto", "on", "off"]),
    workers=st.integers(1, 4),
)
def test_any_order_of_events_is_survived(choices: list[tuple[int, int]], preload: str, workers: int) -> None:
    """No order of deaths, answers and wishes breaks a rule; and a stop always ends."""
    machine = Machine(replace(PLAN, preload=preload, workers=workers))
    machine.see(p.Started())
    for what, pick in choices:
        if machine.quit is None:
            options = machine.options()
            machine.happen(options[what % len(options)], pick)
    for _ in range(200):  # from wherever that led: stop, let everyone who was told to die, die
        if machine.quit is not None:
            break
        machine.happen("stop", 0)
        if machine.alive:
            machine.happen("worker dies", 0)
        if machine.mold:
            machine.happen("mold dies", 0)
    assert machine.quit is not None
    assert core.next_deadline(machine.world.pool) is None
