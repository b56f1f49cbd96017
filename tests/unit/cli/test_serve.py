"""What the command does with resolved settings."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from hybrid.cli.serve import fit_platform, main
from hybrid.ground.errors import ExitCode, UsageError
from hybrid.shared.settings import Settings, WorkerSettings


def with_workers(workers: int | str) -> Settings:
    """Return settings that ask for so many workers."""
    return replace(Settings(), worker=WorkerSettings(workers=workers))


@pytest.mark.parametrize("workers", [0, 1, "auto"])
def test_linux_serves_what_is_asked(workers: int | str) -> None:
    """Nothing is changed where the pool works."""
    assert fit_platform(with_workers(workers), "linux") == with_workers(workers)


def test_without_linux_auto_means_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    """The command serves without a pool, and says so."""
    assert fit_platform(with_workers("auto"), "darwin").worker.workers == 0
    assert "serving in this process, as with --workers 0: the pool needs Linux" in capsys.readouterr().err
    assert fit_platform(with_workers(0), "darwin").worker.workers == 0
    assert capsys.readouterr().err == ""


def test_without_linux_a_pool_is_refused() -> None:
    """Four workers were asked for; one is not four."""
    with pytest.raises(UsageError, match=r"cannot run --workers 4 on darwin: the pool needs Linux.*Use --workers 0"):
        fit_platform(with_workers(4), "darwin")


def test_descriptor_that_is_not_open_is_refused_before_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever waits on --ready-fd would wait for ever."""
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    assert main(["app:handle", "--ready-fd", str(write)]) == ExitCode.USAGE
    assert (
        f"error: cannot use {write} for --ready-fd: Bad file descriptor. Give a descriptor" in capsys.readouterr().err
    )


def test_usage_error_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts test the code, people read the line."""
    assert main(["app:handle", "--workers", "x\ny"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(r"hybrid-serve: error: cannot use 'x\ny' for --workers, from the command line: ")
