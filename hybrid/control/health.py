"""``/healthz`` and ``/readyz``: whether the server is alive, and whether it is to be sent anything.

Alive: the parent's loop turns. It is the one process that nobody restarts, so it is asked, and has to answer: a pid
that exists may be that of a process that is stopped. Ready: enough workers accept, and nobody has told the server to
stop.

Source: Kubernetes, liveness and readiness probes.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from hybrid.control.web import Answer, Request, Routes
from hybrid.ground.clock import Clock, monotonic
from hybrid.ground.states import Life, Readiness
from hybrid.shared.messages import Op
from hybrid.shared.notices import Answered, PoolState
from hybrid.shared.scoreboard import Cell, Scoreboard

ANSWER_WITHIN_S = 5.0
"""For the parent to answer. It waits for no disk and no lock, so it is late only where the machine is."""
FRESH_S = 1.0
"""An answer is believed for so long, however many ask."""
UNAVAILABLE = 503


class StateView(Protocol):
    """What is needed of control's state."""

    @property
    def scoreboard(self) -> Scoreboard: ...
    @property
    def pool(self) -> PoolState: ...
    async def ask(self, op: Op, slot: int = 0, a: int = 0, b: int = 0) -> Answered: ...
    @property
    def is_over(self) -> asyncio.Event: ...


def needed(pool: PoolState) -> int:
    """Return how many workers must accept for the server to be ready: half of the least it is to have; one at least.

    Not all of them: a server that replaces one worker would be taken out of its balancer, and its load given to others.
    """
    return max(1, (min(pool.least or pool.target, pool.target) + 1) // 2)


def accepting(board: Scoreboard) -> int:
    """Return how many workers are there to accept."""
    return sum(1 for row in board.rows() if row[Cell.LIFE] == Life.READY)


def why_not_ready(state: StateView) -> str:
    """Return the reason why nothing is to be sent here; empty: the server is ready."""
    if state.is_over.is_set():
        return "the server is gone"
    readiness = state.scoreboard.readiness
    if readiness is Readiness.LEAVING:
        return "draining: the server was told to stop"
    if readiness is Readiness.BOOTING:
        return "booting: no worker has accepted yet"
    ready, least = accepting(state.scoreboard), needed(state.pool)
    return "" if ready >= least else f"too few workers: {ready} accept, {least} must"


class Pulse:
    """Asks the parent whether it turns, once for all who want to know. Runs in: control, in its loop."""

    def __init__(self, state: StateView, clock: Clock = monotonic) -> None:
        self._state = state
        self._clock = clock
        self._asking: asyncio.Task[str] | None = None
        self._asked_at = 0.0

    async def why_not_alive(self) -> str:
        """Return the reason why the server needs to be restarted; empty: it is alive."""
        asking = self._asking
        if asking is None or (asking.done() and self._clock() - self._asked_at > FRESH_S):
            self._asked_at = self._clock()
            asking = self._asking = asyncio.get_running_loop().create_task(self._ask(), name="pulse")
        return await asyncio.shield(asking)

    async def _ask(self) -> str:
        try:
            answer = await asyncio.wait_for(self._state.ask(Op.CONTROL_TURNS), ANSWER_WITHIN_S)
        except asyncio.TimeoutError:
            return f"the parent has not answered within {ANSWER_WITHIN_S:.0f} s"
        return "" if answer.ok else answer.text  # a no is ours: it is gone, or the channel to it is full


def routes(state: StateView) -> Routes:
    """Return the two pages, by path. Runs in: control. Closes: nothing."""
    pulse = Pulse(state)

    async def healthz(_request: Request) -> Answer:
        return _said(await pulse.why_not_alive(), "alive")

    async def readyz(_request: Request) -> Answer:
        return _said(why_not_ready(state), "ready")

    return {"/healthz": healthz, "/readyz": readyz}


def _said(why_not: str, else_: str) -> Answer:
    return Answer(f"{why_not or else_}\n".encode(), UNAVAILABLE if why_not else 200)
