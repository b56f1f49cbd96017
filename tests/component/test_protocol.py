"""Promises of :mod:`hybrid.handlers.protocol`: user protocols on real sockets, on both loops."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, cast

import pytest

from hybrid.connection.registry import Served
from hybrid.handlers.exceptions import install_exception_handler
from hybrid.handlers.protocol import ProtocolConnection, ProtocolEndpoint, ProtocolHandler, protocol
from hybrid.worker.loops import new_loop
from tests.support.eventually import eventually_async


@dataclass
class FakeDoor:
    """Remembers what it was told; stricter than the real one."""

    events: list[str] = field(default_factory=list)
    inside: set[int] = field(default_factory=set)
    connections: list[ProtocolConnection] = field(default_factory=list)

    def opened(self, connection: Served) -> None:
        assert id(connection) not in self.inside
        self.inside.add(id(connection))
        self.connections.append(cast(ProtocolConnection, connection))
        self.events.append("opened")

    def closed(self, connection: Served) -> None:
        self.inside.remove(id(connection))
        self.events.append("closed")

    def failed(self, connection: Served) -> None:
        assert id(connection) in self.inside
        self.events.append("failed")


class Echo(asyncio.Protocol):
    """Has room for attributes; remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(("lost", exc))


class SlottedEcho(asyncio.Protocol):
    """Has no room."""

    __slots__ = ("calls", "transport")

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.transport: asyncio.Transport | None = None

    connection_made = Echo.connection_made
    data_received = Echo.data_received
    connection_lost = Echo.connection_lost


class BufferedEcho(asyncio.BufferedProtocol):
    __slots__ = ("buffer", "calls", "transport")

    def __init__(self) -> None:
        self.buffer = bytearray(10)
        self.calls: list[object] = []
        self.transport: asyncio.Transport | None = None

    connection_made = Echo.connection_made
    connection_lost = Echo.connection_lost

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self.transport is not None
        self.transport.write(bytes(self.buffer[:nbytes]))


class RoomyBufferedEcho(BufferedEcho):
    """The same with a ``__dict__``."""


class DuckEcho:
    """Inherits nothing of asyncio's, and knows only what it needs."""

    connection_made = Echo.connection_made
    data_received = Echo.data_received
    connection_lost = Echo.connection_lost

    def eof_received(self) -> None: ...

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.transport: asyncio.Transport | None = None


ECHOES = [Echo, SlottedEcho, BufferedEcho, RoomyBufferedEcho, DuckEcho]

Test = Callable[..., Awaitable[None]]


def on_both_loops(test: Test) -> Callable[..., None]:
    """Run an async test on uvloop and on asyncio's own loop."""

    @pytest.mark.parametrize("loop_name", ["uvloop", "asyncio"])
    @wraps(test)
    def run(loop_name: str, **arguments: Any) -> None:
        loop = new_loop(loop_name)
        try:
            install_exception_handler(loop)
            loop.run_until_complete(test(**arguments))
        finally:
            loop.close()

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
        for name in ("loop_name", *inspect.signature(test).parameters)
    ]
    described: Any = run
    del described.__wrapped__  # by which pytest would take it for the coroutine function
    described.__signature__ = inspect.Signature(parameters)  # what pytest has to pass
    return cast(Callable[..., None], run)


@dataclass
class Serving:
    door: FakeDoor
    endpoint: ProtocolEndpoint
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def until(self, *events: str) -> None:
        await eventually_async(lambda: self.door.events == list(events))


@asynccontextmanager
async def serving(factory: Callable[[], Any], **options: Any) -> AsyncIterator[Serving]:
    loop = asyncio.get_running_loop()
    door = FakeDoor()
    handler = ProtocolHandler(factory, options.pop("on_drain", None))
    endpoint = ProtocolEndpoint(handler, "test", door, loop, **options)
    server = await loop.create_server(endpoint.connection, "127.0.0.1", 0)
    try:
        yield Serving(door, endpoint, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for connection in door.connections:
            if connection.transport is not None:
                connection.abort()
        await eventually_async(lambda: not door.inside)
        await server.wait_closed()


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass


@pytest.mark.parametrize("kind", ECHOES)
@on_both_loops
async def test_protocol_is_served_and_counted_once(kind: type[Any]) -> None:
    """Whatever the object is made of: one opened, one closed, its own events as without us."""
    made: list[Any] = []

    def factory() -> Any:
        made.append(kind())
        return made[-1]

    async with serving(factory) as server:
        reader, writer = await server.connect()
        for size in (1, 1000, 100_000):
            writer.write(b"x" * size)
            assert await reader.readexactly(size) == b"x" * size
        assert server.door.events == ["opened"]
        await shut(writer)
        await server.until("opened", "closed")
        (echo,) = made
        assert echo.calls == ["made", ("lost", None)]
        assert "connection_lost" not in getattr(echo, "__dict__", {})
        assert not server.endpoint.open


@on_both_loops
async def test_protocol_with_room_is_the_transports_own() -> None:
    """Nothing stands between the loop and the object."""
    async with serving(Echo) as server:
        _, writer = await server.connect()
        await server.until("opened")
        connection = server.door.connections[0]
        assert connection.transport.get_protocol() is connection.protocol
        assert type(connection.protocol) is Echo
        await shut(writer)


@on_both_loops
async def test_stand_in_passes_on_what_it_is_asked() -> None:
    """Who asks the transport for its protocol finds the object's attributes."""
    async with serving(SlottedEcho) as server:
        _, writer = await server.connect()
        await server.until("opened")
        connection = server.door.connections[0]
        stand_in: Any = connection.transport.get_protocol()
        assert stand_in.calls is connection.protocol.calls
        assert stand_in.data_received == connection.protocol.data_received
        assert not hasattr(stand_in, "nothing")
        await shut(writer)


@on_both_loops
async def test_instance_attribute_of_the_users_is_kept() -> None:
    """An object that has its own connection_lost on the instance has it back afterwards."""
    told: list[object] = []
    made: list[Echo] = []

    def factory() -> Echo:
        echo = Echo()
        vars(echo)["connection_lost"] = told.append
        made.append(echo)
        return echo

    async with serving(factory) as server:
        _, writer = await server.connect()
        await shut(writer)
        await server.until("opened", "closed")
    assert told == [None]
    made[0].connection_lost(None)
    assert told == [None, None]


@on_both_loops
async def test_closed_protocol_is_freed_without_the_collector() -> None:
    """What we add to an object leaves no reference cycle."""
    freed: list[object] = []

    def factory() -> Echo:
        echo = Echo()
        weakref.finalize(echo, freed.append, 1)
        return echo

    gc.disable()
    try:
        async with serving(factory) as server:
            _, writer = await server.connect()
            await shut(writer)
            await server.until("opened", "closed")
            transport = server.door.connections.pop().transport
            assert transport.get_protocol() is None or freed
            del transport
            # Echo keeps its transport, and the transport drops its protocol when it has closed.
            await eventually_async(lambda: freed)
    finally:
        gc.enable()


class Failure(Exception): ...


def raising(where: str, error: type[Exception], base: type[Any]) -> type[Any]:
    def fail(self: Any, *args: object) -> None:
        getattr(base, where)(self, *args)
        raise error("on purpose")

    return type("Raising", (base,), {"__slots__": (), where: fail})


@pytest.mark.parametrize("where", ["connection_made", "data_received", "connection_lost", "eof_received"])
@pytest.mark.parametrize("base", [Echo, SlottedEcho])
@pytest.mark.parametrize("error", [Failure, FileNotFoundError])
@on_both_loops
async def test_raising_event_costs_its_connection_only(
    where: str, base: type[Any], error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once with peer and traceback, counted once, closed; an OSError is not taken for the network's."""
    kinds = [raising(where, error, base), base]
    async with serving(lambda: kinds.pop(0)()) as server:
        with caplog.at_level(logging.DEBUG, "hybrid.error"):
            reader, writer = await server.connect()
            peer = "{}:{}".format(*writer.get_extra_info("sockname"))
            writer.write(b"x")
            if where == "eof_received":
                writer.write_eof()
            if where != "connection_lost":
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await reader.readexactly(10)
            await shut(writer)
            await server.until("opened", "failed", "closed")
        (record,) = caplog.records
        assert record.getMessage().startswith("handler test failed in ")
        assert f"connection from {peer}: {error.__name__}: on purpose" in record.getMessage()
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], error)
        reader, writer = await server.connect()
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        await shut(writer)


@pytest.mark.parametrize("result", ["raises", None, 7])
@on_both_loops
async def test_failing_factory_costs_its_connection_only(result: object, caplog: pytest.LogCaptureFixture) -> None:
    """A factory that raises, or makes no protocol, does not wedge the listener."""
    results = [result, result, Echo]

    def factory() -> Any:
        made = results.pop(0)
        if made == "raises":
            raise Failure("on purpose")
        return made() if made is Echo else made

    async with serving(factory) as server:
        for _ in range(2):
            reader, writer = await server.connect()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
            await shut(writer)
        await server.until(*["opened", "failed", "closed"] * 2)
        reader, writer = await server.connect()
        writer.write(b"y")
        assert await reader.readexactly(1) == b"y"
        await shut(writer)
    assert len([r for r in caplog.records if "the factory of its protocol" in r.getMessage()]) == 2


@pytest.mark.parametrize("kind", [Echo, SlottedEcho])
@on_both_loops
async def test_one_object_for_several_connections_is_counted_for_each(kind: type[Any]) -> None:
    """A factory that returns the same object again: each connection ends by itself, in any order."""
    shared = kind()
    async with serving(lambda: shared) as server:
        writers = [(await server.connect())[1] for _ in range(3)]
        await server.until("opened", "opened", "opened")
        for number, which in enumerate((1, 0, 2), 1):
            await shut(writers[which])
            await eventually_async(lambda number=number: server.door.events.count("closed") == number)  # type: ignore[misc]
    assert shared.calls == ["made"] * 3 + [("lost", None)] * 3
    assert "connection_lost" not in getattr(shared, "__dict__", {})


class Other(asyncio.Protocol):
    lost = 0

    def connection_lost(self, exc: Exception | None) -> None:
        Other.lost += 1


@pytest.mark.parametrize("kind", [Echo, SlottedEcho])
@on_both_loops
async def test_replaced_protocol_still_ends_in_one_closed(kind: type[Any]) -> None:
    """After transport.set_protocol(other) nobody tells us of the end; it is found."""
    async with serving(kind, sweep_s=0.01) as server:
        _, writer = await server.connect()
        await server.until("opened")
        server.door.connections[0].transport.set_protocol(Other())
        before = Other.lost
        await shut(writer)
        await server.until("opened", "closed")
        assert Other.lost == before + 1


def anonymous_tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts for server and client that need no certificate (TLS 1.2, anonymous key exchange)."""
    contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    contexts[1].check_hostname = False
    contexts[1].verify_mode = ssl.CERT_NONE
    for context in contexts:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0")
    return contexts


class Upgrading(Echo):
    """Starts TLS when the first byte comes, as after STARTTLS."""

    def data_received(self, data: bytes) -> None:
        if "upgrading" not in self.calls:
            self.calls.append("upgrading")
            self.task = asyncio.get_running_loop().create_task(self.upgrade())
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        assert self.transport is not None
        self.transport.close()  # a TLS transport of CPython 3.10 complains otherwise

    async def upgrade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"go")
        loop = asyncio.get_running_loop()
        try:
            self.transport = await loop.start_tls(self.transport, self, anonymous_tls()[0], server_side=True)
        except OSError:
            self.calls.append("no handshake")


def speak_tls(port: int) -> bytes:
    """Be a client that upgrades; runs in a thread."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"S")
        assert plain.recv(2, socket.MSG_WAITALL) == b"go"
        with anonymous_tls()[1].wrap_socket(plain) as secret:
            secret.sendall(b"secret")
            return secret.recv(100)


@on_both_loops
async def test_upgraded_connection_is_counted_out_at_once() -> None:
    """The TLS layer tells the protocol, and so us: no need to look for it."""
    async with serving(Upgrading, sweep_s=3600.0) as server:
        assert await asyncio.to_thread(speak_tls, server.port) == b"secret"
        await server.until("opened", "closed")


@on_both_loops
async def test_failed_handshake_is_counted_out_and_no_failure_of_the_handler() -> None:
    """asyncio does not tell the protocol; it is found."""
    async with serving(Upgrading, sweep_s=0.01) as server:
        reader, writer = await server.connect()
        writer.write(b"S")
        await reader.readexactly(2)
        writer.write(b"this is no TLS at all" * 20)
        await reader.read()
        await shut(writer)
        await server.until("opened", "closed")


@on_both_loops
async def test_drain_asks_the_protocol_then_closes_then_aborts() -> None:
    """on_drain, plain or async; cancel() sends what is written; abort() waits for nobody."""
    asked: list[object] = []

    async def slowly(proto: Echo) -> None:
        asked.append(proto)

    async with serving(Echo, on_drain=slowly) as server:
        reader, writer = await server.connect()
        await server.until("opened")
        connection = server.door.connections[0]
        connection.start_draining()
        await eventually_async(lambda: asked)
        assert asked == [connection.protocol]
        assert server.door.events == ["opened"]
        connection.protocol.transport.write(b"last words")
        connection.cancel()
        assert await reader.read() == b"last words"
        await shut(writer)
        await server.until("opened", "closed")
        connection.start_draining()  # too late: nobody to ask
        connection.cancel()
        connection.abort()
        assert len(asked) == 1

        reader, writer = await server.connect()
        await server.until("opened", "closed", "opened")
        connection = server.door.connections[1]
        connection.protocol.transport.write(b"x" * 50_000_000)
        connection.cancel()
        assert server.door.events[-1] == "opened"
        connection.abort()
        await server.until("opened", "closed", "opened", "closed")
        await shut(writer)


@pytest.mark.parametrize("is_async", [False, True])
@on_both_loops
async def test_raising_on_drain_is_logged_and_leaves_the_connection(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A drain goes on."""

    def now(proto: Echo) -> None:
        raise Failure("on purpose")

    async def later(proto: Echo) -> None:
        raise Failure("on purpose")

    async with serving(Echo, on_drain=later if is_async else now) as server:
        reader, writer = await server.connect()
        await server.until("opened")
        server.door.connections[0].start_draining()
        await server.until("opened", "failed")
        writer.write(b"z")
        assert await reader.readexactly(1) == b"z"
        await shut(writer)
        await server.until("opened", "failed", "closed")
    assert "failed in on_drain" in caplog.text


@on_both_loops
async def test_reset_by_the_peer_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """What the network does is not the handler's fault."""
    async with serving(Echo) as server:
        _, writer = await server.connect()
        await server.until("opened")
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await server.until("opened", "closed")
    assert caplog.records == []


@on_both_loops
async def test_errors_without_a_connection_are_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    """The loop's other reports keep their message and traceback."""
    loop = asyncio.get_running_loop()

    def fail() -> None:
        raise Failure("on purpose")

    loop.call_soon(fail)
    await eventually_async(lambda: caplog.records)
    (record,) = caplog.records
    assert record.name == "hybrid.error"
    assert "fail" in record.getMessage()
    assert record.exc_info is not None


def test_protocol_marks_a_factory() -> None:
    """The public way to make a ProtocolHandler."""
    assert protocol(Echo) == ProtocolHandler(Echo, None)
