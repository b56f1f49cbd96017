"""WebSockets of applications that do what they should not, or are cancelled, wherever they wait."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from hybrid.connection.farewell import Farewell
from hybrid.shared.http_settings import HttpSettings
from tests.component.http_room import ask_for, serving
from tests.component.test_websocket import Echo, shared
from tests.component.websocket_room import (
    BINARY,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    accept,
    asked,
    close,
    closing,
    deflated,
    dial,
    handshake,
    masked,
)
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

# ── applications ─────────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_several_tasks_send_and_receive() -> None:
    """No message is lost, none comes twice, each frame is whole; all of the tasks hear of the end."""
    got: list[str] = []
    ends: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await accept(send)

        async def one() -> None:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    ends.append(message["code"])
                    return
                got.append(message["text"])
                await send({"type": "websocket.send", "text": message["text"] * 3000})

        await asyncio.gather(*(one() for _ in range(5)), return_exceptions=True)

    async with serving(app) as room:
        client = await dial(room)
        for number in range(200):
            client.send(masked(TEXT, b"%03d" % number))
        frames = {(await client.frame())[1] for _ in range(200)}
        assert frames == {b"%03d" % number * 3000 for number in range(200)} and len(got) == 200
        client.send(closing(1000))
        await room.empty()
        assert ends == [1000] * 5 and room.door.lost == 0


@on_both_loops
async def test_cancelled_receive_loses_no_message() -> None:
    """A wait that is given up, again and again, in the moment in which a message comes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await accept(send)
        got = 0
        while got < 300:
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                assert waiting.result()["text"] == str(got)
                got += 1
        await send({"type": "websocket.send", "text": "all"})

    async with serving(app) as room:
        client = await dial(room)
        for number in range(300):
            client.send(masked(TEXT, b"%d" % number))
            await asyncio.sleep(0)
        assert await client.frame() == (TEXT, b"all")


@on_both_loops
async def test_cancelled_send_breaks_no_frame() -> None:
    """A send that is given up while it waits for room: its message is whole, and so is the next one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await accept(send)
        for _ in range(30):
            sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(100_000)}))
            await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait([sending])
        await send({"type": "websocket.send", "text": "all"})

    async with serving(app) as room:
        client = await dial(room)
        assert [await client.frame() for _ in range(31)] == [(BINARY, bytes(100_000))] * 30 + [(TEXT, b"all")]


@on_both_loops
async def test_application_that_ignores_the_end() -> None:
    """It sends on for ever: every send says so, and it does not hold the loop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await accept(send)
        for _ in range(1000):
            try:
                await send({"type": "websocket.send", "text": "more"})
            except OSError:
                await asyncio.sleep(0)

    async with serving(app) as room:
        client = await dial(room)
        client.client.close()
        await room.empty()
        assert room.door.lost == 0


# ── pongs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_pong_behind_a_blocked_loop() -> None:
    """The loop did not turn for longer than a pong may take: a pong that is there already is heard first."""
    loop = asyncio.get_running_loop()
    async with serving(Echo(), shared=shared(ping_s=0.05, pong_s=0.4)) as room:
        peer = await room.peer()
        one, other = socket.socketpair()
        await peer.send(handshake())
        said = b""
        while not said.endswith(b"\x89\x011"):
            said += await peer.receive()
        blocked = asyncio.Event()

        def block() -> None:
            """Hold the loop up, where its timers are what comes next."""
            loop.remove_reader(one)
            peer.sock.send(masked(PONG, b"1"))
            time.sleep(0.7)
            blocked.set()

        loop.add_reader(one, block)
        other.send(b"x")
        await blocked.wait()
        one.close()
        other.close()
        assert (await peer.receive())[:2] == b"\x89\x01"  # the next ping, no Close


@on_both_loops
async def test_pong_behind_what_inflates() -> None:
    """Messages that are not inflated yet are not taken either: nobody is cut for a pong behind them."""
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await accept(send)
        await receive()
        await go.wait()
        await receive()
        await send({"type": "websocket.send", "text": "on"})

    async with serving(app, shared=shared(limit_bytes=100_000, ping_s=0.03, pong_s=0.03)) as room:
        client = await dial(room, b"/", DEFLATE)
        (connection,) = room.door.open
        client.send(deflated(bytes(100_000)) * 2)
        socket = connection._upgraded  # type: ignore[attr-defined]
        await eventually_async(lambda: socket._ping_number >= 4)
        go.set()
        while (frame := await client.frame())[0] == PING:
            pass
        assert frame == (TEXT, b"on")


# ── drain and limits ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stage", ["asked", "denying", "full", "closing", "closed"])
@on_both_loops
async def test_drain_at_every_stage(stage: str) -> None:
    """The application is told or cancelled at the end of the grace, the connection is gone soon after it."""
    farewell = Farewell()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if stage == "denying":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            while True:
                await send({"type": "websocket.http.response.body", "body": bytes(10000), "more_body": True})
        if stage == "asked":
            await asyncio.Event().wait()
        await accept(send)
        while stage == "full":
            await send({"type": "websocket.send", "bytes": bytes(10000)})
        if stage == "closed":
            return
        await close(send)
        await asyncio.Event().wait()

    async with serving(app, shared=shared(farewell)) as room:
        peer = await room.peer(4096)
        await peer.send(handshake())
        connection = await asked(room)
        if stage in ("denying", "full"):
            await eventually_async(lambda: connection.is_full)
        elif stage != "asked":
            assert (await peer.receive()).startswith(b"HTTP/1.1 101 ")
        if stage == "closed":
            await eventually_async(lambda: connection._latest is None)
        farewell.begin(1, 0.0, last=True)
        connection.start_draining()
        await asyncio.sleep(0)
        connection.cancel()
        if stage in ("full", "denying"):  # what it does not read may still be on its way, until all is cut
            await eventually_async(lambda: connection._latest is None)
            connection.abort()
        await room.empty()
        assert room.door.lost == 0


@on_both_loops
async def test_too_many_and_too_late() -> None:
    """503 for one too many, 504 for one that is not accepted in time; neither is followed by a request."""
    http = HttpSettings(limit_concurrency=1, request_s=1.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with serving(app, shared=shared(http=http)) as room:
        first = await room.connect()
        first.send(handshake())
        await asked(room)
        said = await room.ask(handshake() + ask_for(b"/smuggled"))
        assert said.startswith(b"HTTP/1.1 503 ") and said.count(b"HTTP/1.1 ") == 1
        rest = await first.rest()
        assert rest.startswith(b"HTTP/1.1 504 ")
        await room.empty()
