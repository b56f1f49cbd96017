"""The parent's side of --reload, with a child that is no watcher in the watcher's place."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hybrid.parent import pool as p
from hybrid.parent import watching
from hybrid.parent.children import Children
from hybrid.parent.edition import Edition, plan_of
from hybrid.parent.spawn import Child
from hybrid.parent.watch import Watch
from hybrid.parent.watching import LONGEST_WAIT_S, STABLE_S, Watching, backoff_s
from hybrid.shared import boot_report, messages
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op, Record
from hybrid.shared.reload_settings import ReloadSettings
from hybrid.shared.settings import Settings
from tests.support.eventually import eventually


class Log:
    """Remembers what was written."""

    fd = 2

    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, message: str) -> None:
        self.errors.append(message)


class House:
    """As much of a house as a watcher needs."""

    identity = None

    def __init__(self, *, reload: bool) -> None:
        self.settings = replace(Settings(), reload=ReloadSettings(enabled=reload))
        self.log = Log()


class Room:
    """A parent's side, and what becomes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, reload: bool = True) -> None:
        self.watch, self.house = Watch(), House(reload=reload)
        porter: Any = None
        children = Children(self.watch, deque(), lambda: p.Pool(plan_of(Settings())), porter)
        self.kin = children.attendants
        self.now, self.changes, self.starts = 100.0, 0, 0
        self.far_ends: list[socket.socket] = []
        self.refusal: OSError | None = None
        monkeypatch.setattr(watching, "start_watcher", self._start)
        house: Any = self.house
        edition = Edition(self.house.settings, -1)
        self.watching = Watching(house, children, lambda: edition, self._on_change)
        self.watching._clock = lambda: self.now

    def _start(self, *_: object) -> Child:
        self.starts += 1
        if self.refusal is not None:
            raise self.refusal
        ours, theirs = messages.socketpair()
        ours.setblocking(False)
        self.far_ends.append(theirs)
        child = Child(ours, boot_report.create())
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        child.open_pidfd(pid)
        return child

    def _on_change(self) -> None:
        self.changes += 1

    def dies(self, after_s: float = 0.0, report: Report | None = None) -> None:
        """Let the watcher be killed after some time."""
        self.now += after_s
        (child,) = self.kin
        if report is not None:
            boot_report.write(child.report_fd, report)
        child.kill(signal.SIGKILL)
        self.watch.wait(10_000)

    def close(self) -> None:
        for end in self.far_ends:
            end.close()
        while self.kin:
            self.watching.end()
            self.watch.wait(10_000)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Return a room whose watcher has been started."""
    made = Room(monkeypatch)
    made.watching.start()
    yield made
    made.close()


def test_without_reload_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to wait for, neither."""
    room = Room(monkeypatch, reload=False)
    room.watching.start()
    assert (room.starts, room.watching.is_over, room.watching.deadline) == (0, True, None)


def test_change_is_heard_and_nothing_else(room: Room) -> None:
    """Once for each record; what is no such record, or brings a descriptor, is passed over."""
    (end,) = room.far_ends
    before = len(os.listdir("/proc/self/fd"))
    messages.send_bytes(end, b"not a record")
    messages.send(end, Record(Op.READY), (end.fileno(),))
    for _ in range(2):
        messages.send(end, Record(Op.CHANGED, a=1))
    for _ in range(4):
        room.watch.wait(10_000)
    assert room.changes == 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_end_of_its_channel_is_not_its_death(room: Room) -> None:
    """It is heard no more; only the kernel says that it is gone."""
    room.far_ends[0].close()
    room.watch.wait(10_000)
    room.watch.wait(0)
    assert not room.watching.is_over and room.house.log.errors == []


def test_dead_watcher_is_followed_by_another_a_second_later(room: Room) -> None:
    """It is no child of ours any more, and the log says how it ended."""
    room.dies()
    assert (room.kin, room.watching.is_over, room.watching.deadline) == ([], True, room.now + 1.0)
    assert room.house.log.errors == [
        "the file watcher was killed by SIGKILL; another starts in 1 s. Changes are not seen meanwhile"
    ]
    room.now += 0.9
    room.watching.time_passed()
    assert room.starts == 1
    room.now += 0.1
    room.watching.time_passed()
    assert (room.starts, room.watching.deadline, len(room.kin)) == (2, None, 1)


def test_quick_deaths_wait_longer_and_longer(room: Room) -> None:
    """Until one has lived for a while."""
    waits = []
    for after_s in (0.0, 0.0, 0.0, STABLE_S):
        room.dies(after_s)
        waits.append((room.watching.deadline or 0.0) - room.now)
        room.now += waits[-1]
        room.watching.time_passed()
    assert waits == [1.0, 2.0, 4.0, 1.0]


def test_wait_is_bounded() -> None:
    """However often it fails."""
    assert [backoff_s(failures) for failures in (1, 2, 5, 6, 10_000)] == [
        1.0,
        2.0,
        16.0,
        LONGEST_WAIT_S,
        LONGEST_WAIT_S,
    ]


def test_start_that_fails_is_tried_again(room: Room) -> None:
    """No process left, an interpreter that cannot be run."""
    room.dies(report=Report(step="exec", error="/no/python: No such file or directory."))
    assert room.house.log.errors[-1].startswith("/no/python: No such file or directory; another starts in 1 s.")
    room.now, room.refusal = room.now + 1.0, OSError(11, "Resource temporarily unavailable")
    room.watching.time_passed()
    assert room.house.log.errors[-1].startswith(
        "cannot start the file watcher: Resource temporarily unavailable; another starts in 2 s."
    )
    assert room.watching.is_over and room.watching.deadline == room.now + 2.0


def test_end_is_over_when_it_is_reaped(room: Room) -> None:
    """Not before: the parent goes last. No other is started, no change is heard, no line is written."""
    messages.send(room.far_ends[0], Record(Op.CHANGED, a=1))
    room.watching.end()
    assert room.kin and not room.watching.is_over

    def has_been_reaped() -> bool:
        room.watch.wait(1_000)
        return room.watching.is_over

    eventually(has_been_reaped)
    room.watching.end()
    room.watching.time_passed()
    assert (room.changes, room.starts, room.watching.deadline, room.house.log.errors) == (0, 1, None, [])


def test_end_between_two_watchers_starts_no_other(room: Room) -> None:
    """What was due is due no more."""
    room.dies()
    room.watching.end()
    room.now += LONGEST_WAIT_S
    room.watching.time_passed()
    assert room.starts == 1 and room.watching.is_over
