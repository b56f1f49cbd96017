"""The accounts of a thread, from trees made for the test. Real ones: tests/component/test_run_queue.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.meters.run_queue import RunQueue, ThreadTime


def read(tmp_path: Path, text: str) -> ThreadTime | None:
    """Return what is read of a file with this content."""
    folder = tmp_path / "7" / "task" / "8"
    folder.mkdir(parents=True)
    (folder / "schedstat").write_text(text)
    meter = RunQueue(7, 8, str(tmp_path))
    try:
        return meter.read()
    finally:
        meter.close()


def test_first_is_on_cpu_and_second_is_waiting(tmp_path: Path) -> None:
    """In the kernel's order; the third is how often it was given a CPU."""
    assert read(tmp_path, "123456789 987 42\n") == ThreadTime(on_cpu_ns=123456789, waiting_ns=987)


def test_thread_that_has_just_begun_is_known(tmp_path: Path) -> None:
    """It was given a CPU, and the scheduler's tick has not come by since."""
    assert read(tmp_path, "0 5120 1\n") == ThreadTime(on_cpu_ns=0, waiting_ns=5120)


@pytest.mark.parametrize("text", ["0 0 0\n", "", "12", "12 13\n", "a b c\n"])
def test_kernel_that_does_not_account_is_unknown(tmp_path: Path, text: str) -> None:
    """Zeros are what it prints without the accounting: not the figures of an idle thread."""
    assert read(tmp_path, text) is None


def test_thread_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    """So is a /proc without the file."""
    meter = RunQueue(7, 9, str(tmp_path))
    assert meter.read() is None
    meter.close()


def test_closed_meter_is_unknown(tmp_path: Path) -> None:
    """It does not read a descriptor that may be somebody else's by now."""
    (tmp_path / "7" / "task" / "8").mkdir(parents=True)
    (tmp_path / "7" / "task" / "8" / "schedstat").write_text("1 2 3\n")
    meter = RunQueue(7, 8, str(tmp_path))
    assert meter.read() == (1, 2)
    meter.close()
    meter.close()
    assert meter.read() is None
