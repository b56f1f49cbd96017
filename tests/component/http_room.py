"""One worker's HTTP endpoint in the test's own loop: real sockets, a real application, a door that counts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from hybrid.connection import http_ending, http_endpoint
from hybrid.connection.registry import Served
from hybrid.handlers.asgi import asgi_factory
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from tests.support.connections import Client as Peer
from tests.support.eventually import eventually_async

SWEEP_S = 0.02
"""Between two looks at the deadlines: a test does not wait for seconds as a server may."""
LINGER_S = 0.1
"""For a client that does not close after the server has."""


@dataclass
class CountingDoor:
    """Remembers who is open, and how many came and failed."""

    open: set[Served] = field(default_factory=set)
    came: int = 0
    lost: int = 0

    def opened(self, connection: Served) -> None:
        """Count one in."""
        self.came += 1
        self.open.add(connection)

    def closed(self, connection: Served) -> None:
        """Count one out, once."""
        self.open.remove(connection)

    def failed(self, connection: Served) -> None:
        """Count an application's failure."""
        self.lost += 1


@dataclass
class Client:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send at once, without waiting."""
        self.writer.write(data)

    async def until(self, end: bytes) -> bytes:
        """Return what comes, up to and including ``end``."""
        return await asyncio.wait_for(self.reader.readuntil(end), 20)

    async def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 20)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one response that has a content-length, or is chunked."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head[:-4].split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        status = int(line.split(" ", 2)[1])
        if "content-length" in headers:
            return status, headers, await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), 20)
        if headers.get("transfer-encoding") != "chunked":
            return status, headers, b""
        body = b""
        while size := int(await self.until(b"\r\n"), 16):
            body += (await asyncio.wait_for(self.reader.readexactly(size + 2), 20))[:-2]
        await self.until(b"\r\n")
        return status, headers, body

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return its response."""
        self.send(data)
        return await self.response()

    def close(self) -> None:
        """Close, whatever is on its way."""
        self.writer.close()


@dataclass
class Witness:
    """An application that reads each request whole, remembers it, and answers with its path."""

    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, path and body; of a request whose client left, the body ends with ``LEFT``."""
    scopes: list[dict[str, Any]] = field(default_factory=list)

    LEFT = b"<left>"

    @property
    def paths(self) -> list[str]:
        """Return where the requests went."""
        return [path for _, path, _ in self.seen]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        self.scopes.append(scope)
        number = len(self.seen)
        self.seen.append((scope["method"], scope["path"], b"<unread>"))
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", self.LEFT)
            more = message.get("more_body", False)
        self.seen[number] = (scope["method"], scope["path"], body)
        if not body.endswith(self.LEFT):
            await respond(send, scope["path"].encode())


async def respond(send: Any, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


class Drip:
    """Sends a byte now and then, until told to stop; an ended connection is no error."""

    def __init__(self, client: Client, data: bytes, every_s: float) -> None:
        self._task = asyncio.ensure_future(self._run(client, data, every_s))

    async def __aenter__(self) -> asyncio.Task[None]:
        return self._task

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    @staticmethod
    async def _run(client: Client, data: bytes, every_s: float) -> None:
        for byte in data:
            client.send(bytes([byte]))
            await asyncio.sleep(every_s)


def ask_for(path: bytes) -> bytes:
    """Return a request."""
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path


@dataclass
class HttpRoom:
    """A listening endpoint."""

    door: CountingDoor
    port: int
    _clients: list[Client] = field(default_factory=list)
    _peers: list[Peer] = field(default_factory=list)

    async def peer(self, receive_buffer_bytes: int = 0) -> Peer:
        """Return a bare socket, connected; it is closed with the room."""
        sock = socket.socket()
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.setblocking(False)
        peer = Peer(sock)
        self._peers.append(peer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return peer

    async def empty(self) -> None:
        """Wait until no connection is open."""
        await eventually_async(lambda: not self.door.open)

    def leave(self) -> None:
        """Close all clients."""
        for client in self._clients:
            client.close()
        for peer in self._peers:
            peer.sock.close()

    async def connect(self) -> Client:
        """Return a new connection; it is closed with the room."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def ask(self, data: bytes) -> bytes:
        """Send on a connection of its own; return all that comes until the server closes."""
        client = await self.connect()
        client.send(data)
        said = await client.rest()
        client.close()
        return said


@asynccontextmanager
async def serving(
    app: Any, state: dict[str, Any] | None = None, shared: HttpShared | None = None, **settings: Any
) -> AsyncIterator[HttpRoom]:
    """Serve ``app`` on a port of its own; ``settings`` are the options of HTTP. Closes: everything it made."""
    door = CountingDoor()
    factory = asgi_factory(app, "app", door, state, shared or HttpShared.of(HttpSettings(**settings)))
    async with listening(factory, door) as room:
        yield room


@asynccontextmanager
async def listening(factory: Callable[[], asyncio.BaseProtocol], door: CountingDoor) -> AsyncIterator[HttpRoom]:
    """Have ``factory`` make the connections of a port of its own. Closes: the port, and every connection."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    room = HttpRoom(door, server.sockets[0].getsockname()[1])
    with patch.object(http_endpoint, "_SWEEP_S", SWEEP_S), patch.object(http_ending, "_LINGER_S", LINGER_S):
        try:
            yield room
        finally:
            server.close()
            room.leave()
            for connection in tuple(door.open):
                connection.cancel()
                connection.abort()
            await room.empty()
            await server.wait_closed()
