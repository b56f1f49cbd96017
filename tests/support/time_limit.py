"""The time that a test may take, kept by one thread for all of them.

``pytest-timeout`` starts a thread for each test and waits for its end: a millisecond, nine thousand times. A signal,
its other way, does not interrupt a test in uvloop.
"""

from __future__ import annotations

import threading
import time

import pytest
from pytest_timeout import Settings, timeout_timer

_LOOK_S = 0.5


class TimeLimit:
    """Ends the process when a test takes too long, with the stacks of all threads.

    The tests' main thread says which test runs until when; the thread looks now and then.
    """

    def __init__(self) -> None:
        self._running: tuple[float, pytest.Item, Settings] | None = None
        self._thread: threading.Thread | None = None

    def begin(self, item: pytest.Item, settings: Settings) -> None:
        """Count from now."""
        self._running = (time.monotonic() + settings.timeout, item, settings)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="time limit", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Nothing is counted any more."""
        self._running = None

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            running = self._running
            if running is not None and time.monotonic() > running[0]:
                timeout_timer(*running[1:])
