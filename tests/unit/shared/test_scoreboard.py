"""The scoreboard's cells: who sees what, through which mapping."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hybrid.ground.errors import HybridError
from hybrid.shared.scoreboard import (
    BUCKETS,
    CELLS_PER_LINE,
    CELLS_PER_ROW,
    COUNTERS,
    HEADER_BYTES,
    LOCK_BYTES,
    LOCK_OFFSET,
    NOT_ACCEPTING,
    PARENTS_LINES,
    RETIRED_AFTER,
    UNKNOWN,
    Cell,
    Header,
    Scoreboard,
)


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create(8, now_ns=1)
    yield board
    board.close()


def test_attached_scoreboard_sees_what_its_maker_writes(board: Scoreboard) -> None:
    """One memory, two mappings."""
    row = board.use_slot(2)
    row[Cell.ACTIVE] = 5
    other = Scoreboard.attach(os.dup(board.fd))
    assert other.row(2).active == 5
    assert other.slots == 8 and other.slots_used == 3
    other.close()


def test_vacant_slots_are_never_the_least_loaded(board: Scoreboard) -> None:
    """A slot that takes nothing does not look like room, whether never used, skipped or reset."""
    board.use_slot(3)[Cell.ACTIVE] = 7
    assert min(board.active_column()) == 7
    board.row(3).reset()
    assert min(board.active_column()) >= NOT_ACCEPTING


def test_reset_keeps_the_count_of_spawns_and_what_is_retired(board: Scoreboard) -> None:
    """A new worker starts with a clean row; the slot remembers how many it had, and what they counted."""
    row = board.use_slot(0)
    row[Cell.SPAWNS], row[Cell.ACCEPTED] = 3, 99
    board.retire(0)
    row[Cell.ACCEPTED], row[Cell.LATENCIES + 5], row[Cell.LATENCY_NS] = 5, 6, 7
    row.reset()
    assert (row[Cell.SPAWNS], row[Cell.ACCEPTED], row.active) == (3, 0, 0)
    assert row[Cell.ACCEPTED + RETIRED_AFTER] == 99
    assert (row[Cell.LATENCIES + 5], row[Cell.LATENCY_NS]) == (0, 0)


def test_retiring_again_changes_nothing(board: Scoreboard) -> None:
    """A slot is retired when its worker is reaped, and once more before the next one is started."""
    row = board.use_slot(0)
    row[Cell.REQUESTS], row[Cell.LATENCIES + 20], row[Cell.LATENCY_NS] = 4, 4, 9
    for _ in range(3):
        board.retire(0)
        assert row[Cell.REQUESTS + RETIRED_AFTER] == 4
        assert board.header[Header.RETIRED_LATENCIES + 20] == 4
        assert board.header[Header.RETIRED_LATENCY_NS] == 9


def test_what_is_retired_keeps_out_of_the_lock(board: Scoreboard) -> None:
    """The header has room for both."""
    retired = range(Header.RETIRED_LATENCIES, Header.RETIRED_LATENCIES + BUCKETS)
    lock = range(LOCK_OFFSET // 8, (LOCK_OFFSET + LOCK_BYTES) // 8)
    assert not {*retired, Header.RETIRED_LATENCY_NS} & {*lock}
    assert Header.RETIRED_LATENCY_NS not in retired and Header.RETIRED_LATENCY_NS < HEADER_BYTES // 8
    assert Cell.LATENCIES + BUCKETS == CELLS_PER_ROW


def test_slot_without_a_worker_has_measured_nothing(board: Scoreboard) -> None:
    """Skipped, new or reset: unknown, where zero would be the figure of an idle worker."""
    row = board.use_slot(1)
    assert board.row(0).line(Cell.MEASURED_NS) == [UNKNOWN] * CELLS_PER_LINE
    row.store_line(Cell.MEASURED_NS, [5] * CELLS_PER_LINE)
    row.reset()
    assert row.line(Cell.MEASURED_NS) == [UNKNOWN] * CELLS_PER_LINE


def test_line_is_stored_as_its_cells(board: Scoreboard) -> None:
    """The copy says the same as eight stores, and touches no neighbour."""
    row = board.use_slot(0)
    before = row.cells.tolist()
    values = [3, 0, UNKNOWN, 1 << 63, 5, 6, 7, 8]
    row.store_line(Cell.MEASURED_NS, values)
    assert [row[Cell.MEASURED_NS + cell] for cell in range(CELLS_PER_LINE)] == values
    assert row.line(Cell.MEASURED_NS) == values
    after = row.cells.tolist()
    first, last = Cell.MEASURED_NS, Cell.MEASURED_NS + CELLS_PER_LINE
    assert (after[:first], after[last:]) == (before[:first], before[last:])
    assert first % CELLS_PER_LINE == 0 and last - 1 == Cell.ACCEPT_QUEUE_LIMIT


def test_garbage_in_the_header_does_not_mislead_the_maker(board: Scoreboard) -> None:
    """A worker can write every cell; the parent still resets no living row, and readers stay inside the memory."""
    living = board.use_slot(0)
    living[Cell.ACTIVE] = 3
    other = Scoreboard.attach(os.dup(board.fd))
    for garbage in (0, 1 << 60):
        board._cells[2], board._cells[3] = garbage, garbage  # SLOTS, SLOTS_USED
        assert len(list(board.rows())) <= board.slots and len(board.active_column()) <= board.slots
        board.use_slot(1)
        assert living.active == 3
    assert len(list(other.rows())) <= 8
    late = Scoreboard.attach(os.dup(board.fd))
    assert late.slots <= 8
    other.close()
    late.close()


def test_active_column_is_a_view(board: Scoreboard) -> None:
    """The acceptor's ``min()`` sees a store at once."""
    row = board.use_slot(1)
    column = board.active_column()
    row[Cell.ACTIVE] = 11
    assert column[1] == 11
    assert len(column) == 2


def test_every_cell_of_a_line_has_one_writer() -> None:
    """The parent's cells are on lines of its own, the worker's are not: no line is written by two processes."""
    parents = {Cell.LIFE, Cell.PID, Cell.GENERATION, Cell.SPAWNED_NS, Cell.SPAWNS, Cell.SEAT, Cell.RETIRED}
    retired = {cell + RETIRED_AFTER for cell in COUNTERS}
    cells = {value for name, value in vars(Cell).items() if name.isupper()}
    assert all(cell // CELLS_PER_LINE in PARENTS_LINES for cell in parents | retired)
    assert all(cell // CELLS_PER_LINE not in PARENTS_LINES for cell in cells - parents)
    assert len(cells) == len([name for name in vars(Cell) if name.isupper()])


@pytest.mark.parametrize("content", [b"", b"x" * 10, bytes(8192)])
def test_something_else_is_refused(content: bytes) -> None:
    """A descriptor that holds no scoreboard of this version is an error that says so."""
    fd = os.memfd_create("other")
    os.write(fd, content)
    try:
        with pytest.raises(HybridError, match="scoreboard"):
            Scoreboard.attach(fd)
    finally:
        os.close(fd)


def test_closing_with_a_row_still_held_is_no_error(board: Scoreboard) -> None:
    """A view that somebody keeps does not make the end raise."""
    row = board.use_slot(0)
    other = Scoreboard.attach(os.dup(board.fd))
    held = other.row(0)
    other.close()
    del row, held
