"""That writing a line of the access log never waits, never raises, and that the error log tells what was lost."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.connection.access_line import Entry
from hybrid.connection.access_log import SILENCE_S, AccessLog, access_log
from hybrid.shared.access_settings import AccessSettings
from hybrid.shared.log_line import open_log_file

TAKES_NO_MORE = (
    "access log: it takes no more, and lines are lost until it does. Let its reader go on, or make room on its disk."
)


class Clock:
    """A wall clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1795417760.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def say_status(entry: Entry) -> bytes:
    return b"%d\n" % entry.status


def say_times(entry: Entry) -> bytes:
    return f"{entry.began_at:.3f} {entry.duration_s:.3f}\n".encode()


def entry(status: int = 200, started: float = 0.0, duration_s: float = -1.0) -> Entry:
    return Entry(None, None, "http", status, started=started, duration_s=duration_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Yield what the error log says, as it comes."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    listener, logger = Listener(), logging.getLogger("hybrid.error")
    logger.addHandler(listener)
    yield messages
    logger.removeHandler(listener)


# ── where lines go ───────────────────────────────────────────────────────────────────────────────────────────


def test_line_is_one_write(tmp_path: Path) -> None:
    """Two workers with the file open write whole lines, in any order."""
    path = tmp_path / "log"
    fds = [open_log_file(str(path)) for _ in range(2)]
    logs = [AccessLog(lambda entry: b"%d%s\n" % (entry.status, b"x" * 5000), fd) for fd in fds]
    threads = [
        threading.Thread(target=lambda log=log, status=status: [log.wrote(entry(status)) for _ in range(200)])
        for status, log in enumerate(logs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_bytes().splitlines()
    assert sorted(lines) == sorted([b"0" + b"x" * 5000, b"1" + b"x" * 5000] * 200)
    for log, fd in zip(logs, fds, strict=True):
        log.close()
        os.close(fd)


def test_line_goes_where_the_number_points_to_now(tmp_path: Path) -> None:
    """Rotation: the number is pointed to another file. Of the same kind at once; of another one after ``follow``."""
    read, fd = os.pipe()
    first, second = (open_log_file(str(tmp_path / name)) for name in ("first", "second"))
    log = AccessLog(say_status, fd, clock=Clock())
    log.wrote(entry(1))
    os.dup2(first, fd)
    log.follow()
    log.wrote(entry(2))
    os.dup2(second, fd)
    log.wrote(entry(3))
    said = (os.read(read, 9), (tmp_path / "first").read_text(), (tmp_path / "second").read_text())
    assert said == (b"1\n", "2\n", "3\n")
    log.close()
    for each in (read, fd, first, second):
        os.close(each)


def test_pointing_elsewhere_is_noticed_within_a_second(tmp_path: Path, clock: Clock) -> None:
    """Also when nobody says so: an application may redirect its stdout."""
    read, fd = os.pipe()
    log = AccessLog(say_status, fd, clock=clock)
    log.wrote(entry(1))
    new = open_log_file(str(tmp_path / "new"))
    os.dup2(new, fd)
    clock.now += 1
    log.wrote(entry(2))
    assert (os.read(read, 9), (tmp_path / "new").read_text()) == (b"1\n", "2\n")
    log.close()
    for each in (read, fd, new):
        os.close(each)


def test_closed_log_writes_nothing(tmp_path: Path, told: list[str]) -> None:
    """An application may outlive its server; the number may be another file's by then."""
    fd = open_log_file(str(tmp_path / "log"))
    log = AccessLog(say_status, fd)
    log.wrote(entry(1))
    log.close()
    log.wrote(entry(2))
    log.close()
    assert (tmp_path / "log").read_text() == "1\n"
    assert told == []
    os.close(fd)


def test_nobody_asked_for_it() -> None:
    """Then there is none, and nothing to pay for."""
    assert access_log(AccessSettings(), 1, 0) is None


def test_settings_make_it(tmp_path: Path) -> None:
    """Format, file and slot are the settings' and the worker's."""
    fd = open_log_file(str(tmp_path / "log"))
    log = access_log(AccessSettings(enabled=True, format="%({worker}x)s %(s)s %({etag}o)s"), fd, 5)
    assert log is not None and log.wants_response_headers
    log.wrote(Entry(None, None, "http", 200, response_headers=[(b"etag", b"e")]))
    assert (tmp_path / "log").read_text() == "5 200 e\n"
    log.close()
    os.close(fd)


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (entry(started=100.0), b"1795417758.500 1.500\n"),
        (entry(started=100.0, duration_s=0.25), b"1795417759.750 0.250\n"),
        (entry(), b"1795417760.000 -1.000\n"),
    ],
    ids=["measured", "given", "not known"],
)
def test_times_are_those_of_the_beginning(of: Entry, said: bytes, clock: Clock) -> None:
    """The stamp is when the request began, as Apache's; a duration that nobody gave runs until now."""
    read, fd = os.pipe()
    log = AccessLog(say_times, fd, clock=clock, timer=lambda: 101.5)
    log.wrote(of)
    assert os.read(read, 99) == said
    log.close()
    os.close(read)
    os.close(fd)


# ── when it takes no more ────────────────────────────────────────────────────────────────────────────────────


def fill(fd: int) -> None:
    """Leave no room in a pipe, whose other users find it as blocking as it was."""
    own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    for size in (4096, 1):
        try:
            while True:
                os.write(own, b"x" * size)
        except BlockingIOError:
            pass
    os.close(own)


def empty(fd: int) -> bytes:
    """Return everything that is in a pipe, without the filling."""
    os.set_blocking(fd, False)
    data = b""
    try:
        while more := os.read(fd, 65536):
            data += more
    except BlockingIOError:
        pass
    return data.lstrip(b"x")


def test_full_pipe_loses_lines_and_holds_up_nobody(clock: Clock, told: list[str]) -> None:
    """A reader that hangs costs lines, never the loop. The error log says so once, and later how many."""
    read, fd = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 4096)
    log = AccessLog(say_status, fd, clock=clock)
    log.wrote(entry(1))
    fill(fd)
    assert os.get_blocking(fd), "the flag is everybody's: untouched"
    for status in range(2, 100):
        log.wrote(entry(status))
    assert told == [TAKES_NO_MORE] and log.dropped == 98
    assert empty(read).startswith(b"1\n")
    log.wrote(entry(100))
    assert told == [TAKES_NO_MORE], "not for every gap: once a minute"
    clock.now += SILENCE_S
    log.wrote(entry(101))
    assert told == [TAKES_NO_MORE, "access log: 98 lines lost before this moment: it took no more"]
    assert empty(read) == b"100\n101\n" and log.dropped == 0
    log.close()
    os.close(read)
    os.close(fd)


def test_gaps_in_one_minute_are_told_of_once(clock: Clock, told: list[str]) -> None:
    """A reader that is always a little late does not fill the error log; nothing is forgotten at the end."""
    read, fd = os.pipe()
    log = AccessLog(say_status, fd, clock=clock)
    for _ in range(5):
        fill(fd)
        log.wrote(entry())
        empty(read)
        log.wrote(entry())
        clock.now += 1
    assert told == [TAKES_NO_MORE]
    log.close()
    assert told == [TAKES_NO_MORE, "access log: 5 lines lost: it took no more"]
    os.close(read)
    os.close(fd)


@pytest.mark.parametrize("fault", ["full disk", "no reader", "closed", "read-only"])
def test_error_fails_no_request(fault: str, told: list[str]) -> None:
    """ENOSPC, EPIPE, EBADF: a line is lost, and the next one is tried."""
    read, write = os.pipe()
    fd = os.dup(write)
    log = AccessLog(say_status, fd)
    if fault == "full disk":
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, fd)
        os.close(full)
    elif fault == "no reader":
        os.close(write)
        os.close(read)
    elif fault == "closed":
        os.close(fd)
    else:
        settings = os.open(__file__, os.O_RDONLY)
        os.dup2(settings, fd)
        os.close(settings)
    for status in range(3):
        log.wrote(entry(status))
    assert (log.dropped, told) == (3, [TAKES_NO_MORE])
    log.close()
    for each in {"no reader": (fd,), "closed": (read, write)}.get(fault, (read, write, fd)):
        os.close(each)


def test_line_cut_in_the_middle_is_finished_first(tmp_path: Path, clock: Clock) -> None:
    """A pipe may take half of a long line; what comes next does not stand in its middle."""
    read, fd = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 8192)
    log = AccessLog(lambda entry: b"%d" % entry.status * 10_000 + b"\n", fd, clock=clock)
    log.wrote(entry(1))
    log.wrote(entry(2))
    first = empty(read)
    assert 0 < len(first) < 10_000
    log.wrote(entry(3))
    said = first + empty(read)
    assert said.startswith(b"1" * 10_000 + b"\n3")
    log.close()
    os.close(read)
    os.close(fd)
