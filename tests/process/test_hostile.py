"""What a worker of another user, a closed stderr or a full pipe must not do to the parent."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

import hybrid
from hybrid.ground.errors import LoadError
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.start import settings_memfd
from tests.process.conftest import Serve
from tests.support.eventually import eventually
from tests.support.server import children

ECHO = "tests.apps.embedded:echo"


def test_scoreboard_cannot_be_shrunk() -> None:
    """Whoever maps a memfd that is cut under him is sent SIGBUS: the kernel refuses to cut this one."""
    board = Scoreboard.create(4, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(board.fd, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(board.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    board.close()


def test_settings_cannot_be_changed() -> None:
    """What the next mold reads is what the parent was told."""
    fd = settings_memfd(Settings())
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
    finally:
        os.close(fd)


def _close_standard_streams() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


def test_pool_heals_with_every_standard_stream_closed(serve: Serve) -> None:
    """No descriptor of ours gets the number 2, into which log lines would go."""
    server = serve(ECHO, "--workers", "1", preexec_fn=_close_standard_streams)
    mold, (worker,) = server.mold_pid(), server.ready_pids()
    os.kill(mold, signal.SIGKILL)
    eventually(lambda: mold not in children(server.pid))
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: worker not in server.ready_pids() and len(server.ready_pids()) == 1)
    assert server.echoes()
    assert os.readlink(f"/proc/{server.pid}/fd/2") == "/dev/null"
    assert server.stop() == 0


def test_full_ready_pipe_does_not_hold_up_the_pool(serve: Serve) -> None:
    """Nobody reads what --ready-fd says: a warning, and the server serves and stops."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    server = serve(ECHO, "--workers", "1", ready=False, ready_pipe=(read, write))
    eventually(lambda: "nobody was told" in server.log)
    assert server.stop() == 0


def test_signal_in_the_last_moment_is_not_the_exit_status(serve: Serve) -> None:
    """SIGTERM again and again until the parent is gone: it was asked to stop, and says 0."""
    server = serve(ECHO, "--workers", "1")
    while server.process.poll() is None:
        server.signal(signal.SIGTERM)
    assert server.process.returncode == 0


async def test_long_failure_is_told_whole_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of any length reaches the program as the right error."""
    (tmp_path / "verbose_app.py").write_text('raise ValueError("\\U0001F600" * 70000)\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LoadError, match="verbose_app"):
        async with hybrid.serve("verbose_app:handle", bind="127.0.0.1:0", workers=1, log_level="critical"):
            raise AssertionError("it came up")


def test_server_without_descriptors_does_not_pretend(serve: Serve) -> None:
    """A limit that leaves no room for one connection is a boot failure that names it."""
    import resource

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))

    server = serve(ECHO, "--workers", "1", "--boot-attempts", "1", ready=False, preexec_fn=few)
    assert server.wait() in (1, 2, 3), server.log
    assert "RLIMIT_NOFILE" in server.log or "Too many open files" in server.log
