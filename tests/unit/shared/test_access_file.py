"""The descriptor behind ``--access-log-file``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.access_file import open_access_file, reopen_access_file
from hybrid.shared.access_settings import AccessSettings
from hybrid.shared.keywords import settings_from_keywords
from hybrid.shared.log_line import LogWriter, Style


@pytest.fixture
def log() -> Iterator[LogWriter]:
    fd = os.memfd_create("log")
    writer = LogWriter(fd, Style.TEXT, "debug", "parent")
    yield writer
    writer.close()
    os.close(fd)


def said(log: LogWriter) -> str:
    return os.pread(log.fd, 1 << 16, 0).decode()


@pytest.mark.parametrize("settings", [AccessSettings(enabled=True), AccessSettings(enabled=False, file="/nowhere/log")])
def test_stdout_needs_no_opening(settings: AccessSettings, log: LogWriter) -> None:
    """Nor does a file that nobody writes to; and there is nothing to reopen."""
    assert open_access_file(settings) == 1
    assert reopen_access_file(settings, 1, log, "SIGUSR1") is None
    assert said(log) == ""


def test_file_is_private_and_appended_to(tmp_path: Path) -> None:
    """0640, as the error log's: it holds addresses. Nothing that is there is lost."""
    path = tmp_path / "access.log"
    fd = open_access_file(AccessSettings(enabled=True, file=str(path)))
    try:
        assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0
        assert not os.get_inheritable(fd)
        path.write_text("before\n")
        os.write(fd, b"after\n")
        assert path.read_text() == "before\nafter\n"
    finally:
        os.close(fd)


def test_file_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    """The error names the file and the option."""
    settings = AccessSettings(enabled=True, file=str(tmp_path / "no" / "log"))
    with pytest.raises(UsageError, match=r"/no/log: No such file.* or change --access-log-file\."):
        open_access_file(settings)


def test_reopened_file_keeps_its_number(tmp_path: Path, log: LogWriter) -> None:
    """Whoever holds the number writes to the new file."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    settings = AccessSettings(enabled=True, file=str(path))
    fd = open_access_file(settings)
    path.rename(old)
    fresh = reopen_access_file(settings, fd, log, "SIGUSR1")
    assert fresh is not None
    os.write(fd, b"new\n")
    assert (old.read_text(), path.read_text()) == ("", "new\n")
    assert "SIGUSR1: access log file reopened" in said(log)
    for each in (fd, fresh):
        os.close(each)


def test_file_that_cannot_be_reopened_leaves_the_old_one(tmp_path: Path, log: LogWriter) -> None:
    """A directory that is gone is told, and costs no line of the access log."""
    folder = tmp_path / "logs"
    folder.mkdir()
    settings = AccessSettings(enabled=True, file=str(folder / "access.log"))
    fd = open_access_file(settings)
    folder.rename(tmp_path / "old")
    with pytest.raises(UsageError, match=r"cannot open the log file .*/logs/access\.log: No such file"):
        reopen_access_file(settings, fd, log, "SIGUSR1")
    os.write(fd, b"still\n")
    assert (tmp_path / "old" / "access.log").read_text() == "still\n"
    os.close(fd)


def test_dash_is_stdout_wherever_the_program_stands() -> None:
    """No path is made of it, given or not; any other name is one."""
    for keywords in ({}, {"access_log_file": "-"}):
        access = settings_from_keywords("a:b", {"access_log": True, **keywords}).access
        assert (access.file, access.path) == ("-", "")
    access = settings_from_keywords("a:b", {"access_log": True, "access_log_file": "x.log"}).access
    assert access.path == os.path.join(os.getcwd(), "x.log")


def test_empty_file_is_refused() -> None:
    """It would be the working directory."""
    with pytest.raises(UsageError, match=r"access_log_file=: it is empty\. Give a file, or - for stdout"):
        settings_from_keywords("a:b", {"access_log_file": ""})
