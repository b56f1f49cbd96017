"""The end of kept connections while other workers accept: no request that was there first goes without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from tests.component.http_room import HttpRoom, Witness, ask_for, respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

CALL_S = 0.05
"""How long a connection that was told waits for another request."""
MANY = 1_000_000
"""Connections, for a spread as long as the grace allows."""


def shared() -> HttpShared:
    """Return what a worker's listeners share."""
    return HttpShared.of(HttpSettings())


def tell(room: HttpRoom) -> None:
    """Tell every connection that the worker drains."""
    for connection in tuple(room.door.open):
        connection.start_draining()


def hold_up(seconds: float) -> None:
    """Keep the loop from doing anything."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        pass


@on_both_loops
async def test_request_that_the_loop_has_not_read_is_answered() -> None:
    """It comes in the turn of the loop in which the connection is to be closed, and before that."""
    kept = shared()
    kept.farewell.begin(MANY, 4 * CALL_S, last=False)
    async with serving(Witness(), shared=kept) as room:
        peer = await room.peer()
        await eventually_async(lambda: room.door.open)
        asyncio.get_running_loop().call_later(CALL_S, peer.sock.send, ask_for(b"/meanwhile"))
        tell(room)
        hold_up(2 * CALL_S)  # so that both are due in one turn
        said = await asyncio.wait_for(peer.receive_all(), 20)
        assert said.startswith(b"HTTP/1.1 200 ") and b"connection: close\r\n" in said and said.endswith(b"/meanwhile")


@on_both_loops
async def test_request_at_the_end_of_the_keep_alive_is_answered() -> None:
    """The same without a drain: the deadline of an idle connection passes while its next request waits to be read."""
    async with serving(Witness()) as room:
        peer = await room.peer()
        await eventually_async(lambda: room.door.open)
        (connection,) = room.door.open
        peer.sock.send(ask_for(b"/meanwhile"))
        connection.expire()  # type: ignore[attr-defined]  # what the sweep does when its turn comes first
        said = await asyncio.wait_for(peer.receive(), 20)
        assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"/meanwhile")


@on_both_loops
async def test_idle_connection_ends_at_once_when_its_call_is_over() -> None:
    """A FIN, and nothing before it; what the client sends into the closing connection does not reset it."""
    kept = shared()
    kept.farewell.begin(MANY, 4 * CALL_S, last=False)
    async with serving(Witness(), shared=kept) as room:
        peer = await room.peer()
        await eventually_async(lambda: room.door.open)
        tell(room)
        assert await asyncio.wait_for(peer.receive(), 20) == b""
        await peer.send(ask_for(b"/late"))
        peer.end()
        await room.empty()
        assert peer.sock.recv(100) == b""  # a reset would raise


@on_both_loops
async def test_requests_that_came_together_are_all_answered() -> None:
    """Pipelined requests are in our hands already: the last of them is told that it is the last."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, scope["path"].encode())

    async with serving(app) as room:
        client = await room.connect()
        client.send(ask_for(b"/1") + ask_for(b"/2") + ask_for(b"/3"))
        await eventually_async(lambda: room.door.open)
        (connection,) = room.door.open
        await eventually_async(lambda: connection._buffer)  # type: ignore[attr-defined]
        tell(room)
        gate.set()
        answers = [await client.response() for _ in range(3)]
        assert [body for _, _, body in answers] == [b"/1", b"/2", b"/3"]
        assert [headers.get("connection") for _, headers, _ in answers] == [None, None, "close"]
        assert await client.rest() == b""


@on_both_loops
async def test_connections_end_one_after_another() -> None:
    """Each is told at a moment of its own; one that goes on asking hears it with an answer, never between two."""
    kept = shared()
    asked = dict.fromkeys(range(20), 0)

    async def ask_on(room: HttpRoom, number: int) -> None:
        client = await room.connect()
        while True:
            _, headers, body = await client.ask(ask_for(b"/"))
            assert body == b"/"
            asked[number] += 1
            if "connection" in headers:
                assert await client.rest() == b""
                return

    async with serving(Witness(), shared=kept) as room:
        asking = [asyncio.ensure_future(ask_on(room, number)) for number in asked]
        await eventually_async(lambda: all(asked.values()))
        kept.farewell.begin(MANY, 0.6, last=False)
        for connection in tuple(room.door.open):
            kept.farewell.in_turn(connection.start_draining)
        await eventually_async(lambda: any(task.done() for task in asking))
        assert not all(task.done() for task in asking)
        await asyncio.wait_for(asyncio.gather(*asking), 20)


@on_both_loops
async def test_application_sees_the_drain() -> None:
    """``hybrid.drain`` among the extensions: whether it has begun, and something to wait for."""
    kept = shared()
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        drain = scope["extensions"]["hybrid.drain"]
        seen.append(drain["draining"]())
        await drain["wait"]()
        seen.append(drain["draining"]())
        await respond(send, b"goodbye")

    async with serving(app, shared=kept) as room:
        client = await room.connect()
        client.send(ask_for(b"/"))
        await eventually_async(lambda: seen)
        assert seen == [False]
        kept.farewell.begin(1, 30.0, last=True)
        assert (await client.response())[2] == b"goodbye"
        assert seen == [False, True]


@pytest.mark.parametrize("last", [True, False], ids=["stop", "reload"])
def test_the_room_is_right_about_the_moment(last: bool) -> None:
    """The farewell of these tests gives a last call as short as they believe."""

    async def begin() -> float:
        kept = shared()
        kept.farewell.begin(MANY, 4 * CALL_S, last=last)
        return kept.farewell.last_call_s

    assert asyncio.run(begin()) == (0.5 if last else CALL_S)
