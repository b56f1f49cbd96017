"""A listener whose connections are real, in the test's own loop, and clients that can be as rude as peers are."""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from hybrid.connection.connection import Connection
from hybrid.connection.endpoint import Endpoint
from hybrid.connection.registry import Served
from tests.support.eventually import eventually_async

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function: once on uvloop, once on asyncio; what a loop would only log fails it.

    Its fixtures and parameters stay as they are; so does a task that it leaves behind: that fails it, too.
    """

    def run(loop_name: str, **arguments: Any) -> None:
        complaints: list[dict[str, Any]] = []
        loop = LOOPS[loop_name]()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        try:
            loop.run_until_complete(test(**arguments))
            loop.run_until_complete(loop.shutdown_asyncgens())
            left = asyncio.all_tasks(loop)
        finally:
            loop.close()
        assert not complaints
        assert not left

    own = inspect.signature(test)
    loop_name = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), loop_name])  # type: ignore[attr-defined]  # pytest reads it
    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    run.__module__ = test.__module__
    return cast(Callable[..., None], pytest.mark.parametrize("loop_name", list(LOOPS))(run))


@dataclass
class RecordingDoor:
    """A door that remembers what it was told."""

    opened_ones: list[Served] = field(default_factory=list)
    failed_ones: list[Served] = field(default_factory=list)
    closed_ones: list[Served] = field(default_factory=list)

    def opened(self, connection: Served) -> None:
        """Remember."""
        self.opened_ones.append(connection)

    def failed(self, connection: Served) -> None:
        """Remember."""
        assert connection not in self.closed_ones
        self.failed_ones.append(connection)

    def closed(self, connection: Served) -> None:
        """Remember."""
        assert connection in self.opened_ones
        assert connection not in self.closed_ones
        self.closed_ones.append(connection)


class Client:
    """A peer: a socket in non-blocking mode, driven by the test's loop."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self.sock, data)

    async def receive(self, count: int = 65536) -> bytes:
        """Return what comes next, b"" at the end."""
        return await self._loop.sock_recv(self.sock, count)

    async def receive_exactly(self, count: int) -> bytes:
        """Return so many bytes, less at the end."""
        data = bytearray()
        while len(data) < count and (more := await self.receive(count - len(data))):
            data += more
        return bytes(data)

    async def receive_all(self) -> bytes:
        """Return everything until the end."""
        data = bytearray()
        while more := await self.receive():
            data += more
        return bytes(data)

    def end(self) -> None:
        """Send no more, but listen on."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@dataclass
class Serving:
    """A listener that serves a handler, its door, and the clients that the test made."""

    where: tuple[str, int] | str
    family: socket.AddressFamily
    door: RecordingDoor
    clients: list[Client] = field(default_factory=list)

    async def client(self, receive_buffer_bytes: int = 0) -> Client:
        """Connect; the client is closed with the listener."""
        sock = socket.socket(self.family)
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.setblocking(False)
        client = Client(sock)
        self.clients.append(client)
        await asyncio.get_running_loop().sock_connect(sock, self.where)
        return client

    async def one(self) -> Connection:
        """Return the server's side of the first connection, as soon as it is there."""
        await eventually_async(lambda: self.door.opened_ones)
        return cast(Connection, self.door.opened_ones[0])

    async def all_closed(self) -> None:
        """Wait until every connection was reported closed."""
        await eventually_async(lambda: len(self.door.closed_ones) == len(self.door.opened_ones) > 0)


@asynccontextmanager
async def serving(
    handler: Callable[[Connection], Awaitable[object]], path: Path | None = None, **options: Any
) -> AsyncIterator[Serving]:
    """Serve ``handler`` on a fresh port (or unix path); ``options`` are the endpoint's. Closes: everything it made."""
    loop = asyncio.get_running_loop()
    door = RecordingDoor()
    endpoint = Endpoint(handler=handler, door=door, loop=loop, **options)
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(str(path) if path else ("127.0.0.1", 0))
    server = await loop.create_server(lambda: cast(asyncio.BaseProtocol, Connection(endpoint)), sock=listener)
    served = Serving(where=listener.getsockname(), family=listener.family, door=door)
    try:
        yield served
    finally:
        for client in served.clients:
            client.sock.close()
        for connection in door.opened_ones:
            if connection not in door.closed_ones:
                connection.cancel()
                connection.abort()
        await eventually_async(lambda: len(door.closed_ones) == len(door.opened_ones))
        server.close()
        await server.wait_closed()


@contextmanager
def logged(level: int = logging.DEBUG) -> Iterator[list[logging.LogRecord]]:
    """Collect what the loggers of ``hybrid.error`` say."""
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.getMessage()  # a format that does not fit its arguments fails here
            records.append(record)

    logger = logging.getLogger("hybrid.error")
    before = logger.level, logger.propagate
    collector = Collect()
    logger.addHandler(collector)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield records
    finally:
        logger.removeHandler(collector)
        logger.setLevel(before[0])
        logger.propagate = before[1]
