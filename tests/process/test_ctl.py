"""``hybrid-ctl`` with real servers: each command does what it says, prints it, and leaves with the code for it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hybrid.ground.errors import ControlExit
from hybrid.ground.states import Life
from tests.process.conftest import Serve
from tests.support.control import control_pid
from tests.support.eventually import eventually
from tests.support.reloads import Site, serves_load
from tests.support.server import ROOT, Server
from tests.support.tied import tied

KNOBS = "tests.apps.knobs:knobs"
COMMAND = [sys.executable, "-m", "hybrid.cli.ctl"]
PATIENCE_S = 40.0
SILENCE_S = 0.05
_ESCAPES = re.compile(rb"\x1b\[[0-9;?<>=]*[a-zA-Z$]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]|\x1b[=>78]")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The directory that the server's code is in."""
    site = Site(tmp_path)
    yield site
    site.close()


def ctl(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``hybrid-ctl`` on a server."""
    return run(*words, "--pid", str(server.pid))


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environ}
    command = [*COMMAND, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, env=env)


def done(server: Server, *words: str) -> str:
    """Run a command that must succeed; return what it printed."""
    ended = ctl(server, *words)
    assert (ended.returncode, ended.stderr) == (ControlExit.DONE, ""), ended
    return ended.stdout


def told(server: Server, *words: str) -> Any:
    """Run a command with ``--json``; return what it told."""
    return json.loads(done(server, *words, "--json"))


def life(server: Server, slot: int) -> Life:
    return next(each.life for each in server.workers() if each.slot == slot)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_status_and_workers_tell_what_is(serve: Serve) -> None:
    """In words with a row for each worker, and as JSON; rates are there at the first look."""
    server = serve(KNOBS, "--workers", "2")
    words = done(server, "status")
    assert f"pid {server.pid}" in words and server.address in words and "2 ready of 2" in words
    rows = told(server, "workers")["workers"]
    assert sorted(row["pid"] for row in rows) == sorted(server.ready_pids())
    assert all(row["accepted_per_s"] is not None for row in rows)
    assert told(server, "status")["parent"]["pid"] == server.pid


def test_config_tells_the_settings(serve: Serve) -> None:
    """By group and option, as they are in force."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "7")
    assert told(server, "config")["settings"]["worker"]["workers"] in (1, "1")
    assert re.search(r"timeout\.graceful-timeout +7", done(server, "config"))


def test_dump_shows_stacks(serve: Serve) -> None:
    """Of the worker in the slot."""
    server = serve(KNOBS, "--workers", "1")
    assert "thread MainThread" in done(server, "dump", "0")


def test_events_are_told_as_they_come(serve: Serve) -> None:
    """The past, then what happens; Ctrl-C ends it."""
    server = serve(KNOBS, "--workers", "1")
    assert any(line.endswith("the server is running") for line in done(server, "events").splitlines())
    command = [*COMMAND, "events", "--follow", "--last", "1", "--json", "--pid", str(server.pid)]
    with subprocess.Popen(tied(command), stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as follow:
        try:
            assert follow.stdout is not None
            assert json.loads(follow.stdout.readline())["at"] > 0  # the last of the past: it is heard
            done(server, "scale", "2")
            assert "worker_started" in (json.loads(line)["notice"] for line in follow.stdout)
            follow.send_signal(signal.SIGINT)
            assert follow.wait(PATIENCE_S) == 128 + signal.SIGINT
        finally:
            follow.kill()


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_follows_events_hears_on_until_the_server_ends(serve: Serve) -> None:
    """An upgrade, or a control that is killed, ends a connection only: each event is told, and none twice."""
    server = serve(KNOBS, "--workers", "1")
    command = [*COMMAND, "events", "--follow", "--last", "1000", "--json", "--pid", str(server.pid)]
    with subprocess.Popen(tied(command), stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as follow:
        try:
            assert follow.stdout is not None
            heard = (json.loads(line) for line in follow.stdout)
            numbers = [next(heard)["number"]]

            def hear_until(**fields: Any) -> None:
                for notice in heard:
                    numbers.append(notice["number"])
                    if fields.items() <= notice.items():
                        return
                raise AssertionError(fields)

            done(server, "upgrade")
            done(server, "scale", "2")
            hear_until(notice="worker_ready", slot=1)
            os.kill(control_pid(server), signal.SIGKILL)
            done(server, "scale", "3")
            hear_until(notice="worker_ready", slot=2)
            done(server, "shutdown")
            hear_until(notice="phase_changed", phase="stopping")
            numbers += [notice["number"] for notice in heard]
            assert follow.wait(PATIENCE_S) == ControlExit.DONE
            assert numbers == list(range(1, len(numbers) + 1))
        finally:
            follow.kill()


def test_scale_changes_the_number_of_workers(serve: Serve) -> None:
    """Up, down, and bounds."""
    server = serve(KNOBS, "--workers", "1")
    done(server, "scale", "3")
    server.wait_workers(3)
    done(server, "scale", "1")
    server.wait_workers(1)
    done(server, "scale", "2..3")
    server.wait_workers(2)
    pool = told(server, "status")["pool"]
    assert (pool["least"], pool["most"]) == (2, 3)


def test_slots_are_handled_one_by_one(serve: Serve) -> None:
    """Parked, un-parked, drained, killed; a slot without a worker is refused with 1."""
    server = serve(KNOBS, "--workers", "2")
    done(server, "park", "1")
    eventually(lambda: life(server, 1) is Life.PARKED)
    done(server, "unpark", "1")
    eventually(lambda: life(server, 1) is Life.READY)
    drained, killed = (each.pid for each in server.workers()[:2])
    done(server, "drain", "0")
    eventually(lambda: server.worker(drained) is None)
    done(server, "kill", "1")
    eventually(lambda: server.worker(killed) is None)
    server.wait_workers(2)
    refused = ctl(server, "park", "99")
    assert refused.returncode == ControlExit.REFUSED and "slot 99" in refused.stderr


def test_reload_waits_until_the_new_code_serves(serve: Serve, site: Site) -> None:
    """Its steps are told on the way."""
    server = serve(site.target, "--workers", "2")
    site.write(2)
    said = done(server, "reload")
    assert "importing the app" in said and "generation 2 serves" in said.splitlines()[-1]
    assert serves_load(server, 2)


def test_failed_reload_has_its_code_and_the_boot_log(serve: Serve, site: Site) -> None:
    """The old code serves on."""
    server = serve(site.target, "--workers", "1")
    site.write(2, "\nraise RuntimeError('load 2 is broken')\n")
    failed = ctl(server, "reload")
    assert failed.returncode == ControlExit.RELOAD_FAILED, failed
    assert "load 2 is broken" in failed.stderr and "hybrid-ctl: error: " in failed.stderr
    assert serves_load(server, 1)
    assert "The last reload failed" in done(server, "status")


def test_knobs_logs_and_the_parent_itself(serve: Serve) -> None:
    """``set``, ``reopen-logs``, ``upgrade``; what cannot be set is refused."""
    server = serve(KNOBS, "--workers", "1")
    done(server, "set", "graceful-timeout", "5")
    assert told(server, "config")["settings"]["timeout"]["graceful-timeout"] == 5
    refused = ctl(server, "set", "workers", "5")
    assert refused.returncode == ControlExit.REFUSED and "log-level" in refused.stderr
    done(server, "reopen-logs")
    done(server, "upgrade")
    eventually(lambda: "upgraded: " in server.log)
    assert told(server, "status")["parent"]["pid"] == server.pid


@pytest.mark.parametrize("words", [("shutdown",), ("shutdown", "--now")])
def test_shutdown_stops_the_server(serve: Serve, words: tuple[str, ...]) -> None:
    """And then there is nobody to ask."""
    server = serve(KNOBS, "--workers", "1")
    done(server, *words)
    assert server.wait() == 0
    assert ctl(server, "status").returncode == ControlExit.UNREACHED


# ── which server ─────────────────────────────────────────────────────────────────────────────────────────────


def test_server_is_found_wherever_its_socket_is(serve: Serve, tmp_path: Path) -> None:
    """In a private directory that we do not know, at a path of its own, or by that path; several are listed."""
    (tmp_path / "run").mkdir(mode=0o700)
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    hidden = serve(KNOBS, "--workers", "1", env=env)
    placed = serve(KNOBS, "--workers", "1", "--control", str(tmp_path / "c.sock"))
    assert told(hidden, "status")["parent"]["pid"] == hidden.pid
    assert told(placed, "status")["parent"]["pid"] == placed.pid
    by_path = run("status", "--json", "--control", str(tmp_path / "c.sock"))
    assert json.loads(by_path.stdout)["parent"]["pid"] == placed.pid
    unsaid = run("status")
    assert unsaid.returncode == ControlExit.UNREACHED
    assert f"--pid {hidden.pid} ({KNOBS})" in unsaid.stderr and f"--pid {placed.pid}" in unsaid.stderr


def test_server_without_control_is_said_to_have_none(serve: Serve) -> None:
    """With the option that is the reason."""
    refused = ctl(serve(KNOBS, "--workers", "1", "--control", "off"), "status")
    assert refused.returncode == ControlExit.UNREACHED and "--control off" in refused.stderr


# ── top ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Terminal:
    """A program in a terminal of its own. Closes: both, as a context manager's."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._master = master
        self._raw = b""

    def shows(self, words: str) -> bool:
        """Return whether the words have been written since the last :meth:`press`."""
        while select.select([self._master], [], [], SILENCE_S)[0]:
            try:
                self._raw += os.read(self._master, 65536)
            except OSError:  # the program has left
                break
        return words in _ESCAPES.sub(b"", self._raw).decode(errors="replace")

    def press(self, keys: str) -> None:
        """Press keys, and forget what was shown."""
        self._raw = b""
        os.write(self._master, keys.encode())


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    """Run ``hybrid-ctl`` in a terminal of 120 × 36."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "120", "LINES": "36"}
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=env, start_new_session=True
    )
    os.close(slave)
    shown = Terminal(master, process)
    try:
        yield shown
    finally:
        process.kill()
        process.wait(10)
        os.close(master)


def test_top_shows_a_real_server_and_steers_it(serve: Serve) -> None:
    """Workers, a size that is changed by a key, stacks; q leaves with 0."""
    pytest.importorskip("textual")
    server = serve(KNOBS, "--workers", "1")
    with terminal("top", "--pid", str(server.pid), "--every", "0.2") as top:
        eventually(lambda: top.shows("1 of 1 workers") and top.shows("ready"), PATIENCE_S)
        top.press("+")
        server.wait_workers(2)
        eventually(lambda: top.shows("2 of 2 workers"), PATIENCE_S)
        top.press("D")
        eventually(lambda: top.shows("thread MainThread"), PATIENCE_S)
        top.press("\x1b")
        eventually(lambda: _left(top, "q"), PATIENCE_S)
        assert top.process.returncode == 0


def _left(top: Terminal, key: str) -> bool:
    """Press a key again until the program is gone: an escape may still be waited for."""
    if top.process.poll() is None:
        top.press(key)
        top.shows("")
    return top.process.poll() is not None


def test_top_finds_the_server_that_takes_the_old_ones_place(serve: Serve, tmp_path: Path) -> None:
    """It says that it is gone, waits, and shows the new one."""
    pytest.importorskip("textual")
    path = str(tmp_path / "c.sock")
    first = serve(KNOBS, "--workers", "1", "--control", path)
    with terminal("top", "--control", path, "--every", "0.2") as top:
        eventually(lambda: top.shows(f"pid {first.pid}"), PATIENCE_S)
        assert first.stop() == 0
        eventually(lambda: top.shows("no answer"), PATIENCE_S)
        second = serve(KNOBS, "--workers", "2", "--control", path)
        eventually(lambda: top.shows(str(second.pid)) and top.shows("2 of 2"), PATIENCE_S)
