"""Boot reports: what a child wrote is read, whatever it wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hybrid.shared import boot_report
from hybrid.shared.boot_report import Report


@pytest.fixture
def fd() -> Iterator[int]:
    """A report that nobody has written to."""
    fd = boot_report.create()
    yield fd
    os.close(fd)


def test_report_is_read_as_it_was_written(fd: int) -> None:
    """Every field arrives."""
    report = Report("lifespan", "OSError: no database", "Traceback …\n", 3, "app:handle", "stream handler")
    boot_report.write(fd, report)
    assert boot_report.read(fd) == report


def test_step_is_readable_when_nothing_else_was_written(fd: int) -> None:
    """A process that was killed leaves the name of what it was doing."""
    boot_report.write_step(fd, "import")
    assert boot_report.read(fd) == Report("import")


def test_second_report_replaces_a_longer_first_one(fd: int) -> None:
    """A worker that was ready and then failed has one report: the last."""
    boot_report.write(fd, Report("ready", detail="x" * 500))
    boot_report.write(fd, Report("ready", "OSError: no network"))
    assert boot_report.read(fd) == Report("ready", "OSError: no network")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"null",
        b"[1, 2]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"error": 5}',
        b'{"exit_code": "x"}',
        b'{"exit_code": [3]}',
        b'{"detail": null}',
        b'{"unknown": 1}',
        b'{"exit_code": ' + b"9" * 5000 + b"}",
    ],
)
def test_garbage_is_a_report_without_words(fd: int, garbage: bytes) -> None:
    """The app's code can write into the report; nothing that it writes ends who reads."""
    boot_report.write_step(fd, "load")
    os.pwrite(fd, garbage, 64)
    assert boot_report.read(fd) == Report("load")
