"""What HAProxy's agent-check is told: one line for each connection, then the end.

::

    up ready 73%      send so much of what the configured weight would bring: spare capacity, hybrid.control.capacity
    drain             send nobody new: it was told to stop, it is parked, or it boots
    down #no worker   there is not a single worker

``drain`` is the administrative state, ``down`` the operating one, and only the agent takes back what the agent has
said; so the line of a pool that serves takes back both. A balancer that finds nobody at this address changes nothing:
whether the service can be reached is for its other check, ``check``, to find out.

Whoever connects is answered at once, whatever it says (``agent-send``), and is gone a moment later.

Source: HAProxy 2.6 Configuration Manual, "agent-check".
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from typing import Protocol

from hybrid.control.accepting import Accepting
from hybrid.control.capacity import Capacity, Smoothed, capacity
from hybrid.control.queues import own_queues
from hybrid.control.sampler import Sampler
from hybrid.ground.clock import Clock, monotonic
from hybrid.ground.states import Life, Readiness
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.settings import Settings

LOOK_EVERY_S = 1.0
"""Between two looks at what the workers do, asked or not: a figure of the last second is at hand for whoever asks."""
PATIENCE_S = 1.0
"""How long a peer may take to leave after the answer; then the connection is aborted."""
MOST_PEERS = 64
"""Connections at a time; one more is closed without an answer."""
MOST_BYTES = 1024
"""What a peer may say; one that says more is cut."""

DRAIN = b"drain\n"
DOWN = b"down #no worker\n"


class PoolFigures(Protocol):
    """What the parent has told about the pool: a part of ``hybrid.shared.notices.PoolState``."""

    @property
    def target(self) -> int:
        """Return how many workers there are to be."""


class Watched(Protocol):
    """What is answered from: a part of ``hybrid.control.state.State``."""

    @property
    def scoreboard(self) -> Scoreboard:
        """Return the workers' rows."""

    @property
    def settings(self) -> Settings:
        """Return those in force."""

    @property
    def pool(self) -> PoolFigures:
        """Return what the parent has told last."""


class Agent:
    """Knows the line.

    Runs in: control. Raises: nothing, whatever the workers have written into the scoreboard.
    """

    def __init__(self, state: Watched, sampler: Sampler, clock: Clock = monotonic) -> None:
        self._state = state
        self._sampler = sampler
        self._clock = clock
        self._smoothed = Smoothed()
        self._capacity = Capacity(load=0.0, present=1.0)

    def look(self) -> Capacity:
        """See what the workers do now; return the average of the last seconds."""
        seen = self._sampler.sample(with_memory=False)
        now = capacity(seen, self._state.pool.target, own_queues=own_queues(self._state.settings))
        self._capacity = self._smoothed(now, self._clock())
        return self._capacity

    def line(self) -> bytes:
        """Return what a balancer is told now: whether to send anybody as of now, how many as of the last look."""
        lives = [row[Cell.LIFE] for row in self._state.scoreboard.rows()]
        if not any(life not in (Life.VACANT, Life.EXITED) for life in lives):
            return DOWN
        if self._state.scoreboard.readiness is not Readiness.READY or Life.READY not in lives:
            return DRAIN
        if not self._capacity.present:  # nobody served at the last look
            self.look()
        return b"up ready %d%%\n" % math.ceil(100 * self._capacity.weight)


async def serve(state: Watched, sampler: Sampler, listener: socket.socket) -> None:
    """Answer until cancelled.

    Runs in: control. Closes: ``listener`` and every connection.
    """
    agent = Agent(state, sampler)
    open_ones: set[asyncio.Transport] = set()
    accepting = Accepting(listener, lambda: _Asked(agent.line, open_ones))
    try:
        while True:
            agent.look()
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        accepting.close()
        for transport in tuple(open_ones):
            transport.abort()


class _Asked(asyncio.Protocol):
    """A connection: the line, the end. Closes: itself, :data:`PATIENCE_S` later at the latest."""

    def __init__(self, line: Callable[[], bytes], open_ones: set[asyncio.Transport]) -> None:
        self._line = line
        self._open_ones = open_ones
        self._heard_bytes = 0
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it. The sending half is closed, not the connection: what the peer says would turn it into a reset."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._open_ones) >= MOST_PEERS:
            transport.abort()
            return
        self._open_ones.add(transport)
        self._deadline = asyncio.get_running_loop().call_later(PATIENCE_S, transport.abort)
        transport.write(self._line())
        transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Take no notice, for as long as it is short."""
        self._heard_bytes += len(data)
        if self._heard_bytes > MOST_BYTES:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._open_ones.discard(self._transport)
        if self._deadline is not None:
            self._deadline.cancel()
