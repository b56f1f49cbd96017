"""A service in the test's own loop: what it does when it is told to leave, and when."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hybrid import Connection
from hybrid.handlers.lifespan import Worker
from hybrid.shared.loader import LoadedTarget
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.status import statuses
from hybrid.worker.drain import DrainReport
from hybrid.worker.service import Service, ServicePlan, Stage
from tests.apps.hello import hello
from tests.support.eventually import eventually_async


class Room:
    """One service on one listener, run by a task of its own."""

    def __init__(self, handler: Callable[..., Any], lifespan: str = "") -> None:
        self.scoreboard = Scoreboard.create(1, 0)
        self.scoreboard.use_slot(0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.steps: list[str] = []
        self.ready = asyncio.Event()
        self.worker = Worker()
        plan = ServicePlan(
            app=LoadedTarget(handler, "handler"),
            interface="auto",
            lifespan=lifespan,
            accept="shared",
            backlog=64,
            threads="auto",
            limit_connections="auto",
            worker=self.worker,
        )
        self.service = Service(plan, self.scoreboard, 0)
        self.task: asyncio.Task[DrainReport | None] = asyncio.create_task(
            self.service.run([self.listener], self.steps.append, self.ready.set)
        )


@asynccontextmanager
async def room(handler: Callable[..., Any], lifespan: str = "") -> AsyncIterator[Room]:
    """Run a service for the length of a block."""
    made = Room(handler, lifespan)
    try:
        yield made
    finally:
        made.service.leave(0.0, abort=True)
        await asyncio.wait({made.task}, timeout=20)
        made.scoreboard.close()


async def hold(conn: Connection) -> None:
    """Say that it has begun, and wait for ever."""
    await conn.send(b"!")
    await asyncio.Event().wait()


@asynccontextmanager
async def held(made: Room) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
    """Open a connection whose handler has begun; yield what receives its next byte, or its end."""
    await made.ready.wait()
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, made.address)
        assert await loop.sock_recv(client, 1) == b"!"
        yield lambda: loop.sock_recv(client, 1)


async def test_idle_service_leaves_at_once() -> None:
    """No connection, nothing to wait for, however long the grace."""
    async with room(hold) as made:
        await made.ready.wait()
        assert made.steps == ["load", "lifespan", "listen"]
        made.service.leave(300.0)
        assert await made.task == DrainReport(0, 0, 0, 0)
        assert made.service.stage is Stage.LEFT


async def test_second_wish_in_the_same_turn_counts() -> None:
    """A drain with a long grace, and before the loop turns the wish to cut: the sooner one counts."""
    async with room(hold) as made, held(made) as receive:
        made.service.leave(300.0)
        made.service.leave(0.0, abort=True)
        assert await made.task == DrainReport(1, 1, 1, 0)
        assert await receive() == b""


async def test_grace_that_is_shortened_later_counts() -> None:
    """The same while the drain is waiting."""
    async with room(hold) as made, held(made) as receive:
        made.service.leave(300.0)
        await eventually_async(lambda: made.worker.draining)
        made.service.leave(0.0)
        assert await made.task == DrainReport(1, 1, 0, 0)
        assert await receive() == b""


async def test_counters_are_in_the_scoreboard_at_the_end() -> None:
    """What was counted since the last flush is not lost with the service."""
    async with room(hold) as made, held(made):
        made.service.leave(0.0, abort=True)
        await made.task
        row = made.scoreboard.row(0)
        assert (row[Cell.ACCEPTED], row[Cell.CLOSED], row.active) == (1, 1, 0)


async def test_uses_are_connections_where_there_are_no_requests() -> None:
    """What --max-requests counts, then."""
    async with room(hold) as made:
        await made.ready.wait()
        assert made.service.uses == 0
        async with held(made), held(made):
            assert (made.service.uses, made.service.requests) == (2, 0)


async def test_uses_are_requests_where_there_are_some() -> None:
    """On one connection; the scoreboard has them with the next flush."""
    async with room(hello) as made:
        await made.ready.wait()
        reader, writer = await asyncio.open_connection(*made.address)
        for number in range(1, 4):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"hello\n")
            assert made.service.uses == made.service.requests == number
        made.service.flush()
        assert statuses(made.scoreboard)[0].requests == 3
        writer.close()


async def test_service_told_to_leave_while_it_boots_never_serves() -> None:
    """The lifespan is cancelled; there is no report of a drain that never was."""
    async with room(hold, "tests.apps.boots:hangs") as made:
        await eventually_async(lambda: "lifespan" in made.steps)
        made.service.leave(300.0)
        assert await made.task is None
        assert not made.ready.is_set()


async def test_somebody_elses_cancellation_is_passed_on() -> None:
    """A service whose task is cancelled does not call that a wish to leave."""
    async with room(hold) as made:
        await made.ready.wait()
        made.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await made.task
        assert made.service.stage is Stage.LEFT
