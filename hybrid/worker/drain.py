"""The end of a worker's connections: told, waited for, cancelled, cut.

The ladder that a stop climbs: every open connection learns that the worker drains; after the grace handlers are
cancelled; a second later what is left is cut. A second wish from the parent only makes the ladder shorter.

Source: RFC 9112 §9.6 (tear-down) for the idea that the peer is told before it is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from hybrid.connection.registry import Registry

CANCEL_S = 1.0
"""From cancelling handlers to cutting their connections."""
ABORT_S = 0.5
"""From cutting connections to leaving without the handlers that ignore it."""


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

    def __init__(self, registry: Registry, grace_s: float, *, abort: bool = False) -> None:
        self._registry = registry
        loop = asyncio.get_running_loop()
        self._cancel_at = loop.time() + (0.0 if abort else grace_s)
        self._skip_cancel = abort
        self._shorter = asyncio.Event()

    def shorten(self, grace_s: float, abort: bool) -> None:
        """Take at most ``grace_s`` seconds more before cancelling; ``abort`` leaves out the cancelling as well."""
        self._cancel_at = min(self._cancel_at, asyncio.get_running_loop().time() + grace_s)
        self._skip_cancel = self._skip_cancel or abort
        self._shorter.set()

    async def run(self) -> DrainReport:
        """Climb the ladder until no connection is left. Raises: nothing."""
        registry = self._registry
        opened = len(registry.open)
        registry.start_draining()
        await self._until_empty(lambda: self._cancel_at)
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
