"""The folder of the app's metrics: made, taken over, removed; and what killed servers leave."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.ground.errors import HybridError
from hybrid.shared import metrics_folder
from hybrid.shared.metrics_folder import PREFIX, VARIABLE, MetricsFolder, is_of, is_wanted


@pytest.fixture(autouse=True)
def without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has named a folder; what a test sets is undone."""
    monkeypatch.setenv(VARIABLE, "")


def test_it_is_private_named_and_removed_with_what_is_in_it(tmp_path: Path) -> None:
    """Nobody else can read or write it."""
    folder = MetricsFolder.make(None, (str(tmp_path),))
    path = Path(folder.path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert os.environ[VARIABLE] == folder.path and is_of(folder.path, os.getpid())
    (path / "counter_1.db").write_bytes(b"x")
    folder.close()
    assert not path.exists() and VARIABLE not in os.environ


def test_a_new_program_in_this_process_takes_it_over(tmp_path: Path) -> None:
    """The environment names it; what was counted stays."""
    folder = MetricsFolder.make(None, (str(tmp_path),))
    os.close(folder._fd)  # as an exec does
    again = MetricsFolder.take_over()
    assert again is not None and again.path == folder.path
    again.close()
    assert not Path(folder.path).exists()


def test_a_folder_of_somebody_else_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has named it, or it is another server's."""
    for name in ("mine", f"{PREFIX}1-abc"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))
        assert MetricsFolder.take_over() is None


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    """Not what another one has: its pid lives, or it holds the lock, in a container whose pids are not ours."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    left, locked, living = (tmp_path / f"{PREFIX}{pid}-abc" for pid in (process.pid, 999_999_999, os.getpid()))
    for path in (left, locked, living):
        path.mkdir()
        (path / "counter_1.db").write_bytes(b"x")
    (tmp_path / f"{PREFIX}x").mkdir()
    fd = os.open(locked, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    MetricsFolder.make(None, (str(tmp_path),)).close()
    assert {path.name for path in tmp_path.iterdir()} == {locked.name, living.name, f"{PREFIX}x"}
    os.close(fd)


def test_it_is_never_seen_without_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of another container, to which our pid means nothing, may look for what is abandoned at any moment."""
    locked = metrics_folder._locked

    def looked_at_first(path: str) -> int:
        metrics_folder.remove_abandoned(str(tmp_path))
        return locked(path)

    monkeypatch.setattr(metrics_folder, "_locked", looked_at_first)
    monkeypatch.setattr(os, "getpid", lambda: 999_999_999)
    folder = MetricsFolder.make(None, (str(tmp_path),))
    metrics_folder.remove_abandoned(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [Path(folder.path).name]
    folder.close()
    assert not list(tmp_path.iterdir())


def test_nothing_outside_is_removed_by_way_of_a_link(tmp_path: Path) -> None:
    """The folder belongs to the app's user, who may put in its place what he likes."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x")
    place = tmp_path / "place"
    place.mkdir()
    folder = MetricsFolder.make(None, (str(place),))
    Path(folder.path).rename(place / "moved")
    Path(folder.path).symlink_to(precious)
    (place / f"{PREFIX}999999999-abc").symlink_to(precious)
    folder.close()
    MetricsFolder.make(None, (str(place),)).close()
    assert (precious / "file").exists()


def test_without_a_place_the_start_fails(tmp_path: Path) -> None:
    """And the message says what to do."""
    with pytest.raises(HybridError, match=VARIABLE):
        MetricsFolder.make(None, (str(tmp_path / "missing"),))


@pytest.mark.parametrize(
    ("metrics_bind", "named", "wanted"),
    [("", "", False), (":9000", "", True), (":9000", "/tmp/mine", False), (":9000", f"/tmp/{PREFIX}1-abc", True)],
)
def test_who_wants_it(metrics_bind: str, named: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody asks for metrics, and the user has named none himself."""
    monkeypatch.setenv(VARIABLE, named)
    assert is_wanted(metrics_bind) is wanted
