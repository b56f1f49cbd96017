"""``hybrid.run(...)``: a script's own door."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybrid
from hybrid import UsageError
from hybrid.shared.keywords import in_keywords
from tests.support.eventually import eventually
from tests.support.server import ROOT, children, exactly, session_members

SCRIPT = """
import contextlib
import hybrid

async def echo(conn):
    async for chunk in conn:
        await conn.send(chunk)

@contextlib.asynccontextmanager
async def lifespan(worker):
    print("lifespan of worker", worker.slot)
    yield

if __name__ == "__main__":
    hybrid.run(echo, bind="127.0.0.1:0", workers=2, graceful_timeout=5, lifespan=lifespan)
    print("returned")
"""


class Script:
    """A program that calls ``hybrid.run``, in a session of its own."""

    def __init__(self, path: Path, log: Path) -> None:
        self.log_path = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(path)],
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=path.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def connect(self) -> socket.socket:
        """Return a connected, blocking socket; ``run`` says its address in the log alone."""
        found = re.search(r" on 127\.0\.0\.1:(\d+)\n", self.log)
        assert found, self.log
        return socket.create_connection(("127.0.0.1", int(found[1])), 20)

    def pool(self) -> int:
        """Return the pid of the parent that the script started, which is its session too."""
        (parent,) = eventually(lambda: children(self.process.pid))
        return parent

    def end(self) -> None:
        sessions = [self.process.pid, *(child for child in children(self.process.pid))]
        for session in sessions:
            for pid in session_members(session):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:  # it was leaving
                    pass
        self.process.wait(20)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    path = tmp_path / "service.py"
    path.write_text(SCRIPT)
    running = Script(path, tmp_path / "log")
    try:
        eventually(lambda: "ready in" in running.log)
        yield running
    finally:
        running.end()


def test_function_of_a_script_is_served_until_sigterm(script: Script) -> None:
    """``run(echo, lifespan=…)`` works from ``__main__``, passes SIGTERM on, and returns."""
    with script.connect() as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
    pool = script.pool()
    script.process.terminate()
    assert script.process.wait(20) == 0, script.log
    assert "returned" in script.log
    assert "2 workers (workers=2), " in script.log
    assert "lifespan of worker 0\n" in script.log and "lifespan of worker 1\n" in script.log
    assert not session_members(pool)


def test_pool_ends_with_the_program_that_runs_it(script: Script) -> None:
    """SIGKILL of the script is the end of the life line: the pool drains and leaves."""
    pool = script.pool()
    assert len(session_members(pool)) == 4
    script.process.kill()
    script.process.wait(20)
    eventually(lambda: not session_members(pool))
    assert "the program that started this server is gone" in script.log


def test_ctrl_c_reaches_the_pool_once(script: Script) -> None:
    """The terminal's SIGINT goes to the script's group only, and the script passes it on: a drain, not a cancel."""
    os.killpg(script.process.pid, signal.SIGINT)
    assert script.process.wait(20) == 0, script.log
    assert "cancelling" not in script.log


def test_killed_parent_is_an_error(script: Script) -> None:
    """``run`` does not return as if all were well."""
    os.kill(script.pool(), signal.SIGKILL)
    assert script.process.wait(20) == 1
    assert "HybridError: the pool ended by itself: the parent was killed by SIGKILL" in script.log


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import hybrid\nasync def h(conn): ...\nhybrid.run(h, bind='127.0.0.1:0', workers=1)", "__main__"),
        ("import hybrid\nif __name__ == '__main__':\n    hybrid.run(lambda conn: None, workers=1)", "lambda"),
        ("import hybrid\nif __name__ == '__main__':\n    hybrid.run('gone:h', bind='127.0.0.1:0', workers=1)", "gone"),
        ("import hybrid\nif __name__ == '__main__':\n    hybrid.run('a:b', wrokers=1)", "wrokers"),
    ],
)
def test_wrong_use_is_an_exception_with_the_remedy(tmp_path: Path, body: str, says: str) -> None:
    """A script that cannot be served hears why, in its own traceback, and no process stays."""
    path = tmp_path / "service.py"
    path.write_text(body + "\n")
    running = Script(path, tmp_path / "log")
    try:
        assert running.process.wait(20) == 1
        assert says in running.log.splitlines()[-1], running.log
        assert not session_members(running.process.pid)
    finally:
        running.end()


# ── what is wrong at once ────────────────────────────────────────────────────────────────────────────────────


async def called(conn: object) -> None: ...


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "cannot serve None: it is None, which cannot be called. "),
        (7, "cannot serve 7: it is an int, which cannot be called. "),
        (True, "cannot serve True: it is a bool, which cannot be called. "),
        ([called], "cannot serve [<function called"),
    ],
)
def test_what_is_no_handler_is_refused_by_name(given: object, says: str, workers: int) -> None:
    """Before anything is started, and though some module has that very object under a name."""
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        hybrid.run(given, bind="127.0.0.1:0", workers=workers)
    assert "'app:handle'" in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_handler_that_was_called_is_refused(workers: int) -> None:
    """``run(handle())``: what to leave out. No warning that it was never awaited."""
    with pytest.raises(UsageError, match=r"called\(\): it was called already. Leave out the parentheses: called\."):
        hybrid.run(called(None), bind="127.0.0.1:0", workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
async def test_run_inside_a_loop_is_refused(workers: int) -> None:
    """It would hold the loop up for ever; the error says what to write instead."""
    with pytest.raises(UsageError, match=r"async with hybrid\.serve"):
        hybrid.run(called, bind="127.0.0.1:0", workers=workers)


@pytest.mark.parametrize("name", ["user", "group"])
def test_run_without_a_pool_changes_no_identity(name: str) -> None:
    """What it cannot do is refused, not left out."""
    with pytest.raises(UsageError, match=f"cannot use {name}= with workers=0"):
        hybrid.run(called, bind="127.0.0.1:0", workers=0, **{name: "0"})


@pytest.mark.parametrize("workers", [0, 1])
def test_error_speaks_of_keywords(workers: int) -> None:
    """The caller has no command line: no word of ``--bind``."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(hybrid.ListenError, match=r"or change bind=\.") as caught:
            hybrid.run(called, bind=f"127.0.0.1:{port}", workers=workers, log_level="critical")
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "keywords"),
    [
        ("Stop the other server or change --bind.", "Stop the other server or change bind=."),
        ("cannot use --bind 'x': no port.", "cannot use bind='x': no port."),
        ("cannot write --pid /run/x: taken", "cannot write pid=/run/x: taken"),
        (
            "--user and --group need a pool. Use --workers 1, or su.",
            "user= and group= need a pool. Use workers=1, or su.",
        ),
        ("add --interface protocol; or --factory.", "add interface=protocol; or factory=True."),
        ("--interface says so", "interface= says so"),
        ("raised no such option: --nobody-knows -- it", "raised no such option: --nobody-knows -- it"),
    ],
)
def test_flags_become_keywords(flags: str, keywords: str) -> None:
    """Every option is named as the caller wrote it."""
    assert in_keywords(flags) == keywords
