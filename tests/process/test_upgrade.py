"""A new parent in the old one's place, with real processes."""

from __future__ import annotations

import os
import pwd
import re
import signal
from pathlib import Path

import pytest

from hybrid.shared.procfs import open_descriptors
from tests.process.conftest import Serve
from tests.support.clients import ask
from tests.support.eventually import eventually
from tests.support.http_clients import Crowd
from tests.support.reloads import Site, reload, serves_load, wait_alone
from tests.support.server import ROOT, Server, is_alive, kept_descriptors
from tests.support.sources import copy_package
from tests.support.variations import long

KNOBS = "tests.apps.knobs:knobs"
HTTP = "tests.apps.http_knobs:app"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to be changed under a server that runs from it."""
    root = tmp_path / "copy"
    root.mkdir()
    copy_package(root)
    (root / "tests").symlink_to(ROOT / "tests")
    return root


def change(file: Path, old: str, new: str) -> None:
    """Replace a text in a file of the copy, as an installer does: another file in its place."""
    text = file.read_text()
    assert old in text
    fresh = file.with_suffix(".fresh")
    fresh.write_text(text.replace(old, new))
    fresh.rename(file)


def upgrade(server: Server, times: int = 1) -> None:
    """Ask for an upgrade and wait until it is through."""
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.log.count("] info    upgraded: ") == times, 20)


@pytest.mark.long
@pytest.mark.parametrize("accept", ["shared", "passing", "reuseport", "locked=robust"])
def test_nothing_is_lost(serve: Serve, accept: str) -> None:
    """The same pid, the same workers, the same descriptors; then the pool is watched and mended as ever."""
    server = serve(HTTP, "--workers", "2", "--accept", accept)
    workers, mold = server.ready_pids(), server.mold_pid()
    with Crowd(server, is_over_when_refused=False).busy(4) as people:
        people.wait_more(50)
        upgrade(server)
        people.wait_more(50)
        before = kept_descriptors(server.pid)
        upgrade(server, 2)
        people.wait_more(50)
        assert (server.ready_pids(), server.mold_pid()) == (workers, mold)
        eventually(lambda: kept_descriptors(server.pid) <= before)
        os.kill(workers[1], signal.SIGKILL)
        eventually(lambda: len(pids := server.ready_pids()) == 2 and workers[1] not in pids, 20)
        people.wait_more(50)
    assert [lost for lost in people.lost if lost[0] != workers[1]] == []
    assert people.refused == 0
    assert server.stop() == 0


def test_new_version_takes_over_and_reloads(serve: Serve, copy: Path) -> None:
    """What is installed now is what runs, first as the parent, after a reload everywhere."""
    server = serve(KNOBS, "--workers", "1", cwd=copy)
    change(copy / "hybrid" / "__init__.py", "__version__ = ", '__version__ = "9.9" or ')
    upgrade(server)
    assert re.search(r"upgraded: hybrid 9.9 in the place of \d", server.log)
    reload(server)
    wait_alone(server, 2, 1)
    assert server.stop() == 0


def test_signals_at_once_are_an_upgrade_and_then_a_reload(serve: Serve, copy: Path) -> None:
    """As two commands in a row send them: the new version's workers get the new version's parent."""
    server = serve(KNOBS, "--workers", "1", cwd=copy)
    change(copy / "hybrid" / "__init__.py", "__version__ = ", '__version__ = "9.9" or ')
    server.signal(signal.SIGUSR2)
    server.signal(signal.SIGHUP)
    eventually(lambda: "] info    reloaded: " in server.log, 20)
    assert server.log.index("upgraded: hybrid 9.9") < server.log.index("SIGHUP: reloading, as generation 2")
    wait_alone(server, 2, 1)
    assert server.stop() == 0


NOVEL = """\
@dataclass(frozen=True, slots=True)
class Novel:
    what: int = option(7, "New.", flag="--what-is-new")


@dataclass(frozen=True, slots=True)
class Settings:"""


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (
            "shared/health_settings.py",
            "    kill_s: ",
            "    novel: int = option(7, 'New.', flag='--novel')\n    kill_s: ",
        ),
        (
            "shared/settings.py",
            "    launch: Launch = ",
            "    novel: Novel = titled(Novel, 'New')\n    launch: Launch = ",
        ),
    ],
    ids=["option", "group"],
)
@pytest.mark.long
def test_version_with_other_options(serve: Serve, copy: Path, file: str, old: str, new: str) -> None:
    """The parent cannot reload into it and says what to do first; done that, it can."""
    server = serve(KNOBS, "--workers", "1", cwd=copy)
    change(copy / "hybrid" / "shared" / "settings.py", "@dataclass(frozen=True, slots=True)\nclass Settings:", NOVEL)
    change(copy / "hybrid" / file, old, new)
    reload(server)
    assert "reload failed: the settings " in server.log
    assert "have different options. Upgrade the running server first (SIGUSR2)" in server.log
    upgrade(server)
    os.kill(server.mold_pid(), signal.SIGKILL)  # the next one is the new version's, with the settings that there are
    eventually(lambda: "the mold was killed by SIGKILL" in server.log)
    server.signal(signal.SIGTTIN)
    server.wait_workers(2)
    reload(server)
    wait_alone(server, 3, 1)
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        long("parent/main.py", "class Parent:", "class Parent(", "the new program exited with code 1"),
        ("parent/handover.py", "FORMAT = 1", "FORMAT = 2", "its format is 1, and this version takes 2"),
        long("shared/scoreboard_cells.py", "VERSION = ", "VERSION = 100 + ", "is no scoreboard of this version"),
        long("shared/privileges.py", "return pwd.getpwnam(user)", "raise KeyError", "no such user"),
    ],
)
def test_program_that_cannot_take_over_changes_nothing(
    serve: Serve, copy: Path, file: str, old: str, new: str, message: str
) -> None:
    """It is tried in a child, on the real state, before anything happens."""
    server = serve(KNOBS, "--workers", "1", "--user", pwd.getpwuid(os.geteuid()).pw_name, cwd=copy)
    pids = server.everyone()
    change(copy / "hybrid" / file, old, new)
    server.signal(signal.SIGUSR2)
    eventually(lambda: "upgrade failed: " in server.log, 20)
    assert message in server.log
    assert server.everyone() == pids
    with server.connect() as client:
        assert ask(client, "echo alive") == "alive"
    assert server.stop() == 0


@pytest.mark.long
def test_program_that_hangs_when_it_is_tried(serve: Serve, copy: Path, tmp_path: Path) -> None:
    """It is waited for as long as for a boot; then another one can be tried."""
    server = serve(KNOBS, "--workers", "1", "--boot-timeout", "4", cwd=copy)
    pids = server.everyone()
    os.mkfifo(tmp_path / "gate")
    change(
        copy / "hybrid" / "parent" / "handover.py",
        "FORMAT = 1",
        f"FORMAT = len(open({str(tmp_path / 'gate')!r}).read())",
    )
    server.signal(signal.SIGUSR2)
    eventually(lambda: "upgrade failed: the new program was killed by SIGKILL" in server.log, 20)
    assert "the new program did not get ready within 4 s (--boot-timeout): SIGKILL" in server.log
    assert server.everyone() == pids
    change(copy / "hybrid" / "parent" / "handover.py", "FORMAT = ", "FORMAT = 1 or ")
    upgrade(server)
    assert server.stop() == 0


def test_interpreter_that_is_gone_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    """The exec fails in the child that tries."""
    import sys

    python = tmp_path / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(["/".join(ROOT.parts)[1:], *sys.path])}
    server = serve(KNOBS, "--workers", "1", python=str(python), env=env)
    python.unlink()
    server.signal(signal.SIGUSR2)
    eventually(lambda: "upgrade failed: " in server.log, 20)
    with server.connect() as client:
        assert ask(client, "echo alive") == "alive"


def test_signals_are_heard_through_it(serve: Serve) -> None:
    """A storm of wishes around the exec: each is heard before or after, and the last one stops the server."""
    server = serve(KNOBS, "--workers", "2")
    for _ in range(40):
        server.signal(signal.SIGUSR2)
        server.signal(signal.SIGUSR1)
        server.signal(signal.SIGTTIN)
        server.signal(signal.SIGTTOU)
    eventually(lambda: "] info    upgraded: " in server.log, 20)
    assert is_alive(server.pid)
    assert server.stop() == 0
    assert "stopped" in server.log


def test_worker_that_dies_during_the_exec_is_replaced(serve: Serve) -> None:
    """Nobody was there to see it; it is seen all the same."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    server.signal(signal.SIGUSR2)
    eventually(lambda: "upgrading: the new program takes over" in server.log, 20)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(pids := server.ready_pids()) == 2 and first not in pids, 20)
    assert second in server.ready_pids()


def test_pid_file_socket_file_and_log_are_kept(serve: Serve, tmp_path: Path) -> None:
    """And removed, or reopened, by the new program."""
    pid, sock, log = tmp_path / "pid", tmp_path / "sock", tmp_path / "server.log"
    server = serve(KNOBS, "--workers", "1", "--pid", str(pid), "--bind", f"unix:{sock}", "--log-file", str(log))
    server.signal(signal.SIGUSR2)
    eventually(lambda: "upgraded: " in log.read_text(), 20)
    assert int(pid.read_text()) == server.pid and sock.is_socket()
    with server.connect(f"unix:{sock}") as client:
        assert ask(client, "echo alive") == "alive"
    log.rename(tmp_path / "old.log")
    server.signal(signal.SIGUSR1)
    eventually(lambda: log.exists() and "log file reopened" in log.read_text())
    assert server.stop() == 0
    assert not pid.exists() and not sock.exists()


@pytest.mark.long
def test_upgrade_after_reloads(serve: Serve, tmp_path: Path) -> None:
    """Generations go on where they were."""
    site = Site(tmp_path)
    server = serve(site.target, "--workers", "2")
    site.write(2)
    reload(server)
    upgrade(server)
    site.write(3)
    reload(server)
    assert serves_load(server, 3)
    wait_alone(server, 3, 2)
    upgrade(server, 2)
    assert ["hybrid-settings" in path for _fd, path in open_descriptors(server.pid)].count(True) == 1
    assert server.stop() == 0
