"""When the ready file is there, how old it is, and what happens when it cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import UsageError
from hybrid.parent.ready_file import BEAT_S, ReadyFile
from hybrid.shared.log_line import LogWriter, Style
from tests.support.forked import Release, rivals


class Room:
    """A directory for the file, and a log."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ready"
        self._log_fd = os.memfd_create("log")
        self.log = LogWriter(self._log_fd, Style.TEXT, "debug", "parent")
        self.file = ReadyFile(str(self.path), self.log)

    @property
    def said(self) -> str:
        return os.pread(self._log_fd, 65536, 0).decode()

    def close(self) -> None:
        self.file.close()
        os.close(self._log_fd)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    (tmp_path / "run").mkdir()
    room = Room(tmp_path / "run")
    yield room
    room.close()


def test_file_is_there_while_ready(room: Room) -> None:
    """Whole, with our pid, and nothing beside it; gone as soon as it is not true any more."""
    room.file.claim()
    assert os.listdir(room.path.parent) == [] and room.file.deadline is None
    room.file.show(True, 1.0)
    assert room.path.read_text() == f"{os.getpid()}\n" and os.listdir(room.path.parent) == ["ready"]
    room.file.show(False, 2.0)
    assert os.listdir(room.path.parent) == [] and room.file.deadline is None
    room.file.show(True, 3.0)
    room.file.close()
    assert os.listdir(room.path.parent) == [] and room.file.deadline is None
    room.file.close()


def test_loop_keeps_it_young(room: Room) -> None:
    """Its time is set when it is due, and not at every turn."""
    room.file.show(True, 1.0)
    assert room.file.deadline == 1.0 + BEAT_S
    os.utime(room.path, (0, 0))
    room.file.time_passed(2.0)
    room.file.show(True, 2.0)
    assert room.path.stat().st_mtime == 0
    room.file.time_passed(1.0 + BEAT_S)
    assert room.path.stat().st_mtime > 0 and room.file.deadline == 1.0 + 2 * BEAT_S


def test_file_that_somebody_removed_comes_back(room: Room) -> None:
    """A tidy program, or a person: the next turn puts it right."""
    room.file.show(True, 1.0)
    room.path.unlink()
    room.file.time_passed(100.0)
    assert room.path.read_text() == f"{os.getpid()}\n"


def test_file_that_somebody_replaced_is_replaced(room: Room) -> None:
    """By one that looks like ours. What does not is an error, once, and is let be."""
    room.file.show(True, 1.0)
    room.path.unlink()
    room.path.write_text("")
    room.file.time_passed(100.0)
    assert room.path.read_text() == f"{os.getpid()}\n"
    room.path.unlink()
    room.path.write_text("something else\n")
    room.file.time_passed(200.0)
    room.file.time_passed(300.0)
    assert room.path.read_text() == "something else\n"
    assert room.said.count("the file exists and holds no pid. Change --ready-file.") == 1
    room.path.unlink()
    room.file.time_passed(400.0)
    assert room.path.read_text() == f"{os.getpid()}\n"


def test_dead_server_s_file_is_taken_away_by_the_claim(room: Room) -> None:
    """Whatever its number is used for now: what is not locked has no owner. Process 1 is always alive."""
    room.path.write_text("1\n")
    room.file.claim()
    assert os.listdir(room.path.parent) == []


def test_living_server_s_file_is_respected(room: Room) -> None:
    """Two servers with one file would be ready for each other."""

    def other() -> Release:
        file = ReadyFile(str(room.path), room.log)
        file.show(True, 1.0)
        return file.close

    with rivals(other, 1) as (pid,):
        with pytest.raises(UsageError, match=rf"process {pid} holds it and runs\. Stop it or change --ready-file"):
            room.file.claim()
        assert room.path.read_text() == f"{pid}\n"


@pytest.mark.parametrize("there", [True, False])
def test_successor_in_the_same_process_goes_on(room: Room, there: bool) -> None:
    """After an upgrade: what is there is ours, also if it is not to be there any more; what is not stays away."""
    if there:
        room.path.write_text(f"{os.getpid()}\n")  # its lock went with the exec
    room.file.take_over()
    assert room.path.exists() is there
    room.file.show(False, 1.0)
    room.file.close()
    assert not room.path.exists()


def test_directory_that_is_gone_is_an_error_once(room: Room) -> None:
    """While the server serves nothing ends it; it tries again."""
    room.path.parent.rmdir()
    room.file.show(True, 1.0)
    room.file.time_passed(100.0)
    assert room.said.count(f"cannot write --ready-file {room.path}: No such file or directory") == 1
    room.path.parent.mkdir()
    room.file.time_passed(200.0)
    assert room.path.exists()


def test_without_a_path_nothing_happens() -> None:
    """Every call is as good as none."""
    fd = os.memfd_create("log")
    file = ReadyFile("", LogWriter(fd, Style.TEXT, "debug", "parent"))
    file.claim()
    file.take_over()
    file.show(True, 1.0)
    file.time_passed(100.0)
    assert file.deadline is None and not file.is_there
    file.close()
    os.close(fd)
