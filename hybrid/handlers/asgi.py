"""ASGI 3 applications: one task and one exchange for each request.

The exchange holds the head of the response until its first body message, so that both leave in one write. It is made
anew for each request and never used again: an application may hold on to ``send`` after the end.

Source: ASGI specification 3.0, HTTP and WebSocket message format 2.5; lifespan protocol 2.0.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from hybrid.connection.addresses import UNKNOWN, address, show
from hybrid.connection.failures import log
from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.http_endpoint import HttpEndpoint, HttpTimes
from hybrid.connection.registry import Door
from hybrid.ground.errors import BootError
from hybrid.http.date import StandingLines
from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadLimits
from hybrid.http.response import Response, refusal
from hybrid.shared.http_settings import HttpSettings

Scope = dict[str, Any]
Message = dict[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[Any]]
_TURNS = 64
"""Pieces of a response sent without waiting, before others get a turn."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_start: Callable[..., asyncio.Task[None]]
if sys.version_info >= (3, 12):
    # hot: ASGI hello; 0.6 µs less for each request (hotpath measurements, CPython 3.13).
    _start = partial(asyncio.Task, eager_start=True)
else:
    _start = asyncio.Task


class Disconnected(OSError):
    """The client is gone: what ``send()`` raises then, as the ASGI specification asks since 2.4."""


@dataclass(slots=True)
class AsgiEndpoint:
    """A listener with its ASGI application, in one worker: what every exchange shares."""

    app: Application
    loop: asyncio.AbstractEventLoop
    name: str
    standing: Callable[[], bytes]
    """Header lines of every response: date and server, ready to be sent."""
    state: dict[str, Any] | None = None
    """What the lifespan left; each request has a copy. None: no lifespan."""
    root_path: str = ""
    read_high_bytes: int = 65536

    def begin(self, connection: HttpConnection, head: Head) -> AsgiExchange:
        """Return the exchange of one request. Never raises."""
        return AsgiExchange(self, connection, head)

    def scope(self, connection: HttpConnection, head: Head) -> Scope:
        """Return what the application is told of the request."""
        template: Scope | None = connection.memo
        if template is None:
            template = connection.memo = self._template(connection.transport)
        # hot: ASGI hello; a copy of the connection's own template saves 0.45 µs against a new dict.
        scope = template.copy()
        scope["http_version"] = head.version
        scope["method"] = head.method
        scope["path"] = self.root_path + head.path if self.root_path else head.path
        scope["raw_path"] = head.raw_path
        scope["query_string"] = head.query_string
        scope["headers"] = head.fields.pairs.copy()
        scope["extensions"] = {"http.response.early_hint": {}, "http.response.trailers": {}}
        if self.state is not None:
            scope["state"] = self.state.copy()
        return scope

    def _template(self, transport: asyncio.Transport) -> Scope:
        """Return what is the same for every request of a connection; the rest in its place, for the order of keys."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": "",
            "scheme": "https" if transport.get_extra_info("ssl_object") is not None else "http",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "root_path": self.root_path,
            "headers": [],
            "client": scope_address(address(transport, "peername")),
            "server": scope_address(address(transport, "sockname")),
        }


class AsgiExchange:
    """One request and its response. See :class:`hybrid.connection.http_connection.Exchange`.

    Runs in: worker, in its loop. Closes: nothing.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_endpoint",
        "_error",
        "_head",
        "_is_whole",
        "_lost",
        "_pieces",
        "_response",
        "_size",
        "_task",
        "_told",
        "_waiter",
        "_wants_continue",
    )

    def __init__(self, endpoint: AsgiEndpoint, connection: HttpConnection, head: Head) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._head = head
        self._response = Response(head)
        fields = head.fields
        self._is_whole = not fields.chunked and fields.content_length <= 0
        self._chunks: list[bytes] | None = None
        self._size = 0
        self._told = False
        """Whether the application has been given the last of the body."""
        self._wants_continue = fields.expect_continue and not self._is_whole
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._pieces = 0
        """Of the response, sent before its last one."""
        self._error: HttpError | None = None
        self._task: asyncio.Task[None] | None = None

    # ── what the connection calls ──

    def start(self) -> None:
        """Run the application in a task of its own."""
        self._task = _start(self._run(), loop=self._endpoint.loop)

    def feed(self, data: bytes, complete: bool) -> None:
        """Keep a piece of the body until the application asks for it; read no more when it is much."""
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
        if not self._response.has_begun:
            self._connection.write_last(refusal(error), self, close=True)
        else:
            self._connection.abort()
        self._wake()

    def disconnect(self) -> None:
        """Tell the application, when it asks."""
        self._lost = True
        self._wake()

    def cancel(self) -> None:
        """Cancel the application's task: the grace is over."""
        if self._task is not None:
            self._task.cancel()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ── what the application calls ──

    async def receive(self) -> Message:
        """Return the next piece of the body, or that the client is gone, or that the response is complete."""
        while True:
            if self._chunks is not None or (self._is_whole and not self._told):
                return self._piece()
            if self._lost or self._response.is_complete:
                return {"type": "http.disconnect"}
            if not self._is_whole:
                if self._wants_continue:
                    self._wants_continue = False
                    if not self._response.has_begun:
                        self._connection.write(CONTINUE)
                self._connection.expect_body()
            self._waiter = self._endpoint.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _piece(self) -> Message:
        chunks, self._chunks, self._size = self._chunks, None, 0
        body = b"" if chunks is None else chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._told = self._is_whole
        return {"type": "http.request", "body": body, "more_body": not self._is_whole}

    async def send(self, message: Message) -> None:
        """Take one message of the response.

        Raises: RuntimeError: the message does not fit here; ValueError, TypeError: what is in it cannot be sent;
        Disconnected: the client is gone.
        """
        connection, response = self._connection, self._response
        kind = message["type"]
        if connection.is_lost or self._error is not None:
            raise Disconnected("the client has closed the connection")
        if kind == "http.response.body":
            more = message.get("more_body", False)
            data = response.body(message.get("body", b""), more)
            if response.is_complete:
                connection.write_last(data, self, close=response.must_close)
                self._wake()
            else:
                if data:
                    connection.write(data)
                self._pieces += 1
                if connection.is_full:
                    await connection.room()
                elif self._pieces % _TURNS == 0:
                    await asyncio.sleep(0)  # or an application that only sends would hold the loop for ever
        elif kind == "http.response.start":
            response.start(
                message["status"],
                message.get("headers", ()),
                self._endpoint.standing(),
                close=connection.draining,
                trailers=message.get("trailers", False),
            )
        elif kind == "http.response.trailers":
            data = response.trailers(message.get("headers", ()), message.get("more_trailers", False))
            if response.is_complete:
                connection.write_last(data, self, close=response.must_close)
                self._wake()
        elif kind == "http.response.early_hint":
            if self._head.version == "1.1":
                connection.write(response.informational(103, _links(message["links"])))
        else:
            raise RuntimeError(f"cannot send {kind!r}: a response is http.response.start, then http.response.body")

    # ── the application's task ──

    async def _run(self) -> None:
        endpoint, connection = self._endpoint, self._connection
        error: BaseException | None = None
        try:
            await endpoint.app(endpoint.scope(connection, self._head), self.receive, self.send)
        except CancelledError as cancelled:
            error = cancelled
        except (Exception, SystemExit, KeyboardInterrupt) as raised:  # noqa: BLE001  (the user's code; logged)
            error = raised
        try:
            if not self._response.is_complete:
                self._give_up(error)
            elif error is not None:
                self._log(error)
        finally:
            self._task = None
            connection.ended()

    def _give_up(self, error: BaseException | None) -> None:
        """The application has ended without an answer, or in the middle of it."""
        connection = self._connection
        if self._error is not None or connection.is_lost:
            if error is not None and not isinstance(error, (Disconnected, CancelledError)):
                self._log(error)
            return
        if error is None:
            log.error("app %s returned without %s", self._endpoint.name, self._missing())
        else:
            self._log(error)
        if self._response.has_begun:
            connection.abort()  # an answer that looks whole and is not would be worse
        else:
            status = 503 if isinstance(error, CancelledError) else 500
            connection.write_last(refusal(HttpError(status, "")), self, close=True)

    def _missing(self) -> str:
        return "the rest of its response" if self._response.has_begun else "a response"

    def _log(self, error: BaseException) -> None:
        connection = self._connection
        if isinstance(error, CancelledError):
            log.warning("app %s: request cancelled at the end of the grace", self._endpoint.name)
            return
        connection.fail()
        log.error(
            "app %s failed, %s %s from %s: %s: %s",
            self._endpoint.name,
            self._head.method,
            ascii(self._head.path)[1:-1],
            show(address(connection.transport, "peername")),
            type(error).__name__,
            error,
            exc_info=(type(error), error, error.__traceback__),
        )


def asgi_factory(
    app: Application, name: str, door: Door, state: object, settings: HttpSettings
) -> Callable[[], asyncio.BaseProtocol]:
    """Return what makes one :class:`HttpConnection` for each socket that a listener accepts.

    Runs in: worker. Args: state: of the lifespan; None: there is none.
    Raises: BootError: the state is nothing that requests could have a copy of.
    """
    if state is not None and not isinstance(state, Mapping):
        raise BootError(
            f"cannot give requests what the lifespan yielded, {type(state).__name__}: the state of an ASGI application "
            "is a dict. Yield one, or nothing."
        )
    loop = asyncio.get_running_loop()
    standing = StandingLines("hybrid" if settings.server_header else "", date=settings.date_header)
    asgi = AsgiEndpoint(app, loop, name, standing, None if state is None else dict(state), settings.root_path)
    endpoint = HttpEndpoint(
        begin=asgi.begin,
        door=door,
        loop=loop,
        name=name,
        limits=HeadLimits(settings.limit_line_bytes, settings.limit_head_bytes, settings.limit_fields),
        limit_body_bytes=settings.limit_body_bytes,
        times=HttpTimes(settings.head_s, settings.body_s, settings.keep_alive_s, settings.write_s),
    )
    # Both loops take any object with a protocol's methods; HttpConnection does not inherit, so that it can be compiled.
    return cast(Callable[[], asyncio.BaseProtocol], lambda: HttpConnection(endpoint))


def _links(links: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"link", link) for link in links]


def scope_address(where: Any) -> tuple[str, int | None] | None:
    """Return an address as the scope has it: (host, port), a unix socket's (path, None), or None."""
    if where == UNKNOWN or where == "":
        return None
    return (where, None) if isinstance(where, str) else (where[0], where[1])
