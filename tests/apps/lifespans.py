"""Lifespans that tell what happened to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from hybrid import Connection, Worker

events: list[str] = []


@asynccontextmanager
async def task_group(worker: Worker) -> AsyncIterator[str]:
    """Hold a task group open: leaving it in another task than the one that entered raises."""
    events.append("start")
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        yield f"state of worker {worker.slot}"
        group.cancel_scope.cancel()
    events.append("stop")


async def handle(conn: Connection) -> None:
    """Send the lifespan's state."""
    await conn.send(conn.state.encode())
