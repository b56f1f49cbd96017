"""The shell around the rounds: what it reads, what it sends, and how a dump comes into the log in two steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hybrid.ground.states import Life
from hybrid.parent import pool as p
from hybrid.parent import pulse
from hybrid.parent.health import SECOND
from hybrid.parent.pulse import Nurse
from hybrid.parent.spawn import Child
from hybrid.shared import boot_report, messages, procfs, stack_dump
from hybrid.shared.health_settings import HealthSettings
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.settings import Settings
from tests.support.eventually import eventually
from tests.support.server import stat_fields

IDLE = """
import faulthandler, sys, time
if "deaf" not in sys.argv:
    faulthandler.register(int(sys.argv[1]), file=int(sys.argv[2]), all_threads=True)
print("up", flush=True)
time.sleep(600)
"""


@dataclass
class Room:
    """A nurse, and one worker that is a real process without a loop."""

    log_path: Path
    log: LogWriter
    scoreboard: Scoreboard
    child: Child
    process: subprocess.Popen[bytes]
    asks_fd: int
    now_ns: int = 1000 * SECOND
    life: Life = Life.READY
    nurse: Nurse = field(init=False)
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.workers = {0: self.child}
        self.settings = Settings(health=HealthSettings(1.0, 3.0))
        self.nurse = Nurse(self, self.pool, self.workers, lambda: self.now_ns)
        self.scoreboard.use_slot(0)[Cell.HEARTBEAT_NS] = self.now_ns

    def pool(self) -> p.Pool:
        plan = p.Plan(1, "auto", 1.0, 1.0, 1)
        return p.Pool(plan, slots=(p.Slot(0, self.life, ticket=1, pid=self.process.pid),))

    def passes(self, for_s: float) -> None:
        """Let time pass, and do whatever is due."""
        end_ns = self.now_ns + round(for_s * SECOND)
        while (due_ns := round(self.nurse.deadline * SECOND)) <= end_ns:
            self.now_ns = max(self.now_ns, due_ns) + 1
            eventually(self.is_asleep)  # the clock is ours, and the process is the machine's
            self.nurse.time_passed()
        self.now_ns = end_ns

    def is_asleep(self) -> bool:
        """Whether the worker does nothing, or is dead."""
        return stat_fields(self.process.pid)[0] in "SZ"

    @property
    def text(self) -> str:
        return self.log_path.read_text()

    def is_asked(self) -> bool:
        """Whether the worker's watchdog would have been woken."""
        try:
            return bool(os.read(self.asks_fd, 100))
        except BlockingIOError:
            return False


@pytest.fixture(params=["hears"])
def room(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Room]:
    """A worker that is up; parametrised with ``deaf`` it catches no signal."""
    path = tmp_path / "log"
    log_fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    ours, theirs = messages.socketpair()
    dump_fd, read, wake = stack_dump.create()
    process = subprocess.Popen(
        [sys.executable, "-c", IDLE, str(int(stack_dump.SIGNAL)), str(dump_fd), request.param],
        stdout=subprocess.PIPE,
        pass_fds=(dump_fd,),
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    child = Child(ours, boot_report.create(), dump_fd=dump_fd, wake_fd=wake)
    child.open_pidfd(process.pid)
    eventually(lambda: stat_fields(process.pid)[0] == "S")
    board = Scoreboard.create(4, 1)
    yield Room(path, LogWriter(log_fd, Style.TEXT, "info", "parent"), board, child, process, read)
    process.kill()
    process.wait()
    process.stdout.close()
    child.close()
    theirs.close()
    os.close(read)
    os.close(log_fd)
    board.close()


def test_report_is_logged_below_the_line_that_blocks(room: Room) -> None:
    """A stall: the watchdog is asked, and what it writes is one event in the log."""
    room.passes(1.4)
    assert room.is_asked()
    stack_dump.write_report(room.child.dump_fd, "/srv/app.py:41 in handler\nthread MainThread:\n  app.py")
    room.passes(0.1)
    assert f"error   worker 0 (pid {room.process.pid}) has been blocked for 1." in room.text
    assert " at /srv/app.py:41 in handler\n    thread MainThread:\n      app.py\n" in room.text


def test_stacks_come_by_signal_when_nobody_answers(room: Room) -> None:
    """Half a second without a report: the GIL is held. faulthandler tells where the main thread is."""
    room.passes(1.65)
    eventually(lambda: stack_dump.read_stacks(room.child.dump_fd))
    room.passes(0.5)
    assert "at <string>:6 in <module>\n    Current thread 0x" in room.text
    assert pulse.NO_TASKS in room.text
    assert room.process.poll() is None


@pytest.mark.parametrize("room", ["deaf"], indirect=True)
def test_signal_that_would_kill_is_not_sent(room: Room) -> None:
    """The app has taken our handler away: the default action would end the worker."""
    room.passes(2.4)
    assert pulse.NO_STACKS in room.text and pulse.NO_TASKS in room.text
    assert room.process.poll() is None


def test_blocked_worker_gets_sigabrt_with_the_reason_before_it(room: Room) -> None:
    """The line that says why is there before the signal is sent, and the stacks are, too."""
    room.passes(4.5)
    assert room.process.wait(10) == -signal.SIGABRT
    last = room.text.rindex("has been blocked for")
    assert "(--worker-timeout 3): SIGABRT" in room.text[last:]
    assert room.text.count(pulse.NO_TASKS) == 2


def test_full_pipe_keeps_nobody(room: Room) -> None:
    """The watchdog has read nothing for long; the signal is next."""
    while True:
        try:
            os.write(room.child.wake_fd, b"?" * 4096)
        except BlockingIOError:
            break
    room.passes(2.4)
    assert pulse.NO_TASKS in room.text


def test_worker_that_is_gone_leaves_no_dump(room: Room) -> None:
    """It died between the question and the answer: its descriptors are closed, and another has its slot."""
    room.passes(1.4)
    del room.workers[0]
    room.passes(10)
    assert "has been" not in room.text


@pytest.mark.parametrize("life", set(Life) - set(pulse.WATCHED))
def test_worker_that_boots_or_leaves_is_not_watched(room: Room, life: Life) -> None:
    """Its loop need not turn."""
    room.life = life
    room.passes(60)
    assert room.text == "" and room.process.poll() is None


def test_asked_for_dump_of_a_healthy_worker(room: Room) -> None:
    """Somebody wants to know what it is doing: nothing happens to it."""
    room.nurse.dump(0, "worker 0, as asked")
    room.nurse.dump(3, "nobody")
    assert room.is_asked()
    stack_dump.write_report(room.child.dump_fd, "\nthread MainThread:")
    room.passes(0.1)
    assert "info    worker 0, as asked\n    thread MainThread:\n" in room.text


def test_everybody_who_asks_is_told_the_same_stacks(room: Room) -> None:
    """Who asks while they are under way joins, and delays nobody; there is an end to it."""
    told: list[tuple[str, str]] = []

    def then(place: str, detail: str) -> None:
        told.append((place, detail))

    for _ in range(pulse.MOST_THENS):
        assert room.nurse.dump(0, "worker 0, as asked", then=then)
        room.passes(0.001)
    assert room.nurse.dump(0, "one more", then=then)
    assert told == [("", "too many ask for the stacks of this worker. Try again later")]
    stack_dump.write_report(room.child.dump_fd, "app.py:1 in f\nthread")
    room.passes(0.1)
    assert told[1:] == [("app.py:1 in f", "thread")] * pulse.MOST_THENS
    assert not room.nurse.dump(3, "nobody", then=then)


def test_who_waits_for_stacks_hears_that_the_worker_is_gone(room: Room) -> None:
    """Instead of nothing, for ever."""
    told: list[str] = []
    room.nurse.dump(0, "worker 0, as asked", then=lambda _place, detail: told.append(detail))
    del room.workers[0]
    room.passes(1)
    assert told == [pulse.GONE]


@pytest.mark.parametrize("heartbeat_ns", [1, 2**63, 2**64 - 1])
def test_forged_heartbeat_is_passed_over(room: Room, heartbeat_ns: int) -> None:
    """Nonsense in a row is no reason to fail, nor to kill at once."""
    room.scoreboard.row(0)[Cell.HEARTBEAT_NS] = heartbeat_ns
    room.passes(0.9)
    assert "has been" not in room.text and room.process.poll() is None


def test_workers_that_are_well_cost_no_look_at_proc(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every half second one number of a row is read, and nothing else."""
    monkeypatch.setattr(procfs, "thread_state", lambda *_: 1 / 0)
    for _ in range(20):
        room.passes(0.25)
        room.scoreboard.row(0)[Cell.HEARTBEAT_NS] = room.now_ns
    assert room.text == ""


def test_limits_of_a_reload_count_from_then_on(room: Room) -> None:
    """The settings in force are looked at, not those that the server began with."""
    room.settings = Settings(health=HealthSettings(0.0, 0.0))
    room.passes(10)
    assert "has been" not in room.text
    room.settings = Settings(health=HealthSettings(0.0, 3.0))
    room.passes(2)
    assert room.process.wait(10) == -signal.SIGABRT
