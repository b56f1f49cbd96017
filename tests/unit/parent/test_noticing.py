"""What is told of each step of the pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid.parent import actions as act
from hybrid.parent import core
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.noticing import DETAIL_BYTES, KEPT, Facts, Ledger, boot_log, news, state_of
from hybrid.shared import notices as tell
from hybrid.shared.boot_report import Report
from hybrid.shared.log_line import LogEvent
from tests.unit.parent.world import PLAN, World


class Told(World):
    """A pool whose notices are remembered."""

    def __init__(self, plan: p.Plan = PLAN) -> None:
        super().__init__(plan)
        self.told: list[tell.Notice] = []

    def happens(self, *events: ev.Event) -> list[act.Action]:
        """Let events happen; the notices are those of all of them."""
        self.actions, self.told = [], []
        for event in events:
            before = self.pool
            self.pool, actions = core.step(before, event, self.now)
            self.actions += actions
            self.told += news(before, self.pool, actions, event)
        return self.actions


@pytest.fixture
def told() -> Iterator[Told]:
    """A pool of two that serves."""
    world = Told()
    world.boots()
    yield world


def test_boot_is_told() -> None:
    """Who is started, who is ready, and that the pool runs."""
    world = Told()
    world.happens(ev.Started())
    assert world.told == []
    world.boots()
    pid = world.pool.slots[1].pid
    assert world.told == [tell.WorkerReady(1, pid)]
    assert world.pool.phase is p.Phase.RUNNING


def test_death_is_told_with_its_cause_and_the_successor(told: Told) -> None:
    """In this order."""
    pid = told.pool.slots[0].pid
    told.dies(0)
    assert told.told == [
        tell.WorkerExited(0, pid, "died", "was killed by SIGKILL"),
        tell.WorkerStarted(0, 0, 1),
    ]


def test_worker_that_was_to_leave_has_no_cause(told: Told) -> None:
    """Nothing went wrong."""
    told.happens(ev.ScaleAsked(1, 1, "control"))
    slot = next(slot for slot in told.pool.slots if not slot.wanted)
    assert tell.WorkerDraining(slot.index, slot.pid) in told.told
    assert tell.Resized(2, 1, "control", {}) in told.told
    told.dies(slot.index, ev.Exit(code=0))
    assert told.told == [tell.WorkerExited(slot.index, slot.pid, "", "exited with code 0")]


def test_parking_is_told(told: Told) -> None:
    """And taking it back."""
    pid = told.pool.slots[1].pid
    told.happens(ev.SlotAsked(1, ev.SlotIntent.PARK, "control"))
    assert tell.WorkerParked(1, pid) in told.told
    told.happens(ev.SlotAsked(1, ev.SlotIntent.UNPARK, "control"))
    assert tell.WorkerUnparked(1, pid) in told.told


def test_fork_that_failed_is_an_exit(told: Told) -> None:
    """Whoever was told of a start is told of the end."""
    told.dies(0)
    told.happens(ev.ForkFailed(0, told.pool.slots[0].ticket, "no memory"))
    assert tell.WorkerExited(0, 0, "", "never came to be") in told.told


def test_reload_is_told_step_by_step(told: Told) -> None:
    """From the settings to the last worker, and that it is through."""
    steps: list[tell.Notice] = []

    def note() -> None:
        steps.extend(each for each in told.told if isinstance(each, (tell.ReloadStep, tell.ReloadEnded)))

    for move in (told.asks, told.resolves, told.imports):
        move()
        note()
    while told.pool.generation == 1:
        slot = next(slot for slot in told.pool.slots if slot.generation == 2 and not slot.pid)
        told.comes_up(slot.index, 2000 + slot.index)
        note()
    assert steps == [
        tell.ReloadStep("resolve", "reading the settings"),
        tell.ReloadStep("import", "importing the app"),
        tell.ReloadStep("canary", "starting the first worker"),
        tell.ReloadStep("roll", "generation 2: 1 of 2 workers ready"),
        tell.ReloadEnded(True, "generation 2 serves with 2 workers"),
    ]


def test_failed_reload_is_told_with_its_boot_log(told: Told) -> None:
    """What was written below the error."""
    told.asks()
    told.resolves()
    told.happens(ev.MoldImportFailed(2, Report("import", "no app", "Traceback\nboom")))
    (end,) = (each for each in told.told if isinstance(each, tell.ReloadEnded))
    assert (end.ok, end.detail) == (False, "Traceback\nboom")
    assert end.text == "reload failed: the app cannot be imported: no app. Generation 1 serves on."


def test_failure_is_told_even_if_another_reload_begins_at_once(told: Told) -> None:
    """The end of the one and the begin of the other are one step."""
    told.asks()
    told.resolves()
    told.asks("again")
    told.happens(ev.MoldImportFailed(2, Report("import", "no app", "boom")))
    kinds = [type(each) for each in told.told]
    assert kinds == [tell.ReloadEnded, tell.ReloadStep]
    assert not told.told[0].ok  # type: ignore[attr-defined]  # the line above says what it is


def test_stop_is_told(told: Told) -> None:
    """The phase, who drains, and that a reload is over."""
    told.asks()
    told.happens(ev.Asked(ev.Intent.STOP, "SIGTERM"))
    assert tell.PhaseChanged("stopping") in told.told
    assert tell.ReloadEnded(False, "reload ended: the server is stopping") in told.told
    assert sum(isinstance(each, tell.WorkerDraining) for each in told.told) == 2


def test_boot_log_is_cut_at_its_beginning() -> None:
    """The end says most; of several errors the last that says anything."""
    assert boot_log([]) == ""
    assert (
        boot_log([act.Write("error", "a", "first"), act.Write("error", "b"), act.Write("info", "c", "no")]) == "first"
    )
    cut = boot_log([act.Write("error", "a", "é" * DETAIL_BYTES + "end")])
    assert cut.endswith("end") and len(cut.encode()) <= DETAIL_BYTES + 10


def test_ledger_numbers_and_keeps_the_last() -> None:
    """Also across programs: a successor counts on."""
    ledger = Ledger(clock=lambda: 5.0)
    for index in range(KEPT + 10):
        ledger.enter(tell.WorkerReady(index, index))
    assert [each.number for each in ledger.kept] == list(range(11, KEPT + 11))
    successor = Ledger(ledger.held(), clock=lambda: 6.0)
    line = successor.enter_line(LogEvent(1.0, "parent", "info", "hello"))
    assert (line.number, line.at) == (KEPT + 11, 6.0)
    assert list(successor.kept)[:-1] == list(ledger.kept)[1:]


def test_state_is_what_the_pool_is(told: Told) -> None:
    """By names, as people read them."""
    state = state_of(told.pool, Facts("ready", "app", "kind", ("a:1",), 7.0))
    assert (state.phase, state.stance, state.target, state.reload_stage) == ("running", "accepting", 2, "idle")
    assert (state.app, state.addresses, state.started_at) == ("app", ("a:1",), 7.0)
