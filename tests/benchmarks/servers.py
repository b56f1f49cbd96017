"""The servers that the benchmarks compare: ``python -m tests.benchmarks.servers WORKLOAD CANDIDATE``.

Each prints its port and serves until killed. They are as plain as each style allows, so that what is
measured is the style.
"""

from __future__ import annotations

import asyncio
import socket
import socketserver
import sys
from collections.abc import Callable
from functools import partial
from typing import cast

import anyio
import anyio.abc
import uvloop

from hybrid.connection.connection import Connection
from hybrid.connection.endpoint import Endpoint
from hybrid.connection.registry import Served
from tests.benchmarks.measure import SERVER_CPU, pin

REPLY = bytes(range(256)) * 16  # 4096, more than any request asks for


class CountingDoor:
    """The least a door must do: count."""

    active = 0

    def opened(self, connection: Served) -> None:
        """Count one more."""
        self.active += 1

    def closed(self, connection: Served) -> None:
        """Count one less."""
        self.active -= 1

    def failed(self, connection: Served) -> None:
        """Ignore: the benchmark's handlers do not fail."""


class BareEcho(asyncio.Protocol):
    """Echo with nothing in between: what uvloop itself costs."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.write(data)


class BareFetch(asyncio.Protocol):
    """Answer one line with so many bytes, then close."""

    transport: asyncio.Transport
    line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # uvloop duck-types transports

    def data_received(self, data: bytes) -> None:
        """Collect the line, answer, close."""
        self.line += data
        if self.line.endswith(b"\n"):
            self.transport.write(REPLY[: int(self.line)])
            self.transport.close()


async def connection_echo(conn: Connection) -> None:
    """Echo on a Connection."""
    async for chunk in conn:
        await conn.send(chunk)


async def connection_fetch(conn: Connection) -> None:
    """Answer one line on a Connection."""
    size = int(await conn.receive_until(b"\n", 64))
    await conn.send(REPLY[:size])


async def streams_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo on asyncio's streams."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def streams_fetch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one line on asyncio's streams."""
    size = int(await reader.readuntil(b"\n"))
    writer.write(REPLY[:size])
    await writer.drain()
    writer.close()


async def anyio_echo(stream: anyio.abc.SocketStream) -> None:
    """Echo on anyio's SocketStream."""
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def anyio_fetch(stream: anyio.abc.SocketStream) -> None:
    """Answer one line on anyio's SocketStream."""
    async with stream:
        line = b""
        while not line.endswith(b"\n"):
            line += await stream.receive(64)
        await stream.send(REPLY[: int(line)])


class ForkedFetch(socketserver.BaseRequestHandler):
    """Answer one line in a process of its own."""

    request: socket.socket

    def handle(self) -> None:
        """Collect the line, answer; the server closes."""
        line = b""
        while not line.endswith(b"\n"):
            line += self.request.recv(64)
        self.request.sendall(REPLY[: int(line)])


async def serve(workload: str, candidate: str) -> None:
    """Serve one candidate for ever."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    if candidate == "anyio":
        handle_stream = anyio_echo if workload == "echo" else anyio_fetch
        anyio_listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0, backlog=1024)
        print(anyio_listener.extra(anyio.abc.SocketAttribute.local_port), flush=True)
        await anyio_listener.serve(handle_stream)
        return
    print(listener.getsockname()[1], flush=True)
    if candidate == "streams":
        await asyncio.start_server(streams_echo if workload == "echo" else streams_fetch, sock=listener)
    else:
        await loop.create_server(_factory(workload, candidate, loop), sock=listener)
    await asyncio.Event().wait()


def _factory(workload: str, candidate: str, loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.BaseProtocol]:
    if candidate == "bare":
        return BareEcho if workload == "echo" else BareFetch
    handler = connection_echo if workload == "echo" else connection_fetch
    endpoint = Endpoint(handler=handler, door=CountingDoor(), loop=loop, state=None, name=workload)
    return cast(Callable[[], asyncio.BaseProtocol], partial(Connection, endpoint))  # a protocol by its methods


def main() -> None:
    """Serve what the command line names."""
    workload, candidate = sys.argv[1:3]
    pin(SERVER_CPU)
    if candidate == "fork":
        with socketserver.ForkingTCPServer(("127.0.0.1", 0), ForkedFetch) as server:
            print(server.server_address[1], flush=True)
            server.serve_forever()
    else:
        uvloop.run(serve(workload, candidate))


if __name__ == "__main__":
    main()
