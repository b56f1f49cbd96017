"""What is read off the workers' rows: of those that turn, and of those that do not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hybrid.ground.states import Life
from hybrid.meters.run_queue import ThreadTime
from hybrid.parent.pool import Duty, Plan, Pool, Slot
from hybrid.parent.sensors import FIRST_BOOT_S, SECOND, STALE_NS, TICK_NS, Sensors
from hybrid.parent.sizing import Observation
from hybrid.shared.scoreboard import UNKNOWN, Cell, Scoreboard
from tests.unit.parent.world import PLAN

ROUND = pytest.approx


class Crew:
    """Workers of the test's, and the sensors that look at them."""

    def __init__(self, count: int = 2, plan: Plan = PLAN) -> None:
        self.now_ns = 100 * SECOND
        self.board = Scoreboard.create(8, self.now_ns)
        slots = tuple(
            Slot(index, Life.READY, wanted=True, generation=1, seat=index, ticket=index + 1, pid=1000 + index)
            for index in range(count)
        )
        self.pool = Pool(plan, target=count, slots=slots)
        self.kernel: dict[int, ThreadTime] = {}
        self.listeners: list[socket.socket] = []
        for slot in slots:
            row = self.board.use_slot(slot.index)
            row[Cell.SPAWNED_NS], row[Cell.READY_NS] = self.now_ns, self.now_ns + SECOND // 4
            self.ticks(slot.index, 0, 0)
        self.waiting = 0
        self.sensors = Sensors(self.board, self, self.kernel.get)
        self.observe(0)

    def queues(self) -> list[socket.socket]:
        """Return the listening sockets."""
        return self.listeners

    def on_the_way(self) -> int:
        """Return how many wait behind their queues."""
        return self.waiting

    def ticks(self, slot: int, busy_ns: int, waiting_ns: int = 0, lag_ns: int = 0) -> None:
        """Let a worker store what it has measured, now."""
        line = (self.now_ns, busy_ns, busy_ns, waiting_ns, lag_ns, lag_ns, UNKNOWN, UNKNOWN)
        self.board.row(slot).store_line(Cell.MEASURED_NS, line)

    def observe(self, passed_ns: int = SECOND // 5) -> Observation:
        """Let time pass, and look."""
        self.now_ns += passed_ns
        return self.sensors.observe(self.pool, self.now_ns)

    def becomes(self, slot: int, **changes: object) -> None:
        """Change a slot."""
        fresh = replace(self.pool.slots[slot], **changes)  # type: ignore[arg-type]  # fields of Slot
        self.pool = replace(self.pool, slots=(*self.pool.slots[:slot], fresh, *self.pool.slots[slot + 1 :]))


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Two workers that have measured once."""
    made = Crew()
    yield made
    made.sensors.close()
    made.board.close()


def test_busy_is_added_up_without_waiting(crew: Crew) -> None:
    """In loop-seconds per second: one loop half busy, of which a tenth it waited for a CPU; one that waited only."""
    crew.now_ns += SECOND
    crew.ticks(0, SECOND // 2, SECOND // 10)
    crew.ticks(1, 0, 0)
    seen = crew.observe(0)
    assert seen.busy == ROUND(0.4) and seen.run_queue == ROUND(0.1)
    assert seen.serving == 2 and seen.window_s == ROUND(1.0)


def test_window_without_a_tick_shows_what_was_seen_last(crew: Crew) -> None:
    """The workers store four times a second, and the sizing looks more often."""
    crew.now_ns += TICK_NS
    crew.ticks(0, TICK_NS)
    assert crew.observe(0).busy == ROUND(1.0)
    assert crew.observe(TICK_NS // 2).busy == ROUND(1.0)


def test_blocked_worker_is_busy(crew: Crew) -> None:
    """Its row is old, and says nothing of the time since then; the kernel says that it waits for no CPU."""
    crew.kernel[1000] = ThreadTime(0, 0)
    crew.now_ns += 2 * SECOND
    crew.ticks(1, 0)
    seen = crew.observe(0)
    assert seen.busy == ROUND(1.0) and seen.run_queue == 0
    assert seen.lag_s == 0, "the median of two: the other one is well"
    crew.becomes(1, life=Life.DRAINING)
    assert crew.observe(STALE_NS).lag_s == ROUND(2.25)


def test_worker_that_turns_again_is_not_counted_twice(crew: Crew) -> None:
    """What it was busy with is in its account then."""
    crew.observe(2 * SECOND)
    crew.now_ns += SECOND
    for slot in (0, 1):
        crew.ticks(slot, 2 * SECOND)
    assert crew.observe(0).busy == 0


def test_starved_worker_waits(crew: Crew) -> None:
    """Its loop does not turn, either; the kernel knows better than to call that work."""
    crew.kernel.update({1000: ThreadTime(0, 2 * SECOND), 1001: ThreadTime(0, SECOND)})
    seen = crew.observe(2 * SECOND)
    assert seen.run_queue == ROUND(1.5) and seen.busy == ROUND(0.5)


def test_lag_is_that_of_the_last_tick(crew: Crew) -> None:
    """Until the next one comes; then it is forgotten."""
    crew.now_ns += TICK_NS
    for slot in (0, 1):
        crew.ticks(slot, 0, lag_ns=SECOND // 5)
    assert crew.observe(0).lag_s == ROUND(0.2)
    assert crew.observe(TICK_NS // 5).lag_s == ROUND(0.2)
    crew.now_ns += TICK_NS
    for slot in (0, 1):
        crew.ticks(slot, 0, lag_ns=SECOND // 5)
    assert crew.observe(0).lag_s == 0


def test_loop_that_tells_nothing_is_as_busy_as_it_computes(crew: Crew) -> None:
    """Some builds of uvloop hide it. A blocked one is still seen by its age."""
    crew.now_ns += SECOND
    line = (crew.now_ns, UNKNOWN, SECOND // 2, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    crew.board.row(0).store_line(Cell.MEASURED_NS, line)
    crew.ticks(1, 0)
    assert crew.observe(0).busy == ROUND(0.5)


def test_arrivals_are_requests_where_they_are_more(crew: Crew) -> None:
    """A connection that is kept brings many. A worker that was born meanwhile counts from its birth."""
    crew.board.row(0)[Cell.ACCEPTED] = 10
    assert crew.observe(SECOND).accepted == ROUND(10)
    crew.board.row(0)[Cell.REQUESTS] = 30
    crew.becomes(1, ticket=9)
    crew.board.row(1)[Cell.REQUESTS] = 5
    assert crew.observe(SECOND).accepted == ROUND(35)
    crew.ticks(1, 0)
    assert crew.observe(SECOND).accepted == 0


def test_fresh_worker_with_an_old_life_behind_it_is_not_busy(crew: Crew) -> None:
    """Its slot had another one: the difference of the two would be nonsense."""
    crew.now_ns += SECOND
    crew.ticks(0, SECOND)
    crew.ticks(1, 0)
    crew.observe(0)
    crew.becomes(0, ticket=9)
    assert crew.observe(0).busy == 0


def test_who_is_counted_as_what(crew: Crew) -> None:
    """Parked ones serve what they hold; those that stand by or boot are told apart; others do not count."""
    extra = (
        Slot(2, Life.PARKED, wanted=True, generation=1, seat=2, duty=Duty.SPARE, pid=1),
        Slot(3, Life.STARTING, wanted=True, generation=1, seat=3),
        Slot(4, Life.VACANT, wanted=True, generation=1, seat=4),
        Slot(5, Life.STARTING, wanted=True, generation=1, seat=5, duty=Duty.SPARE),
        Slot(6, Life.DRAINING, generation=1, pid=2),
    )
    crew.pool = replace(crew.pool, slots=crew.pool.slots + extra)
    seen = crew.observe()
    assert (seen.serving, seen.booting, seen.parked) == (2, 2, 1)


def test_parked_worker_counts_with_what_it_still_does(crew: Crew) -> None:
    """Else each step down would look like less demand, and be followed by the next."""
    crew.becomes(1, life=Life.PARKED, duty=Duty.SPARE)
    crew.now_ns += SECOND
    crew.ticks(0, 0)
    crew.ticks(1, SECOND)
    seen = crew.observe(0)
    assert seen.busy == ROUND(1.0) and seen.serving == 1


def test_threads_that_are_taken_are_work() -> None:
    """The loop sleeps meanwhile. Requests where they are counted, with those that wait; else connections."""
    crew = Crew(3)
    for slot, (requests, in_flight, active) in enumerate([(9, 8, 1), (0, 0, 2), (9, 0, 3)]):
        row = crew.board.row(slot)
        row[Cell.THREADS], row[Cell.REQUESTS], row[Cell.IN_FLIGHT], row[Cell.ACTIVE] = 4, requests, in_flight, active
    seen = crew.observe()
    assert seen.busy == ROUND(2.0 + 0.5 + 0.0)
    assert crew.sensors.has_threads(crew.pool)
    assert crew.sensors.loads(crew.pool) == (1, 2, 3)
    crew.board.close()


def test_boot_is_that_of_whoever_came_last(crew: Crew) -> None:
    """Before one was seen, it is reckoned."""
    assert crew.observe().boot_s == ROUND(0.25)
    row = crew.board.row(1)
    row[Cell.SPAWNED_NS], row[Cell.READY_NS] = 200 * SECOND, 203 * SECOND
    assert crew.observe().boot_s == ROUND(3.0)
    crew.pool = replace(crew.pool, slots=())
    assert crew.observe().boot_s == FIRST_BOOT_S


def test_queue_is_the_listeners(crew: Crew) -> None:
    """Read by the parent itself, for blocked workers read nothing; sockets that are closed have none."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        crew.listeners = [listener]
        assert crew.observe().queue == 1
    assert crew.observe().queue == 0
    crew.listeners = []
    assert crew.observe().queue == 0
    crew.waiting = 3  # as with --accept passing
    assert crew.observe().queue == 3
