"""The parent's side of control, with a child that is no control in its place."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid.parent import actions as act
from hybrid.parent import controlling
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.children import Children
from hybrid.parent.controlling import LEAVE_S, Controlling
from hybrid.parent.doors import Doors
from hybrid.parent.edition import Edition, plan_of
from hybrid.parent.spawn import Child
from hybrid.parent.watch import Watch
from hybrid.parent.watching import STABLE_S
from hybrid.shared import boot_report, messages
from hybrid.shared.boot_report import Report
from hybrid.shared.control_settings import ControlSettings
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.messages import Op, Record
from hybrid.shared.notices import Answered, Logged, Notice, PoolState, from_json
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.start import settings_memfd
from tests.support.eventually import eventually


class House:
    """As much of a house as control needs."""

    identity = None
    news: tuple[str, ...] = ()
    addresses = ("127.0.0.1:1",)
    served = Report(name="app", kind="stream")

    def __init__(self, directory: Path, **control: str) -> None:
        self.settings = replace(Settings(), control=ControlSettings(**control))
        self.null = os.open(os.devnull, os.O_WRONLY)
        self.log = LogWriter(self.null, Style.make("text", "never", 2), "debug", "parent")
        self.doors = Doors(self.log, {"XDG_RUNTIME_DIR": str(directory)})
        self.doors.open(self.settings)
        self.scoreboard = Scoreboard.create(4, 0)


class Room:
    """A parent's side, and what becomes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path, **control: str) -> None:
        self.watch, self.house = Watch(), House(directory, **control)
        self.events: deque[ev.Event] = deque()
        self.pool = p.Pool(plan_of(Settings()))
        porter: Any = None
        self.children = Children(self.watch, self.events, lambda: self.pool, porter)
        self.now, self.starts = 100.0, 0
        self.far_ends: list[socket.socket] = []
        self.refusal: OSError | None = None
        self.program = ["sleep", "60"]
        monkeypatch.setattr(controlling, "start_control", self._start)
        house: Any = self.house
        self.fd = settings_memfd(self.house.settings)
        editions: Any = type("Editions", (), {"current": Edition(self.house.settings, self.fd)})
        self.controlling = Controlling(house, self.children, editions, lambda: self.pool)
        doer: Any = SimpleNamespace(reopen_failure="")
        self.controlling.obey(doer)
        self.controlling._clock = lambda: self.now

    def _start(self, *_: object) -> Child:
        self.starts += 1
        if self.refusal is not None:
            raise self.refusal
        ours, theirs = messages.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.far_ends.append(theirs)
        child = Child(ours, boot_report.create())
        child.open_pidfd(os.posix_spawn(f"/bin/{self.program[0]}", self.program, {}))
        return child

    def knock(self) -> None:
        """Connect, and leave."""
        door = self.house.doors.control
        assert door is not None
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(door.address.removeprefix("unix:"))
        self.watch.wait(0)

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.controlling.time_passed()
        self.watch.wait(0)

    def kills(self) -> None:
        """Let control be killed, and wait until that is known."""
        (child,) = self.children.attendants
        child.kill(signal.SIGKILL)
        self.waits_for_its_end()

    def waits_for_its_end(self) -> None:
        """Wait until its end is known."""

        def is_gone() -> bool:
            self.watch.wait(0)
            return not self.children.attendants

        eventually(is_gone)

    def heard(self) -> list[Notice]:
        """Return what control was told."""
        found: list[Notice] = []
        while True:
            try:
                data, descriptors = messages.receive_bytes(self.far_ends[-1], 1 << 18)
            except BlockingIOError:
                return found
            for fd in descriptors:
                os.close(fd)
            if not data:
                return found
            notice = from_json(data)
            assert notice is not None
            found.append(notice)

    def close(self) -> None:
        """Leave nobody."""
        for child in list(self.children.attendants):
            child.kill(signal.SIGKILL)
            os.waitpid(child.pid, 0)
            child.close()
        for end in self.far_ends:
            end.close()
        self.house.doors.close()
        self.house.scoreboard.close()
        os.close(self.house.null)
        os.close(self.fd)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Room]:
    """A parent with a control socket."""
    room = Room(monkeypatch, tmp_path)
    yield room
    room.close()


def test_a_knock_starts_it_once(room: Room) -> None:
    """Who knocks while it runs is control's."""
    room.controlling.start()
    assert room.starts == 0
    room.knock()
    room.knock()
    assert room.starts == 1
    assert not room.controlling.is_over


def test_with_another_door_it_runs_from_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And comes back by itself, later and later."""
    room = Room(monkeypatch, tmp_path, socket="off", metrics_bind="127.0.0.1:0")
    try:
        room.controlling.start()
        for number, wait_s in enumerate((1.0, 2.0, 4.0), start=1):
            assert room.starts == number
            room.kills()
            assert room.controlling.deadline == room.now + wait_s
            room.passes(wait_s / 2)
            assert room.starts == number
            room.passes(wait_s / 2)
    finally:
        room.close()


def test_without_doors_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``--control off``."""
    room = Room(monkeypatch, tmp_path, socket="off")
    try:
        room.controlling.start()
        assert (room.starts, room.controlling.deadline, room.controlling.is_over) == (0, None, True)
    finally:
        room.close()


def test_killed_one_is_replaced_at_the_next_knock(room: Room) -> None:
    """After a pause: a control that dies of its start does not keep the parent busy."""
    room.controlling.start()
    room.knock()
    room.kills()
    room.knock()
    assert room.starts == 1
    room.passes(1.0)
    assert room.starts == 2  # who knocked meanwhile waits in the queue
    kept = [each.text for each in room.controlling.ledger.kept if isinstance(each, Logged)]
    assert kept == ["control was killed by SIGKILL; another starts when somebody asks, in 1 s"]


def test_one_that_left_because_nobody_asked_is_no_news(room: Room) -> None:
    """The next knock is heard at once; one that leaves as soon as it is there is a failure."""
    room.program = ["true"]
    room.controlling.start()
    room.knock()
    room.now += STABLE_S
    room.waits_for_its_end()
    assert (room.controlling.deadline, list(room.controlling.ledger.kept)) == (None, [])
    room.watch.wait(0)  # who has knocked waits in the queue
    assert room.starts == 2
    room.waits_for_its_end()
    assert room.controlling.deadline == room.now + 1.0


def test_one_that_cannot_be_started_is_tried_again(room: Room) -> None:
    """No descriptor left, for instance."""
    room.refusal = OSError(24, "Too many open files")
    room.controlling.start()
    room.knock()
    assert room.controlling.deadline == 101.0
    room.refusal = None
    room.passes(1.0)
    room.knock()
    assert room.starts == 2 and room.children.attendants


def test_new_one_is_told_what_was_before(room: Room) -> None:
    """The notices, then the state with the settings."""
    room.controlling.start()
    room.house.log.info("hello")
    room.knock()
    first, last = room.heard()
    assert isinstance(first, Logged) and first.text == "hello"
    assert isinstance(last, PoolState) and (last.app, last.addresses) == ("app", ("127.0.0.1:1",))


def test_change_is_told_once(room: Room) -> None:
    """The state only when it is another one."""
    room.controlling.start()
    room.knock()
    room.heard()
    before = room.pool
    room.pool = replace(before, target=3)
    for _ in range(2):
        room.controlling.follow(before, (), ev.TimePassed())
    assert [each.target for each in room.heard() if isinstance(each, PoolState)] == [3]
    room.controlling.follow(room.pool, (act.Adopt(1),), ev.TimePassed())
    assert [type(each) for each in room.heard()] == [PoolState]


def test_wish_is_heard_and_answered(room: Room) -> None:
    """Through the core."""
    room.controlling.start()
    room.knock()
    messages.send(room.far_ends[0], Record(Op.CONTROL_PARK, 1, a=7))
    room.watch.wait(0)
    assert list(room.events) == [ev.SlotAsked(1, ev.SlotIntent.PARK, "control", 7)]
    room.controlling.follow(room.pool, (act.Answer(7, False, "no"),), room.events.popleft())
    assert Answered(7, False, "no") in room.heard()


def test_wish_of_one_that_is_gone_is_not_answered_to_the_next(room: Room) -> None:
    """It has not asked."""
    room.controlling.start()
    room.knock()
    messages.send(room.far_ends[0], Record(Op.CONTROL_REOPEN_LOGS, a=7))
    room.watch.wait(0)
    room.kills()
    room.passes(1.0)
    room.knock()
    room.controlling.follow(room.pool, (act.ReopenLogs("control"),), room.events.popleft())
    assert room.starts == 2 and not [each for each in room.heard() if isinstance(each, Answered)]


def test_its_death_during_a_stop_is_no_news(room: Room) -> None:
    """Whoever ends everybody ends it, too."""
    room.controlling.start()
    room.knock()
    room.pool = replace(room.pool, stop_step=p.StopStep.DRAIN)
    room.kills()
    assert [each.level for each in room.controlling.ledger.kept if isinstance(each, Logged)] == ["debug"]


def test_end_is_heard_and_then_enforced(room: Room) -> None:
    """It sees the end of its channel; a stopped one is killed when its time is over."""
    room.controlling.start()
    room.knock()
    room.heard()
    room.controlling.end()
    room.controlling.end()
    assert messages.is_over(room.far_ends[0])
    (child,) = room.children.attendants
    os.kill(child.pid, signal.SIGSTOP)
    room.passes(LEAVE_S / 2)
    assert not room.controlling.is_over
    room.passes(LEAVE_S / 2)

    def is_over() -> bool:
        room.watch.wait(0)
        return room.controlling.is_over

    eventually(is_over)
    assert room.controlling.deadline is None
    room.controlling.start()
    assert room.starts == 1
