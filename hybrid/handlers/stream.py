"""Stream handlers: ``async def handle(conn)``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hybrid.connection.connection import Connection
from hybrid.connection.endpoint import Endpoint
from hybrid.connection.registry import Door


def stream_factory(
    handler: Callable[[Connection], Awaitable[object]],
    name: str,
    door: Door,
    loop: asyncio.AbstractEventLoop,
    state: Any,
) -> Callable[[], Connection]:
    """Return what makes one :class:`Connection` for each socket that a listener accepts. Runs in: worker."""
    endpoint = Endpoint(handler=handler, door=door, loop=loop, state=state, name=name)
    return lambda: Connection(endpoint)
