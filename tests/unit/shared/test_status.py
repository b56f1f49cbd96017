"""The workers as the scoreboard shows them, whatever stands there."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest

from hybrid.ground.states import Life
from hybrid.shared.scoreboard import Cell, Header, Scoreboard
from hybrid.shared.status import WorkerStatus, statuses

GARBAGE = 2**64 - 1


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """A scoreboard of four slots, two of them used."""
    board = Scoreboard.create(4, now_ns=1)
    for slot in (0, 1):
        row = board.use_slot(slot)
        row[Cell.LIFE], row[Cell.PID], row[Cell.ACTIVE], row[Cell.ACCEPTED] = Life.READY, 10 + slot, 3, 9
    yield board
    board.close()


def test_every_used_slot_is_shown(board: Scoreboard) -> None:
    """In order, with the state's name."""
    assert statuses(board) == (WorkerStatus(0, 10, "ready", 3, 9), WorkerStatus(1, 11, "ready", 3, 9))


def test_garbage_in_a_row_is_shown_as_such(board: Scoreboard) -> None:
    """A worker writes what it likes: a number that is no state is an unknown one, and the others are shown."""
    row = board.row(0)
    for cell in range(len(row.cells)):
        row[cell] = GARBAGE
    first, second = statuses(board)
    assert (first.state, second.state) == ("unknown", "ready")


def test_garbage_for_the_number_of_slots_ends_with_the_memory(board: Scoreboard) -> None:
    """Rows that are not there are not shown."""
    with mmap.mmap(board.fd, 0) as memory, memoryview(memory).cast("Q") as header:
        header[Header.SLOTS_USED] = GARBAGE
    assert len(statuses(board)) == 4
