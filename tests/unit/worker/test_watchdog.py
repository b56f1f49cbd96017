"""The thread that ends an orphan: it does so whatever else is broken."""

from __future__ import annotations

import os
import signal

import pytest

from hybrid.shared.log_line import LogWriter, Style
from hybrid.worker import watchdog
from tests.support.forked import forked


def _watch_with_broken_log() -> None:
    life_read, life_write = os.pipe()
    log_read, log_write = os.pipe()
    os.close(log_read)
    os.close(life_write)
    watchdog._watch(life_read, 0.0, LogWriter(log_write, Style.TEXT, "info", "worker 0"))


def test_orphan_is_ended_though_nobody_reads_its_log() -> None:
    """Who read the log is gone with the parent: EPIPE must not keep the orphan alive."""
    with pytest.raises(AssertionError, match=f"status {int(signal.SIGKILL)}"):
        forked(_watch_with_broken_log)


def test_life_pipe_closed_by_a_leaving_process_is_nothing_to_watch() -> None:
    """A process on its way out is left alone."""
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    watchdog._watch(read, 0.0, LogWriter(2, Style.TEXT, "info", "worker 0"))
