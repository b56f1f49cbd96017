"""An HTTP/1.1 connection: bytes of one transport in, one request after another out, and the answers back in order.

What it does not know: the application. It gives each request to what :attr:`HttpEndpoint.begin` makes (an *exchange*),
feeds it the body, and writes what the exchange says. What it does not do: parse and frame; that is
:mod:`hybrid.http`, which knows no asyncio.

One request is answered at a time. Bytes that come meanwhile wait here; above ``read_high_bytes`` the socket is not
read any more. Answers to pipelined requests are corked: they leave in one write, unless an application takes its time.

There is no timer for a request. Each phase has a deadline, and the endpoint's sweep looks at them all once a second.

Source: RFC 9112 §9 (connection management), §9.3.2 (pipelining), §9.6 (tear-down).
"""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid.connection.failures import log
from hybrid.connection.http_endpoint import Exchange, HttpEndpoint
from hybrid.connection.http_phases import AFTER, ANSWERING, CLOSED, HEAD, IDLE, LINGERING, PhaseEvent
from hybrid.http.body import Body, body_of
from hybrid.http.errors import HttpError
from hybrid.http.head import HeadReader
from hybrid.http.response import refusal

NEVER = float("inf")
_CORK_BYTES = 65536
"""Answers held back for the next one, at most."""
_LINGER_S = 2.0
"""For the peer to close, after we said that nothing more comes: what is still on its way must not reset our answer."""


class HttpConnection:
    """An accepted connection that speaks HTTP/1.1 (or 1.0), until closed. An asyncio protocol by its methods.

    Runs in: worker, in its loop. Closes: its transport. Survives: anything a peer sends.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_corked",
        "_draining",
        "_endpoint",
        "_exchange",
        "_has_failed",
        "_is_reading",
        "_peer_is_done",
        "_phase",
        "_reader",
        "_running",
        "_unsent",
        "_waiters",
        "deadline",
        "memo",
        "transport",
    )
    transport: asyncio.Transport

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._reader = HeadReader(endpoint.limits)
        self._phase = IDLE
        self._buffer = b""
        """Came, and is not used yet: a part of a head, or pipelined requests."""
        self._body: Body | None = None
        """Of the request that is being answered, while more of it is to come."""
        self._exchange: Exchange | None = None
        self._running = 0
        """Exchanges whose application has not returned: an answer may be complete before that."""
        self._corked: list[bytes] = []
        self._unsent = 0
        """What the transport held at the last look, while it took no more."""
        self._waiters: list[asyncio.Future[None]] | None = None
        """Who waits for room in the transport; None: there is room."""
        self._is_reading = True
        self._peer_is_done = False
        self._draining = False
        self._has_failed = False
        self.deadline = NEVER
        self.memo: Any = None
        """What the maker of exchanges keeps for the next one on this connection: its own, hence Any."""

    # ── what the loop calls ──

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Open. Raises: nothing; a raise here would wedge a uvloop listener."""
        self.transport = transport
        self._endpoint.opened(self)
        self._wait(self._endpoint.times.head_s)  # who connects and says nothing is no better than who is slow

    def data_received(self, data: bytes) -> None:
        """Use what came, or keep it until its turn."""
        phase = self._phase
        if phase is ANSWERING:
            if self._body is None:
                self._keep(data)
            else:
                self._feed(self._body, data, 0)
        elif phase is not LINGERING:
            self._begin(self._buffer + data if self._buffer else data)

    def eof_received(self) -> bool:
        """The peer sends no more; it still gets the answers to what it has sent whole."""
        self._peer_is_done = True
        if self._phase is not ANSWERING:
            return False
        if self._body is not None:
            self._body = None
            self._finish()  # half a request
        if self._exchange is not None:
            self._exchange.disconnect()
        return self._phase is ANSWERING

    def pause_writing(self) -> None:
        """The transport holds more than its high-water mark: senders wait."""
        if self._waiters is None:
            self._waiters = []
        self._unsent = self.transport.get_write_buffer_size()
        self._wait(self._endpoint.times.write_s)

    def resume_writing(self) -> None:
        """There is room again."""
        waiters, self._waiters = self._waiters, None
        self.deadline = NEVER
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that the transport is gone; the door, if no application runs for it."""
        self._advance(PhaseEvent.LOST)
        self.deadline = NEVER
        self._buffer, self._body, self._corked = b"", None, []
        self.resume_writing()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()
        if not self._running:
            self._endpoint.closed(self)

    # ── requests ──

    def _begin(self, data: bytes) -> None:
        """Begin the request at the start of ``data``, if its head is there."""
        try:
            head = self._reader.read(data, 0)
            body = None if head is None else body_of(head.fields, self._endpoint.limit_body_bytes)
        except HttpError as error:
            self._refuse(error)
            return
        if head is None:
            self._buffer = data
            if self._phase is IDLE and data:
                self._wait(self._endpoint.times.head_s)
                self._advance(PhaseEvent.PARTIAL)
            return
        self._advance(PhaseEvent.BEGIN)
        self.deadline = NEVER
        self._buffer = b""
        self._running += 1
        exchange = self._exchange = self._endpoint.begin(self, head)
        self._body = body
        if body is not None:
            self._feed(body, data, head.end)
        elif len(data) > head.end:
            self._keep(data[head.end :])
        exchange.start()

    def _feed(self, body: Body, data: bytes, start: int) -> None:
        """Give the exchange what ``data[start:]`` holds of the body; keep the rest."""
        exchange = self._exchange
        try:
            end = body.feed(data, start)
        except HttpError as error:
            self._body = None
            self._buffer = b""
            self._finish()  # where the next request begins is not known
            if exchange is not None:
                exchange.refuse(error)
            return
        if body.is_complete:
            self._body = None
            self.deadline = NEVER
        elif self.deadline is not NEVER:
            self._wait(self._endpoint.times.body_s)
        if end < len(data):
            self._keep(data[end:])
        if exchange is not None:
            exchange.feed(body.take(), self._body is None)
        elif self._body is None:
            self._answered()  # the answer came first; now the rest of the body is gone, too

    def _keep(self, data: bytes) -> None:
        """Keep what came too early; read no more when it is much."""
        self._buffer = self._buffer + data if self._buffer else data
        if len(self._buffer) > self._endpoint.read_high_bytes:
            self.pause_reading()

    def _answered(self) -> None:
        """Go on with the next request: this one is answered, and its body is not in the way."""
        self._advance(PhaseEvent.ANSWERED)
        if (self._draining or self._peer_is_done) and not self._buffer:
            self._finish()
        elif self._buffer:
            # In a turn of its own: a thousand pipelined requests are no thousand frames deep.
            self._endpoint.loop.call_soon(self._next)
        else:
            self._flush()
            self._wait(self._endpoint.times.keep_alive_s)
        self.resume_reading()

    def _next(self) -> None:
        if self._phase is not IDLE:
            return
        data, self._buffer = self._buffer, b""
        self._begin(data)
        if self._phase is ANSWERING:
            # After the first step of the application, which may be its last one.
            self._endpoint.loop.call_soon(self._flush_unless_answered, self._exchange)
        else:
            self._flush()
            if self._peer_is_done:
                self._finish()

    def _flush_unless_answered(self, exchange: Exchange | None) -> None:
        if self._exchange is exchange or not self._buffer:
            self._flush()

    def _refuse(self, error: HttpError) -> None:
        """Answer what is no request, and close: where the next one begins is not known."""
        log.debug("connection refused with %s: %s", error.status, error)
        self._buffer = b""
        self._corked.append(refusal(error))
        self._finish()

    # ── what an exchange calls ──

    def write(self, data: bytes) -> None:
        """Send a part of an answer; now, or with the next one if that is here already."""
        if self._corked or self._buffer:
            self._corked.append(data)
            if self._exchange is not None or len(self._corked) > 64 or sum(map(len, self._corked)) > _CORK_BYTES:
                self._flush()
        elif self._phase is not CLOSED:
            self.transport.write(data)

    def write_last(self, data: bytes, exchange: Exchange, *, close: bool) -> None:
        """Send the end of the answer; ``close``: and nothing after it."""
        if self._exchange is not exchange:
            return  # the transport is gone
        self._exchange = None
        self.write(data)
        if self._phase is not ANSWERING:
            self._finish()
        elif close:
            self._body = None
            self._finish()
        elif self._body is None:
            self._answered()
        else:
            self._wait(self._endpoint.times.body_s)
            self.resume_reading()

    def ended(self) -> None:
        """An application has returned."""
        self._running -= 1
        if not self._running and self._phase is CLOSED:
            self._endpoint.closed(self)

    def fail(self) -> None:
        """Count the connection as one that the application failed, once. The error is logged."""
        if not self._has_failed:
            self._has_failed = True
            self._endpoint.door.failed(self)

    async def room(self) -> None:
        """Return when the transport takes more. Raises: nothing; also when it is gone."""
        while self._waiters is not None:
            waiter = self._endpoint.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    @property
    def is_full(self) -> bool:
        """Whether the transport holds so much that :meth:`room` waits."""
        return self._waiters is not None

    @property
    def is_lost(self) -> bool:
        """Whether the transport is gone, or about to be."""
        return self._phase is CLOSED or self.transport.is_closing()

    @property
    def draining(self) -> bool:
        """Whether the worker drains: the answer says that the connection ends."""
        return self._draining

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        if self._is_reading and self._phase is not CLOSED:
            self._is_reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_reading and self._phase is not CLOSED:
            self._is_reading = True
            self.transport.resume_reading()

    def expect_body(self) -> None:
        """The application waits for more of the body: from now on it has a deadline."""
        self.resume_reading()
        if self._body is not None and self.deadline is NEVER:
            self._wait(self._endpoint.times.body_s)

    def abort(self) -> None:
        """Close at once; the peer sees that the answer is not whole."""
        if self._phase is not CLOSED:
            self.transport.abort()

    # ── what the drain calls ──

    def start_draining(self) -> None:
        """Close if nothing is asked; else after the answer."""
        self._draining = True
        if self._phase is IDLE and not self._buffer:
            self._finish()

    def cancel(self) -> None:
        """End the application's task, if one runs; else close."""
        if self._exchange is not None:
            self._exchange.cancel()
        else:
            self.abort()

    # ── the end ──

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        if self._waiters is not None:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:  # slow is not stalled
                self._unsent = unsent
                self._wait(self._endpoint.times.write_s)
            else:
                self.abort()
        elif self._phase is HEAD:
            self._refuse(HttpError(408, "the head of the request took too long"))
        elif self._phase is ANSWERING and self._body is not None:
            self._body = None
            exchange = self._exchange
            self._finish()
            if exchange is not None:
                exchange.refuse(HttpError(408, "the body of the request took too long"))
        else:
            self.transport.close() if self._phase is IDLE else self.abort()

    def _finish(self) -> None:
        """Say no more; close when the peer has, or has had time to."""
        if self._phase is CLOSED:
            return
        self._advance(PhaseEvent.FINISH)
        self._flush()
        if self._exchange is not None:
            return  # its answer is still to come
        self.resume_reading()
        if self._peer_is_done or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._wait(_LINGER_S)

    def _flush(self) -> None:
        if self._corked and self._phase is not CLOSED:
            data = b"".join(self._corked)
            self._corked.clear()
            self.transport.write(data)

    def _wait(self, seconds: float) -> None:
        self.deadline = self._endpoint.now + seconds if seconds else NEVER

    def _advance(self, event: PhaseEvent) -> None:
        self._phase = AFTER[self._phase][event]
