"""How long an event loop waits for something to do: the rest of the time it is busy.

Busy is what a handler's callbacks take, computing or blocked. That is why no CPU clock will do: a handler that calls
``time.sleep`` uses no CPU, and no connection is served meanwhile.
"""

from __future__ import annotations

import selectors
from typing import Protocol

from hybrid.ground.clock import monotonic_ns

Ready = list[tuple[selectors.SelectorKey, int]]


class IdleClock(Protocol):
    """A clock that runs while a loop waits."""

    def idle_ns(self) -> int | None:
        """Return how long the loop has waited since it was made, in ns; None: unknown. Runs in: the loop's thread."""
        ...


class TimedSelector(selectors.DefaultSelector):
    """A selector that adds up how long it waited: ``asyncio.SelectorEventLoop(TimedSelector())``.

    It first asks what is ready, and only if nothing is, does it wait, as libuv does when it measures. Around a single
    call the clock would count the making of the list of what is ready: a loop that never waits looked 7 % idle.
    Closes: as any selector, with the loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self._idle_ns = 0

    def idle_ns(self) -> int:
        """Return how long the selector has waited, in ns."""
        return self._idle_ns

    def select(self, timeout: float | None = None) -> Ready:
        """Wait as any selector does, and add up the time."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        began_ns = monotonic_ns()
        ready = super().select(timeout)
        self._idle_ns += monotonic_ns() - began_ns
        return ready
