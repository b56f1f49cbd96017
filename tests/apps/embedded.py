"""What the tests of embedding serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hybrid import Connection, Worker


async def echo(conn: Connection) -> None:
    """Send back what comes."""
    async for chunk in conn:
        await conn.send(chunk)


@asynccontextmanager
async def failing(worker: Worker) -> AsyncIterator[None]:
    """Fail as a database that is down would."""
    if worker.slot >= 0:
        raise OSError("no database")
    yield


@asynccontextmanager
async def endless(worker: Worker) -> AsyncIterator[None]:
    """Never get ready."""
    await asyncio.Event().wait()
    yield
