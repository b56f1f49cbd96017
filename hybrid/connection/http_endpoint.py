"""What the HTTP connections of one listener share, and the seam between a connection and the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hybrid.connection.registry import Door
from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadLimits

if TYPE_CHECKING:
    from hybrid.connection.http_connection import HttpConnection

_SWEEP_S = 1.0


class Exchange(Protocol):
    """One request and its answer, as the connection sees it. Every call in the worker's loop; none raises."""

    def start(self) -> None:
        """Run the application. The head is known; body bytes that came with it were fed already."""
        ...

    def feed(self, data: bytes, complete: bool) -> None:
        """Take decoded bytes of the body; ``complete``: they are the last."""
        ...

    def refuse(self, error: HttpError) -> None:
        """The body breaks the protocol, or a limit: answer so if nothing was answered yet."""
        ...

    def disconnect(self) -> None:
        """The peer sends no more, or the transport is gone."""
        ...

    def cancel(self) -> None:
        """The grace is over."""
        ...


@dataclass(frozen=True, slots=True)
class HttpTimes:
    """Deadlines, seconds; 0: none."""

    head_s: float = 10.0
    """From the first byte of a request to the end of its head, in total."""
    body_s: float = 30.0
    """Between two pieces of a body that the application waits for."""
    keep_alive_s: float = 75.0
    """Between two requests."""
    write_s: float = 60.0
    """For a peer that takes nothing of what we send."""


@dataclass(slots=True)
class HttpEndpoint:
    """A listener with its application, in one worker: what every connection accepted there shares."""

    begin: Callable[[HttpConnection, Head], Exchange]
    """Makes the exchange of a request. Never raises."""
    door: Door
    loop: asyncio.AbstractEventLoop
    name: str = "app"
    limits: HeadLimits = field(default_factory=HeadLimits)
    limit_body_bytes: int = 0
    """Of a request; 0: none."""
    times: HttpTimes = field(default_factory=HttpTimes)
    read_high_bytes: int = 65536
    open: set[HttpConnection] = field(default_factory=set)
    now: float = 0.0
    """The loop's time at the last sweep: good enough for deadlines of seconds, and free."""
    sweeping: asyncio.TimerHandle | None = None

    def opened(self, connection: HttpConnection) -> None:
        """Count a connection in, and keep an eye on its deadline."""
        self.open.add(connection)
        if self.sweeping is None:
            self.now = self.loop.time()
            self.sweeping = self.loop.call_later(_SWEEP_S, self._sweep)
        self.door.opened(connection)

    def closed(self, connection: HttpConnection) -> None:
        """Count a connection out: its transport is gone and its exchanges have ended."""
        self.open.discard(connection)
        self.door.closed(connection)

    def _sweep(self) -> None:
        now = self.now = self.loop.time()
        # Ends by itself when nothing is open: cancelling in closed() would cost each short connection a timer.
        self.sweeping = self.loop.call_later(_SWEEP_S, self._sweep) if self.open else None
        for connection in [each for each in self.open if each.deadline <= now]:
            connection.expire()
