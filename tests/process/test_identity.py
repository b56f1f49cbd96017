"""How the processes show themselves: names, users, files, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hybrid.shared.procfs import memory_pss_bytes
from tests.process.conftest import Serve
from tests.support.clients import ask, connect_to, is_cut, say
from tests.support.eventually import eventually
from tests.support.forked import NOBODY
from tests.support.ports import PRIVILEGED, own_host
from tests.support.server import ROOT, children, command_line, follows, is_alive
from tests.support.variations import long

KNOBS = "tests.apps.knobs:knobs"


def ids(pid: int) -> dict[str, list[int]]:
    """Return the Uid, Gid and Groups lines of /proc/PID/status: real, effective, saved, file system."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {name: [int(number) for number in lines[name].split()] for name in ("Uid", "Gid", "Groups")}


def test_processes_say_what_they_are(serve: Serve) -> None:
    """ps and top name parent, mold and each worker, with what is served."""
    server = serve(KNOBS, "--workers", "2")
    assert [command_line(pid) for pid in server.ready_pids()] == [
        "hybrid: worker 0 [knobs]",
        "hybrid: worker 1 [knobs]",
    ]
    assert command_line(server.mold_pid()) == "hybrid: mold [knobs]"
    assert Path(f"/proc/{server.pid}/comm").read_text() == "hybrid: parent\n"


def test_children_are_the_parents(serve: Serve) -> None:
    """Workers are children of the parent, not of the mold: it sees how each of them ends."""
    server = serve(KNOBS, "--workers", "2")
    assert sorted(children(server.pid)) == sorted([*server.ready_pids(), server.mold_pid()])


def test_pid_file_lives_as_long_as_the_server(serve: Serve, tmp_path: Path) -> None:
    """``--pid``: the parent's pid while it runs; a second server does not take the file; gone after a stop."""
    path = tmp_path / "server.pid"
    server = serve(KNOBS, "--workers", "1", "--pid", str(path))
    assert path.read_text() == f"{server.pid}\n"
    second = serve(KNOBS, "--workers", "1", "--pid", str(path), ready=False)
    assert second.wait() == 2
    assert f"process {server.pid} holds it and runs" in second.log
    assert path.read_text() == f"{server.pid}\n"
    assert server.stop() == 0
    assert not path.exists()


@pytest.mark.root
@pytest.mark.parametrize("preload", ["auto", long("off")])
def test_app_runs_as_the_user_and_the_parent_does_not(
    serve: Serve, nobody_python: dict[str, Any], preload: str
) -> None:
    """``--user``: mold and workers are that user in every respect; the parent keeps its own uid."""
    bind = ("--bind", f"{own_host()}:{PRIVILEGED}")
    server = serve(KNOBS, "--workers", "2", "--user", "nobody", "--preload", preload, *bind, **nobody_python)
    for pid in (*server.ready_pids(), server.mold_pid()):
        found = ids(pid)
        assert found["Uid"] == [NOBODY] * 4 and found["Gid"] == [NOBODY] * 4
        assert 0 not in found["Groups"]
    assert ids(server.pid)["Uid"] == [0] * 4
    with server.connect() as client:
        assert ask(client, "who").split()[:2] == [str(NOBODY), str(NOBODY)]
    victim = server.ready_pids()[0]
    os.kill(victim, signal.SIGKILL)
    pids = eventually(lambda: pids if len(pids := server.ready_pids()) == 2 and victim not in pids else [])
    assert all(ids(pid)["Uid"] == [NOBODY] * 4 for pid in pids)
    assert server.stop() == 0


@pytest.mark.root
def test_dropped_mold_dies_with_the_parent(serve: Serve, nobody_python: dict[str, Any], tmp_path: Path) -> None:
    """A change of user does not undo the bond between a mold that imports and its parent."""
    mark = tmp_path / "mark"
    mark.touch()
    mark.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o111)
    nobody_python = {**nobody_python, "env": {**nobody_python["env"], "MARK": str(mark)}}
    server = serve("tests.apps.slow_import:knobs", "--user", "nobody", ready=False, **nobody_python)
    eventually(lambda: "importing" in mark.read_text())
    (mold,) = children(server.pid)
    server.signal(signal.SIGKILL)
    server.wait()
    eventually(lambda: not is_alive(mold))


@pytest.mark.root
def test_group_alone_is_taken_on(serve: Serve, nobody_python: dict[str, Any]) -> None:
    """``--group`` without ``--user``: the group changes, the user stays."""
    server = serve(KNOBS, "--workers", "1", "--group", str(NOBODY), **nobody_python)
    (pid,) = server.ready_pids()
    assert ids(pid)["Uid"] == [0] * 4 and ids(pid)["Gid"] == [NOBODY] * 4


@pytest.mark.root
def test_user_who_cannot_run_the_interpreter_is_told(serve: Serve, tmp_path: Path) -> None:
    """An interpreter in somebody's private directory: one line says what is in the way, and code 3."""
    private = tmp_path / "private"
    private.mkdir(0o700)
    python = private / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    paths = [str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    server = serve(KNOBS, "--user", "nobody", python=str(python), env=env, ready=False)
    assert server.wait() == 3
    assert f"the mold cannot be started: {python}: Permission denied for nobody. Let --user run" in server.log
    assert "Traceback" not in server.log
    assert not server.everyone()


def test_umask_and_directory_are_the_workers(serve: Serve, tmp_path: Path) -> None:
    """``--umask`` and ``--chdir`` reach the app."""
    server = serve(KNOBS, "--workers", "1", "--umask", "027", "--chdir", str(tmp_path))
    with server.connect() as client:
        said = ask(client, "who").split()
    assert said[3:5] == ["027", str(tmp_path)]
    assert os.readlink(f"/proc/{server.pid}/cwd") == str(tmp_path)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_log_file_is_reopened_by_everybody(serve: Serve, tmp_path: Path) -> None:
    """Rotate: rename, SIGUSR1; lines of parent, workers and workers forked later go to the new file."""
    log, old = tmp_path / "server.log", tmp_path / "server.log.1"
    server = serve(KNOBS, "--workers", "2", "--log-file", str(log))
    first, second = server.ready_pids()
    assert "ready in" in log.read_text()
    log.rename(old)
    server.signal(signal.SIGUSR1)
    eventually(lambda: log.exists() and "[parent] info    SIGUSR1: log file reopened" in log.read_text())
    length = old.stat().st_size
    for pid in (first, second):
        with connect_to(server, pid) as client:
            # The worker hears of the new file by its channel; what it logs before is the old file's.
            eventually(lambda pid=pid: follows(pid, log, old))  # type: ignore[misc]
            say(client, f"fail in-{pid}")
            assert is_cut(client)
    os.kill(first, signal.SIGKILL)
    pids = eventually(lambda: pids if len(pids := server.ready_pids()) == 2 and first not in pids else [])
    (third,) = set(pids) - {second}
    with connect_to(server, third) as client:
        say(client, f"fail in-{third}")
        assert is_cut(client)
    for pid in (first, second, third):
        assert f"ZeroDivisionError: in-{pid}" in log.read_text()
    assert f"(pid {first}) was killed by SIGKILL" in log.read_text()
    assert old.stat().st_size == length
    assert server.log == "", "nothing goes to stderr"


def test_json_log_is_one_object_a_line(serve: Serve) -> None:
    """``--log-format json``: every line of parent and workers parses; a traceback is in its event."""
    server = serve(KNOBS, "--workers", "1", "--log-format", "json")
    with server.connect() as client:
        say(client, "fail by-design")
        assert is_cut(client)
    assert server.stop() == 0
    events = [json.loads(line) for line in server.log.splitlines()]
    assert {event["who"] for event in events} == {"parent", "worker 0"}
    (error,) = [event for event in events if event["level"] == "error"]
    assert "ZeroDivisionError: by-design" in error["detail"] and error["detail"].startswith("Traceback")


# ── the parent is small ──────────────────────────────────────────────────────────────────────────────────────


def test_parent_imports_neither_asyncio_nor_the_app() -> None:
    """A fresh interpreter that has everything the parent needs has nothing that it must not have."""
    script = "import hybrid.parent.__main__, sys; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    modules = set(said.split())
    assert "hybrid.parent.core" in modules
    unwanted = {"asyncio", "logging", "ssl", "uvloop", "anyio", "cyclopts", "subprocess", "importlib.metadata"}
    assert not modules & unwanted
    rooms = {name.split(".")[1] for name in modules if name.startswith("hybrid.")}
    assert rooms <= {"parent", "shared", "ground", "meters"}


def test_running_parent_is_small_and_has_no_app(serve: Serve) -> None:
    """Under 16 MB PSS, and nothing of the event loop or the app is mapped."""
    server = serve(KNOBS, "--workers", "2")
    assert memory_pss_bytes(server.pid) < 16 << 20
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    assert "uvloop" not in maps and "_asyncio" not in maps
