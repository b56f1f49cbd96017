"""That writing a line never waits, never raises, and tells what it lost. How a line looks: test_log_line.py."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import socket
import stat
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.log_line import LogWriter, Style, open_log_file
from tests.support.eventually import eventually
from tests.support.forked import NOBODY, forked

NOON = 1795417760.1234
"""2026-11-23 07:09:20.123 UTC."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Log:
    """A log to write to, and what arrived there."""

    def __init__(self, kind: str, tmp_path: Path) -> None:
        if kind == "file":
            self.fd = open_log_file(str(tmp_path / "log"))
            self.read_fd = os.open(tmp_path / "log", os.O_RDONLY)
        elif kind == "pipe":
            self.read_fd, self.fd = os.pipe()
        elif kind == "terminal":
            self.read_fd, self.fd = pty.openpty()
        else:
            ours, theirs = socket.socketpair()
            self.read_fd, self.fd = ours.detach(), theirs.detach()
        os.set_blocking(self.read_fd, False)

    def read(self) -> str:
        """Return what is there now."""
        data = b""
        try:
            while more := os.read(self.read_fd, 65536):
                data += more
        except BlockingIOError:
            pass
        return data.decode().replace("\r\n", "\n")  # a terminal's newlines

    def read_until(self, ending: str) -> str:
        """Return what arrives up to ``ending``: a terminal hands bytes over a little later."""
        found = [self.read()]

        def complete() -> bool:
            found.append(self.read())
            return "".join(found).endswith(ending)

        eventually(complete)
        return "".join(found)

    def close(self) -> None:
        for fd in (self.fd, self.read_fd):
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.fixture(params=["file", "pipe", "terminal", "socket"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log = Log(request.param, tmp_path)
    yield log
    log.close()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Log]:
    log = Log("pipe", tmp_path)
    yield log
    log.close()


def writer_to(fd: int, level: str = "info") -> LogWriter:
    return LogWriter(fd, Style.TEXT, level, "parent", clock=lambda: NOON)


def test_levels_below_the_least_are_not_written(log: Log) -> None:
    """--log-level decides; on every kind of log the lines arrive in order."""
    writer = writer_to(log.fd, "warning")
    writer.debug("one")
    writer.info("two")
    writer.warning("three")
    writer.error("four")
    writer.write("critical", "five", "detail")
    writer.close()
    assert log.read_until("detail\n") == (
        "2026-11-23 07:09:20.123 [parent] warning three\n"
        "2026-11-23 07:09:20.123 [parent] error   four\n"
        "2026-11-23 07:09:20.123 [parent] critical five\n"
        "    detail\n"
    )


def test_event_is_one_write(pipe: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detail and all go out in one system call, so that other processes' lines cannot come in between."""
    calls: list[bytes] = []
    real = os.write

    def count(fd: int, data: bytes) -> int:
        calls.append(data)
        return real(fd, data)

    monkeypatch.setattr(os, "write", count)
    writer = writer_to(pipe.fd)
    writer.error("it failed", "one\ntwo")
    monkeypatch.undo()
    writer.close()
    assert len(calls) == 1


def test_shared_log_keeps_its_blocking_flag(log: Log) -> None:
    """O_NONBLOCK belongs to the user's shell as well: it is never set on the log itself."""
    writer = writer_to(log.fd)
    writer.info("hello")
    assert os.get_blocking(log.fd) is True
    writer.close()
    assert os.get_blocking(log.fd) is True


def fill(fd: int) -> None:
    os.set_blocking(fd, False)
    try:
        while True:
            os.write(fd, b"x" * 4096)
    except BlockingIOError:
        pass
    try:
        while True:
            os.write(fd, b"x")
    except BlockingIOError:
        pass
    os.set_blocking(fd, True)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_full_log_is_not_waited_for_and_the_loss_is_reported(kind: str, tmp_path: Path) -> None:
    """A reader that hangs costs lines, not time; the first line after it tells how many."""
    log = Log(kind, tmp_path)
    writer = writer_to(log.fd)
    writer.info("before")
    fill(log.fd)
    writer.info("lost")
    writer.info("lost")
    assert writer.dropped == 2
    log.read()
    writer.info("after")
    assert writer.dropped == 0
    text = log.read()
    assert "warning 2 log lines lost before this one: the log took no more\n" in text
    assert text.endswith("info    after\n")
    writer.info("again")
    assert log.read() == "2026-11-23 07:09:20.123 [parent] info    again\n"
    writer.close()
    log.close()


def test_stopped_terminal_is_not_waited_for(tmp_path: Path) -> None:
    """Ctrl-S in the terminal costs lines, not the server."""
    log = Log("terminal", tmp_path)
    writer = writer_to(log.fd)
    termios.tcflow(log.fd, termios.TCOOFF)
    writer.info("lost")
    assert writer.dropped == 1
    termios.tcflow(log.fd, termios.TCOON)
    writer.info("after")
    assert "1 log line lost before this one" in log.read_until("after\n")
    writer.close()
    log.close()


def test_line_cut_in_the_middle_is_finished_first(pipe: Log) -> None:
    """A long event that only half fits is completed before the next one: no half lines stay in the log."""
    fcntl.fcntl(pipe.fd, fcntl.F_SETPIPE_SZ, 4096)
    writer = writer_to(pipe.fd)
    writer.error("long", "d" * 5000)
    writer.info("lost")  # the pipe is still full
    assert writer.dropped == 1
    text = pipe.read()
    writer.info("after")
    text += pipe.read()
    lines = text.split("\n")
    assert lines[1] == "    " + "d" * 5000
    assert "1 log line lost" in lines[2]
    assert lines[3].endswith("info    after")
    writer.close()


@pytest.mark.root
@needs_root
def test_another_users_pipe_is_not_waited_for_either(tmp_path: Path) -> None:
    """After a change of user the pipe cannot be opened again; lines arrive, and a full pipe is passed by."""
    log = Log("pipe", tmp_path)

    def work() -> object:
        writer = writer_to(log.fd)
        writer.info("hello")
        writer.error("long", "d" * 10_000)
        said = log.read()
        fill(log.fd)
        writer.info("lost")
        assert writer._outlet._own_fd == -1
        return writer.dropped, said.count("\n"), len(said) > 10_000

    assert forked(work, uid=NOBODY) == str((1, 3, True))
    log.close()


def test_log_without_a_reader_is_survived(pipe: Log) -> None:
    """EPIPE raises nothing and kills nobody; the lines are counted as lost."""
    writer = writer_to(pipe.fd)
    os.close(pipe.read_fd)
    writer.info("to nobody")
    assert writer.dropped == 1
    writer.close()


def test_full_disk_is_survived() -> None:
    """ENOSPC raises nothing; the lines are counted as lost."""
    fd = os.open("/dev/full", os.O_WRONLY)
    writer = writer_to(fd)
    writer.info("no room")
    writer.info("no room")
    assert writer.dropped == 2
    writer.close()
    os.close(fd)


def test_half_a_line_on_a_full_disk_is_finished_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes part of a line and then has room again leaves whole lines."""
    log = Log("file", tmp_path)
    real, room = os.write, [10]

    def short(fd: int, data: bytes) -> int:
        if not room:
            return real(fd, data)
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "full")
        taken, room[0] = real(fd, data[: room[0]]), 0
        return taken

    monkeypatch.setattr(os, "write", short)
    writer = writer_to(log.fd)
    writer.info("first")
    writer.info("lost")
    room.clear()
    writer.info("third")
    monkeypatch.undo()
    lines = log.read().splitlines()
    assert [each.rpartition("  ")[2] for each in (lines[0], lines[2])] == ["first", "third"]
    assert "1 log line lost" in lines[1]
    writer.close()
    log.close()


def test_closed_log_is_survived_and_let_go(pipe: Log) -> None:
    """When the app closes stderr nothing raises, and the pipe's reader sees its end: nothing holds it open."""
    writer = writer_to(pipe.fd)
    writer.info("before")
    os.close(pipe.fd)
    writer.info("after")
    assert writer.dropped == 1
    assert pipe.read().endswith("before\n")
    assert os.read(pipe.read_fd, 1) == b""  # end of file, not EAGAIN


def test_log_pointed_elsewhere_is_followed(log: Log, tmp_path: Path) -> None:
    """A dup2 onto the number by anybody, of any kind of file, takes effect with the next line."""
    writer = writer_to(log.fd)
    writer.info("old")
    log.read_until("old\n")
    new = Log("pipe", tmp_path)
    os.dup2(new.fd, log.fd)
    writer.info("new")
    assert new.read().endswith("new\n")
    writer.close()
    new.close()


def test_client_that_is_given_the_number_gets_no_line(log: Log, tmp_path: Path) -> None:
    """The app has closed stderr, and the next connection has its number: what was no such socket is none now."""
    writer = writer_to(log.fd)
    client = Log("socket", tmp_path)
    os.dup2(client.fd, log.fd)
    writer.info("not for you")
    assert writer.dropped == 1 and client.read() == ""
    new = Log("pipe", tmp_path)
    os.dup2(new.fd, log.fd)
    writer.info("new")
    assert "1 log line lost" in new.read()
    writer.close()
    for each in (client, new):
        each.close()


def test_reopened_log_keeps_its_number(tmp_path: Path) -> None:
    """After a rotation lines go to the new file, through the same descriptor number, still close-on-exec."""
    path = tmp_path / "app.log"
    fd = open_log_file(str(path))
    writer = writer_to(fd)
    writer.info("old")
    path.rename(tmp_path / "app.log.1")
    fresh = open_log_file(str(path))
    writer.reopen(fresh)
    os.close(fresh)
    writer.info("new")
    assert (tmp_path / "app.log.1").read_text().endswith("old\n")
    assert path.read_text() == "2026-11-23 07:09:20.123 [parent] info    new\n"
    assert writer.fd == fd and not os.get_inheritable(fd)
    os.set_inheritable(fd, True)
    writer.reopen(fd)
    writer.reopen(os.dup(fd))
    assert os.get_inheritable(fd)
    os.close(fd)


def test_writer_closes_what_it_opened_and_nothing_else(log: Log) -> None:
    """The log belongs to the caller; no descriptor is left behind, none is inheritable."""
    before = set(os.listdir("/proc/self/fd"))
    writer = writer_to(log.fd)
    writer.info("hello")
    listing = os.listdir("/proc/self/fd")
    for name in set(listing) - before:
        try:
            assert not os.get_inheritable(int(name))
        except OSError:  # the listing's own
            pass
    writer.close()
    assert set(os.listdir("/proc/self/fd")) == before
    os.fstat(log.fd)


# ── the file ──


def test_log_file_is_appended_to_and_private(tmp_path: Path) -> None:
    """Created with 0640, close-on-exec, blocking; what is in it stays."""
    path = tmp_path / "app.log"
    before = os.umask(0)
    try:
        fd = open_log_file(str(path))
    finally:
        os.umask(before)
    os.write(fd, b"one\n")
    os.close(fd)
    fd = open_log_file(str(path))
    os.write(fd, b"two\n")
    assert path.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not os.get_inheritable(fd) and os.get_blocking(fd)
    os.close(fd)


@pytest.mark.parametrize("kind", ["missing directory", "directory", "pipe without a reader"])
def test_log_file_that_cannot_be_opened_is_a_usage_error(kind: str, tmp_path: Path) -> None:
    """The message names the file and the remedy, and a named pipe does not hold the start."""
    path = tmp_path / "no" / "app.log" if kind == "missing directory" else tmp_path / "app.log"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe without a reader":
        os.mkfifo(path)
    with pytest.raises(UsageError, match=f"cannot open the log file {path}: .*change --log-file"):
        open_log_file(str(path))
