"""WebSockets of real frameworks on a real pool: their clients see the same, whatever an application is written with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.eventually import eventually_async
from tests.support.reloads import reload
from tests.support.server import Server, running
from tests.support.variations import mostly_long
from tests.support.websocket_clients import dial

FRAMEWORKS = ("starlette", "fastapi", "litestar", "quart", "channels")
SHORT = ("fastapi", "channels")
OWN_DENIAL = ("starlette", "fastapi", "quart")
"""Frameworks that can deny with a response of the application's."""
HANDLES = {"litestar": 4500, "quart": 1000}
"""Those that close a WebSocket whose handler has failed themselves, so that the server sees no exception; how."""


@dataclass
class Served:
    """One framework's application on a pool of two workers."""

    name: str
    server: Server

    async def room(self, path: str = "/rooms/blue", **options: object) -> ClientConnection:
        """Return an open WebSocket."""
        return await dial(self.server, path, **options)


@pytest.fixture(scope="module", params=mostly_long(FRAMEWORKS, SHORT.__contains__))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve each framework in turn."""
    name = request.param
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    target = (f"tests.apps.frameworks.{name}_app:app", "--workers", "2", "--bind", "127.0.0.1:0")
    with running(*target, log=tmp_path_factory.mktemp(name) / "log") as server:
        yield Served(name, server.wait_ready())
        assert server.stop() == 0, server.log


async def end_of(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Wait until the server closes; return code and reason."""
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 10)
    return socket.close_code, socket.close_reason


async def test_text_and_bytes(served: Served) -> None:
    """What is said comes back as it was, compressed by the way or not; the path has its parameter."""
    for compression in ("deflate", None):
        async with await served.room("/rooms/r%C3%BCckw%C3%A4rts", compression=compression) as socket:
            for said in ("", "a", "ü" * 70_000):
                await socket.send(said)
                assert await socket.recv() == f"rückwärts: {said}"
            for data in (b"a", bytes(range(256)) * 1000):
                await socket.send(data)
                assert await socket.recv() == data


async def test_subprotocol(served: Served) -> None:
    """The one that the application chooses, or none."""
    async with await served.room(subprotocols=["soap", "chat"]) as socket:
        assert socket.subprotocol == "chat"
    async with await served.room(subprotocols=["soap"]) as socket:
        assert socket.subprotocol is None


async def test_denied(served: Served) -> None:
    """403, or what the application answers."""
    with pytest.raises(InvalidStatus) as denied:
        await served.room("/denied")
    assert denied.value.response.status_code == 403
    if served.name in OWN_DENIAL:
        with pytest.raises(InvalidStatus) as refused:
            await served.room("/refused")
        response = refused.value.response
        assert (response.status_code, response.headers["x-why"], response.body) == (401, "not you", b"go away")


async def test_close_both_ways(served: Served) -> None:
    """The application's code reaches the client, the client's the application."""
    socket = await served.room()
    await socket.send("close 4001")
    assert (await end_of(socket))[0] == 4001
    before = len(served.server.log)
    socket = await served.room()
    await socket.close(4002, "bye")
    said = "websocket: cancelled" if served.name == "quart" else "websocket: 4002"
    await eventually_async(lambda: said in served.server.log[before:])
    assert not re.search(r"\] error|Traceback", served.server.log[before:]), served.server.log


async def test_push_while_idle(served: Served) -> None:
    """The application speaks when it likes; several clients at a time."""
    sockets = [await served.room() for _ in range(4)]
    for socket in sockets:
        await socket.send("push")
    for socket in sockets:
        assert [await socket.recv() for _ in range(3)] == [f"pushed {number}" for number in range(3)]
        await socket.close()


async def test_failure(served: Served) -> None:
    """1011, and the traceback where the framework lets the server have it; others are served on."""
    before = len(served.server.log)
    async with await served.room() as other:
        socket = await served.room()
        await socket.send("fail")
        code, _ = await end_of(socket)
        assert code == HANDLES.get(served.name, 1011)
        await other.send("still here")
        assert await other.recv() == "blue: still here"
    if served.name not in HANDLES:
        await eventually_async(lambda: "RuntimeError: on purpose" in served.server.log[before:])


async def test_reload(served: Served) -> None:
    """1012 to everybody, and no word of an error."""
    before = len(served.server.log)
    sockets = [await served.room() for _ in range(4)]
    await asyncio.to_thread(reload, served.server)
    assert {(await end_of(socket))[0] for socket in sockets} == {1012}
    said = "websocket: cancelled" if served.name == "quart" else "websocket: 1012"
    await eventually_async(lambda: served.server.log[before:].count(said) >= 4)  # sockets of before may end late
    assert not re.search(r"\] error|Traceback", served.server.log[before:]), served.server.log
