"""A worker that is full, parked or both leaves connections in the queue, on all of its listeners."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell
from hybrid.worker.loops import new_loop
from tests.component.acceptor_room import LOOPS, Room, listen, run


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoop:
    return new_loop(request.param)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room("v4", tmp_path)


def test_a_full_worker_leaves_connections_to_others(
    loop: asyncio.AbstractEventLoop, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """At the limit it takes nothing, says so to the others, and comes back when one has gone."""

    async def main() -> None:
        room.furnish(limit=3)
        await room.intake.start()
        clients = []
        for count in range(1, 4):
            clients.append(room.connect())
            await room.holds(count)
        assert room.row[Cell.ACTIVE] == NOT_ACCEPTING | 3
        late = room.connect()
        assert await room.served(clients[0])
        room.intake.beat()
        assert room.waiting()
        assert room.registry.active == 3
        clients.pop().close()
        assert await room.served(late)
        room.registry.flush()
        assert (room.row[Cell.LIMIT], room.row[Cell.PAUSES]) == (3, 2)
        await room.leave()

    run(loop, main())
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["connection limit reached"]


def test_parked_and_full_needs_both_to_end(loop: asyncio.AbstractEventLoop, room: Room) -> None:
    """A full worker that was parked does not come back when a connection closes, but when it is un-parked."""

    async def main() -> None:
        room.furnish(limit=1)
        await room.intake.start()
        client = room.connect()
        await room.holds(1)
        room.intake.park()
        client.close()
        await room.holds(0)
        late = room.connect()
        assert await _never_taken(room)
        room.intake.unpark()
        assert await room.served(late)
        await room.leave()

    run(loop, main())


def test_full_worker_whose_last_connection_nobody_saw_leave_comes_back(
    loop: asyncio.AbstractEventLoop, room: Room
) -> None:
    """A connection that closes in a thread just before the hold is noticed at the next heartbeat."""

    async def main() -> None:
        room.furnish(limit=1)
        await room.intake.start()
        room.connect()
        await room.holds(1)
        (connection,) = room.registry.open
        room.registry.remove(connection)  # without the door: it looked at the hold before there was one
        assert room.row[Cell.ACTIVE] == NOT_ACCEPTING
        room.intake.beat()
        assert room.row[Cell.ACTIVE] == 0
        assert await room.served(room.connect())
        connection.abort()
        await room.leave()

    run(loop, main())


def test_two_listeners_share_one_count(loop: asyncio.AbstractEventLoop, room: Room, tmp_path: Path) -> None:
    """A worker's count is over all of its listeners, and both are left alone when it is full."""

    async def main() -> None:
        room.furnish(limit=2)
        other = listen("v6", tmp_path)
        room.accept_on(other.dup())
        await room.intake.start()
        room.connect()
        await room.holds(1)
        with socket.create_connection(other.getsockname()[:2]):
            await room.holds(2)
            assert room.row[Cell.ACTIVE] == NOT_ACCEPTING | 2
            late = room.connect()
            assert room.waiting()
        await room.served(late)
        await room.leave()
        other.close()

    run(loop, main())


async def _never_taken(room: Room) -> bool:
    """Return whether the connection that waits still waits after some turns and a heartbeat."""
    room.intake.beat()
    for _ in range(20):
        await asyncio.sleep(0)
    return room.waiting()
