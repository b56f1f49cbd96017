"""Whose socket file it is: replaced, respected, removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import ListenError
from hybrid.shared import socket_file
from hybrid.shared.listeners import Listener, open_listeners
from tests.support.forked import NOBODY, Release, forked, rivals

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def listen(path: Path, mode: int = 0o666) -> Listener:
    (listener,) = open_listeners([f"unix:{path}"], 16, mode)
    return listener


def leave_dead_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
        dead.listen(1)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_file_is_created_and_removed(tmp_path: Path) -> None:
    """The server answers on the path it reports; closing leaves the directory as it was, no lock file either."""
    path = tmp_path / "app.sock"
    listener = listen(path)
    assert listener.address == f"unix:{path}"
    assert answers(path)
    assert os.listdir(tmp_path) == ["app.sock"]
    listener.close()
    assert os.listdir(tmp_path) == []


def test_relative_path_is_reported_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reported address means the same file from any directory."""
    monkeypatch.chdir(tmp_path)
    (listener,) = open_listeners(["unix:app.sock"], 16, 0o666)
    assert listener.address == f"unix:{tmp_path}/app.sock"
    listener.close()


def test_dead_servers_file_is_replaced(tmp_path: Path) -> None:
    """A file that nobody listens behind is no reason not to start."""
    path = tmp_path / "app.sock"
    leave_dead_file(path)
    listener = listen(path)
    assert answers(path)
    listener.close()


@pytest.mark.parametrize("case", ["idle", "queue full"])
def test_live_servers_file_is_left_alone(case: str, tmp_path: Path) -> None:
    """Another server that listens, even one with no room in its queue, keeps its file."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        theirs.bind(str(path))
        theirs.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3 if case == "queue full" else 0)]
        for client in waiting:
            client.setblocking(False)
            assert client.connect_ex(str(path)) in (0, errno.EAGAIN)
        before = path.stat().st_ino
        with pytest.raises(ListenError) as caught:
            listen(path)
        assert str(caught.value) == (
            f"cannot listen on unix:{path}: address in use. Stop the other server or change --bind."
        )
        assert path.stat().st_ino == before
        for client in waiting:
            client.close()
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in waiting:
                theirs.accept()[0].close()
        with pytest.raises(BlockingIOError):  # nobody was connected to it: that would be a client to serve
            theirs.accept()


def test_live_datagram_socket_is_left_alone(tmp_path: Path) -> None:
    """A socket of another type cannot be connected to, which does not make it dead."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(str(path))
        with pytest.raises(ListenError, match="address in use"):
            listen(path)
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link to a dead socket", "dangling link"])
def test_what_is_no_socket_is_never_removed(kind: str, tmp_path: Path) -> None:
    """A file, a directory or a symbolic link at the path is an error."""
    path = tmp_path / "app.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        if kind == "link to a dead socket":
            leave_dead_file(tmp_path / "other.sock")
        path.symlink_to(tmp_path / "other.sock")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ListenError, match="exists and is not a socket"):
        listen(path)
    assert sorted(os.listdir(tmp_path)) == before


def test_successors_file_is_not_removed(tmp_path: Path) -> None:
    """When somebody put another socket at our path, closing ours leaves theirs."""
    path = tmp_path / "app.sock"
    listener = listen(path)
    os.unlink(path)
    successor = listen(path)
    listener.close()
    assert answers(path)
    successor.close()
    assert not path.exists()


def test_open_socket_keeps_its_inode_number_from_being_given_away(tmp_path: Path) -> None:
    """The identity we compare at the end cannot be a successor's: the kernel's promise that removal relies on."""
    path = tmp_path / "app.sock"
    listener = listen(path)
    assert listener.file is not None
    for _ in range(20):
        os.unlink(path)
        leave_dead_file(path)
        assert path.stat().st_ino != listener.file.inode
    listener.close()
    assert path.exists()


def test_removed_directory_does_not_disturb_a_stop(tmp_path: Path) -> None:
    """Closing after somebody removed the directory raises nothing."""
    directory = tmp_path / "run"
    directory.mkdir()
    listener = listen(directory / "app.sock")
    os.unlink(directory / "app.sock")
    directory.rmdir()
    listener.close()


# ── mode ──


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_mode_is_exact_whatever_the_umask(mode: int, tmp_path: Path, umask: None) -> None:
    """The umask takes nothing from the mode that was asked for, and stays as it was."""
    listener = listen(tmp_path / "app.sock", mode)
    assert stat.S_IMODE((tmp_path / "app.sock").stat().st_mode) == mode
    listener.close()
    assert os.umask(0o077) == 0o077


def test_file_is_never_wider_than_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is born with its mode: before listen(2) it already is as narrow as at the end."""
    path = tmp_path / "app.sock"
    seen: list[int] = []
    widen = socket_file.give_mode

    def look(file: socket_file.SocketFile, mode: int) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        widen(file, mode)

    monkeypatch.setattr(socket_file, "give_mode", look)
    before = os.umask(0)
    try:
        listen(path, 0o600).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_mode_goes_to_no_other_file(tmp_path: Path, umask: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is slipped under the name in the last moment does not get its target's permissions changed."""
    path, precious = tmp_path / "app.sock", tmp_path / "precious"
    precious.write_text("")
    precious.chmod(0o600)
    identify = socket_file.identify

    def swap(name: str) -> socket_file.SocketFile:
        found = identify(name)
        if not path.is_symlink():
            path.unlink()
            path.symlink_to(precious)
        return found

    monkeypatch.setattr(socket_file, "identify", swap)
    with pytest.raises(ListenError):
        listen(path, 0o666)
    assert stat.S_IMODE(precious.stat().st_mode) == 0o600


# ── races ──


def test_of_servers_that_race_for_a_dead_file_one_wins(tmp_path: Path) -> None:
    """Several processes see the same dead file; one listens, the others are told so, and nobody loses its file."""
    path = tmp_path / "app.sock"

    def attempt() -> Release | None:
        _hesitate_after_the_look()
        try:
            return listen(path).close
        except ListenError:
            return None

    for _ in range(5):
        leave_dead_file(path)
        with rivals(attempt, 5) as winners:
            assert len(winners) == 1
            assert answers(path)
        assert os.listdir(tmp_path) == []


def _hesitate_after_the_look() -> None:
    """Let the others run between the look and the unlink: without the lock this loses the race every time."""
    look = socket_file._look_behind

    def slow(path: str) -> int:
        answer = look(path)
        for _ in range(300):
            os.sched_yield()
        return answer

    socket_file._look_behind = slow


def test_dead_file_is_not_replaced_without_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another server holds the directory, nothing is unlinked; a free name can be bound all the same."""
    monkeypatch.setattr(socket_file, "_LOCK_ATTEMPTS", 1)
    path = tmp_path / "app.sock"
    leave_dead_file(path)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with pytest.raises(ListenError, match=r"cannot be locked to replace it safely\. Remove the file"):
            listen(path)
        assert path.exists()
        free = listen(tmp_path / "free.sock")
        assert answers(tmp_path / "free.sock")
        free.close()
    finally:
        os.close(holder)
    listen(path).close()


def test_lock_is_gone_when_the_server_listens(tmp_path: Path) -> None:
    """The directory is locked for the start only: others may start in it."""
    listener = listen(tmp_path / "app.sock")
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is held
    os.close(holder)
    listener.close()


# ── what cannot be created ──


def test_missing_directory_is_named(tmp_path: Path) -> None:
    """The message says which directory does not exist."""
    with pytest.raises(ListenError, match=f"{tmp_path}/no does not exist. Create it or change --bind."):
        listen(tmp_path / "no" / "app.sock")


def test_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    """A path through a file is refused with the part that is wrong."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError, match=f"{tmp_path}/file is not a directory"):
        listen(tmp_path / "file" / "app.sock")


@pytest.mark.parametrize("character", ["x", "é"])
def test_path_that_is_too_long_is_counted_in_bytes(character: str, tmp_path: Path) -> None:
    """The system's 107 bytes are named, before anything is created."""
    path = tmp_path / (character * 107)
    with pytest.raises(ListenError, match=r"the path has \d+ bytes, the system allows 107\. Use a shorter one"):
        listen(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.root
@needs_root
def test_directory_without_permission_is_named(tmp_path: Path) -> None:
    """Without write permission the message names the directory."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)

    def refused() -> str:
        try:
            listen(tmp_path / "app.sock")
        except ListenError as error:
            return str(error)
        return "it was allowed"

    assert f"no permission to write in {tmp_path}" in forked(refused, uid=NOBODY)


@pytest.mark.root
@needs_root
def test_socket_that_may_not_be_tested_is_left_alone(tmp_path: Path) -> None:
    """Another user's socket that we may not connect to is not judged dead."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    theirs = listen(shared / "app.sock", 0o600)

    def refused() -> str:
        try:
            listen(shared / "app.sock")
        except ListenError as error:
            return str(error)
        return "it was allowed"

    assert "belongs to someone else and may be in use" in forked(refused, uid=NOBODY)
    assert answers(shared / "app.sock")
    theirs.close()
