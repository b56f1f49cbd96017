"""``hybrid.run(...)``: a script's own door."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.server import ROOT, children, exactly, session_members

SCRIPT = """
import socket, sys
import hybrid

async def echo(conn):
    async for chunk in conn:
        await conn.send(chunk)

if __name__ == "__main__":
    hybrid.run(echo, bind="127.0.0.1:{port}", workers=2, graceful_timeout=5)
    print("returned")
"""


@pytest.fixture
def free_port() -> int:
    """Return a port that was free a moment ago; run() reports its own only in the log."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


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

    def pool(self) -> int:
        """Return the pid of the parent that the script started, which is its session too."""
        (parent,) = eventually(lambda: children(self.process.pid), 10)
        return parent

    def end(self) -> None:
        sessions = [self.process.pid, *(child for child in children(self.process.pid))]
        for session in sessions:
            for pid in session_members(session):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def script(tmp_path: Path, free_port: int) -> Iterator[Script]:
    path = tmp_path / "service.py"
    path.write_text(SCRIPT.format(port=free_port))
    running = Script(path, tmp_path / "log")
    try:
        eventually(lambda: "ready in" in running.log, 20)
        yield running
    finally:
        running.end()


def test_function_of_a_script_is_served_until_sigterm(script: Script, free_port: int) -> None:
    """``run(echo)`` works from ``__main__``, passes SIGTERM on, and returns."""
    import socket

    with socket.create_connection(("127.0.0.1", free_port), 5) as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
    pool = script.pool()
    script.process.terminate()
    assert script.process.wait(10) == 0, script.log
    assert "returned" in script.log
    assert not session_members(pool)


def test_pool_ends_with_the_program_that_runs_it(script: Script) -> None:
    """SIGKILL of the script is the end of the life line: the pool drains and leaves."""
    pool = script.pool()
    assert len(session_members(pool)) == 4
    script.process.kill()
    script.process.wait(10)
    eventually(lambda: not session_members(pool), 10)
    assert "the program that started this server is gone" in script.log


def test_ctrl_c_reaches_the_pool_once(script: Script) -> None:
    """The terminal's SIGINT goes to the script's group only, and the script passes it on: a drain, not a cancel."""
    os.killpg(script.process.pid, signal.SIGINT)
    assert script.process.wait(10) == 0, script.log
    assert "cancelling" not in script.log


def test_killed_parent_is_an_error(script: Script) -> None:
    """``run`` does not return as if all were well."""
    os.kill(script.pool(), signal.SIGKILL)
    assert script.process.wait(15) == 1
    assert "HybridError: the pool ended by itself with code -9" in script.log


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
