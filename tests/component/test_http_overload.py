"""More than there is room for: clients that do not read (``--write-timeout``), and ``--limit-concurrency``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.component.http_room import ask_for, respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = ask_for(b"/")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
MUCH = b"x" * 8_000_000
"""More than the buffers of a connection hold."""


# ── --write-timeout ──


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """Send without end; hello elsewhere."""
    if scope["path"] == "/much":
        await respond(send, MUCH)
        return
    await send({"type": "http.response.start", "status": 200})
    with pytest.raises(OSError):
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})


@pytest.mark.parametrize("paths", [[b"/endless"], [b"/much", b"/endless"], [b"/much", b"/much", b"/much"]])
@on_both_loops
async def test_reader_that_takes_nothing_is_cut(paths: list[bytes]) -> None:
    """Whichever request of a pipeline it is that the client does not want the answer of."""
    async with serving(endless, write_s=0.1, keep_alive_s=60) as room:
        peer = await room.peer(4096)
        await peer.send(b"".join(map(ask_for, paths)))
        await eventually_async(lambda: room.door.came)
        await eventually_async(lambda: not room.door.open)


@on_both_loops
async def test_slow_reader_is_not_cut() -> None:
    """It takes a little within each time: that is slow, and it gets all of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, MUCH)

    async with serving(app, write_s=1.0, keep_alive_s=60) as room:
        peer = await room.peer()
        await peer.send(GET)
        taken = 0
        while taken < len(MUCH):
            got = len(await asyncio.wait_for(peer.receive(1 << 19), 20))
            assert got
            taken += got
            await asyncio.sleep(0.08)


@on_both_loops
async def test_reader_that_takes_nothing_of_the_last_answer_is_cut() -> None:
    """The application is long gone, and nobody waits for room: the connection must not stay for the bytes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, MUCH, 200, (b"connection", b"close"))

    async with serving(app, write_s=0.1) as room:
        peer = await room.peer(4096)
        await peer.send(GET)
        await eventually_async(lambda: room.door.came)
        await eventually_async(lambda: not room.door.open)


@on_both_loops
async def test_pipeline_of_who_reads_nothing_does_not_fill_the_memory() -> None:
    """S19: no request is begun while the answers to those before it are not taken; :mod:`test_http_moments` goes on."""
    app = Much()
    async with serving(app) as room:
        peer = await room.peer(4096)
        await peer.send(GET * 200)
        await eventually_async(lambda: app.begun)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert app.begun < 20


class Much:
    """Answers with a megabyte, and counts."""

    begun = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        self.begun += 1
        await respond(send, b"x" * 1_000_000)


# ── --limit-concurrency ──


@on_both_loops
async def test_request_too_many_is_a_503_and_the_connection_stays() -> None:
    """It says when to come again. As soon as there is room the same connection is served."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        await respond(send, scope["path"].encode())

    async with serving(app, limit_concurrency=2) as room:
        slow = [await room.connect() for _ in range(2)]
        for client in slow:
            client.send(ask_for(b"/slow"))
        await eventually_async(lambda: room.door.came == 2)
        client = await room.connect()
        for request in (GET, POST % 4 + b"body", POST % 4 + b"body"):
            status, headers, body = await client.ask(request)
            assert status == 503 and int(headers["retry-after"]) >= 1 and "date" in headers and body
            assert headers.get("connection") != "close"
        gate.set()
        assert [(await each.response())[2] for each in slow] == [b"/slow", b"/slow"]
        assert (await client.ask(ask_for(b"/fast")))[2] == b"/fast"
        assert room.door.lost == 0


@on_both_loops
async def test_overload_answers_head_without_a_body() -> None:
    """S17, and a request that waits for 100 Continue gets no more than the answer."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"")

    async with serving(app, limit_concurrency=1) as room:
        first, client = await room.connect(), await room.connect()
        first.send(GET)
        await eventually_async(lambda: room.door.came == 2)
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        said = await room.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 503 ") and b" 100 " not in said
        status, _, _ = await client.ask(GET)
        assert status == 503
        gate.set()
        assert (await first.response())[0] == 200


@on_both_loops
async def test_client_that_leaves_makes_room() -> None:
    """The count goes down however a request ends: answered, failed, cancelled, given up."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise ValueError("as told")
        if scope["path"] == "/waits":
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await respond(send, b"")

    async with serving(app, limit_concurrency=1, request_s=0.4) as room:
        for turn in range(3):
            assert (await room.ask(ask_for(b"/fails"))).startswith(b"HTTP/1.1 500 ")
            assert (await room.ask(ask_for(b"/waits"))).startswith(b"HTTP/1.1 504 ")
            peer = await room.peer()
            await peer.send(ask_for(b"/waits"))
            await eventually_async(lambda count=3 * turn + 3: room.door.came == count)  # type: ignore[misc]  # bound now
            peer.reset()
            await room.empty()
        client = await room.connect()
        assert (await client.ask(GET))[0] == 200
