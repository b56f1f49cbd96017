"""An app with a large heap of Python objects, made when it is imported."""

from __future__ import annotations

import gc
import os

from hybrid import Connection

MEGABYTES = int(os.environ.get("HYBRID_BENCH_HEAP_MB", "100"))

HEAP = [{"id": index, "name": f"row {index}", "tags": [index, index + 1]} for index in range(MEGABYTES * 2200)]


async def handle(conn: Connection) -> None:
    """Collect garbage on request, as a worker does sooner or later."""
    async for _ in conn:
        gc.collect()
        await conn.send(b"done")


async def echo(conn: Connection) -> None:
    """Hold the connection, and echo."""
    async for chunk in conn:
        await conn.send(chunk)
