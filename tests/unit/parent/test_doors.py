"""The doors of control: where they are, what is refused, and what a dead server has left."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.ground.errors import ListenError, UsageError
from hybrid.parent.doors import Doors
from hybrid.shared.control_settings import ControlSettings
from hybrid.shared.doors import DoorKind
from hybrid.shared.log_line import LogEvent, LogWriter, Style
from hybrid.shared.settings import Settings


class Hall:
    """Doors, and what was logged about them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[LogEvent] = []
        log = LogWriter(os.open(os.devnull, os.O_WRONLY), Style.make("text", "never", 2), "debug", "parent")
        log.also = self.said.append
        self._log = log
        self.doors = Doors(log, {"XDG_RUNTIME_DIR": str(directory)})

    def open(self, *control: str) -> Doors:
        """Open doors as the options say."""
        self.doors.open(replace(Settings(), control=ControlSettings(*control)))
        return self.doors

    def close(self) -> None:
        """Leave nothing."""
        self.doors.close()
        os.close(self._log.fd)


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    """Doors in a directory of the test's."""
    hall = Hall(tmp_path)
    yield hall
    hall.close()


def test_private_directory_is_made(hall: Hall) -> None:
    """0700, whatever the umask; the socket is 0600, and gone after the end."""
    before = os.umask(0o277)
    try:
        doors = hall.open()
    finally:
        os.umask(before)
    path = hall.directory / "hybrid" / f"{os.getpid()}.sock"
    assert doors.addresses(DoorKind.CONTROL) == (f"unix:{path}",)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not doors.are_others and doors.control is not None
    doors.close()
    assert not path.exists()


def test_what_dead_servers_left_is_swept(hall: Hall) -> None:
    """Sockets that nobody listens at, of pids that are gone; nothing else."""
    directory = hall.directory / "hybrid"
    directory.mkdir(mode=0o700)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    dead, alive, foreign = (directory / f"{number}.sock" for number in (pid, os.getppid(), pid + 1_000_000_000))
    for path in (dead, alive):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    (directory / "notes.txt").touch()
    with socket.socket(socket.AF_UNIX) as listener:  # of another pid namespace, say
        foreign = directory / f"{pid + 1}.sock"
        listener.bind(str(foreign))
        listener.listen()
        listener.setblocking(False)
        hall.open()
        with pytest.raises(BlockingIOError):  # to be connected to would have started a control process there
            listener.accept()
        assert [path.exists() for path in (dead, alive, foreign, directory / "notes.txt")] == [False, True, True, True]


def test_directory_that_is_not_private_is_passed_over(hall: Hall) -> None:
    """The next place is tried."""
    (hall.directory / "hybrid").mkdir()
    (hall.directory / "hybrid").chmod(0o755)
    doors = hall.open()
    assert all(address.startswith("unix:/tmp/hybrid-") for address in doors.addresses(DoorKind.CONTROL))


def test_without_any_place_there_is_a_word_and_no_socket(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be asked serves all the same."""
    monkeypatch.setattr("hybrid.parent.doors.directories", lambda environ, uid: (str(hall.directory / "no" / "where"),))
    assert hall.open().all == []
    (said,) = hall.said
    assert said.level == "warning" and "no control socket" in said.message and "--control off" in said.message


def test_path_that_is_too_long_is_no_end(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next place is tried."""
    long = hall.directory / ("x" * 120)
    long.mkdir(mode=0o700)
    monkeypatch.setattr(
        "hybrid.parent.doors.directories", lambda environ, uid: (str(long), str(hall.directory / "short"))
    )
    assert hall.open().addresses(DoorKind.CONTROL) == (f"unix:{hall.directory}/short/{os.getpid()}.sock",)


def test_path_that_was_asked_for_has_to_be_had(hall: Hall) -> None:
    """An error names the option."""
    with pytest.raises(ListenError, match=r"cannot listen for control on unix:.*Create it or change --control"):
        hall.open(str(hall.directory / "none" / "c.sock"))


def test_off_is_off(hall: Hall) -> None:
    """Nothing is made."""
    assert hall.open("off").all == []
    assert list(hall.directory.iterdir()) == []


def test_other_doors_are_binds(hall: Hall) -> None:
    """Each of its kind; a name may be several addresses."""
    doors = hall.open("off", "127.0.0.1:0", f"unix:{hall.directory}/agent.sock")
    assert [door.kind for door in doors.all] == [DoorKind.METRICS, DoorKind.AGENT]
    assert doors.are_others and doors.control is None
    doors.close()
    assert not (hall.directory / "agent.sock").exists()


@pytest.mark.parametrize(
    ("kind", "words"), [("metrics", "cannot listen for metrics on"), ("agent", "cannot listen for the agent on")]
)
def test_address_that_is_taken_is_an_error_in_the_options_words(hall: Hall, kind: str, words: str) -> None:
    """--bind was not what its reader has written."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises((ListenError, UsageError)) as error:
            hall.open("off", *((address,) if kind == "metrics" else ("", address)))
        assert words in str(error.value) and "--bind" not in str(error.value).replace(f"--{kind}-bind", "")


def test_successor_takes_them_over(hall: Hall) -> None:
    """The same sockets, at the same places."""
    doors = hall.open("auto", "127.0.0.1:0")
    held = doors.held()
    successor = Hall(hall.directory)
    successor.doors.take_over([replace(each, fd=os.dup(each.fd)) for each in held])
    assert [door.listener.address for door in successor.doors.all] == [door.listener.address for door in doors.all]
    path = Path(doors.addresses(DoorKind.CONTROL)[0].removeprefix("unix:"))
    successor.close()
    assert not path.exists()
