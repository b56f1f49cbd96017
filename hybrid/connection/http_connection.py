"""An HTTP/1.1 connection: bytes of one transport in, one request after another out, and the answers back in order.

What it does not know: the application. It gives each request to what :attr:`HttpEndpoint.begin` makes (an *exchange*),
feeds it the body, and writes what the exchange says. What it does not do: parse and frame (:mod:`hybrid.http`).

One request is answered at a time. Bytes that come meanwhile wait here; above ``read_high_bytes`` the socket is not
read any more. Answers to pipelined requests are corked: they leave in one write, unless an application takes its time.
There is no timer for a request: each phase has a deadline, and the endpoint's sweep looks at them all once a second.

Source: RFC 9112 §9 (connection management), §9.3.2 (pipelining), §9.6 (tear-down).
"""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid.connection.failures import log
from hybrid.connection.http_ending import Ending
from hybrid.connection.http_endpoint import Exchange, HttpEndpoint, Upgraded
from hybrid.connection.http_phases import AFTER_LOST, ANSWERING, CLOSED, IDLE, LINGERING, UPGRADED, PhaseEvent
from hybrid.connection.http_wire import NEVER
from hybrid.http.body import Body, body_of
from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadReader
from hybrid.http.status import refusal
from hybrid.http.websocket import wants_websocket

_UNREAD_BYTES = 262144
"""Of a body, thrown away behind its answer so that the connection can stay; more of it ends it."""


class HttpConnection(Ending):
    """An accepted connection that speaks HTTP/1.1 (or 1.0), until closed. An asyncio protocol by its methods.

    Runs in: worker, in its loop. Closes: its transport. Survives: anything a peer sends.
    """

    __slots__ = ("_begun_ns", "_is_first", "_reader", "_unread", "memo")

    def __init__(self, endpoint: HttpEndpoint) -> None:
        Ending.__init__(self, endpoint)  # hot: connections; with super() 119,751 instructions, 118,040 so
        self._reader = HeadReader(endpoint.limits)
        self._is_first = True
        self._begun_ns = 0
        """When the head of the request was there that is being answered; 0: nobody wants to know how long it takes."""
        self._unread = 0
        """Bytes of a body that came after the answer was complete."""
        self.memo: Any = None
        """What the maker of exchanges keeps for the next one on this connection: its own, hence Any."""

    # ── what the loop calls ──

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Open. Raises: nothing; a raise here would wedge a uvloop listener."""
        self.transport = transport
        endpoint = self._endpoint
        endpoint.opened(self)
        self.deadline = endpoint.head_until  # who connects and says nothing is no better than who is slow

    def data_received(self, data: bytes) -> None:
        """Use what came, or keep it until its turn."""
        phase = self._phase
        if phase is ANSWERING:
            if self._body is None:
                self._keep(data)
            else:
                self._feed(self._body, data, 0)
        elif phase is IDLE and (self._buffer or self._waiters is not None):
            self._keep(data)  # the next request's turn is to come; or its client takes no answer, and is given no other
        elif phase is UPGRADED:
            assert self._upgraded is not None
            self._upgraded.feed(data)
        elif phase is not LINGERING:
            if self._buffer:
                self._buffer += data
            self._begin(self._buffer or data)

    def eof_received(self) -> bool:
        """The peer sends no more; it still gets the answers to what it has sent whole."""
        self._peer_is_done = True
        self._note_end()
        owes = self._phase is ANSWERING or (self._phase is IDLE and self._buffer != b"")
        return owes and self.transport.can_write_eof()

    def pause_writing(self) -> None:
        """Let senders wait; a peer that takes nothing has a deadline."""
        self._hold_senders()
        self._set_deadline()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._release_senders()
        self._set_deadline()
        if self._phase is IDLE and self._buffer:
            self._loop.call_soon(self._next, context=self._context)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that the transport is gone; the door, if no application runs for it."""
        self._phase = AFTER_LOST[self._phase]
        self.is_lost = True
        self.deadline = self._answer_by  # the application has its time also without its client
        self._buffer, self._body, self._corked = b"", None, []
        if self._waiters is not None:  # hot: connections; see Ending._finish
            self._release_senders()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()
        if self._latest is None and not self._earlier:  # else when it returns: an answer may be complete before that
            self._endpoint.closed(self)

    # ── requests ──

    def _begin(self, data: bytes | bytearray) -> None:
        """Begin the request at the start of ``data``, if its head is there."""
        endpoint = self._endpoint
        head = body = None
        try:
            head = self._reader.read(data, 0)
            if head is not None and (head.fields.chunked or head.fields.content_length > 0):
                body = body_of(head.fields, endpoint.limit_body_bytes)
        except HttpError as error:
            self._refuse(error, head)
            return
        if head is None:
            self._buffer = data if type(data) is bytearray else bytearray(data)
            if self._phase is IDLE:
                self._advance(PhaseEvent.PARTIAL)
                if not self._is_first:  # the first head has its time from the connection's start
                    self._set_deadline()
            return
        self._phase = ANSWERING  # hot: ASGI hello; a look into the table costs 90 ns, here and when answered
        self._answer_by = self.deadline = endpoint.answer_until
        if self._waiters is not None:
            self._set_deadline()
        self._is_last = not head.keep_alive
        self._buffer = b""
        self._is_first = False
        if self._latest is not None:
            self._earlier = (*self._earlier, self._latest)
        load = endpoint.load
        load.begun += 1
        if load.begun >= load.timed_at:  # hot: timed requests; no more than this where none is
            self._begun_ns = load.start_clock()
        begin = endpoint.begin if load.begun <= load.ceiling else endpoint.overload
        if head.upgrade and load.begun <= load.ceiling and endpoint.upgrade is not None and wants_websocket(head):
            begin = endpoint.upgrade
        exchange = self._exchange = self._latest = begin(self, head)
        self._body = body
        if body is not None:
            self._feed(body, data, head.end)
        elif len(data) > head.end:
            self._keep(data[head.end :])
        exchange.start()

    def _feed(self, body: Body, data: bytes | bytearray, start: int) -> None:
        """Give the exchange what ``data[start:]`` holds of the body."""
        exchange = self._exchange
        if exchange is None:
            self._unread += len(data) - start
        try:
            end = body.feed(data, start)
        except HttpError as error:
            self._finish()  # where the next request begins is not known
            if exchange is not None:
                exchange.refuse(error)
            return
        if body.is_complete:
            self._body = None
        self._awaits_body = exchange is None
        self._set_deadline()
        if end < len(data):
            self._keep(data[end:])
        if exchange is not None:
            exchange.feed(body.take(), self._body is None)
        elif self._body is None:
            self._answered()  # the answer came first; now the rest of the body is gone, too
        elif self._unread > _UNREAD_BYTES:
            self._finish()

    def _keep(self, data: bytes | bytearray) -> None:
        """Keep what came too early; read no more when it is much."""
        self._buffer += data
        if len(self._buffer) > self._endpoint.read_high_bytes:
            self.pause_reading()

    def _answered(self) -> None:
        """Go on with the next request: this one is answered, and its body is not in the way."""
        self._phase = IDLE
        if self._buffer:
            if self._waiters is None:  # else when there is room again
                # In a turn of its own: a thousand pipelined requests are no thousand frames deep.
                self._loop.call_soon(self._next, context=self._context)
            else:
                self._set_deadline()
        elif self._peer_is_done:
            self._finish()
        else:
            if self._corked:
                self._flush()
            if self._waiters is None:
                self.deadline = self._endpoint.idle_until
            else:
                self._set_deadline()
            if self.draining:
                self._call_last()  # the answer had begun when the drain came, and did not say that it is the last
        if not self._is_reading and len(self._buffer) <= self._endpoint.read_high_bytes:
            self.resume_reading()

    def _next(self) -> None:
        if self._phase is not IDLE or not self._buffer:
            return
        data, self._buffer = self._buffer, b""
        self._begin(data)
        if self._phase is ANSWERING:
            if self._peer_is_done:
                self._note_end()
            # After the first step of the application, which may be its last one.
            self._loop.call_soon(self._flush_unless_answered, self._exchange, context=self._context)
        elif self._phase is not IDLE or not self._buffer:  # else it is answered already, and the next one has its turn
            self._flush()
            if self._peer_is_done:
                self._finish()

    def _note_end(self) -> None:
        """Tell the exchange that the peer sends no more. Half a request never becomes a whole one."""
        if self._body is not None:
            self._finish()
        if self._exchange is not None:
            self._exchange.disconnect()

    def _flush_unless_answered(self, exchange: Exchange | None) -> None:
        if self._exchange is exchange or not self._buffer:
            self._flush()

    def _refuse(self, error: HttpError, head: Head | None = None) -> None:
        """Answer what is no request, and close: where the next one begins is not known."""
        log.debug("connection refused with %s: %s", error.status, error)
        self._corked.append(refusal(error, self._endpoint.standing()))
        self._endpoint.refused(self, head, error)
        self._finish()

    def write(self, data: bytes) -> None:
        """Send a part of an answer; now, or with the next one if that is here already."""
        if self._corked or self._buffer:
            if self._cork(data) or self._exchange is not None:
                self._flush()
        elif self._phase is not CLOSED:
            self.transport.write(data)

    def write_last(self, data: bytes, exchange: Exchange, *, close: bool) -> None:
        """Send the end of the answer; ``close``: and nothing after it."""
        if self._exchange is not exchange:
            return  # the transport is gone
        self._exchange = None
        self._answer_by = self.deadline = NEVER
        self.write(data)
        if self._upgraded is None:
            load = self._endpoint.load
            load.answered += 1
            if self._begun_ns:
                load.stop_clock(self._begun_ns)
                self._begun_ns = 0
        if self._phase is not ANSWERING or close:
            self._finish()
        elif self._body is None:
            self._answered()
        else:
            self._unread = 0
            self._awaits_body = True
            self._set_deadline()
            self.resume_reading()

    def forget_time(self) -> None:
        """Do not count how long the request takes that begins now: no application is asked."""
        self._begun_ns = 0

    def upgrade(self, head: bytes, upgraded: Upgraded) -> None:
        """Send a 101; from now on what comes is ``upgraded``'s, beginning with what is here already."""
        self._advance(PhaseEvent.UPGRADE)
        if self._phase is not UPGRADED:
            return  # the transport is gone, or the request's time is over
        self._upgraded, self._answer_by, self._begun_ns = upgraded, NEVER, 0
        data, self._buffer = self._buffer, b""
        self._corked.append(head)
        self._flush()
        self._set_deadline()
        if data:
            upgraded.feed(bytes(data))
        self.resume_reading()

    def hang_up(self, data: bytes, exchange: Exchange) -> None:
        """Send the end of what has taken the connection over; the peer knows that nothing follows, and said so too."""
        self._is_last = True
        self.write_last(data, exchange, close=True)

    def expect_body(self) -> None:
        """The application waits for more of the body: from now on it has a deadline."""
        self.resume_reading()
        if self._body is not None and not self._awaits_body:
            self._awaits_body = True
            self._set_deadline()
