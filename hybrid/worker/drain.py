"""The end of a worker's connections: told, waited for, cancelled, cut.

The ladder that a stop climbs: every open connection learns that the worker drains; after the grace handlers are
cancelled; a second later what is left is cut. A second wish only makes the ladder shorter: the parent's, or SIGTERM to
the worker itself.

While others accept, connections are told one after another (:mod:`hybrid.connection.farewell`); at a stop, at once.

Source: RFC 9112 §9.6 (tear-down) for the idea that the peer is told before it is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import inf

from hybrid.connection.farewell import Farewell
from hybrid.connection.registry import Registry

CANCEL_S = 1.0
"""From cancelling handlers to cutting their connections."""
ABORT_S = 0.5
"""From cutting connections to leaving without the handlers that ignore it."""


REPEAT_S = 0.2
"""Signals closer together than this are one wish: what sends them to a whole service may reach a worker twice."""


class Step(IntEnum):
    """What SIGTERM to the worker itself has led to, the first, the second, and every further one."""

    SERVE = 0
    DRAIN = 1
    """Connections have the grace."""
    CANCEL = 2
    """It is over."""
    CUT = 3
    """So is the time for handlers that were cancelled."""


def next_step(step: Step, since_s: float) -> Step:
    """Return the step that SIGTERM leads to from ``step``, which was taken ``since_s`` seconds ago."""
    if step is not Step.SERVE and since_s < REPEAT_S:
        return step
    return Step(min(step + 1, Step.CUT))


@dataclass(frozen=True, slots=True)
class DrainReport:
    """How many connections were open at each rung. ``left``: handlers that ignored everything."""

    open: int
    cancelled: int
    aborted: int
    left: int


class Drain:
    """One drain of one registry.

    Runs in: worker, in its loop. Closes: every connection in the registry.
    """

    def __init__(self, registry: Registry, farewell: Farewell) -> None:
        """``farewell``: the worker's; it begins with the drain."""
        self._registry = registry
        self._farewell = farewell
        self._cancel_at = inf
        self._skip_cancel = False
        self._last = False
        self._shorter = asyncio.Event()

    def shorten(self, grace_s: float, *, abort: bool, last: bool) -> None:
        """Take at most ``grace_s`` seconds more before cancelling; ``abort`` leaves out the cancelling as well.

        ``last``: nobody else accepts, so that there is nothing to be spread. May be called before :meth:`run`.
        """
        self._cancel_at = min(self._cancel_at, asyncio.get_running_loop().time() + (0.0 if abort else grace_s))
        self._skip_cancel = self._skip_cancel or abort
        self._last = self._last or last
        if self._farewell.has_begun:
            self._begin_farewell()
        self._shorter.set()

    async def run(self) -> DrainReport:
        """Climb the ladder until no connection is left. Raises: nothing."""
        registry = self._registry
        opened = len(registry.open)
        self._begin_farewell()
        registry.start_draining(self._farewell)
        await self._until_empty(lambda: self._cancel_at)
        self._farewell.begin(0, 0.0, last=self._last)  # whoever has not been told is told now, before it is cancelled
        cancelled = len(registry.open)
        if cancelled and not self._skip_cancel:
            for connection in tuple(registry.open):
                connection.cancel()
            abort_at = asyncio.get_running_loop().time() + CANCEL_S
            await self._until_empty(lambda: 0.0 if self._skip_cancel else abort_at)
        aborted = len(registry.open)
        for connection in tuple(registry.open):
            connection.abort()
            connection.cancel()  # a handler that waits for something else than its peer does not see the cut
        leave_at = asyncio.get_running_loop().time() + ABORT_S
        await self._until_empty(lambda: leave_at)
        return DrainReport(opened, cancelled, aborted, len(registry.open))

    def _begin_farewell(self) -> None:
        grace_s = max(0.0, self._cancel_at - asyncio.get_running_loop().time())
        self._farewell.begin(len(self._registry.open), grace_s, last=self._last)

    async def _until_empty(self, deadline: Callable[[], float]) -> None:
        """Wait until no connection is open, or the deadline, which :meth:`shorten` may move closer."""
        loop = asyncio.get_running_loop()
        empty = loop.create_task(self._registry.wait_empty())
        try:
            while not empty.done():
                remaining_s = deadline() - loop.time()
                if remaining_s <= 0:
                    return
                shorter = loop.create_task(self._shorter.wait())
                await asyncio.wait({empty, shorter}, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)
                shorter.cancel()
                self._shorter.clear()
        finally:
            empty.cancel()
