"""When each connection of a worker hears that the worker drains: all at once, or each at a moment of its own.

At a stop everybody is told at once. When other workers go on accepting (a reload, a recycling), thousands of clients
that are told at once would all connect again at once; so the moments are spread over a few seconds, at random. What a
connection does at its moment is its own business: a kept HTTP connection says ``connection: close`` with its next
answer, or closes when none is asked for; an event stream ends; a handler sees ``draining``.

One moment for each connection, instead of a die that is cast for each answer (Envoy's way): a busy connection is told
neither sooner nor later than a quiet one, so the connections that come again come evenly.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import partial
from heapq import heappop, heappush
from itertools import count
from types import MappingProxyType
from typing import Any

Notice = Mapping[str, Callable[[], Any]]

LAST_CALL_S = 0.5
"""For a request that is on its way when its connection is told, at a stop."""
KEPT_CALL_S = 2.0
"""The same while others accept: nothing is in a hurry, and a client that asks this often never meets a closed end."""
SPREAD_S = 10.0
"""The moments are spread over so long at most."""
STOP_JITTER_S = 1.0
"""At a stop nothing is spread but the ends of WebSockets, whose clients connect again at once: over so long at most."""
EACH_S = 0.005
"""And over so long for each connection: 200 a second come again from one worker; a few are told at once."""
_TICK_S = 0.01
"""Between two looks at whose moment has come, at least."""


class Farewell:
    """The end of one worker, as those hear of it whom it concerns.

    Runs in: worker, in its loop. Made before it knows of a loop. Closes: nothing.
    """

    __slots__ = (
        "_begun_at",
        "_number",
        "_timer",
        "_turns",
        "_waiters",
        "is_last",
        "jitter_s",
        "last_call_s",
        "spread_s",
    )

    def __init__(self) -> None:
        self.last_call_s = LAST_CALL_S
        """How long a kept connection that was told waits for one more request."""
        self.is_last = False
        """Whether the server stops, so that nobody else accepts."""
        self.jitter_s = 0.0
        """Within which those that would all connect again at once are to end, each at random."""
        self._begun_at: float | None = None
        self.spread_s = 0.0
        """From the beginning to the last moment."""
        self._turns: list[tuple[float, int, Callable[[], object]]] = []
        """A heap: where in the spread, from 0 to 1; a number, so that no two are alike; whom to tell."""
        self._number = count()
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def notice(self) -> Notice:
        """Return what an application is shown: ``scope["extensions"]["hybrid.drain"]``. One is enough for all requests.

        ``draining()``: whether the worker drains; ``await wait()``: as :meth:`wait`. Nothing of it can be changed: the
        next request may be another user's.
        """
        return MappingProxyType({"draining": lambda: self.has_begun, "wait": self.wait})

    @property
    def has_begun(self) -> bool:
        """Whether the worker drains."""
        return self._begun_at is not None

    def begin(self, connections: int, grace_s: float, *, last: bool) -> None:
        """Say that the worker drains, within ``grace_s`` seconds; ``last``: nobody else accepts. Again: the sooner.

        The spread takes half of the grace at most, and the last call a quarter: the rest is for what was asked last.
        """
        now = asyncio.get_running_loop().time()
        spread_s = 0.0 if last else min(SPREAD_S, grace_s / 2, EACH_S * connections)
        last_call_s = LAST_CALL_S if last else min(KEPT_CALL_S, grace_s / 4)
        self.is_last = self.is_last or last
        self.jitter_s = min(STOP_JITTER_S, grace_s / 10, EACH_S * connections) if self.is_last else 0.0
        if self._begun_at is None:
            self._begun_at, self.spread_s, self.last_call_s = now, spread_s, last_call_s
            for waiter in tuple(self._waiters):
                self.in_turn(partial(_wake, waiter))
        else:
            self.spread_s = min(self.spread_s, now - self._begun_at + spread_s)
            self.last_call_s = min(self.last_call_s, last_call_s)
            self._look()

    def in_turn(self, tell: Callable[[], object]) -> None:
        """Call ``tell``, which does not raise, at a moment of its own; now, if there is nothing to spread.

        The worker drains already.
        """
        done = self._done()
        if done >= 1.0:
            tell()
            return
        turn = (random.uniform(done, 1.0), next(self._number), tell)
        heappush(self._turns, turn)
        if self._turns[0] is turn:
            self._set_timer()

    async def wait(self) -> None:
        """Return when the worker drains, at a moment of the caller's own."""
        waiter = asyncio.get_running_loop().create_future()
        if self.has_begun:
            self.in_turn(partial(_wake, waiter))
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _done(self) -> float:
        """Return how much of the spread has passed, from 0 to 1 and beyond."""
        assert self._begun_at is not None
        if self.spread_s <= 0.0:
            return 1.0
        return (asyncio.get_running_loop().time() - self._begun_at) / self.spread_s

    def _look(self) -> None:
        """Tell those whose moment has come."""
        done = self._done()
        while self._turns and (done >= 1.0 or self._turns[0][0] <= done):
            heappop(self._turns)[2]()
        self._set_timer()

    def _set_timer(self) -> None:
        """Look again when the next moment has come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._turns:
            wait_s = (self._turns[0][0] - self._done()) * self.spread_s
            self._timer = asyncio.get_running_loop().call_later(max(_TICK_S, wait_s), self._look)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
