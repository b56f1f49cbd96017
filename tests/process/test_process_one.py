"""The server as process 1 of a container: nobody is above it, and what it does not do nobody does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import ExitCode
from tests.process.conftest import Serve
from tests.support.clients import ask
from tests.support.eventually import eventually
from tests.support.server import Server, children, stat_fields

KNOBS = "tests.apps.knobs:knobs"
UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL")


def _refusal() -> str:
    """Return why there can be no namespace here; empty: there can."""
    if shutil.which("unshare") is None:
        return "needs unshare (package util-linux)"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, timeout=30)
    return f"no user and pid namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


REFUSAL = _refusal()
pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL)]

Contained = Callable[..., Server]


@pytest.fixture
def contained(serve: Serve, tmp_path: Path) -> Iterator[Contained]:
    """Start servers in a pid namespace of their own. ``server.pid`` is unshare's, whose exit code is the server's."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {" ".join(UNSHARE)} {sys.executable} "$@"\n')
    python.chmod(0o755)

    def start(target: str, *arguments: str, ready: bool = True) -> Server:
        return serve(target, *arguments, ready=ready, python=str(python))

    yield start


def first(server: Server) -> int:
    """Return the pid, out here, of the process that is number 1 in there."""
    return eventually(lambda: children(server.pid))[0]


def all_children(parent: int) -> dict[int, str]:
    """Return the state of each child, zombies too, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and int((fields := stat_fields(int(name)))[1]) == parent:
                found[int(name)] = fields[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def moment(pid: int, number: signal.Signals) -> str:
    """Return what a process would do with a signal now; empty: lose it. Source: proc(5), SigBlk and SigCgt."""
    if "python" not in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
        return ""  # unshare holds some back, too, until it has become the server
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":\t", 1) for line in file)
    masks = {name: int(lines[name], 16) for name in ("SigBlk", "SigCgt")}
    if masks["SigCgt"] >> (number - 1) & 1:
        return "hear it"
    return "hold it back" if masks["SigBlk"] >> (number - 1) & 1 else ""


@pytest.mark.parametrize("workers", ["2", "0"])
def test_stop_is_heard_and_its_code_is_right(workers: str, contained: Contained) -> None:
    """Process 1 gets no signal that it has no handler for: SIGTERM has one."""
    server = contained(KNOBS, "--workers", workers)
    assert server.said["pid"] == 1
    with server.connect() as client:
        assert ask(client, "echo here") == "here"
    os.kill(first(server), signal.SIGTERM)
    assert server.wait() == ExitCode.OK
    assert not server.everyone()


@pytest.mark.parametrize("workers", ["1", "0"])
def test_failed_start_has_its_code(workers: str, contained: Contained) -> None:
    """What the runtime shows as the container's exit code."""
    server = contained("tests.apps.bad_import:handle", "--workers", workers, ready=False)
    assert server.wait() == ExitCode.APP_NOT_LOADED


@pytest.mark.parametrize("workers", ["1", "0"])
def test_stop_in_the_first_moment_is_heard(workers: str, contained: Contained) -> None:
    """A pod that is deleted as it starts: before there is a handler the signal is held back, and not lost."""
    for _ in range(5):  # on a busy machine the moment may pass unseen
        server = contained(KNOBS, "--workers", workers, ready=False)
        pid = first(server)
        seen = eventually(lambda at=pid: moment(at, signal.SIGTERM), 20)  # type: ignore[misc]  # bound now
        os.kill(pid, signal.SIGTERM)
        assert server.wait() == ExitCode.OK
        assert " serves " not in server.log
        if seen == "hold it back":
            return
    raise AssertionError("never seen before it had a handler")


def test_orphans_are_reaped(contained: Contained) -> None:
    """What a program of the app's leaves behind has no other parent: no zombie stays."""
    server = contained(KNOBS, "--workers", "1")
    parent = first(server)
    before = set(all_children(parent))
    with server.connect() as client:
        for _ in range(3):
            assert ask(client, "orphan").isdigit()
        orphans = eventually(lambda: found if len(found := set(all_children(parent)) - before) == 3 else set())
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
        eventually(lambda: set(all_children(parent)) == before)
        assert "Z" not in all_children(parent).values()
        assert ask(client, "echo here") == "here"
    os.kill(parent, signal.SIGTERM)
    assert server.wait() == ExitCode.OK


def test_orphans_do_not_hold_up_the_end(contained: Contained) -> None:
    """One that runs on goes with the namespace."""
    server = contained(KNOBS, "--workers", "1")
    with server.connect() as client:
        assert ask(client, "orphan").isdigit()
    os.kill(first(server), signal.SIGTERM)
    assert server.wait() == ExitCode.OK
    assert not server.everyone()


def test_reload_and_upgrade_work(contained: Contained) -> None:
    """As process 1 the parent is its own successor, and has a new generation, as anywhere."""
    server = contained(KNOBS, "--workers", "1")
    parent = first(server)
    os.kill(parent, signal.SIGUSR2)
    eventually(lambda: "upgraded: hybrid" in server.log)
    os.kill(parent, signal.SIGHUP)
    eventually(lambda: "reloaded: generation 2 serves" in server.log)
    os.kill(parent, signal.SIGTERM)
    assert server.wait() == ExitCode.OK
