"""Who may hold a pid file, and what is left of it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from hybrid.ground.errors import UsageError
from hybrid.parent import pid_file
from hybrid.parent.pid_file import PidFile
from tests.support.forked import Release, forked, rivals


def held(path: Path) -> PidFile:
    file = PidFile(str(path))
    file.write()
    return file


def refusal(path: Path) -> str:
    try:
        held(path).remove()
    except UsageError as error:
        return str(error)
    return ""


def test_file_holds_our_pid_and_goes_with_us(tmp_path: Path) -> None:
    """The file is readable by all, holds the pid, and nothing is left after a stop."""
    file = held(tmp_path / "app.pid")
    assert (tmp_path / "app.pid").read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == ["app.pid"]
    assert stat.S_IMODE((tmp_path / "app.pid").stat().st_mode) & 0o600 == 0o600
    file.remove()
    assert os.listdir(tmp_path) == []
    file.remove()


def test_relative_path_is_removed_after_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is taken from where the server was started."""
    monkeypatch.chdir(tmp_path)
    file = PidFile("app.pid")
    file.write()
    monkeypatch.chdir("/")
    file.remove()
    assert os.listdir(tmp_path) == []


def test_second_server_is_refused(tmp_path: Path) -> None:
    """A file that a living server holds is refused, with its pid; it stays as it is."""
    path = tmp_path / "app.pid"
    file = held(path)
    said = forked(lambda: refusal(path))
    assert said == f"cannot write --pid {path}: process {os.getpid()} holds it and runs. Stop it or change --pid."
    assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == ["app.pid"]
    file.remove()


def test_dead_servers_file_is_replaced(tmp_path: Path) -> None:
    """A file left by a killed server does not stop the next one."""
    path = tmp_path / "app.pid"
    dead = forked(lambda: (held(path), os.getpid())[1])
    assert path.read_text() == f"{dead}\n"
    file = held(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == ["app.pid"]
    file.remove()


def test_recycled_pid_does_not_keep_a_dead_file_alive(tmp_path: Path) -> None:
    """A file without a lock, older than the process that now has its number, is a dead server's."""
    path = tmp_path / "app.pid"
    path.write_text(f"{os.getppid()}\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    held(path).remove()


def test_other_programs_file_is_respected(tmp_path: Path) -> None:
    """A file without a lock, younger than the living process it names, is that process's."""
    path = tmp_path / "other.pid"
    path.write_text(f"{os.getppid()}\n")
    assert f"process {os.getppid()} holds it and runs" in refusal(path)
    assert path.read_text() == f"{os.getppid()}\n"


def test_our_own_number_from_an_earlier_life_is_no_rival(tmp_path: Path) -> None:
    """In a container that is restarted, the dead server often had our own pid."""
    path = tmp_path / "app.pid"
    path.write_text(f"{os.getpid()}\n")
    held(path).remove()


def test_locked_file_is_refused_whatever_it_says(tmp_path: Path) -> None:
    """The lock proves the life, also of an owner that has not written yet."""
    path = tmp_path / "app.pid"
    path.write_text("")
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another process holds it and runs" in refusal(path)
    assert refusal(path) == ""


@pytest.mark.parametrize("kind", ["document", "directory", "link"])
def test_what_is_no_pid_file_is_left_alone(kind: str, tmp_path: Path) -> None:
    """A mistyped --pid does not cost the user a file."""
    path = tmp_path / "precious"
    if kind == "document":
        path.write_text("precious words that are longer than any pid")
    elif kind == "directory":
        path.mkdir()
    else:
        (tmp_path / "target").write_text("1\n")
        path.symlink_to(tmp_path / "target")
    before = path.lstat().st_ino
    assert refusal(path).startswith(f"cannot write --pid {path}: ")
    assert path.lstat().st_ino == before
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".new")]


def test_successors_file_is_not_removed(tmp_path: Path) -> None:
    """When somebody removed our file and wrote another, a stop leaves theirs."""
    path = tmp_path / "app.pid"
    file = held(path)
    path.unlink()
    path.write_text("1\n")
    file.remove()
    assert path.read_text() == "1\n"


def test_missing_directory_is_named(tmp_path: Path) -> None:
    """The message says what and why."""
    assert refusal(tmp_path / "no" / "app.pid") == (
        f"cannot write --pid {tmp_path}/no/app.pid: No such file or directory. "
        "Make its directory writable or change --pid."
    )


def test_failed_write_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """A refusal costs nothing."""
    before = os.listdir("/proc/self/fd")
    refusal(tmp_path / "no" / "app.pid")
    (tmp_path / "document").write_text("words")
    refusal(tmp_path / "document")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_file_that_changes_hands_meanwhile_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival that replaced the dead file between our look and our rename keeps its own."""
    path = tmp_path / "app.pid"
    path.write_text("1\n")
    with open(tmp_path / "rival", "w+") as rival:
        fcntl.flock(rival, fcntl.LOCK_EX)
        rival.write("4711\n")
        rival.flush()

        def come_between(_pid: int, _written: float) -> bool:
            os.rename(tmp_path / "rival", path)
            return False

        monkeypatch.setattr(pid_file, "_is_owner_alive", come_between)
        assert "process 4711 holds it and runs" in refusal(path)
        assert os.path.samestat(os.fstat(rival.fileno()), path.stat())


def test_of_servers_that_race_for_a_dead_file_one_wins(tmp_path: Path) -> None:
    """Several processes start over the same dead file; one holds it, the others are told so."""
    path = tmp_path / "app.pid"

    def attempt() -> Release | None:
        try:
            return held(path).remove
        except UsageError:
            return None

    for _ in range(5):
        forked(lambda: held(path))
        with rivals(attempt, 5) as winners:
            assert len(winners) == 1
            assert path.read_text() == f"{winners[0]}\n"
        assert os.listdir(tmp_path) == []
