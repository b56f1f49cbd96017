"""Which server is meant: found in the private directories and in ``/proc``, here made of files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hybrid.cli.ctl_client import Unreached
from hybrid.cli.ctl_find import Places, find, instances
from hybrid.shared.settings import Settings, to_json

UID = os.geteuid()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return places without a server."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "cwd").mkdir()
    return Places(str(tmp_path / "proc"), UID, {"XDG_RUNTIME_DIR": str(tmp_path / "run")})


def process(places: Places, pid: int, *command: str) -> Path:
    """Make a process of /proc."""
    folder = Path(places.proc) / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in command))
    (folder / "cwd").symlink_to(Path(places.proc).parent / "cwd")
    (folder / "environ").write_bytes(
        b"".join(f"{key}={value}".encode() + b"\0" for key, value in places.environ.items())
    )
    return folder


def server(places: Places, pid: int, control: str = "auto") -> None:
    """Make a parent of /proc whose settings say ``control``."""
    folder = process(places, pid, "/usr/bin/python3", "-I", "/site-packages/hybrid/parent/__main__.py", "3")
    settings: dict[str, Any] = json.loads(to_json(Settings()))
    settings["control"]["socket"] = control
    settings["app"]["target"] = f"app{pid}:app"
    (folder / "fd" / "3").write_text(json.dumps(settings))


@pytest.fixture(autouse=True)
def _memfds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files of our /proc/PID/fd be memfds."""
    real = os.readlink
    monkeypatch.setattr(
        "hybrid.cli.ctl_find.os.readlink",
        lambda path: "/memfd:hybrid-settings (deleted)" if "/fd/" in str(path) else real(path),
    )


def private(places: Places, pid: int, directory: str = "") -> str:
    """Make the file of a control socket in the private directory."""
    folder = Path(directory or places.environ["XDG_RUNTIME_DIR"]) / "hybrid"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{pid}.sock"
    path.touch()
    return str(path)


def test_only_one_is_found(places: Places) -> None:
    """By its file in the private directory."""
    server(places, 71)
    path = private(places, 71)
    found = find(places=places)
    assert (found.pid, found.path, found.what) == (71, path, "app71:app")


def test_file_of_a_dead_server_is_none(places: Places) -> None:
    """Its parent is not there any more."""
    private(places, 70)
    server(places, 71)
    path = private(places, 71)
    assert find(places=places).path == path


def test_server_with_a_socket_elsewhere_is_found_by_its_settings(places: Places) -> None:
    """A relative path is relative to the server's directory."""
    server(places, 71, "run/app.sock")
    cwd = os.readlink(f"{places.proc}/71/cwd")
    assert find(places=places).path == f"{cwd}/run/app.sock"


def test_server_with_another_runtime_directory_is_found(places: Places, tmp_path: Path) -> None:
    """Its environment says where it has put its socket."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    server(places, 71)
    (Path(places.proc) / "71" / "environ").write_bytes(f"XDG_RUNTIME_DIR={elsewhere}\0".encode())
    path = private(places, 71, str(elsewhere))
    assert find(places=places).path == path


def test_several_are_listed(places: Places) -> None:
    """With their pids, which are what to give."""
    for pid in (71, 82):
        server(places, pid)
        private(places, pid)
    with pytest.raises(Unreached, match=r"2 servers run here[\s\S]*--pid 71 \(app71:app\)[\s\S]*--pid 82"):
        find(places=places)


def test_pid_chooses(places: Places) -> None:
    """One of several."""
    for pid in (71, 82):
        server(places, pid)
        private(places, pid)
    assert find(82, places=places).path.endswith("82.sock")


def test_none_says_what_to_do(places: Places) -> None:
    """No traceback, no guess."""
    process(places, 55, "/usr/bin/python3", "app.py")
    with pytest.raises(Unreached, match=r"no server of this user runs here.*--control PATH"):
        find(places=places)


def test_server_without_control_is_said_to_be_so(places: Places) -> None:
    """Whether it is the only one, or named."""
    server(places, 71, "off")
    with pytest.raises(Unreached, match="--control off"):
        find(places=places)
    with pytest.raises(Unreached, match="server 71 has no control socket"):
        find(71, places=places)


def test_server_without_control_is_not_in_the_way(places: Places) -> None:
    """The other one is the only one that can be meant."""
    server(places, 71, "off")
    server(places, 82)
    private(places, 82)
    assert find(places=places).pid == 82
    assert [each.pid for each in instances(places)] == [71, 82]


def test_pid_of_nobody_and_of_another_program(places: Places) -> None:
    """Each in its own words."""
    process(places, 55, "/usr/bin/python3", "app.py")
    with pytest.raises(Unreached, match="no process 54"):
        find(54, places=places)
    with pytest.raises(Unreached, match="process 55 is no server"):
        find(55, places=places)


def test_socket_that_is_named_is_taken(places: Places) -> None:
    """With or without ``unix:``; nobody is looked for."""
    assert find(control="/run/app.sock", places=places).path == "/run/app.sock"
    assert find(control="unix:/run/app.sock", places=places).path == "/run/app.sock"


def test_directory_that_others_can_enter_is_not_trusted(places: Places) -> None:
    """Somebody else may have put the socket there."""
    process(places, 71, "something")
    path = private(places, 71)
    assert find(places=places).path == path
    os.chmod(os.path.dirname(path), 0o777)
    with pytest.raises(Unreached):
        find(places=places)
