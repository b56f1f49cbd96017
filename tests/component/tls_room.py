"""Every kind of handler behind TLS, in the test's own loop: a service with its options, and real clients."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import hybrid
from hybrid import Connection
from hybrid.in_loop import InLoopServer
from hybrid.shared.status import WorkerStatus
from tests.support.certificates import Certificates
from tests.support.eventually import eventually_async

FAREWELL = b"x" * 3_000_000
"""More than the buffers on the way hold."""


async def stream(conn: Connection) -> None:
    """Echo; at "bye", send a farewell and end."""
    async for data in conn:
        if data == b"bye":
            await conn.send(FAREWELL)
            return
        await conn.send(data)


class Echo(asyncio.Protocol):
    """The same as a protocol."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b"bye":
            self.transport.write(FAREWELL)
            self.transport.close()
        else:
            self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """The same, with a buffer of its own, which is smaller than a record."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.buffer[:nbytes] == b"bye":
            self.transport.write(FAREWELL)
            self.transport.close()
        else:
            self.transport.write(bytes(self.buffer[:nbytes]))


def blocking(sock: socket.socket) -> None:
    """The same in a thread."""
    while data := sock.recv(65536):
        if data == b"bye":
            sock.sendall(FAREWELL)
            return
        sock.sendall(data)


KINDS: dict[str, Any] = {"stream": stream, "protocol": Echo, "buffered": BufferedEcho, "threaded": blocking}


@dataclass
class TlsRoom:
    """A server with TLS, and the clients that the test made."""

    server: InLoopServer
    certificates: Certificates
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.addresses[0].rpartition(":")[2])

    @property
    def counts(self) -> WorkerStatus:
        """What the scoreboard says now."""
        return self.server.workers[0]

    async def connect(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a client whose handshake is complete."""
        context = context or self.certificates.client_context()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        self._writers.append(writer)
        return reader, writer

    async def plain(self) -> socket.socket:
        """Return a bare socket, non-blocking and connected, once the server has counted it."""
        active = self.counts.active
        sock = socket.socket()
        self._sockets.append(sock)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        await eventually_async(lambda: self.counts.active == active + 1)
        return sock

    @property
    def failed(self) -> int:
        """How many connections the handler lost."""
        service = self.server._service
        assert service is not None and service._intake is not None
        return service._intake.registry.failed

    async def ended(self, sock: socket.socket) -> None:
        """Wait until the server has ended the connection, in whatever way."""
        with suppress(ConnectionError):
            while await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1000), 20):
                pass

    async def empty(self) -> None:
        """Wait until no connection is open."""
        await eventually_async(lambda: self.counts.active == 0)

    def close_clients(self) -> None:
        """Leave without a word."""
        for writer in self._writers:
            writer.transport.abort()
        for sock in self._sockets:
            sock.close()


@asynccontextmanager
async def serving(handler: Any, certificates: Certificates, **options: Any) -> AsyncIterator[TlsRoom]:
    """Serve on a port of its own. Closes: the server, and every client."""
    options = {"ssl_certfile": certificates.server, "graceful_timeout": 0.2, **options}
    async with hybrid.serve(handler, workers=0, bind="127.0.0.1:0", **options) as server:
        assert isinstance(server, InLoopServer)
        room = TlsRoom(server, certificates)
        try:
            yield room
        finally:
            room.close_clients()
