"""The workers as the scoreboard shows them."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.states import Life
from hybrid.shared.scoreboard import CELLS_PER_ROW, Cell, Scoreboard

_LIVES = frozenset(Life)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker. ``state``: a name of :class:`~hybrid.ground.states.Life`, lower case, or ``unknown``.

    ``active``: open connections. ``accepted``: connections ever accepted by this worker; the count may be a quarter
    of a second old.
    """

    slot: int
    pid: int
    state: str
    active: int
    accepted: int


def statuses(scoreboard: Scoreboard) -> tuple[WorkerStatus, ...]:
    """Return every slot that ever held a worker.

    Raises: nothing, whatever a worker's code has written into the memory that it shares with everybody.
    """
    found = []
    for slot in range(scoreboard.slots_used):
        row = scoreboard.row(slot)
        if len(row.cells) < CELLS_PER_ROW:
            break  # the number of slots is garbage: here the memory ends
        found.append(WorkerStatus(slot, row[Cell.PID], _name_of(row[Cell.LIFE]), row.active, row[Cell.ACCEPTED]))
    return tuple(found)


def _name_of(life: int) -> str:
    return Life(life).name.lower() if life in _LIVES else "unknown"
