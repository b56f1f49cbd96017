"""What the meter puts into the row, with a clock that the test moves, and who says "unknown"."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator

import pytest

from hybrid.meters.unix_diag import Queue
from hybrid.shared.scoreboard import CELLS_PER_LINE, UNKNOWN, Cell, Row, Scoreboard
from hybrid.worker.meter import QUEUE_SHARE, Meter
from tests.support.connections import logged

BORN_NS = 5_000_000_000


class Clock:
    """A monotonic clock, and a loop that waits when the test says so."""

    def __init__(self) -> None:
        self.now_ns = BORN_NS
        self.waited_ns: int | None = 700  # of the boot, before the meter began

    def __call__(self) -> int:
        return self.now_ns

    def idle_ns(self) -> int | None:
        """Return how long the loop has waited."""
        return self.waited_ns

    def wait(self, for_ns: int) -> None:
        """Let the loop wait."""
        assert self.waited_ns is not None
        self.now_ns += for_ns
        self.waited_ns += for_ns

    def work(self, for_ns: int) -> None:
        """Let the loop be busy."""
        self.now_ns += for_ns


@pytest.fixture
def row() -> Iterator[Row]:
    """The row of a worker in slot 1."""
    board = Scoreboard.create(2, 0)
    yield board.use_slot(1)
    board.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=9) as listener:
        yield listener


@pytest.fixture
def meter(row: Row, clock: Clock, listener: socket.socket) -> Iterator[Meter]:
    meter = Meter(row, clock, [listener], clock)
    yield meter
    meter.close()


def test_busy_is_what_was_not_waited(meter: Meter, row: Row, clock: Clock) -> None:
    """Since the meter began, tick after tick; it only grows."""
    clock.wait(300)
    clock.work(100)
    meter.tick()
    assert (row[Cell.MEASURED_NS], row[Cell.LOOP_BUSY_NS]) == (BORN_NS + 400, 100)
    clock.wait(1000)
    meter.tick()
    assert (row[Cell.MEASURED_NS], row[Cell.LOOP_BUSY_NS]) == (BORN_NS + 1400, 100)


def test_lag_is_the_lateness_of_the_tick(meter: Meter, row: Row, clock: Clock) -> None:
    """From the time that its timer was set; the first tick is not late."""
    clock.work(10**9)
    meter.tick()
    assert (row[Cell.LAG_NS], row[Cell.LAG_MAX_NS]) == (0, 0)
    for late_ns in (30, 70, 20):
        meter.expect(0.25)
        clock.wait(250_000_000 + late_ns)
        meter.tick()
    assert (row[Cell.LAG_NS], row[Cell.LAG_MAX_NS]) == (120, 70)


def test_thread_of_the_loop_is_accounted(meter: Meter, row: Row, clock: Clock) -> None:
    """This one, which makes the meter and reads it; it has run, as it runs now."""
    meter.tick()
    assert UNKNOWN not in row.line(Cell.MEASURED_NS)
    with open("/proc/thread-self/schedstat") as file:
        on_cpu_ns, waiting_ns, _ = map(int, file.read().split())
    assert 0 < row[Cell.ON_CPU_NS] <= on_cpu_ns
    assert row[Cell.RUN_QUEUE_NS] <= waiting_ns


def test_accept_queue_is_shown(meter: Meter, row: Row, listener: socket.socket) -> None:
    """Nobody waits, nine may; after a connect one waits."""
    meter.tick()
    assert (row[Cell.ACCEPT_QUEUE], row[Cell.ACCEPT_QUEUE_LIMIT]) == (0, 9)


def test_slow_kernel_is_asked_less_often(meter: Meter, row: Row, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a look at the queues takes 10 ms, the next one comes after two seconds; the last answer stands meanwhile."""
    looks = 0

    def read(queues: object) -> Queue:
        nonlocal looks
        looks += 1
        clock.work(10_000_000)
        return Queue(looks, 9)

    monkeypatch.setattr("hybrid.meters.accept_queue.AcceptQueues.read", read)
    meter.tick()
    clock.wait(QUEUE_SHARE * 10_000_000 - 10_000_001)
    meter.tick()
    assert (looks, row[Cell.ACCEPT_QUEUE]) == (1, 1)
    clock.wait(1)
    meter.tick()
    assert (looks, row[Cell.ACCEPT_QUEUE]) == (2, 2)


# ── unknown ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_loop_that_cannot_be_measured_is_unknown(row: Row, clock: Clock, listener: socket.socket) -> None:
    """Neither busy nor idle; everything else is measured all the same."""
    meter = Meter(row, None, [listener], clock)
    clock.work(10**9)
    meter.tick()
    meter.close()
    assert row[Cell.LOOP_BUSY_NS] == UNKNOWN
    assert row.line(Cell.MEASURED_NS).count(UNKNOWN) == 1


def test_clock_that_waited_longer_than_there_was_time_for_is_unknown(meter: Meter, row: Row, clock: Clock) -> None:
    """Another library's idea of the loop, say: what cannot be is not shown as a figure."""
    assert clock.waited_ns is not None
    clock.waited_ns += 10**12
    meter.tick()
    assert row[Cell.LOOP_BUSY_NS] == UNKNOWN


def test_loop_that_was_closed_is_unknown(meter: Meter, row: Row, clock: Clock) -> None:
    """A clock that stops to answer."""
    clock.waited_ns = None
    meter.tick()
    assert row[Cell.LOOP_BUSY_NS] == UNKNOWN


def test_worker_without_a_listening_socket_knows_no_queue(row: Row, clock: Clock) -> None:
    """One that is passed its connections has a channel."""
    left, right = socket.socketpair()
    with left, right:
        meter = Meter(row, clock, [left], clock)
        meter.tick()
        meter.close()
    assert (row[Cell.ACCEPT_QUEUE], row[Cell.ACCEPT_QUEUE_LIMIT]) == (UNKNOWN, UNKNOWN)


def test_tick_never_raises(meter: Meter, row: Row, clock: Clock, listener: socket.socket) -> None:
    """The heartbeat hangs on it: listeners that are closed, a meter that is, a clock that jumped, cost only figures."""
    listener.close()
    meter.close()
    meter.expect(0.25)
    clock.now_ns -= 10**9
    meter.tick()
    assert row.line(Cell.MEASURED_NS)[1:4] == [UNKNOWN] * 3
    assert row.line(Cell.MEASURED_NS)[6:] == [UNKNOWN] * 2
    assert len(row.line(Cell.MEASURED_NS)) == CELLS_PER_LINE


def test_one_worker_says_that_loop_use_is_unknown(clock: Clock) -> None:
    """All of them have the same uvloop: that in seat 0 has the word."""
    board = Scoreboard.create(2, 0)
    try:
        with logged(logging.INFO) as records:
            for slot, seat in ((0, 1), (1, 0)):
                row = board.use_slot(slot)
                row[Cell.SEAT] = seat
                Meter(row, None, [], clock).close()
        assert [record.getMessage().partition(":")[0] for record in records] == ["loop use is unknown"]
    finally:
        board.close()


def test_descriptors_are_closed(row: Row, clock: Clock) -> None:
    """One for the thread's account, one for unix sockets; none is left."""
    before = os.listdir("/proc/self/fd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0hybrid-test-meter-{os.getpid()}")
        listener.listen(1)
        meter = Meter(row, clock, [listener], clock)
        meter.tick()
        assert row[Cell.ACCEPT_QUEUE_LIMIT] == 1
        assert len(os.listdir("/proc/self/fd")) == len(before) + 3
        meter.close()
    assert os.listdir("/proc/self/fd") == before
