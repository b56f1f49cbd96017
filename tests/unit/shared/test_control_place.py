"""Where control sockets are: private directories, and what is in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid.shared.control_place import directories, socket_path, sockets_in, unsafe

UID = os.getuid()


def test_runtime_directory_comes_first(tmp_path: Path) -> None:
    """XDG_RUNTIME_DIR if it is there, and ours; then one in /tmp that bears the uid."""
    mine = f"/tmp/hybrid-{UID}"
    assert directories({"XDG_RUNTIME_DIR": str(tmp_path)}, UID) == (f"{tmp_path}/hybrid", mine)
    for other in ("", "relative", str(tmp_path / "none")):
        assert directories({"XDG_RUNTIME_DIR": other}, UID) == (mine,)
    assert directories({}, 12345) == ("/tmp/hybrid-12345",)
    assert directories({"XDG_RUNTIME_DIR": str(tmp_path)}, UID + 1) == (f"/tmp/hybrid-{UID + 1}",)


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701])
def test_directory_that_others_may_enter_is_unsafe(tmp_path: Path, mode: int) -> None:
    """Whoever can write there could put a socket of his own there; whoever can read, learn of servers."""
    tmp_path.chmod(mode)
    assert "others may enter" in unsafe(str(tmp_path), UID)
    tmp_path.chmod(0o700)
    assert unsafe(str(tmp_path), UID) == ""


def test_link_and_file_are_unsafe(tmp_path: Path) -> None:
    """A link could lead to anything."""
    tmp_path.chmod(0o700)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        assert unsafe(str(tmp_path / name), UID) == "it is no directory"


def test_directory_of_somebody_else_is_unsafe(tmp_path: Path) -> None:
    """Root's is not: root may do everything anyway."""
    tmp_path.chmod(0o700)
    if UID == 0:
        assert unsafe(str(tmp_path), 12345) == ""
        os.chown(tmp_path, 12345, -1)
        assert unsafe(str(tmp_path), 0) == "it belongs to uid 12345"
    else:
        assert "belongs to" in unsafe(str(tmp_path), UID + 1)


def test_sockets_are_found_by_their_names(tmp_path: Path) -> None:
    """Nothing else is taken for one."""
    for name in ("12.sock", "7.sock", "x.sock", "12.txt", ".sock", "-1.sock", "٣.sock", "1234567890123.sock"):
        (tmp_path / name).touch()
    assert list(sockets_in(str(tmp_path))) == [(12, f"{tmp_path}/12.sock"), (7, f"{tmp_path}/7.sock")]
    assert list(sockets_in(str(tmp_path / "none"))) == []
    assert socket_path("/d", 12) == "/d/12.sock"
