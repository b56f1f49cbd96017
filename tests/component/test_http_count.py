"""How many requests a worker has given to its application: what ``--max-requests`` counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.scoreboard import Cell, Scoreboard
from tests.component.http_room import Witness, ask_for, respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = ask_for(b"/")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def shared(**settings: Any) -> HttpShared:
    """Return what the listeners of a worker share; its load is what is counted."""
    return HttpShared.of(HttpSettings(**settings))


@on_both_loops
async def test_each_request_of_a_connection_counts() -> None:
    """Kept alive or pipelined, with a body or without; a connection alone is nothing."""
    worker = shared()
    async with serving(Witness(), shared=worker) as room:
        client = await room.connect()
        await eventually_async(lambda: room.door.open)
        assert worker.load.begun == 0
        for number in range(1, 4):
            await client.ask(GET)
            assert worker.load.begun == number
        client.send(GET * 5 + POST % 2 + b"ab")
        for _ in range(6):
            await client.response()
        assert worker.load.begun == 9
        other = await room.connect()
        await other.ask(GET)
        assert worker.load.begun == 10


@pytest.mark.parametrize(
    ("request_", "status", "counts"),
    [
        (b"nonsense\r\n\r\n", 400, 0),
        (b"GET /" + b"x" * 9000, 414, 0),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431, 0),
        (POST % 100, 413, 0),  # said too much before it began
        (CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n", 413, 1),  # said too much while it ran
        (CHUNKED + b"zz\r\n", 400, 1),
        (ask_for(b"/fails"), 500, 1),
    ],
)
@on_both_loops
async def test_what_the_application_was_given_counts(request_: bytes, status: int, counts: int) -> None:
    """However it ended. What was refused before that does not."""
    witness = Witness()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise ValueError("as told")
        await witness(scope, receive, send)

    worker = shared(limit_body_bytes=10)
    async with serving(app, shared=worker) as room:
        client = await room.connect()
        client.send(request_)
        assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 %d " % status)
        client.close()
        await room.empty()
        assert worker.load.begun == counts
        load = worker.load
        assert (load.client_errors, load.server_errors) == ((1, 0) if status < 500 else (0, 1))


@on_both_loops
async def test_errors_that_the_application_says_are_counted_by_class() -> None:
    """Each response once; what is no error is none, whether its head was made anew or remembered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"", int(scope["path"][1:]))

    worker = shared()
    async with serving(app, shared=worker) as room:
        client = await room.connect()
        for status in (200, 200, 304, 399, 400, 404, 404, 404, 499, 500, 503, 599, 700):
            await client.ask(ask_for(b"/%d" % status))
        assert (worker.load.client_errors, worker.load.server_errors) == (5, 4)
        board = Scoreboard.create(1, 1)
        worker.load.flush(row := board.use_slot(0))
        assert (row[Cell.CLIENT_ERRORS], row[Cell.SERVER_ERRORS]) == (5, 4)
        board.close()


@on_both_loops
async def test_request_too_many_does_not_count_and_the_limit_holds() -> None:
    """A worker that is overloaded is not worn out by what it turns away, and takes as many as before afterwards."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        await respond(send, b"")

    worker = shared(limit_concurrency=2)
    async with serving(app, shared=worker) as room:
        slow = [await room.connect() for _ in range(2)]
        for client in slow:
            client.send(ask_for(b"/slow"))
        await eventually_async(lambda: worker.load.begun == 2)
        client = await room.connect()
        client.send(GET * 3)
        assert [(await client.response())[0] for _ in range(3)] == [503] * 3
        assert (await client.ask(POST % 4 + b"body"))[0] == 503
        assert (worker.load.begun, worker.load.ceiling) == (2, 2)
        gate.set()
        assert [(await each.response())[0] for each in slow] == [200, 200]
        assert (await client.ask(GET))[0] == 200
        assert (worker.load.begun, worker.load.ceiling) == (3, 5)


@on_both_loops
async def test_client_that_leaves_was_served_all_the_same() -> None:
    """The application began: it may have leaked."""
    worker = shared()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(app, shared=worker) as room:
        peer = await room.peer()
        await peer.send(GET)
        await eventually_async(lambda: worker.load.begun == 1)
        peer.reset()
        await room.empty()
        assert worker.load.begun == 1
