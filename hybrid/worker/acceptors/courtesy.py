"""Leave part of a burst to the others: for a moment, whoever has taken more than its share does not look.

Going to the tail of the wait queue decides who is woken for the *next* connection. When many come at once, nobody needs
to be woken: each worker takes one in every turn of its loop, and the first that the scheduler runs has taken them all
before the second one has come to a CPU. Connections that stay would then be one worker's for hours. So a worker that
holds more than another, by more than the slack, takes its listener out of the epoll for a millisecond; without it the
64 connections of a load on two workers came to lie anywhere between 32 and 32 and 64 and 0.

What this must not cost, and what guards it:

* *Nobody waits for long*: a worker looks away so many times in a quarter of a second, and not once more. That is enough
  for hundreds of connections; of thousands the scheduler gives each worker about as many, and they are not held up.
  It is also all that is lost on a worker that is blocked, which holds the fewest and takes none.
* *Connections that come and go* are even by themselves. When at least a quarter of those that this worker accepted
  lately have ended already, it does not wait for anybody.
* *A wake-up is never dropped*: after the pause the entry is added anew, and the kernel reports what is in the queue.
"""

from __future__ import annotations

from math import inf

from hybrid.connection.registry import Registry
from hybrid.ground.clock import Clock, monotonic

PAUSE_S = 0.001
"""The least that libuv's timers know."""
PATIENCE = 16
"""Pauses in one window."""
WINDOW_S = 0.25
CALM_S = 0.05
"""Without a connection that would be one too many: a new window begins."""


def is_too_many(mine: int, least: int) -> bool:
    """Return whether a worker with ``mine`` connections has more than its share; ``least``: the fewest of all.

    One more is as even as it gets. Of many, a sixteenth more, which leaves one of two workers 52 %: so a crowd comes in
    without a pause for every few.
    """
    return mine - least > max(1, least >> 4)


class Courtesy:
    """Whether a worker lets a burst pass by for a moment. Runs in: worker, in its loop. Never raises."""

    def __init__(self, registry: Registry, clock: Clock = monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._asked_at = -inf
        self._begun_at = 0.0
        """The window's; also what had been counted then:"""
        self._accepted = 0
        self._active = 0
        self._churned = False
        """Whether connections came and went in the window before."""
        self._left = PATIENCE

    def waits(self, mine: int, least: int) -> bool:
        """Return whether to look away now; ask once for each connection, with the count that includes it."""
        if not is_too_many(mine, least):
            return False
        now = self._clock()
        if now - self._asked_at > CALM_S:
            self._begin(now, churned=False)
        elif now - self._begun_at > WINDOW_S:
            self._begin(now, churned=self._is_churn())
        self._asked_at = now
        if not self._left or self._churned or self._is_churn():
            return False
        self._left -= 1
        return True

    def _begin(self, now: float, *, churned: bool) -> None:
        self._begun_at, self._churned, self._left = now, churned, PATIENCE
        self._accepted, self._active = self._registry.accepted, self._registry.active

    def _is_churn(self) -> bool:
        """Return whether a quarter of the window's connections have ended; those open before it end first, say."""
        accepted = self._registry.accepted - self._accepted
        ended = accepted + self._active - self._registry.active
        return (ended - self._active) * 4 > accepted
