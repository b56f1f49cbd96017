"""One request to an ASGI application, and its response.

The exchange holds the head of the response until its first body message, so that both leave in one write. It is made
anew for each request and never used again: an application may hold on to ``send`` after the end.

Source: ASGI specification 3.0, HTTP and WebSocket message format 2.5.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Iterable, Mapping
from contextlib import suppress
from operator import index
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from hybrid.connection.failures import log
from hybrid.connection.http_connection import HttpConnection
from hybrid.handlers.asgi_task import AsgiTask, Message, checked
from hybrid.handlers.disconnected import Disconnected, is_from_disconnect
from hybrid.http.errors import HttpError
from hybrid.http.head import Head
from hybrid.http.response import Response

if TYPE_CHECKING:
    from hybrid.handlers.asgi import AsgiEndpoint

_TURNS = 64
"""Pieces of a response sent without waiting, before others get a turn."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class AsgiExchange(AsgiTask):
    """One request and its response. See :class:`hybrid.connection.http_connection.Exchange`.

    Runs in: worker, in its loop. Closes: nothing.
    """

    __slots__ = (
        "_chunks",
        "_has_heard",
        "_is_drained",
        "_is_whole",
        "_lost",
        "_pieces",
        "_response",
        "_size",
        "_told",
        "_wants_continue",
    )

    def __init__(self, endpoint: AsgiEndpoint, connection: HttpConnection, head: Head) -> None:
        self._endpoint = endpoint  # hot: without super().__init__
        self._connection = connection
        self._head = head
        self._response = Response(head, endpoint.memo)
        fields = head.fields
        self._is_whole = not fields.chunked and fields.content_length <= 0
        self._chunks: list[bytes] | None = None
        self._size = 0
        self._told = False
        """Whether the application has been given the last of the body."""
        self._wants_continue = head.expect_continue and not self._is_whole
        self._waiters = []
        self._lost = False
        self._is_drained = False
        """Whether an endless response is to end because the worker drains."""
        self._has_heard = False
        """Whether the application was told that the client is gone, with no response to its name yet."""
        self._pieces = 0
        """Of the response, sent before its last one."""
        self._entry = None if endpoint.access_log is None else endpoint.entry(connection, head)
        self._error = None
        self._task = None

    # ── what the connection calls ──

    def feed(self, data: bytes, complete: bool) -> None:
        """Keep a piece of the body until the application asks for it; read no more when it is much."""
        if data or complete:
            self._wants_continue = False  # its client did not wait
        if data:
            if self._chunks is None:
                self._chunks = [data]
            else:
                self._chunks.append(data)
            self._size += len(data)
            if self._size > self._endpoint.read_high_bytes and not complete:
                self._connection.pause_reading()
        self._is_whole = complete
        self._wake()

    def refuse(self, error: HttpError) -> None:
        """Answer with the error's status, if nothing was answered; the application sees a disconnect."""
        self._error = error
        self._lost = True
        if error.status == 504:
            log.warning("app %s: %s: %s; cancelled (--request-timeout)", self._endpoint.name, self._title, error)
        if self._response.has_begun:
            self._connection.abort()
        else:
            self._answer(error)
        self._wake()

    def disconnect(self) -> None:
        """Tell the application, when it asks."""
        self._lost = True
        self._wake()

    def drain(self) -> None:
        """Tell an event stream that its client is gone: it would never end, and its client comes again by itself.

        Whatever else was begun is finished. Source: HTML Living Standard §9.2 (server-sent events reconnect).
        """
        if self._response.is_event_stream and not self._response.is_complete:
            self._is_drained = self._lost = True
            self._wake()

    def _complete(self, data: bytes) -> None:
        """Write the last bytes of the response; whoever waits in :meth:`receive` learns that it is complete."""
        self._connection.write_last(data, self, close=self._response.must_close)
        if self._waiters:  # hot: ASGI hello; 59,147 instructions, 58,526 so
            self._wake()
        if self._entry is not None:
            self._log_access()

    # ── what the application calls ──

    async def receive(self) -> Message:
        """Return the next piece of the body, or that the client is gone, or that the response is complete."""
        while True:
            if self._chunks is not None or (self._is_whole and not self._told):
                return self._piece()
            if self._lost or self._response.is_complete:
                self._has_heard = not self._response.is_complete
                return {"type": "http.disconnect"}
            if not self._is_whole:
                if self._wants_continue:
                    self._wants_continue = False
                    if not self._response.has_begun:
                        self._connection.write(CONTINUE)
                self._connection.expect_body()
            waiter = self._endpoint.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)

    def _piece(self) -> Message:
        chunks, self._chunks, self._size = self._chunks, None, 0
        body = b"" if chunks is None else chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._told = self._is_whole
        return {"type": "http.request", "body": body, "more_body": not self._is_whole}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take one message of the response.

        Raises: RuntimeError: the message does not fit here; ValueError, TypeError: what is in it cannot be sent;
        Disconnected: the client is gone.
        """
        connection, response = self._connection, self._response
        said: Message = message if type(message) is dict else dict(message)  # compiled code takes no other mapping
        kind = said["type"]
        if connection.is_lost or self._error is not None:
            raise Disconnected("the client has closed the connection")
        if kind == "http.response.body":
            more = said.get("more_body", False)
            if self._is_drained and more and not self._has_heard:
                raise Disconnected("the server stops: the event stream ends here")
            data = response.body(said.get("body", b""), more)
            if self._entry is not None and response.has_body:
                self._entry.body_bytes += memoryview(said.get("body", b"")).nbytes
            if response.is_complete:
                self._complete(data)
            else:
                if data:
                    connection.write(data)
                self._pieces += 1
                if connection.is_full:
                    await connection.room()
                elif self._pieces % _TURNS == 0:
                    await asyncio.sleep(0)  # or an application that only sends would hold the loop for ever
        elif kind == "http.response.start":
            self._begin(said)
        elif kind == "http.response.trailers":
            data = response.trailers(said.get("headers", ()), said.get("more_trailers", False))
            if response.is_complete:
                self._complete(data)
        elif kind == "http.response.early_hint":
            hint = response.informational(103, _links(said["links"]))
            if hint:
                connection.write(hint)
        else:
            raise RuntimeError(f"cannot send {kind!r}: a response is http.response.start, then http.response.body")

    def _begin(self, message: Message) -> None:
        """Take the head of the response."""
        connection, response = self._connection, self._response
        status, headers = message["status"], message.get("headers", ())
        if type(status) is not int:
            status = index(status)  # an HTTPStatus, or a number of numpy's
        entry, access_log = self._entry, self._endpoint.access_log
        if entry is not None and access_log is not None and access_log.wants_response_headers:
            headers = entry.response_headers = list(headers)  # they may be there to be read once
        response.start(
            status,
            headers,
            self._endpoint.standing(),
            # After an expectation it is not known whether a body follows.
            close=(connection.draining and not connection.has_next) or self._wants_continue,
            trailers="trailers" in message and bool(message["trailers"]),
        )
        if status >= 400:
            connection.went_wrong(status)
        if entry is not None:
            entry.status = status
        if connection.draining:
            self.drain()

    # ── the application's task ──

    async def _run(self) -> None:
        endpoint, connection = self._endpoint, self._connection
        error: BaseException | None = None
        try:
            running = endpoint.app(endpoint.scope(connection, self._head), self.receive, self.send)
            await (running if type(running) is CoroutineType else checked(running))
        except BaseException as raised:  # noqa: BLE001  (the user's code; logged, and never the loop's end)
            error = raised
            if endpoint.loop.is_closed():  # nobody is left to be told: a task that was pending at the end is destroyed
                return
        try:
            if not self._response.is_complete:
                self._give_up(error)
            elif error is not None:
                self._log(error)
        finally:
            if self._entry is not None:
                self._log_access()
            self._task = None
            error = None  # or what the application held would be in a cycle with this frame
            connection.ended(self)

    def _give_up(self, error: BaseException | None) -> None:
        """The application has ended without an answer, or in the middle of it."""
        connection = self._connection
        gave_up_with_client = self._has_heard or is_from_disconnect(error)
        if self._error is not None or connection.is_lost or (gave_up_with_client and not self._is_drained):
            if self._error is None:
                connection.abort()  # a client that only sends no more sees that the answer is not whole
            if error is None or gave_up_with_client or isinstance(error, CancelledError):
                log.debug("app %s: %s: ended after the client was gone: %r", self._endpoint.name, self._title, error)
            else:
                self._log(error)
            return
        if self._is_drained and (error is None or gave_up_with_client) and self._end_stream():
            return
        # The client first: a log may raise.
        missing = "the rest of its response" if self._response.has_begun else "a response"
        if self._response.has_begun:
            connection.abort()  # an answer that looks whole and is not would be worse
        else:
            self._answer(HttpError(503 if isinstance(error, CancelledError) else 500, ""))
        if error is None:
            log.error("app %s: %s: returned without %s", self._endpoint.name, self._title, missing)
        else:
            self._log(error)

    def _end_stream(self) -> bool:
        """End a stream that the drain has ended, so that it is whole; not one that promised its length, or trailers."""
        with suppress(RuntimeError):
            self._connection.write_last(self._response.body(b"", False), self, close=True)
        return self._response.is_complete


def _links(links: Iterable[Any]) -> list[tuple[bytes, Any]]:
    return [(b"link", link) for link in links]
