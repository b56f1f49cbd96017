"""What holds for every test."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import hypothesis
import pytest
from pytest_timeout import Settings

from tests.support.time_limit import TimeLimit

# How long an example takes is a matter of what else the machine does.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

_time_limit = TimeLimit()


def pytest_configure() -> None:
    """Let Ctrl-C reach what tests start. What a shell without job control puts in the background ignores it.

    Source: POSIX.1-2017, Shell Command Language, 2.11.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Look no more at what the collected tests are made of: it stays.

    300 000 objects, and half a second for each full collection, in which a test's loop, and the clients that it plays,
    stand still; longer while others have the cores.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> bool:
    """Count the time of a test in our way. Source: pytest-timeout, "Extending pytest-timeout with plugins"."""
    _time_limit.begin(item, settings)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Count no more."""
    _time_limit.end()
    return True


@pytest.fixture(scope="session", autouse=True)
def _others_may_pass(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let other users through to the directories of the tests: some tests become nobody.

    pytest-xdist puts one directory more between them and the system's.
    """
    base = tmp_path_factory.getbasetemp()
    for folder in (base, *base.parents[:2]) if "PYTEST_XDIST_WORKER" in os.environ else (base, base.parent):
        _let_through(folder)


def _let_through(folder: Path) -> None:
    folder.chmod(folder.stat().st_mode | 0o111)
