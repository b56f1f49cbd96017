"""The two clocks, behind names that say which one.

Deadlines use :func:`monotonic`; log lines use :func:`wall`. Tests pass their own function instead of patching.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds. Monotonic unless said otherwise."""

monotonic: Clock = time.monotonic
wall: Clock = time.time


LONGEST_S = 2_147_483.0
"""The longest time that may be asked for, 24 days: poll(2) takes a C int of milliseconds."""


def monotonic_ns() -> int:
    """Return the monotonic clock in nanoseconds: what the scoreboard's time cells hold.

    CLOCK_MONOTONIC is one clock for all processes of a machine, so a worker's stamp and the parent's
    "now" can be subtracted.
    Source: clock_gettime(2).
    """
    return time.monotonic_ns()
