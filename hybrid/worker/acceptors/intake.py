"""All acceptors of one worker: whether it takes connections at all.

It takes none while the parent parked it, while it holds as many as it may, or while descriptors are short. Then
every listener is left alone: connections wait in the kernel's queue, from which other workers take them.
"""

from __future__ import annotations

import asyncio
import logging
from enum import IntFlag

from hybrid.connection.registry import Registry, Served
from hybrid.shared.scoreboard import Scoreboard
from hybrid.worker.acceptors import descriptors
from hybrid.worker.acceptors.acceptor import Acceptor

_NO_LIMIT = 1 << 62
_LAST_TURNS = 8192
"""Turns of the loop in which the last worker empties the queue; one connection is accepted in each."""
BEAT_S = 1.0
"""Between looks at what no event tells: a lost wake-up, files that the app opened."""
_WARN_S = 60.0
"""Between two warnings of the same kind."""
_MAX_UNCHECKED = 1024
"""Connections accepted between two counts of descriptors, at most."""

_logger = logging.getLogger("hybrid.error")


class Hold(IntFlag):
    """Why the worker takes no connections. It does when nothing holds it."""

    NOTHING = 0
    PARKED = 1
    """The parent said so."""
    FULL = 2
    """It has as many as it may have."""
    NO_DESCRIPTORS = 4
    """Another connection would take a descriptor of the reserve."""
    GONE = 8
    """It leaves for good."""


class Intake:
    """The acceptors of a worker, its connection limit and its descriptors.

    The limit is kept but for what was accepted before the connection that reached it could say so: at most one
    for each other listener, and with asyncio two for each, since it opens connections two turns after accepting.
    It is a :class:`~hybrid.connection.registry.Door` itself, for acceptors that have nothing to add.
    Runs in: worker, in its loop. Closes: its acceptors, on :meth:`leave`.
    """

    def __init__(
        self, registry: Registry, scoreboard: Scoreboard, limit: int, at_limit: str = "connection limit reached"
    ) -> None:
        """``at_limit``: what to say when it is reached, for the log."""
        self.registry = registry
        self.acceptors: list[Acceptor] = []
        self.hold = Hold.PARKED
        self.scoreboard = scoreboard
        self._slots_used = 0
        self._column = scoreboard.active_column()
        self._limit = registry.limit = limit
        registry.flush()  # the parent that passes connections keeps the limit, too
        self._low = limit - min(16, limit // 32)  # below it a full worker takes connections again
        self._at_limit = at_limit
        self._recheck_at = 0
        self._timer: asyncio.TimerHandle | None = None
        self._warned: dict[str, float] = {}

    # ── the worker's side ──

    async def start(self) -> None:
        """Accept on every listener.

        Raises: ListenError: the loop does not take one of them; none is left open.
        """
        self.hold = Hold.NOTHING
        try:
            for acceptor in self.acceptors:
                await acceptor.start()
        except BaseException:
            await self.leave()
            raise
        if self.hold:  # a limit was reached before everything was open
            self._stop(self.hold)
        self.registry.accepting = not self.hold
        self._tick()

    def park(self) -> None:
        """Accept no more until :meth:`unpark`; open connections go on."""
        self._stop(Hold.PARKED)
        self._stop_timer()

    def unpark(self) -> None:
        """Accept again, unless something else is in the way."""
        if self.hold & Hold.GONE:
            return
        self._resume(Hold.PARKED)
        if self._timer is None:
            self._tick()

    async def take_what_waits(self) -> None:
        """Go on accepting until no connection waits, over the limit too: nobody else will, and what is left is cut.

        Bounded, should more and more come.
        """
        self._limit = _NO_LIMIT
        self._resume(Hold.FULL)
        for _ in range(_LAST_TURNS):
            waiting = [acceptor for acceptor in self.acceptors if acceptor.waiting()]
            if not waiting or self.hold:
                return
            for acceptor in waiting:
                acceptor.hurry()
            await asyncio.sleep(0)

    async def leave(self) -> None:
        """Stop accepting for good; when it returns, every accepted connection is in the registry."""
        self.hold |= Hold.GONE
        self.registry.accepting = False
        self._stop_timer()
        for acceptor in self.acceptors:
            await acceptor.leave()

    # ── the connections' side ──

    def opened(self, connection: Served) -> int:
        """Count a new connection, stop if it was the last that fits; return how many are open."""
        registry = self.registry
        active = registry.add(connection)
        if active >= self._limit or registry.accepted >= self._recheck_at:
            self._took(active)
        return active

    @property
    def is_check_due(self) -> bool:
        """Whether as many connections came as may come between two counts of descriptors. Any thread may ask."""
        return self.registry.accepted >= self._recheck_at

    def closed(self, connection: Served) -> None:
        """Count a closed connection, and take another if that is what was waited for."""
        self.registry.remove(connection)
        if self.hold:
            self.gave()

    def failed(self, connection: Served) -> None:
        """Count a connection that its handler lost."""
        self.registry.fail()

    def fewest(self) -> int:
        """Return how many connections the worker with the fewest holds, of those that accept."""
        scoreboard = self.scoreboard
        if scoreboard.slots_used != self._slots_used:  # a slot more than last time: its worker is to be filled first
            self._slots_used = scoreboard.slots_used
            self._column = scoreboard.active_column()
        return min(self._column)

    # ── limits ──

    def check(self) -> None:
        """Count descriptors, and pause or go on accordingly. Any time; costs 3 µs."""
        room = descriptors.room()
        # The app may open files too, several for each connection, so look again well before the room is used up.
        self._recheck_at = self.registry.accepted + min(_MAX_UNCHECKED, max(1, room // 4))
        if room <= 0:
            self.exhausted()
        elif self.hold & Hold.NO_DESCRIPTORS and room > descriptors.reserve(descriptors.soft_limit()) // 2:
            self._resume(Hold.NO_DESCRIPTORS)

    def exhausted(self) -> None:
        """Leave connections to other workers until descriptors are free again."""
        self._stop(Hold.NO_DESCRIPTORS)
        self.warn(
            f"descriptors run short: {descriptors.in_use()} of {descriptors.soft_limit()} in use; new connections "
            "wait for other workers. Raise RLIMIT_NOFILE (ulimit -n) or lower --limit-connections."
        )

    def beat(self) -> None:
        """Look at what no event tells: descriptors, a limit that threads have reached, queues."""
        self.check()
        if self.registry.active >= self._limit:
            self._fill(self.registry.active)
        elif self.hold & Hold.FULL:
            self.gave()  # the last one may have been closed, in a thread, just before the hold
        for acceptor in self.acceptors:
            acceptor.beat()

    def warn(self, message: str) -> None:
        """Log a warning, at most once a minute for each kind (its words before the first colon)."""
        kind, now = message.partition(":")[0], asyncio.get_running_loop().time()
        if now - self._warned.get(kind, -_WARN_S) >= _WARN_S:
            self._warned[kind] = now
            _logger.warning(message)

    def _took(self, active: int) -> None:
        if active >= self._limit:
            self._fill(active, owes_nothing=True)
        if self.registry.accepted >= self._recheck_at:
            self.check()

    def _fill(self, active: int, *, owes_nothing: bool = False) -> None:
        self._stop(Hold.FULL, owes_nothing=owes_nothing)
        self.warn(f"{self._at_limit}: {active} open; new connections wait for other workers")

    def gave(self) -> None:
        """Look whether the connection that was just closed is what a hold waits for. In the loop."""
        if self.hold & Hold.FULL and self.registry.active < self._low:
            self._resume(Hold.FULL)
        if self.hold & Hold.NO_DESCRIPTORS:
            asyncio.get_running_loop().call_soon(self.check)  # the loop closes the descriptor after telling us

    def _stop(self, reason: Hold, *, owes_nothing: bool = False) -> None:
        if not self.hold and reason is not Hold.PARKED:
            self.registry.pauses += 1
        self.hold |= reason
        self.registry.accepting = False
        for acceptor in self.acceptors:
            acceptor.park(owes_nothing=owes_nothing)

    def _resume(self, reason: Hold) -> None:
        self.hold &= ~reason
        if not self.hold:
            for acceptor in self.acceptors:
                acceptor.unpark()
            self.registry.accepting = True

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._tick)
        self.beat()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
