"""Serving in the process that was started: ``hybrid-serve --workers 0`` and ``hybrid.run(..., workers=0)``."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.clients import ask, hear, is_cut, refuses
from tests.support.eventually import eventually
from tests.support.server import ROOT
from tests.support.tied import tied
from tests.support.variations import long

KNOBS = "tests.apps.knobs:knobs"
BOOTS = "tests.apps.boots"
BOTH = ("command", "program")
COMMAND_FIRST = ("command", long("program"))
"""Behind both doors is the same server: what it does is asked for by the command, and in the long tests by both."""

PROGRAM = """
import logging, os, signal
import hybrid
{handler_from}

NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM]

def mine(number, frame):
    print("the program's own", number)

if __name__ == "__main__":
    for number in NUMBERS:
        signal.signal(number, mine)
    os.umask(0o022)
    hybrid.run({handler}, workers=0, **{keywords!r})
    own = [signal.getsignal(number) is mine for number in NUMBERS]
    loggers = [(log.handlers, log.propagate, log.level) for log in map(logging.getLogger, ["hybrid.error"])]
    print("returned", all(own), loggers == [([], True, 0)], oct(os.umask(0)))
"""


class Alone:
    """A server without a pool, in a session of its own, through either door. Its address is what its log says."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log_path = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                tied([sys.executable, *command]),
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "MARK": str(log) + ".mark"},
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def mark(self) -> str:
        """What the lifespan left for us."""
        path = Path(f"{self.log_path}.mark")
        return path.read_text() if path.exists() else ""

    def ready(self) -> Alone:
        eventually(lambda: "ready in" in self.log or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
        return self

    def connect(self) -> socket.socket:
        found = re.search(r" on 127\.0\.0\.1:(\d+)\n", self.log)
        assert found, self.log
        return socket.create_connection(("127.0.0.1", int(found[1])), timeout=20)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def signal_until(self, number: int, said: str) -> None:
        """Send a signal until the log says so: those that come too close together are one wish."""

        def attempt() -> bool:
            if said not in self.log:
                self.signal(number)
            return said in self.log

        eventually(attempt)

    def wait(self, code: int = 0) -> str:
        """Wait for the exit with ``code``; return the log."""
        try:
            assert self.process.wait(20) == code, self.log
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running\n{self.log}") from None
        return self.log

    def end(self) -> None:
        self.process.kill()
        self.process.wait(20)


Start = Callable[..., Alone]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that end with the test: ``start("command", graceful_timeout="5")``; options are keywords."""
    with ExitStack() as stack:

        def one(door: str, target: str = KNOBS, **keywords: str) -> Alone:
            keywords = {"bind": "127.0.0.1:0", **keywords}
            if door == "command":
                flags = [text for key, value in keywords.items() for text in (f"--{key.replace('_', '-')}", value)]
                command = ["-m", "hybrid", target, "--workers", "0", *flags]
            else:
                module, _, name = target.partition(":")
                text = PROGRAM.format(handler_from=f"from {module} import {name}", handler=name, keywords=keywords)
                (tmp_path / "program.py").write_text(text)
                command = [str(tmp_path / "program.py")]
            alone = Alone(command, tmp_path / f"{door}.log")
            stack.callback(alone.end)
            return alone

        yield one


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("door", BOTH)
def test_log_tells_address_loop_time_and_end(start: Start, door: str) -> None:
    """The log of a night: what is served where, since when, what asked for the stop, and that it came to be."""
    server = start(door).ready()
    with server.connect() as client:
        assert ask(client, "echo hello") == "hello"
    server.signal(signal.SIGTERM)
    log = server.wait()
    assert re.search(r"serves stream handler knobs on 127\.0\.0\.1:\d+\n", log)
    assert "loop uvloop" in log or "loop asyncio" in log
    size = "--workers: 0" if door == "command" else "workers=0"
    assert f"no pool ({size}): one core, and nobody replaces this process when it dies" in log
    assert re.search(rf"ready in \d+\.\d\d s; pid {server.process.pid}\n", log)
    assert "SIGTERM: stopping; open connections have 30 s to finish" in log
    assert log.index("SIGTERM: stopping") < log.index("[serve] info    stopped\n")


def test_handler_of_a_file_is_called_by_its_name(start: Start) -> None:
    """No path of the machine in the boot line: the same name as with a pool."""
    server = start("command", f"{ROOT}/tests/apps/knobs.py:knobs").ready()
    assert "serves stream handler knobs on " in server.log


# ── how it stops ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("door", COMMAND_FIRST)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_connection_finishes_and_nobody_new_is_let_in(start: Start, door: str, number: signal.Signals) -> None:
    """The first signal drains: served to its end, newcomers refused, exit code 0, the count in the log."""
    server = start(door).ready()
    with server.connect() as client:
        assert ask(client, "finish") == "serving"
        server.signal(number)
        assert hear(client) == "draining"
        assert is_cut(client)
    log = server.wait()
    assert f"{number.name}: stopping" in log
    assert "drained: 1 connections were open, 0 were cancelled, 0 cut" in log


@pytest.mark.parametrize("door", BOTH)
def test_newcomer_is_refused_while_it_drains(start: Start, door: str) -> None:
    """Nobody is left to serve it: it hears so at once."""
    server = start(door).ready()
    with server.connect() as client:
        assert ask(client, "echo before") == "before"
        server.signal(signal.SIGTERM)
        eventually(lambda: refuses(server))
        assert ask(client, "echo still") == "still"
    server.wait()


@pytest.mark.parametrize("loop", ["uvloop", long("asyncio")])
@pytest.mark.parametrize("door", COMMAND_FIRST)
def test_second_signal_cancels_and_the_third_cuts(start: Start, door: str, loop: str) -> None:
    """Each further signal skips to the next step, however long the grace."""
    server = start(door, graceful_timeout="300", loop=loop).ready()
    with server.connect() as client:
        assert ask(client, "stubborn") == "holding"
        server.signal(signal.SIGTERM)
        eventually(lambda: "SIGTERM: stopping; open connections have 300 s" in server.log)
        server.signal_until(signal.SIGINT, "SIGINT: cancelling handlers")
        assert hear(client) == "no"
        server.signal_until(signal.SIGTERM, "SIGTERM: cutting connections")
        assert is_cut(client)
    assert "drained: 1 connections were open, 1 were cancelled, 1 cut" in server.wait()


@pytest.mark.parametrize("door", COMMAND_FIRST)
def test_two_signals_at_once_are_one_wish(start: Start, door: str) -> None:
    """Terminals and wrappers send one twice: open connections finish all the same."""
    server = start(door).ready()
    with server.connect() as client:
        assert ask(client, "finish") == "serving"
        server.signal(signal.SIGSTOP)
        server.signal(signal.SIGINT)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        assert hear(client) == "draining"
    assert "cancelling" not in server.wait()


@pytest.mark.parametrize("door", COMMAND_FIRST)
def test_sigquit_stops_at_once(start: Start, door: str) -> None:
    """No grace, no cancellation: connections are cut, exit code 0."""
    server = start(door, graceful_timeout="300").ready()
    with server.connect() as client:
        assert ask(client, "stubborn") == "holding"
        server.signal(signal.SIGQUIT)
        assert is_cut(client)
    assert "SIGQUIT: cutting connections" in server.wait()


@pytest.mark.parametrize("door", COMMAND_FIRST)
def test_lifespan_that_never_ends_does_not_hold_up_the_stop(start: Start, door: str) -> None:
    """After the last step there is one more: leaving without it."""
    server = start(door, lifespan=f"{BOOTS}:slow_to_leave", graceful_timeout="300").ready()
    server.signal(signal.SIGTERM)
    eventually(lambda: server.mark == "leaving\n")
    server.signal(signal.SIGQUIT)
    assert "did not leave in time: going without what is left" in server.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, long(signal.SIGUSR2)])
@pytest.mark.parametrize("door", COMMAND_FIRST)
def test_signal_without_a_use_is_a_warning(start: Start, door: str, number: signal.Signals) -> None:
    """As the pool does: one line, and the server serves on."""
    server = start(door).ready()
    server.signal(number)
    eventually(lambda: f"warning {number.name}: it takes a pool to do that" in server.log)
    with server.connect() as client:
        assert ask(client, "echo alive") == "alive"


@pytest.mark.parametrize("door", BOTH)
def test_log_file_is_reopened(start: Start, tmp_path: Path, door: str) -> None:
    """Rotate: rename, SIGUSR1; the server's lines and its handlers' go to the new file. Without a file: a line."""
    log, old = tmp_path / "server.log", tmp_path / "server.log.1"
    server = start(door, log_file=str(log))
    eventually(lambda: log.exists() and "ready in" in log.read_text())
    log.rename(old)
    server.signal(signal.SIGUSR1)
    eventually(lambda: log.exists() and "info    SIGUSR1: log file reopened" in log.read_text())
    server.signal(signal.SIGTERM)
    server.wait()
    assert "stopped" in log.read_text() and "stopped" not in old.read_text()
    second = start(door).ready()
    second.signal(signal.SIGUSR1)
    eventually(lambda: "SIGUSR1: the log is stderr; nothing to reopen" in second.log)


def test_run_returns_to_a_program_that_is_as_it_was(start: Start, tmp_path: Path) -> None:
    """Signal handlers, loggers and umask are the program's own again, the pid file is gone."""
    pid_file = tmp_path / "pid"
    server = start("program", umask="027", pid=str(pid_file), log_file=str(tmp_path / "server.log"))
    eventually(lambda: pid_file.exists() and pid_file.read_text() == f"{server.process.pid}\n")
    eventually(lambda: "ready in" in (tmp_path / "server.log").read_text())
    assert (tmp_path / "server.log").stat().st_mode & 0o777 == 0o640
    server.signal(signal.SIGTERM)
    assert "returned True True 0o22" in server.wait()
    assert not pid_file.exists()


def test_run_in_a_thread_serves_and_hears_no_signals(tmp_path: Path) -> None:
    """Only the main thread may handle signals: elsewhere they stay the program's."""
    code = f"""
import asyncio, signal, threading
import hybrid
from tests.apps.knobs import knobs

def serve():
    try:
        hybrid.run(knobs, bind="127.0.0.1:0", workers=0, loop="asyncio", lifespan="{BOOTS}:fails")
    except hybrid.BootError as error:
        print("raised", error)

before = signal.getsignal(signal.SIGTERM)
thread = threading.Thread(target=serve)
thread.start()
thread.join()
assert signal.getsignal(signal.SIGTERM) is before
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "raised" in done.stdout and "no database today" in done.stdout, done


# ── how it boots, or not ─────────────────────────────────────────────────────────────────────────────────────


def test_boot_that_never_ends_is_a_failure(start: Start) -> None:
    """``--boot-timeout`` holds without a pool too: exit code 3, the seconds and the option in the message."""
    server = start("command", lifespan=f"{BOOTS}:hangs", boot_timeout="0.2")
    log = server.wait(3)
    assert "not ready within 0.2 s (step: lifespan)" in log and "--boot-timeout" in log
    assert "Traceback" not in log


def test_boot_that_never_ends_raises_in_a_program(start: Start) -> None:
    """``run`` says the keyword, not the option of the command line."""
    log = start("program", lifespan=f"{BOOTS}:hangs", boot_timeout="0.2").wait(1)
    assert "BootError: the server was not ready within 0.2 s (step: lifespan)" in log
    assert "boot_timeout=" in log.splitlines()[-1] and "--boot" not in log.splitlines()[-1]


def test_import_that_never_ends_is_a_failure(start: Start, tmp_path: Path) -> None:
    """An import holds the loop up before there is one: the timeout ends it all the same."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    log = start("command", f"{tmp_path}/slow.py:handle", boot_timeout="0.3").wait(3)
    assert "not ready within 0.3 s (step: load)" in log and "--boot-timeout" in log


@pytest.mark.parametrize("number", [long(signal.SIGTERM), signal.SIGINT, long(signal.SIGQUIT)])
def test_signal_during_the_import_stops_it(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """Somebody asked: exit code 0, and no traceback of the app's."""
    mark = tmp_path / "importing"
    (tmp_path / "slow.py").write_text(f"import time\nopen({str(mark)!r}, 'w').close()\ntime.sleep(600)\n")
    server = start("command", f"{tmp_path}/slow.py:handle")
    eventually(mark.exists)
    server.signal(number)
    log = server.wait()
    assert f"{number.name}: " in log and "stopped" in log and "Traceback" not in log


SWALLOWS = {
    "finalizer": """
class Thing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(9):
            pass

Thing()
time.sleep(600)
""",
    "catch-all": """
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    time.sleep(600)
""",
    "to-the-end": """
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    pass

async def handle(conn): ...
""",
}


@pytest.mark.parametrize("how", SWALLOWS)
def test_signal_that_the_import_swallows_stops_it(start: Start, tmp_path: Path, how: str) -> None:
    """CPython reports, and goes on, when something is raised in a finalizer; apps catch all: it is raised again."""
    (tmp_path / "swallows.py").write_text(f"import signal, time\n{SWALLOWS[how]}")
    log = start("command", f"{tmp_path}/swallows.py:handle").wait()
    assert "SIGINT: stopping; nothing is served yet" in log and "Traceback" not in log and "ignored" not in log


@pytest.mark.parametrize("door", COMMAND_FIRST)
@pytest.mark.parametrize("lifespan", ["hangs", "ignores_cancel"])
def test_signal_during_the_boot_stops_it(start: Start, door: str, lifespan: str) -> None:
    """A lifespan that waits is cancelled; nobody is served; exit code 0."""
    server = start(door, lifespan=f"{BOOTS}:{lifespan}")
    eventually(lambda: "entered" in server.mark)
    server.signal(signal.SIGTERM)
    log = server.wait()
    assert "stopped" in log and "ready in" not in log and "Traceback" not in log


def test_failed_boot_is_told_to_whoever_waits(tmp_path: Path) -> None:
    """``--ready-fd`` gets the failure, as with a pool."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "hybrid", "tests.apps.knobs:nothing", "--workers", "0", "--ready-fd", str(write)]
    try:
        assert subprocess.run(command, pass_fds=(write,), cwd=ROOT, capture_output=True, timeout=30).returncode == 4
        said = json.loads(os.read(read, 65536))
    finally:
        os.close(read)
        os.close(write)
    assert (said["event"], said["exit_code"]) == ("failed", 4) and "nothing" in said["error"]
