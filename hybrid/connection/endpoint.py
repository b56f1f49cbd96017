"""What the connections of one listener share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid.connection.registry import Door

if TYPE_CHECKING:
    from hybrid.connection.connection import Connection


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listener with its handler, in one worker: what every connection accepted there shares."""

    handler: Callable[[Connection], Awaitable[object]]
    """The user's code; called once per connection."""
    door: Door
    """Told of every connection that opens, fails and closes."""
    loop: asyncio.AbstractEventLoop
    """The worker's loop."""
    state: Any = None
    """What lifespan yielded: ``conn.state``. Any, because it is the user's."""
    name: str = "handler"
    """The handler's name, for log lines and tasks."""
    read_high_bytes: int = 65536
    """Stop reading from the socket above this many undelivered bytes."""
    write_high_bytes: int = 65536
    """``send()`` waits above this many unsent bytes."""
