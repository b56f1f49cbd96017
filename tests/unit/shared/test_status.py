"""The workers as the scoreboard shows them, whatever stands there."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest

from hybrid.ground.states import Life
from hybrid.shared.scoreboard import UNKNOWN, Cell, Header, Scoreboard
from hybrid.shared.status import WorkerLoad, WorkerStatus, WorkerUse, statuses

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


def test_requests_are_shown(board: Scoreboard) -> None:
    """Of the worker that had some."""
    board.row(1)[Cell.REQUESTS] = 77
    assert [worker.requests for worker in statuses(board)] == [0, 77]


def test_garbage_in_a_row_is_shown_as_such(board: Scoreboard) -> None:
    """A worker writes what it likes: a number that is no state is an unknown one, and the others are shown."""
    row = board.row(0)
    for cell in range(len(row.cells)):
        row[cell] = GARBAGE
    first, second = statuses(board)
    assert (first.state, second.state) == ("unknown", "ready")
    assert first.since(second) is None and first.since(first) is None


def test_garbage_for_the_number_of_slots_ends_with_the_memory(board: Scoreboard) -> None:
    """Rows that are not there are not shown."""
    with mmap.mmap(board.fd, 0) as memory, memoryview(memory).cast("Q") as header:
        header[Header.SLOTS_USED] = GARBAGE
    assert len(statuses(board)) == 4


def test_worker_that_measures_is_shown(board: Scoreboard) -> None:
    """Cell by cell; what is unknown is None, never zero."""
    board.row(0).store_line(Cell.MEASURED_NS, (1, 2, 3, 4, 5, 6, 7, 8))
    board.row(1).store_line(Cell.MEASURED_NS, (1, UNKNOWN, 0, 0, 0, 0, UNKNOWN, UNKNOWN))
    first, second = statuses(board)
    assert first.load == WorkerLoad(
        measured_ns=1,
        loop_busy_ns=2,
        on_cpu_ns=3,
        run_queue_ns=4,
        lag_ns=5,
        lag_max_ns=6,
        accept_queue=7,
        accept_queue_limit=8,
    )
    assert second.load == WorkerLoad(1, None, 0, 0, 0, 0, None, None)


def seen(load: WorkerLoad, pid: int = 7, slot: int = 0) -> WorkerStatus:
    """Return a worker with this load."""
    return WorkerStatus(slot, pid, "ready", 0, 0, load)


BEFORE = WorkerLoad(measured_ns=10**9, loop_busy_ns=400, on_cpu_ns=300, run_queue_ns=200, lag_ns=10**8)


def test_use_is_the_growth_between_two_readings() -> None:
    """Shares of the time between the two ticks, not of the time between the two looks."""
    after = WorkerLoad(
        measured_ns=3 * 10**9,
        loop_busy_ns=400 + 10**9,
        on_cpu_ns=300 + 5 * 10**8,
        run_queue_ns=200,
        lag_ns=4 * 10**8,
    )
    use = seen(after).since(seen(BEFORE))
    assert use == WorkerUse(elapsed_s=2.0, loop=0.5, cpu=0.25, run_queue=0.0, lag_s=0.3)


def test_unknown_stays_unknown() -> None:
    """In either reading; the others are not touched by it."""
    after = WorkerLoad(2 * 10**9, None, 300, None, None)
    assert seen(after).since(seen(BEFORE)) == WorkerUse(1.0, loop=None, cpu=0.0, run_queue=None, lag_s=None)
    assert seen(BEFORE).since(seen(WorkerLoad(5))) == WorkerUse((10**9 - 5) / 1e9, None, None, None, None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (seen(BEFORE, pid=6), seen(WorkerLoad(2 * 10**9))),
        (seen(BEFORE, slot=1), seen(WorkerLoad(2 * 10**9))),
        (seen(BEFORE), seen(BEFORE)),
        (seen(WorkerLoad(2 * 10**9)), seen(BEFORE)),
        (seen(WorkerLoad()), seen(BEFORE)),
        (seen(BEFORE), seen(WorkerLoad())),
    ],
    ids=["replaced", "another-slot", "no-tick-since", "wrong-order", "not-yet", "gone"],
)
def test_two_readings_that_have_nothing_between_them(before: WorkerStatus, after: WorkerStatus) -> None:
    """No division by zero, no share of somebody else's time."""
    assert after.since(before) is None


def test_share_is_never_more_than_all_nor_less_than_nothing() -> None:
    """The scheduler's accounts come in steps; a figure that shrank is none."""
    use = seen(WorkerLoad(2 * 10**9, 399, 300 + 2 * 10**9)).since(seen(BEFORE))
    assert use is not None and use.cpu == 1.0 and use.loop is None
