"""Counters that outlive their worker."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.control import counters
from hybrid.shared.scoreboard import BUCKETS, COUNTERS, RETIRED_AFTER, UNKNOWN, Cell, Header, Scoreboard
from tests.support.control_state import fake_state


def test_a_count_survives_its_worker_and_the_next_adds_to_it() -> None:
    """What is shown of a slot is the sum over all workers that it had."""
    with fake_state() as state:
        row = state.worker(1)
        row[Cell.ACCEPTED], row[Cell.REQUESTS], row[Cell.LOOP_BUSY_NS] = 5, 7, 100
        state.scoreboard.retire(1)
        assert counters.read(state.scoreboard).slots[1][Cell.REQUESTS] == 7
        row = state.worker(1)
        row[Cell.ACCEPTED], row[Cell.REQUESTS], row[Cell.LOOP_BUSY_NS] = 1, 2, 30
        found = counters.read(state.scoreboard)
        assert [found.slots[1][cell] for cell in (Cell.ACCEPTED, Cell.REQUESTS, Cell.LOOP_BUSY_NS)] == [6, 9, 130]
        assert found.started == 2


def test_latencies_survive_their_worker() -> None:
    """Of all workers together: nobody asks which slot a request was answered in."""
    with fake_state() as state:
        for slot in (0, 1, 0):
            row = state.worker(slot)
            row[Cell.LATENCIES + 20], row[Cell.LATENCIES + 63], row[Cell.LATENCY_NS] = 3, 1, 1000
        found = counters.read(state.scoreboard)
        assert (found.latencies[20], found.latencies[63], sum(found.latencies)) == (9, 3, 12)
        assert found.latency_ns == 3000


def test_what_nobody_measures_is_missing_and_no_zero() -> None:
    """A loop whose use is hidden has none; once something was counted, it stays."""
    with fake_state() as state:
        row = state.worker(0)
        assert Cell.LOOP_BUSY_NS not in counters.read(state.scoreboard).slots[0]
        row[Cell.LOOP_BUSY_NS] = 9
        state.worker(0)
        assert counters.read(state.scoreboard).slots[0][Cell.LOOP_BUSY_NS] == 9


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 1 << 40), min_size=3, max_size=3)), max_size=30))
def test_no_counter_goes_back(moves: list[tuple[int, list[int]]]) -> None:
    """Whatever comes after what: work, and workers that are replaced, in any slot."""
    with fake_state(4) as state:
        before: dict[tuple[int, int], int] = {}
        for slot, work in moves:
            row = state.worker(slot)
            for cell in COUNTERS:
                for amount in work:
                    row[cell] = (0 if row[cell] == UNKNOWN else row[cell]) + amount
                    found = counters.read(state.scoreboard)
                    after = {(at, of): value for at, counts in found.slots.items() for of, value in counts.items()}
                    assert all(
                        after.get(key, 0) >= value for key, value in before.items()
                    )  # none is missing before it counts
                    before = after


@pytest.mark.parametrize("turns", [(1, 2), (2, 4), (2, 3)])
def test_a_reading_in_the_middle_of_a_move_is_thrown_away(
    turns: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent was at it when it began, or when it ended, or it came and went in between."""
    real, readings = counters._read, []

    def read(board: Scoreboard, header: memoryview) -> counters.Counts:
        """Have the parent move something while the first reading goes on."""
        readings.append(real(board, header))
        header[Header.RETIRING] = turns[1] if len(readings) == 1 else 4
        return readings[-1]

    monkeypatch.setattr(counters, "_read", read)
    with fake_state() as state:
        state.scoreboard.header[Header.RETIRING] = turns[0]
        found = counters.read(state.scoreboard)
    assert len(readings) >= 2 and found is readings[-1]


def test_a_parent_that_lost_its_cpu_in_the_middle_of_a_move_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that only tried again would keep it from the CPU, and would show for ever what it saw in the end."""
    with fake_state() as state:
        state.worker(0)[Cell.REQUESTS] = 10
        row, header = state.scoreboard.row(0), state.scoreboard.header
        header[Header.RETIRING], row[Cell.REQUESTS + RETIRED_AFTER] = 1, 10  # counted twice, as it is now

        def sleep(_seconds: float) -> None:
            """Let the parent go on."""
            row[Cell.REQUESTS], header[Header.RETIRING] = 0, 2

        monkeypatch.setattr("time.sleep", sleep)
        assert counters.read(state.scoreboard).slots[0][Cell.REQUESTS] == 10


def test_a_reader_never_sees_a_count_on_its_way() -> None:
    """While the parent retires workers again and again, in another thread, the sum stands still."""
    with fake_state() as state:
        other = Scoreboard.attach(os.dup(state.scoreboard.fd))
        state.worker(0)[Cell.REQUESTS] = 1000
        over = threading.Event()

        def replace() -> None:
            """Retire the worker, and let its successor count nothing."""
            while not over.is_set():
                state.scoreboard.retire(0)

        thread = threading.Thread(target=replace)
        thread.start()
        try:
            seen = {counters.read(other).slots[0][Cell.REQUESTS] for _ in range(300)}
        finally:
            over.set()
            thread.join()
            other.close()
        assert seen == {1000}


def test_garbage_counts_nothing_and_raises_nothing() -> None:
    """A worker's code can write anything anywhere in the memory."""
    with fake_state() as state:
        row = state.worker(0)
        for garbage in (UNKNOWN, UNKNOWN - 1, 1 << 62):
            row.cells[Cell.HEARTBEAT_NS :] = memoryview(b"\0" * 8 * len(row.cells[Cell.HEARTBEAT_NS :])).cast("Q")
            for cell in range(8, len(row.cells)):
                row[cell] = garbage
            for cell in (Header.RETIRING, Header.RETIRED_LATENCY_NS, Header.RETIRED_LATENCIES):
                state.scoreboard.header[cell] = garbage
            found = counters.read(state.scoreboard)
            assert sum(found.latencies) == 0 and set(found.slots[0].values()) <= {0}
            state.scoreboard.retire(0)
            counters.read(state.scoreboard)
        assert len(found.latencies) == BUCKETS


def test_what_was_shown_is_not_taken_back() -> None:
    """Each counter by itself; garbage is not shown at all."""
    steady = counters.Steady()
    assert [steady("a", value) for value in (1, 5, 3, 1 << 63, 6)] == [1, 5, 5, 5, 6]
    assert steady("b", 2) == 2
