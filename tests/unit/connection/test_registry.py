"""The registry counts connections and says so in the scoreboard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hybrid.connection.farewell import Farewell
from hybrid.connection.registry import Registry
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell, Row, Scoreboard


class Guest:
    """A connection that only remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start_draining(self) -> None:
        self.told.append("drain")

    def cancel(self) -> None:
        self.told.append("cancel")

    def abort(self) -> None:
        self.told.append("abort")


class Deaf(Guest):
    """One that cannot be told."""

    def start_draining(self) -> None:
        raise RuntimeError("deaf")


@pytest.fixture
def row() -> Iterator[Row]:
    scoreboard = Scoreboard.create(1, 0)
    row = scoreboard.use_slot(0)
    yield row
    row.cells.release()
    scoreboard.close()


@pytest.fixture
def registry(row: Row) -> Registry:
    return Registry(row)


def test_active_is_stored_at_every_change(registry: Registry, row: Row) -> None:
    """Other workers see a connection as soon as it is opened, and no longer once it is closed."""
    registry.accepting = True
    first, second = Guest(), Guest()
    assert [registry.add(first), row[Cell.ACTIVE]] == [1, 1]
    assert [registry.add(second), row[Cell.ACTIVE]] == [2, 2]
    registry.remove(first)
    assert row[Cell.ACTIVE] == 1
    assert (registry.active, registry.accepted, registry.closed) == (1, 2, 1)


def test_a_worker_that_takes_nothing_never_looks_empty(registry: Registry, row: Row) -> None:
    """While it does not accept its cell is larger than any count, whatever opens or closes."""
    assert row[Cell.ACTIVE] == NOT_ACCEPTING
    guest = Guest()
    registry.add(guest)
    assert row[Cell.ACTIVE] == NOT_ACCEPTING | 1
    registry.accepting = True
    assert row[Cell.ACTIVE] == 1
    registry.accepting = False
    registry.remove(guest)
    assert row[Cell.ACTIVE] == NOT_ACCEPTING
    assert not registry.accepting


def test_removing_twice_counts_once(registry: Registry) -> None:
    """A connection that reports its end twice does not make the count wrong."""
    guest, other = Guest(), Guest()
    registry.add(guest)
    registry.add(other)
    registry.remove(guest)
    registry.remove(guest)
    assert (registry.active, registry.closed) == (1, 1)


def test_flush_writes_the_counters(registry: Registry, row: Row) -> None:
    """Counters reach the scoreboard when flushed."""
    guests = [Guest() for _ in range(3)]
    for guest in guests:
        registry.add(guest)
    registry.remove(guests[0])
    registry.failed, registry.limit, registry.pauses = 2, 99, 4
    assert row[Cell.ACCEPTED] == 0
    registry.flush()
    cells = (Cell.ACCEPTED, Cell.CLOSED, Cell.HANDLER_ERRORS, Cell.LIMIT, Cell.PAUSES)
    assert [row[cell] for cell in cells] == [3, 1, 2, 99, 4]


async def test_wait_empty_returns_with_the_last_connection(registry: Registry) -> None:
    """The drain goes on when the last connection is gone, not before; at once when there is none."""
    await registry.wait_empty()
    guests = [Guest(), Guest()]
    for guest in guests:
        registry.add(guest)
    waits = [asyncio.ensure_future(registry.wait_empty()) for _ in range(2)]
    cancelled = asyncio.ensure_future(registry.wait_empty())
    await asyncio.sleep(0)
    cancelled.cancel()
    registry.remove(guests[0])
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits)
    registry.remove(guests[1])
    await asyncio.gather(*waits)
    assert cancelled.cancelled()


async def test_everybody_is_told_of_the_drain(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """One connection that fails to be told does not keep the others from knowing."""
    guests = [Guest(), Deaf(), Guest()]
    for guest in guests:
        registry.add(guest)
    farewell = Farewell()
    farewell.begin(3, 30.0, last=True)
    registry.start_draining(farewell)
    assert [guest.told for guest in guests] == [["drain"], [], ["drain"]]
    assert "deaf" in caplog.text
