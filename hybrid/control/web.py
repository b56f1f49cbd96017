"""A small web server for control's own pages: a table of routes, served by the connections that workers use, too.

What a page is asked for and what it answers are :class:`Request` and :class:`Answer`; nothing here knows ASGI but
:class:`Site`, which is the application that :mod:`hybrid.handlers` serves. From there come keep-alive, the limits and
deadlines of a request, and the waiting for a client that reads slowly.

Source: RFC 9110 §9.3.1, §9.3.2 (GET, HEAD), §15.5.6 (405).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hybrid.connection.registry import Served
from hybrid.control.accepting import Accepting
from hybrid.handlers.asgi import asgi_factory
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings

MOST_CONNECTIONS = 256
"""One more, and the oldest is cut, not the newcomer: a crowd that stays must not keep out who asks for our health."""
MOST_STREAMS = 64
"""Answers without an end; one more gets 503. What is left is for who asks whether the server is well."""
ANSWER_S = 10.0
"""For a handler to give its answer (a stream: its beginning); then it is 503."""
SETTINGS = HttpSettings(
    limit_line_bytes=4096,
    limit_head_bytes=16384,
    limit_fields=64,
    limit_body_bytes=65536,
    head_s=5.0,
    body_s=5.0,
    keep_alive_s=75.0,
    write_s=20.0,
)
METHODS = ("GET", "HEAD")
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. ``query``: as it was sent, without the question mark; ``headers``: names in lower case."""

    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered. A body of pieces is a stream: each is sent at once, and the iterator is closed at its end.

    The iterator ends, or is cancelled when its client is gone; a client that reads slowly makes it wait.
    """

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    """``cache-control: no-store`` is added where no such is given."""


Handler = Callable[[Request], Awaitable[Answer]]
Routes = Mapping[str, Handler]
"""Handlers by path; of a GET. HEAD is answered with the same head."""


class Site:
    """The routes, as an ASGI application. Runs in: control, in its loop."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._streams = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request. Raises: what a handler raises; the connection then logs it and answers 500."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close"})  # 403: nothing here speaks WebSocket
            return
        answer = await self._answer(scope)
        is_head = scope["method"] == "HEAD"
        if isinstance(answer.body, bytes):
            await send(_start(answer, len(answer.body)))
            await send({"type": "http.response.body", "body": b"" if is_head else answer.body})
        elif is_head:
            await _close(answer.body)
            await send(_start(answer))
            await send({"type": "http.response.body"})
        elif self._streams >= MOST_STREAMS:
            await _close(answer.body)
            body = b"as many streams as are allowed are open\n"
            await send(_start(Answer(status=503, headers=(("retry-after", "5"),)), len(body)))
            await send({"type": "http.response.body", "body": body})
        else:
            self._streams += 1
            try:
                await _stream(answer, answer.body, receive, send)
            finally:
                self._streams -= 1

    async def _answer(self, scope: dict[str, Any]) -> Answer:
        handler = self._routes.get(scope["path"])
        if handler is None:
            return Answer(b"there is nothing here\n", 404)
        if scope["method"] not in METHODS:
            return Answer(b"only GET and HEAD are answered here\n", 405, headers=(("allow", ", ".join(METHODS)),))
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, said = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {said}" if key in headers else said
        request = Request(scope["path"], scope["query_string"].decode("latin-1"), headers)
        try:
            return await asyncio.wait_for(handler(request), ANSWER_S)
        except asyncio.TimeoutError:
            return Answer(b"it took too long to find the answer\n", 503)


def _start(answer: Answer, length: int | None = None) -> dict[str, Any]:
    """Return the message that begins a response; ``length``: of its body, if that is known."""
    names = {name.lower() for name, _ in answer.headers}
    headers = [("content-type", answer.content_type), ("x-content-type-options", "nosniff"), *answer.headers]
    if "cache-control" not in names:
        headers.append(("cache-control", "no-store"))
    if length is not None and answer.status != 304:  # there it would be the length of what is not sent again
        headers.append(("content-length", str(length)))
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": answer.status, "headers": encoded}


async def _stream(answer: Answer, pieces: AsyncIterator[bytes], receive: Any, send: Any) -> None:
    """Send pieces as they come, until there are no more or the client is gone."""
    await send(_start(answer))
    await send({"type": "http.response.body", "body": b"", "more_body": True})  # the head does not wait for a piece
    pump = asyncio.ensure_future(_pump(pieces, send))
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        if pump.done() and (error := pump.exception()) is not None:
            raise error
    finally:
        for task in (pump, gone):
            task.cancel()
        await asyncio.wait({pump, gone})
        await _close(pieces)


async def _pump(pieces: AsyncIterator[bytes], send: Any) -> None:
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def _until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close(pieces: AsyncIterator[bytes]) -> None:
    """Close the generator, if it is one, also one that was never begun."""
    aclose = getattr(pieces, "aclose", None)
    if aclose is not None:
        await aclose()


class Entrance:
    """The door of a site's listener: knows who is inside, and for one too many cuts the oldest. Runs in: control."""

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        self.open: dict[Served, None] = {}
        """Oldest first."""
        self._most = most
        self._emptied = asyncio.Event()

    def opened(self, connection: Served) -> None:
        """Count one in."""
        self.open[connection] = None
        if len(self.open) > self._most:
            oldest = next(iter(self.open))
            self.closed(oldest)  # by and by, and others come meanwhile
            oldest.abort()

    def closed(self, connection: Served) -> None:
        """Count one out."""
        self.open.pop(connection, None)
        if not self.open:
            self._emptied.set()

    async def empty(self) -> None:
        """Cut who is inside, and return when nobody is."""
        for connection in tuple(self.open):
            connection.cancel()
            connection.abort()
        while self.open:
            self._emptied.clear()
            await self._emptied.wait()

    def failed(self, connection: Served) -> None:
        """Do nothing: the failure is in the log."""


class Opened:
    """A site that is open at a listener. Runs in: control, in its loop. Closes: all of it, on :meth:`close`."""

    def __init__(self, accepting: Accepting, entrance: Entrance) -> None:
        self._accepting = accepting
        self._entrance = entrance

    @property
    def inside(self) -> int:
        """Connections that are open."""
        return len(self._entrance.open)

    async def close(self) -> None:
        """Close the listener, and cut who is inside."""
        self._accepting.close()
        await self._entrance.empty()


async def open_site(routes: Routes, listener: socket.socket, most: int = MOST_CONNECTIONS) -> Opened:
    """Serve ``routes`` at a listening socket, TCP or unix; return when it is open.

    Runs in: control. Closes: ``listener``, with what is returned. Args: most: connections at a time.
    """
    entrance = Entrance(most)
    factory = asgi_factory(Site(routes), "control", entrance, None, HttpShared.of(SETTINGS))
    return Opened(Accepting(listener, factory), entrance)
