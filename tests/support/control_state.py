"""What control knows, without a parent: a scoreboard of the test's own, and answers that it chooses."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life, Readiness
from hybrid.shared.messages import Op
from hybrid.shared.notices import Answered, PoolState
from hybrid.shared.scoreboard import Cell, Row, Scoreboard
from hybrid.shared.settings import Settings


@dataclass
class FakeState:
    """The state of a server that is what the test makes it."""

    scoreboard: Scoreboard
    pool: PoolState = field(default_factory=lambda: PoolState(phase="running", target=2, least=2, most=2))
    settings: Settings = field(default_factory=Settings)
    history: deque[Any] = field(default_factory=deque)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Op] = field(default_factory=list)
    turns: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: the parent answers."""
    answer: Answered = field(default_factory=lambda: Answered(text="yes"))

    async def ask(self, op: Op, slot: int = 0, a: int = 0, b: int = 0) -> Answered:
        """Ask the parent."""
        self.asked.append(op)
        await self.turns.wait()
        return self.answer

    def worker(self, slot: int, life: Life = Life.READY, pid: int = 4_000_000) -> Row:
        """Have a worker in a slot, as the parent writes it there."""
        row = self.scoreboard.use_slot(slot)
        row[Cell.LIFE], row[Cell.PID], row[Cell.SEAT] = life, pid + slot, slot
        row[Cell.GENERATION], row[Cell.SPAWNED_NS] = 1, monotonic_ns()
        row[Cell.SPAWNS] += 1
        row[Cell.ACTIVE] = 0
        return row


@contextmanager
def fake_state(slots: int = 8) -> Iterator[FakeState]:
    """Yield the state of a server that is ready and has no worker. Closes: its scoreboard."""
    board = Scoreboard.create(slots, monotonic_ns())
    board.readiness = Readiness.READY
    try:
        yield FakeState(board)
    finally:
        board.close()
