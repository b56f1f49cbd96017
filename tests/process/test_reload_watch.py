"""``--reload`` in a running server: the watcher beside the pool, its death, and the server's stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import Serve
from tests.process.test_identity import ids
from tests.support.eventually import eventually
from tests.support.forked import NOBODY
from tests.support.server import ROOT, Server, children, command_line, is_alive, until_eof

pytestmark = pytest.mark.long

WITHIN_S = 20.0
APP = "async def handle(conn):\n    await conn.send(b'hello')\n"

Develop = Callable[..., Server]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a directory with an app.py."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "app.py").write_text(APP)
    return path


@pytest.fixture
def develop(serve: Serve, project: Path) -> Develop:
    """Serve ``app.py`` of the project with --reload; the watcher has begun when it returns."""

    def start(*arguments: str, log: Path | None = None, **popen: Any) -> Server:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        popen = {"env": {**os.environ, "PYTHONPATH": path}, **popen}
        server = serve("app.py:handle", "--reload", "--workers", "1", *arguments, cwd=project, **popen)
        eventually(lambda: f"watching {project}" in (log.read_text() if log else server.log), WITHIN_S)
        return server

    return start


def watcher_pid(server: Server) -> int:
    """Return the pid of the watcher: 0 while there is none."""
    return next((pid for pid in children(server.pid) if command_line(pid) == "hybrid: watcher"), 0)


def save(project: Path, text: str) -> None:
    """Write app.py, whole: the watcher may look at any moment."""
    fresh = project / "fresh"
    fresh.write_text(text)
    fresh.rename(project / "app.py")


def says(server: Server) -> str:
    """Return what the app says to whoever connects."""
    with server.connect() as client:
        return until_eof(client).decode()


def test_saved_file_is_served(develop: Develop, project: Path) -> None:
    """The watcher names the file, the parent reloads, the new code answers."""
    server = develop()
    assert says(server) == "hello"
    save(project, APP.replace("hello", "new"))
    eventually(lambda: says(server) == "new", WITHIN_S)
    assert "[watcher] info    app.py changed: reloading\n" in server.log
    assert "[parent] info    a file changed: reloading, as generation 2\n" in server.log
    assert server.stop() == 0


def test_file_that_cannot_be_imported_costs_nothing(develop: Develop, project: Path) -> None:
    """The traceback is in the log, the old code answers, and the next save is served."""
    server = develop()
    save(project, "this is no Python\n")
    eventually(lambda: "generation 1 serves on" in server.log, WITHIN_S)
    assert "SyntaxError" in server.log
    assert says(server) == "hello"
    save(project, APP.replace("hello", "mended"))
    eventually(lambda: says(server) == "mended", WITHIN_S)


def test_watcher_that_dies_after_a_reload_is_replaced(develop: Develop, project: Path) -> None:
    """Its successor reads the settings in force: those of the first generation are closed by then."""
    server = develop()
    save(project, APP.replace("hello", "second"))
    eventually(lambda: "generation 2 serves" in server.log, WITHIN_S)
    os.kill(watcher_pid(server), signal.SIGKILL)
    eventually(lambda: server.log.count(f"watching {project}") == 2, WITHIN_S)
    save(project, APP.replace("hello", "third"))
    eventually(lambda: says(server) == "third", WITHIN_S)


def test_killed_watcher_is_replaced(develop: Develop, project: Path) -> None:
    """The server does not mind, and sees changes again."""
    server = develop()
    before = watcher_pid(server)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: "the file watcher was killed by SIGKILL; another starts in 1 s" in server.log, WITHIN_S)
    eventually(lambda: server.log.count(f"watching {project}") == 2, WITHIN_S)
    assert watcher_pid(server) not in (0, before)
    save(project, APP.replace("hello", "new"))
    eventually(lambda: says(server) == "new", WITHIN_S)


def test_upgraded_parent_has_a_watcher_of_its_own(develop: Develop, project: Path) -> None:
    """The old one leaves with the old program, and its exit is nobody's error."""
    server = develop()
    before = watcher_pid(server)
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.log.count(f"watching {project}") == 2, WITHIN_S)
    eventually(lambda: not is_alive(before), WITHIN_S)
    save(project, APP.replace("hello", "new"))
    eventually(lambda: says(server) == "new", WITHIN_S)
    assert "file watcher" not in server.log
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGSTOP])
def test_stop_leaves_no_watcher(develop: Develop, number: signal.Signals) -> None:
    """The parent goes last; a watcher that is stopped by a debugger does not hold it up."""
    server = develop()
    os.kill(watcher_pid(server), number)
    assert server.stop() == 0
    assert server.everyone() == []
    assert "the file watcher" not in server.log


def test_killed_parent_takes_the_watcher_along(develop: Develop) -> None:
    """Nothing watches for nobody."""
    server = develop()
    server.signal(signal.SIGKILL)
    server.wait()
    eventually(lambda: server.everyone() == [], WITHIN_S)


def test_log_of_the_watcher_is_reopened(develop: Develop, project: Path, tmp_path: Path) -> None:
    """SIGUSR1: its lines follow the parent's."""
    path = tmp_path / "server.log"
    server = develop("--log-file", str(path), log=path)
    path.rename(tmp_path / "old.log")
    server.signal(signal.SIGUSR1)
    eventually(lambda: path.exists() and "log file reopened" in path.read_text(), WITHIN_S)
    logs = (path, tmp_path / "old.log")

    def lines() -> int:
        return sum(each.read_text().count("app.py changed: reloading") for each in logs)

    def next_save_is_in_the_new_file() -> bool:  # the watcher may see a first one before it hears of the file
        before = lines()
        save(project, APP + "\n" * (before + 1))
        eventually(lambda: lines() > before, WITHIN_S)
        return "app.py changed: reloading" in path.read_text()

    eventually(next_save_is_in_the_new_file, WITHIN_S)


@pytest.mark.root
def test_watcher_is_the_user_that_app_code_runs_as(
    develop: Develop, project: Path, nobody_python: dict[str, Any]
) -> None:
    """It sees what the app sees, no more; a directory that it may not read (a database's) hinders nobody."""
    for path in (project, *project.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp") and path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | 0o055)
    for name, mode in (("a", 0o755), ("pgdata", 0o700), ("z", 0o755)):
        (project / name).mkdir(mode=mode)
    server = develop("--user", "nobody", **nobody_python)
    found = ids(watcher_pid(server))
    assert found["Uid"] == [NOBODY] * 4 and found["Gid"] == [NOBODY] * 4
    for name in ("a", "z"):
        (project / name / "view.py").write_text("")
        eventually(lambda place=f"{name}/view.py": f"{place} changed: reloading" in server.log, WITHIN_S)  # type: ignore[misc]  # bound now


def test_server_without_reload_has_no_watcher(serve: Serve, project: Path) -> None:
    """Not even a process that does nothing."""
    server = serve("app.py:handle", "--workers", "1", cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert sorted(children(server.pid)) == sorted([*server.ready_pids(), server.mold_pid()])


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_first_boot_that_fails_waits_for_a_change(serve: Serve, project: Path, preload: str) -> None:
    """The mistake is shown once; mended, the app is served."""
    save(project, "raise RuntimeError('a bad day')\n")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    arguments = ("--reload", "--workers", "1", "--preload", preload)
    server = serve("app.py:handle", *arguments, cwd=project, env=environ, ready=False)
    eventually(lambda: "waiting for a change" in server.log and f"watching {project}" in server.log, WITHIN_S)
    assert server.log.count("RuntimeError: a bad day\n") == 1
    save(project, APP)
    server.wait_ready()
    with server.connect() as client:
        assert until_eof(client) == b"hello"
    assert server.stop() == 0
    assert server.everyone() == []


def test_wishes_that_come_behind_the_stop_do_not_hold_it_up(serve: Serve, project: Path) -> None:
    """Nothing is there to stop but the watcher, which is reaped last; what was asked for meanwhile is nobody's."""
    save(project, "raise RuntimeError('a bad day')\n")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    server = serve("app.py:handle", "--reload", "--workers", "1", cwd=project, env=environ, ready=False)
    eventually(lambda: "waiting for a change" in server.log and f"watching {project}" in server.log, WITHIN_S)
    eventually(lambda: [command_line(pid) for pid in children(server.pid)] == ["hybrid: watcher"], WITHIN_S)
    # All three are heard at once, in the order of their numbers or the other way round: one behind the stop.
    for number in (signal.SIGSTOP, signal.SIGUSR1, signal.SIGTERM, signal.SIGTTIN, signal.SIGCONT):
        server.signal(number)
    assert server.wait() == 0
    assert server.everyone() == []
