"""Control's own web server, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from hybrid.control import web
from hybrid.control.web import Answer, Opened, Request, Routes, open_site
from tests.component.http_room import Client, ask_for
from tests.support.eventually import eventually_async


@dataclass
class Room:
    """An open site and its clients."""

    port: int
    site: Opened
    _clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        """Return a new connection; it is closed with the room."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def leave(self) -> None:
        """Close all clients."""
        for client in self._clients:
            client.close()
            with suppress(OSError):
                await client.writer.wait_closed()


@asynccontextmanager
async def opened(routes: Routes, most: int = 8) -> AsyncIterator[Room]:
    """Serve ``routes`` on a port of its own. Closes: the site and its clients."""
    listener = socket.create_server(("127.0.0.1", 0))
    room = Room(listener.getsockname()[1], await open_site(routes, listener, most))
    try:
        yield room
    finally:
        await room.site.close()
        await room.leave()


async def hello(request: Request) -> Answer:
    """Answer with what was asked."""
    return Answer(f"{request.path}?{request.query} {request.headers.get('x-a')}".encode())


async def test_a_route_is_asked_again_on_the_same_connection() -> None:
    """Path, query and headers reach the handler; the connection stays; nothing of it is kept in a cache."""
    async with opened({"/a": hello}) as room:
        client = await room.connect()
        for query in ("x=1", "y=2"):
            asked = f"GET /a?{query} HTTP/1.1\r\nHost: a\r\nX-A: 7\r\nX-A: 8\r\n\r\n".encode()
            status, headers, body = await client.ask(asked)
            assert (status, body) == (200, f"/a?{query} 7, 8".encode())
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"


async def test_a_head_is_the_get_without_its_body() -> None:
    """The length is that of the body which is not sent; the next answer follows at once."""
    async with opened({"/a": hello}) as room:
        client = await room.connect()
        client.send(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n" + ask_for(b"/b"))
        head = await client.until(b"\r\n\r\n")
        assert b"200" in head and b"content-length: 8" in head.lower()
        assert (await client.response())[0] == 404


async def test_what_is_not_there_and_what_is_not_allowed() -> None:
    """404 for another path; 405, with what is allowed, for another method; neither ends the connection."""
    async with opened({"/a": hello}) as room:
        client = await room.connect()
        assert (await client.ask(ask_for(b"/nothing")))[0] == 404
        status, headers, _ = await client.ask(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert (await client.ask(ask_for(b"/a")))[0] == 200


async def test_a_head_without_bounds_is_refused() -> None:
    """A request line, or headers, longer than anybody needs here are refused, and the connection is closed."""
    async with opened({"/a": hello}) as room:
        for asked, status in (
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
            (b"GET /a HTTP/1.1\r\nX: " + b"a" * 20000 + b"\r\n\r\n", b"431"),
        ):
            client = await room.connect()
            client.send(asked)
            assert (await client.rest()).startswith(b"HTTP/1.1 " + status)


async def test_one_connection_too_many_cuts_the_oldest() -> None:
    """A crowd that comes and stays keeps nobody out who asks whether the server is well."""
    async with opened({"/a": hello}, most=2) as room:
        crowd = [await room.connect() for _ in range(2)]
        for client in crowd:
            assert (await client.ask(ask_for(b"/a")))[0] == 200
        newcomer = await room.connect()
        assert (await newcomer.ask(ask_for(b"/a")))[0] == 200
        with suppress(ConnectionResetError):
            assert await crowd[0].rest() == b""
        assert (await crowd[1].ask(ask_for(b"/a")))[0] == 200
        assert room.site.inside == 2


async def test_a_stream_that_is_the_oldest_makes_room() -> None:
    """It is closed as if its client had left."""
    pieces = Pieces()
    async with opened({"/s": pieces.handle, "/a": hello}, most=1) as room:
        watcher = await room.connect()
        watcher.send(ask_for(b"/s"))
        await eventually_async(lambda: pieces.open == 1)
        assert (await (await room.connect()).ask(ask_for(b"/a")))[0] == 200
        await eventually_async(lambda: pieces.open == 0)


async def test_what_is_not_modified_has_no_length() -> None:
    """It would be that of a body which is not sent. Source: RFC 9110 §8.6."""

    async def unchanged(request: Request) -> Answer:
        return Answer(b"", 304)

    async with opened({"/a": unchanged}) as room:
        client = await room.connect()
        client.send(ask_for(b"/a"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 304 ") and b"content-length" not in head


async def test_a_handler_that_raises_costs_its_request_only() -> None:
    """500, and the next request is answered."""

    async def broken(request: Request) -> Answer:
        raise ValueError("broken on purpose")

    async with opened({"/broken": broken, "/a": hello}) as room:
        client = await room.connect()
        client.send(ask_for(b"/broken"))
        assert b" 500 " in await client.rest()
        client.close()
        client = await room.connect()
        assert (await client.ask(ask_for(b"/a")))[0] == 200


async def test_a_handler_that_takes_too_long_is_given_up() -> None:
    """503, instead of a client that waits for ever."""

    async def stuck(request: Request) -> Answer:
        await asyncio.Event().wait()
        return Answer()

    with patch.object(web, "ANSWER_S", 0.05):
        async with opened({"/stuck": stuck}) as room:
            client = await room.connect()
            assert (await client.ask(ask_for(b"/stuck")))[0] == 503


class Pieces:
    """A stream that goes on when it is told to, and knows how many of it are open."""

    def __init__(self) -> None:
        self.more: asyncio.Queue[bytes] = asyncio.Queue()
        self.open = 0

    async def handle(self, request: Request) -> Answer:
        """Begin a stream."""
        return Answer(self._pieces(), content_type="text/event-stream")

    async def _pieces(self) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            while piece := await self.more.get():
                yield piece
        finally:
            self.open -= 1


async def test_a_stream_is_sent_piece_by_piece() -> None:
    """Each piece arrives before the next one exists, and the end is the end of the answer."""
    pieces = Pieces()
    async with opened({"/s": pieces.handle, "/a": hello}) as room:
        client = await room.connect()
        client.send(ask_for(b"/s"))
        assert b"text/event-stream" in await client.until(b"\r\n\r\n")
        for word in (b"data: one\n\n", b"data: two\n\n"):
            pieces.more.put_nowait(word)
            await client.until(word)
        pieces.more.put_nowait(b"")
        await client.until(b"0\r\n\r\n")
        assert (await client.ask(ask_for(b"/a")))[0] == 200
        assert pieces.open == 0


async def test_a_stream_ends_when_its_client_is_gone() -> None:
    """Also one that has nothing to say: its generator is closed."""
    pieces = Pieces()
    async with opened({"/s": pieces.handle}) as room:
        client = await room.connect()
        client.send(ask_for(b"/s"))
        await client.until(b"\r\n\r\n")
        await eventually_async(lambda: pieces.open == 1)
        client.close()
        await eventually_async(lambda: pieces.open == 0)


async def test_one_stream_too_many_is_told_so() -> None:
    """503; what has an end is answered all the same."""
    pieces = Pieces()
    with patch.object(web, "MOST_STREAMS", 1):
        async with opened({"/s": pieces.handle, "/a": hello}) as room:
            first, second = await room.connect(), await room.connect()
            first.send(ask_for(b"/s"))
            await first.until(b"\r\n\r\n")
            assert (await second.ask(ask_for(b"/s")))[0] == 503
            assert (await second.ask(ask_for(b"/a")))[0] == 200


async def test_a_websocket_is_refused() -> None:
    """403: nothing here speaks it."""
    async with opened({"/a": hello}) as room:
        client = await room.connect()
        client.send(
            b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b" 403 " in await client.until(b"\r\n\r\n")


async def test_a_unix_socket_is_served_too(tmp_path: Path) -> None:
    """The listener may be of either family."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    site = await open_site({"/a": hello}, listener)
    try:
        client = Client(*await asyncio.open_unix_connection(str(tmp_path / "s")))
        assert (await client.ask(ask_for(b"/a")))[0] == 200
        client.close()
        await client.writer.wait_closed()
    finally:
        await site.close()


async def test_close_cuts_who_is_inside() -> None:
    """A stream that is open does not hold control back."""
    pieces = Pieces()
    async with opened({"/s": pieces.handle}) as room:
        client = await room.connect()
        client.send(ask_for(b"/s"))
        await client.until(b"\r\n\r\n")
        await room.site.close()
        assert pieces.open == 0
