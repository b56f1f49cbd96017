"""The memfd and the command that every door ends in."""

from __future__ import annotations

import dataclasses
import os
import sys

import pytest

from hybrid.ground.errors import HybridError
from hybrid.shared import start
from hybrid.shared.settings import Launch, Settings, from_json


def test_settings_can_be_read_from_the_memfd() -> None:
    """Whole, from the beginning, by whoever is given the descriptor; nobody else gets it by an exec."""
    settings = dataclasses.replace(Settings(), launch=Launch(command=("x" * 200_000,)))
    fd = start.settings_memfd(settings)
    try:
        assert not os.get_inheritable(fd)
        with open(fd, closefd=False) as file:
            assert from_json(file.read()) == settings
    finally:
        os.close(fd)


def test_parent_is_started_by_path_with_the_callers_flags() -> None:
    """No file of the user's can stand in for the parent or for one of its modules."""
    settings = dataclasses.replace(Settings(), launch=Launch(interpreter_flags=("-X", "utf8", "-O")))
    command = start.parent_command(settings, "7")
    assert command[:4] == [sys.executable, "-X", "utf8", "-O"]
    assert os.path.isabs(command[-2]) and command[-2].endswith("hybrid/parent/__main__.py")
    assert command[-1] == "7"
    assert "-I" in command


@pytest.mark.parametrize("flag", ["-P", "-I"])
def test_safe_path_is_not_asked_for_twice(flag: str) -> None:
    """What the caller already said is not repeated."""
    settings = dataclasses.replace(Settings(), launch=Launch(interpreter_flags=(flag,)))
    assert start.parent_command(settings, "7").count("-I") == 1
    assert [word for word in start.mold_command(settings, "{}") if word in ("-P", "-I")] == [flag]


def test_mold_keeps_the_apps_environment() -> None:
    """The app's PYTHONPATH holds; only the working directory and the script's are off its path."""
    command = start.mold_command(Settings(), "{}")
    assert "-I" not in command
    assert ("-P" in command) is (sys.version_info >= (3, 11))


def test_nameless_interpreter_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded interpreter without an executable cannot start another."""
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(HybridError, match=r"sys\.executable is empty"):
        start.parent_command(Settings(), "7")


def test_failed_exec_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the interpreter, and the process is as it was."""
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(HybridError, match="cannot start the parent with /no/such/python: No such file"):
        start.exec_parent(Settings())
    assert os.listdir("/proc/self/fd") == before
