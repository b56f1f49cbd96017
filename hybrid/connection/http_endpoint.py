"""What the HTTP connections of one listener share, and the seam between a connection and the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

from hybrid.connection.access_log import AccessLog, Entry
from hybrid.connection.farewell import Farewell
from hybrid.connection.load import Load
from hybrid.connection.registry import Door
from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadLimits
from hybrid.http.response import Response
from hybrid.http.status import refusal_body

if TYPE_CHECKING:
    from hybrid.connection.http_connection import HttpConnection
    from hybrid.connection.http_ending import Ending

READ_HIGH_BYTES = 65536
"""Of pipelined requests, or of a body that nobody asks for, above which the socket is left alone."""
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

    def drain(self) -> None:
        """The worker drains: an answer that would go on for ever is to end."""
        ...

    def cancel(self) -> None:
        """The grace is over, or the time for the request."""
        ...


class Upgraded(Protocol):
    """The protocol that has taken a connection over from HTTP. Every call in the worker's loop; none raises."""

    def feed(self, data: bytes) -> None:
        """Take what came."""
        ...

    def expire(self) -> None:
        """The time that it has asked for has passed."""
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
    request_s: float = 0.0
    """From the end of the head to the end of the answer."""


class Refusal:
    """The exchange of a request that no application sees: an error, in words, and the connection stays."""

    __slots__ = ("_connection", "_endpoint", "_error", "_head", "_headers")

    def __init__(
        self,
        endpoint: HttpEndpoint,
        connection: HttpConnection,
        head: Head,
        error: HttpError,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._head = head
        self._error = error
        self._headers = headers

    def start(self) -> None:
        """Answer at once."""
        connection, error, response = self._connection, self._error, Response(self._head)
        body = refusal_body(error)
        headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)))
        # Who asks for another protocol may speak it already: that is no request.
        close = (connection.draining and not connection.has_next) or self._head.expect_continue or self._head.upgrade
        response.start(error.status, (*headers, *self._headers), self._endpoint.standing(), close=bool(close))
        connection.write_last(response.body(body, False), self, close=response.must_close)
        self._endpoint.refused(connection, self._head, error)
        connection.ended(self)

    def feed(self, data: bytes, complete: bool) -> None:
        """Throw it away."""

    def refuse(self, error: HttpError) -> None:
        """Do nothing: the answer is given in :meth:`start`."""

    def disconnect(self) -> None:
        """Do nothing."""

    def drain(self) -> None:
        """Do nothing."""

    def cancel(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class HttpEndpoint:
    """A listener with its application, in one worker: what every connection accepted there shares."""

    begin: Callable[[HttpConnection, Head], Exchange]
    """Makes the exchange of a request. Never raises."""
    door: Door
    loop: asyncio.AbstractEventLoop
    standing: Callable[[], bytes]
    """Header lines of every response: date and server, ready to be sent."""
    entry: Callable[[HttpConnection, Head | None], Entry]
    """Makes an access log's entry of a request: whom it came from is not for the connection to say."""
    context: Context
    """Of every request at its beginning; each has a copy."""
    load: Load
    """The worker's: its listeners share it."""
    farewell: Farewell = field(default_factory=Farewell)
    """The worker's, too."""
    upgrade: Callable[[HttpConnection, Head], Exchange] | None = None
    """Makes the exchange of a request that asks for a WebSocket; None: it is answered as any other. Never raises."""
    access_log: AccessLog | None = None
    limits: HeadLimits = field(default_factory=HeadLimits)
    limit_body_bytes: int = 0
    """Of a request; 0: none."""
    times: HttpTimes = field(default_factory=HttpTimes)
    read_high_bytes: int = READ_HIGH_BYTES
    open: set[Ending] = field(default_factory=set)
    horizon: float = 0.0
    """The loop's time at the next sweep. A deadline is counted from here, which is free: late by two sweeps at most,
    and never early."""
    idle_until: float = 0.0
    """The deadline of a connection that is idle from now on."""
    head_until: float = 0.0
    """The deadline of a connection that is opened now."""
    answer_until: float = inf
    """The deadline of a request that begins now."""
    sweeping: asyncio.TimerHandle | None = None

    def opened(self, connection: HttpConnection) -> None:
        """Count a connection in, and keep an eye on its deadline."""
        self.open.add(connection)
        if self.sweeping is None:
            self._look_ahead(self.loop.time())
            self.sweeping = self.loop.call_later(_SWEEP_S, self._sweep)
        self.door.opened(connection)

    def closed(self, connection: Ending) -> None:
        """Count a connection out: its transport is gone and its exchanges have ended."""
        self.open.discard(connection)
        self.door.closed(connection)

    def overload(self, connection: HttpConnection, head: Head) -> Exchange:
        """Return the exchange of a request that is one too many. Source: RFC 9110 §15.6.4."""
        error = HttpError(503, "as many requests as are allowed are being answered")
        return self.refuse(connection, head, error, ((b"retry-after", b"1"),))

    def refuse(
        self,
        connection: HttpConnection,
        head: Head,
        error: HttpError,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Exchange:
        """Return the exchange of a request that is answered with ``error``, and not given to the application."""
        self.load.turned_away()
        connection.forget_time()
        return Refusal(self, connection, head, error, headers)

    def refused(self, connection: HttpConnection, head: Head | None, error: HttpError) -> None:
        """Count what was answered without an application, and write it to the access log, if there is one."""
        self.load.went_wrong(error.status)
        if self.access_log is not None:
            entry = self.entry(connection, head)
            entry.refused(error)
            self.access_log.wrote(entry)

    def _look_ahead(self, now: float) -> None:
        self.horizon = now + _SWEEP_S
        self.idle_until = self.horizon + (self.times.keep_alive_s or inf)
        self.head_until = self.horizon + (self.times.head_s or inf)
        self.answer_until = self.horizon + (self.times.request_s or inf)

    def _sweep(self) -> None:
        now = self.loop.time()
        self._look_ahead(now)
        # Ends by itself when nothing is open: cancelling in closed() would cost each short connection a timer.
        self.sweeping = self.loop.call_later(_SWEEP_S, self._sweep) if self.open else None
        for connection in [each for each in self.open if each.deadline <= now]:
            connection.expire()
