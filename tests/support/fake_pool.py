"""A pool that does not exist: a scoreboard in which workers seem to serve, and a state to show it by."""

from __future__ import annotations

from collections import deque

from hybrid.ground.states import Life, Readiness
from hybrid.shared.notices import Notice, PoolState
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.settings import Settings

SECOND = 1_000_000_000
PID = 4_100_000
"""Of the worker in slot 0; no such processes are."""


class FakePool:
    """What control's State has, with time and load turned by hand: ``now_ns`` is its clock. Close it in the end."""

    def __init__(self, workers: int, **pool: object) -> None:
        self.now_ns = 1000 * SECOND
        self.settings = Settings()
        self.scoreboard = Scoreboard.create(max(4, workers), self.now_ns - 500 * SECOND)
        self.scoreboard.readiness = Readiness.READY
        known = {"phase": "running", "target": workers, "least": workers, "most": workers, "app": "shop:app"}
        self.pool = PoolState(**{**known, "kind": "asgi", "addresses": ("127.0.0.1:8000",), **pool})  # type: ignore[arg-type]  # fields by name
        self.history: deque[Notice] = deque(maxlen=1000)
        for slot in range(workers):
            self.spawn(slot)

    def clock_ns(self) -> int:
        """Return the time by this pool's clock."""
        return self.now_ns

    def spawn(self, slot: int, life: Life = Life.READY) -> None:
        """Put a new worker into a slot."""
        row = self.scoreboard.use_slot(slot)
        row[Cell.SPAWNS] += 1
        row[Cell.LIFE], row[Cell.SEAT], row[Cell.GENERATION] = life, slot, 1
        row[Cell.PID] = PID + slot + 1000 * row[Cell.SPAWNS]
        row[Cell.SPAWNED_NS] = row[Cell.HEARTBEAT_NS] = self.now_ns
        row[Cell.ACTIVE], row[Cell.LIMIT] = 0, 1000
        row.store_line(Cell.MEASURED_NS, (self.now_ns, 0, 0, 0, 0, 0, 0, 4096))

    def work(self, slot: int, *, requests: int = 0, accepted: int = 0, busy_ns: int = 0, **cells: int) -> None:
        """Let the worker tick now, having done this much since; ``cells``: others, by name, set to a value."""
        row = self.scoreboard.row(slot)
        row[Cell.REQUESTS] += requests
        row[Cell.ACCEPTED] += accepted
        row[Cell.LOOP_BUSY_NS] += busy_ns
        row[Cell.HEARTBEAT_NS] = row[Cell.MEASURED_NS] = self.now_ns
        for name, value in cells.items():
            row[getattr(Cell, name.upper())] = value

    def notice(self, notice: Notice) -> None:
        """Let the parent have said something."""
        self.history.append(notice)

    def close(self) -> None:
        """Close the scoreboard."""
        self.scoreboard.close()
