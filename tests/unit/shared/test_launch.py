"""Facts of the start: import path, flags, inherited sockets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.launch import (
    import_path,
    inherited_listeners,
    inherited_names,
    interpreter_flags,
    without_script_directory,
)


def test_app_dir_comes_first_and_nothing_comes_twice() -> None:
    """Entries are absolute, '' is the working directory, and the order is the caller's."""
    caller = ["", "lib", "/usr/lib", "lib", "/srv/app"]
    assert import_path("/srv/app", caller, "/srv") == ("/srv/app", "/srv", "/srv/lib", "/usr/lib")
    assert import_path("", caller, "/srv") == ("/srv", "/srv/lib", "/usr/lib", "/srv/app")


def test_script_directory_is_dropped(tmp_path: Path) -> None:
    """What lies beside the installed command is none of the app's modules."""
    script = tmp_path / "bin" / "hybrid-serve"
    script.parent.mkdir()
    script.touch()
    assert without_script_directory([str(script.parent), "/lib"], str(script)) == ("/lib",)


def test_script_directory_is_dropped_through_a_link(tmp_path: Path) -> None:
    """A link in ~/bin to the command changes nothing."""
    script = tmp_path / "venv" / "hybrid-serve"
    script.parent.mkdir()
    script.touch()
    link = tmp_path / "hybrid-serve"
    link.symlink_to(script)
    assert without_script_directory([str(script.parent), "/lib"], str(link)) == ("/lib",)


@pytest.mark.parametrize("argv0", ["", "-c", "/no/such/file"])
def test_path_without_a_script_is_kept(argv0: str) -> None:
    """What was not started from a file has no script directory."""
    assert without_script_directory(["/lib", "/srv"], argv0) == ("/lib", "/srv")


def test_directory_of_a_zipped_app_is_kept(tmp_path: Path) -> None:
    """An app in one file is imported from that file."""
    app = tmp_path / "app.pyz"
    app.touch()
    assert without_script_directory([str(app), "/lib"], str(app)) == (str(app), "/lib")


def test_sockets_for_this_process_are_taken() -> None:
    """Source: sd_listen_fds(3): descriptors from 3, when LISTEN_PID is ours."""
    assert inherited_listeners({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 7) == (3, 4)
    assert inherited_listeners({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, 7) == ()


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "2"}, {"LISTEN_PID": "8", "LISTEN_FDS": "2"}, {"LISTEN_PID": "", "LISTEN_FDS": "x"}]
)
def test_sockets_for_another_process_are_not_ours(environ: dict[str, str]) -> None:
    """Variables that a parent of ours left behind are ignored."""
    assert inherited_listeners(environ, 7) == ()


@pytest.mark.parametrize("text", ["", "x", "-1", "999999999999"])
def test_broken_socket_count_is_refused(text: str) -> None:
    """Better no server than one that misses a socket."""
    with pytest.raises(UsageError, match="LISTEN_FDS, from the environment: not a number of descriptors"):
        inherited_listeners({"LISTEN_PID": "7", "LISTEN_FDS": text}, 7)


@pytest.mark.parametrize(
    ("environ", "count", "names"),
    [
        ({}, 2, ("", "")),
        ({"LISTEN_FDNAMES": "web:"}, 2, ("web", "")),
        ({"LISTEN_FDNAMES": "web"}, 1, ("web",)),
        ({"LISTEN_FDNAMES": ""}, 1, ("",)),
        ({"LISTEN_FDNAMES": "of:another"}, 0, ()),
    ],
)
def test_names_of_sockets_come_in_their_order(environ: dict[str, str], count: int, names: tuple[str, ...]) -> None:
    """Source: sd_listen_fds_with_names(3): separated by colons, one for each, possibly empty."""
    assert inherited_names(environ, count) == names


def test_wrong_number_of_names_is_refused() -> None:
    """Or a socket would be taken for another."""
    with pytest.raises(UsageError, match="LISTEN_FDNAMES, from the environment: 1 names for 2 descriptors"):
        inherited_names({"LISTEN_FDNAMES": "web"}, 2)


def test_flags_start_an_interpreter_like_this_one() -> None:
    """-X, -W and -O of the user's command reach the processes we start."""
    code = "from hybrid.shared.launch import interpreter_flags as f; print(*f(), sep='\\n')"
    flags = ["-X", "utf8", "-W", "ignore", "-O"]
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert "-O" in words and "-Wignore" in words and "utf8" in " ".join(words)
    assert isinstance(interpreter_flags(), tuple)
