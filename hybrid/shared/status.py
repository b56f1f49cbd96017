"""The workers as the scoreboard shows them."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.states import Life
from hybrid.shared.scoreboard import Cell, Scoreboard


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker. ``state``: a name of :class:`~hybrid.ground.states.Life`, lower case.

    ``active``: open connections. ``accepted``: connections ever accepted by this worker; the count may be a quarter
    of a second old.
    """

    slot: int
    pid: int
    state: str
    active: int
    accepted: int


def statuses(scoreboard: Scoreboard) -> tuple[WorkerStatus, ...]:
    """Return every slot that ever held a worker."""
    return tuple(
        WorkerStatus(row.slot, row[Cell.PID], Life(row[Cell.LIFE]).name.lower(), row.active, row[Cell.ACCEPTED])
        for row in scoreboard.rows()
    )
