"""Wishes: what becomes of a record, and who is answered what, when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from hybrid.ground.errors import UsageError
from hybrid.parent import actions as act
from hybrid.parent import core
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.wishes import MOST_WAITING, Wishes
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op, Record
from hybrid.shared.notices import Answered
from tests.unit.parent.world import PLAN, World


class Doer:
    """Remembers what it was to do."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.then: Callable[[str, str], None] | None = None
        self.reopen_failure = ""

    def dump(self, slot: int, then: Callable[[str, str], None]) -> bool:
        self.then = then
        return slot < 2

    def turn(self, knob: int, value: int, token: int) -> str | None:
        if knob == 99:
            raise UsageError("no such knob")
        self.done.append((knob, value, token))
        return None if knob == 5 else "set"

    def loads(self) -> tuple[int, ...]:
        return (3, 1)


class Asked(World):
    """A pool that is asked by control."""

    def __init__(self, plan: p.Plan = PLAN) -> None:
        super().__init__(plan)
        self.events: deque[ev.Event] = deque()
        self.answers: list[Answered] = []
        self.doer = Doer()
        self.wishes = Wishes(self.events, lambda: self.pool, self.answers.append, self.doer)

    def happens(self, *events: ev.Event) -> list[act.Action]:
        """Let events happen, and those that wishes became."""
        self.actions = []
        self.events.extend(events)
        while self.events:
            before = self.pool
            self.pool, actions = core.step(before, self.events.popleft(), self.now)
            self.actions += actions
            self.wishes.follow(before, self.pool, actions)
        return self.actions

    def wish(self, op: Op, token: int = 7, slot: int = 0, b: int = 0, c: int = 0) -> list[Answered]:
        """Let control wish for something; return what it was answered."""
        self.answers.clear()
        self.wishes.hear(Record(op, slot, a=token, b=b, c=c))
        self.happens()
        return self.answers

    def reloads(self) -> None:
        """Let the reload that is under way come through."""
        self.resolves()
        self.imports()
        generation = self.pool.reload.generation
        while self.pool.generation != generation:
            fresh = [s for s in self.pool.slots if s.generation == generation and not s.pid and s.wanted]
            self.comes_up(fresh[0].index, 5000 + fresh[0].ticket)


@pytest.fixture
def asked() -> Asked:
    """A pool of two that serves."""
    world = Asked()
    world.boots()
    return world


def test_reload_is_answered_when_it_is_through(asked: Asked) -> None:
    """Not before."""
    assert asked.wish(Op.CONTROL_RELOAD) == []
    assert "control: reloading" in asked.log()
    asked.reloads()
    assert asked.answers == [Answered(7, True, "generation 2 serves with 2 workers")]


def test_failed_reload_is_answered_with_the_boot_log(asked: Asked) -> None:
    """To who asked."""
    asked.wish(Op.CONTROL_RELOAD)
    asked.resolves()
    asked.happens(ev.MoldImportFailed(2, Report("import", "no app", "Traceback")))
    (answer,) = asked.answers
    assert (answer.ok, answer.detail) == (False, "Traceback")


def test_who_asks_during_a_reload_waits_for_the_next(asked: Asked) -> None:
    """His code may be newer than what the first one has read."""
    asked.wish(Op.CONTROL_RELOAD, 7)
    asked.resolves()
    asked.wish(Op.CONTROL_RELOAD, 8)
    asked.wish(Op.CONTROL_RELOAD, 9)
    asked.imports()
    while asked.pool.generation == 1:
        fresh = [s for s in asked.pool.slots if s.generation == 2 and not s.pid and s.wanted]
        asked.comes_up(fresh[0].index, 5000 + fresh[0].ticket)
    assert [each.token for each in asked.answers] == [7]
    for slot in [slot for slot in asked.pool.slots if slot.life.name == "DRAINING"]:
        asked.dies(slot.index)
    asked.reloads()
    assert [(each.token, each.ok) for each in asked.answers] == [(7, True), (8, True), (9, True)]


def test_stop_ends_every_wait(asked: Asked) -> None:
    """A reload or an upgrade that does not come any more is answered no; the stop itself, yes."""
    asked.wish(Op.CONTROL_RELOAD, 7)
    asked.wish(Op.CONTROL_UPGRADE, 8)
    asked.wish(Op.CONTROL_STOP, 9)
    found = {each.token: (each.ok, each.text) for each in asked.answers}
    assert found[7] == (False, "not reloaded: the server is stopping")
    assert found[8] == (False, "not upgraded: the server is stopping")
    assert found[9] == (True, "stopping; open connections have 30 s to finish")
    assert not asked.wish(Op.CONTROL_RELOAD)[0].ok


def test_stop_at_once_cuts(asked: Asked) -> None:
    """b = 1."""
    assert asked.wish(Op.CONTROL_STOP, b=1) == [Answered(7, True, "cutting connections")]
    assert asked.pool.stop_step is p.StopStep.ABORT


def test_boot_that_waits_for_a_change_begins_anew(asked: Asked) -> None:
    """There is no generation to wait for."""
    world = Asked(p.Plan(2, "auto", 30.0, 60.0, 3, waits_for_change=True))
    world.happens(ev.Started())
    assert world.wish(Op.CONTROL_RELOAD) == [Answered(7, True, "booting anew")]


def test_size_and_slots_are_answered_by_the_core(asked: Asked) -> None:
    """Yes and no, in its words."""
    assert asked.wish(Op.CONTROL_SCALE, b=3, c=3)[0].ok
    assert asked.pool.target == 3
    assert not asked.wish(Op.CONTROL_SCALE, b=1 << 40, c=1 << 40)[0].ok
    for op in (Op.CONTROL_PARK, Op.CONTROL_UNPARK, Op.CONTROL_DRAIN):
        assert asked.wish(op)[0].ok, op
    assert asked.wish(Op.CONTROL_KILL, slot=1)[0].ok
    for slot in (77, 1 << 31):
        assert asked.wish(Op.CONTROL_KILL, slot=slot) == [
            Answered(7, False, f"cannot kill slot {slot}: there is no worker. Workers are in slots 0, 1")
        ]


def test_dump_is_answered_when_the_stacks_are_there(asked: Asked) -> None:
    """Or at once, if there is no worker."""
    assert asked.wish(Op.CONTROL_DUMP, slot=1) == []
    assert asked.doer.then is not None
    asked.doer.then("app.py:7 in f", "stacks")
    assert asked.answers == [Answered(7, True, "worker 1 is at app.py:7 in f", "stacks")]
    why = "cannot dump slot 9: there is no worker. Workers are in slots 0, 1"
    assert asked.wish(Op.CONTROL_DUMP, slot=9) == [Answered(7, False, why)]


def test_knob_is_answered(asked: Asked) -> None:
    """By who turns it; what does not go is said; what the core answers is not answered twice."""
    assert asked.wish(Op.CONTROL_SET, slot=1, b=10) == [Answered(7, True, "set")]
    assert asked.wish(Op.CONTROL_SET, slot=99) == [Answered(7, False, "no such knob")]
    assert asked.wish(Op.CONTROL_SET, slot=5, b=2) == []


def test_logs_are_reopened_before_it_is_answered(asked: Asked) -> None:
    """Whatever is written after the answer is in the new file."""
    assert asked.wish(Op.CONTROL_REOPEN_LOGS) == [Answered(7, True, "log files are opened anew")]
    assert asked.of(act.ReopenLogs) == [act.ReopenLogs("control")]


def test_log_that_cannot_be_reopened_is_told(asked: Asked) -> None:
    """A script that rotates logs learns that it has to stop; why, in words."""
    asked.doer.reopen_failure = "cannot open the log file x"
    assert asked.wish(Op.CONTROL_REOPEN_LOGS) == [Answered(7, False, "cannot open the log file x")]


def test_upgrade_is_answered(asked: Asked) -> None:
    """When the exec comes next; or why it does not come."""
    assert asked.wish(Op.CONTROL_UPGRADE) == []
    asked.happens(ev.UpgradeChecked(Report()))
    assert asked.answers == [Answered(7, True, "the new program takes over")]
    asked.happens(ev.UpgradeChecked(Report(error="no memory")))
    asked.wish(Op.CONTROL_UPGRADE)
    asked.happens(ev.UpgradeChecked(Report(error="too old", detail="Traceback")))
    (answer,) = asked.answers
    assert (answer.ok, answer.detail) == (False, "Traceback") and "too old" in answer.text


def test_control_that_is_gone_is_not_answered(asked: Asked) -> None:
    """Whoever comes after it has not asked."""
    asked.wish(Op.CONTROL_RELOAD)
    asked.wishes.forget()
    asked.reloads()
    assert asked.answers == []


def test_what_fits_nothing_is_passed_over_and_too_much_is_refused(asked: Asked) -> None:
    """Control has the rights of the app: it can say anything."""
    assert asked.wish(Op.READY) == []
    for token in range(MOST_WAITING):
        assert asked.wish(Op.CONTROL_RELOAD, token + 1) == []
    assert not asked.wish(Op.CONTROL_RELOAD, 0)[0].ok
