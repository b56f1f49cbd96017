"""Counters out of the scoreboard that never go back: what a slot counts now, and what it counted for workers before.

Between a worker's end and the next one in its slot the parent moves counts from one line to another
(:meth:`~hybrid.shared.scoreboard.Scoreboard.retire`). Whoever reads meanwhile sees by ``RETIRING`` that he has to read
again. What a worker's code may have written besides is judged: what is no count is none, and what was shown once is not
taken back.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass

from hybrid.shared.scoreboard import (
    BUCKETS,
    CELLS_PER_ROW,
    COUNTERS,
    MOST,
    RETIRED_AFTER,
    UNKNOWN,
    Cell,
    Header,
    Scoreboard,
    counted,
)

TRIES = 100
"""To read while the parent moves nothing: a move takes it some microseconds, and comes when a worker ends."""
PAUSE_S = 0.0005
"""Between two of them: the parent may have lost its CPU in the middle of a move, and we may be who has it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """One reading. ``slots``: by slot, each counter by its cell; one that nobody measures is missing.

    ``latencies``: requests by how many bits their nanoseconds have; ``latency_ns``: of all of them together.
    ``started``: workers ever started.
    """

    slots: dict[int, dict[int, int]]
    latencies: tuple[int, ...]
    latency_ns: int
    started: int


def read(board: Scoreboard) -> Counts:
    """Return all counters of one moment. Raises: nothing, whatever stands in the scoreboard."""
    header = board.header
    for tried in range(TRIES):
        if tried:
            time.sleep(PAUSE_S)
        before = header[Header.RETIRING]
        counts = _read(board, header)
        if before % 2 == 0 and header[Header.RETIRING] == before:
            break
    return counts


def _read(board: Scoreboard, header: memoryview) -> Counts:
    slots: dict[int, dict[int, int]] = {}
    first = Header.RETIRED_LATENCIES
    latencies = [counted(value) for value in header[first : first + BUCKETS].tolist()]
    latency_ns = counted(header[Header.RETIRED_LATENCY_NS])
    started = 0
    for slot in range(board.slots_used):
        cells = board.row(slot).cells.tolist()
        if len(cells) < CELLS_PER_ROW:
            break  # the number of slots is garbage: here the memory ends
        slots[slot] = {
            cell: counted(cells[cell]) + counted(cells[cell + RETIRED_AFTER])
            for cell in COUNTERS
            if cells[cell] != UNKNOWN or cells[cell + RETIRED_AFTER]
        }
        started += counted(cells[Cell.SPAWNS])
        if cells[Cell.LATENCY_NS]:
            latency_ns += counted(cells[Cell.LATENCY_NS])
            for bucket in range(BUCKETS):
                latencies[bucket] += counted(cells[Cell.LATENCIES + bucket])
    return Counts(slots, tuple(latencies), latency_ns, started)


class Steady:
    """Remembers what was shown of each counter, and shows no less again. Runs in: control."""

    def __init__(self) -> None:
        self._shown: dict[Hashable, float] = {}

    def __call__(self, name: Hashable, value: float | None) -> float | None:
        """Return ``value``, or what was shown under ``name`` before if that is more. None: it is not known."""
        before = self._shown.get(name)
        if value is None or value >= MOST:
            return before
        shown = self._shown[name] = value if before is None else max(value, before)
        return shown
