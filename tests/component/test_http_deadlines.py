"""Every deadline of HTTP, and a peer that is slow in the way that it is for (S19). The times are tiny, so is the sweep.

Here: ``--header-timeout``, ``--body-timeout``, ``--keep-alive``, ``--request-timeout``. Who does not read:
:mod:`tests.component.test_http_overload`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.component.http_room import Drip, HttpRoom, Witness, ask_for, respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = ask_for(b"/")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
MUCH = b"x" * 8_000_000
"""More than the buffers of a connection hold."""
NEVER = float("inf")


async def deadline(room: HttpRoom) -> float:
    """Return the deadline of the one connection."""
    await eventually_async(lambda: room.door.open)
    (connection,) = room.door.open
    return float(connection.deadline)  # type: ignore[attr-defined]  # HttpConnection's own


# ── --header-timeout ──


@on_both_loops
async def test_head_that_trickles_is_not_prolonged() -> None:
    """S19, slow-loris: a byte each 10 ms: the time is for the whole head. Nothing reaches the application."""
    app = Witness()
    async with serving(app, head_s=0.15, keep_alive_s=60) as room:
        client = await room.connect()
        async with Drip(client, b"GET / HTTP/1.1\r\n" + b"X-Slow: 1\r\n" * 100, 0.01) as dripping:
            assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
            assert not dripping.done()
        await room.empty()
    assert not app.seen


@on_both_loops
async def test_first_byte_starts_no_new_time() -> None:
    """The first head of a connection has its time from the connection's start, as the option says."""
    async with serving(Witness(), head_s=60) as room:
        client = await room.connect()
        before = await deadline(room)
        await asyncio.sleep(0.1)  # five sweeps: a time that begins anew would be another one
        client.send(b"G")
        (connection,) = room.door.open
        await eventually_async(lambda: connection._phase == 1)  # type: ignore[attr-defined]
        assert await deadline(room) == before


@on_both_loops
async def test_second_head_has_its_own_time() -> None:
    """Not what is left of the keep-alive's, and not that of the first."""
    async with serving(Witness(), head_s=0.5, keep_alive_s=60) as room:
        client = await room.connect()
        await client.ask(GET)
        client.send(b"GET / HT")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


@on_both_loops
async def test_half_a_head_behind_a_request_has_its_time() -> None:
    """A pipelined half, which came while the one before was answered."""
    async with serving(Witness(), head_s=0.5, keep_alive_s=60) as room:
        client = await room.connect()
        client.send(GET + b"GET / HT")
        assert (await client.response())[0] == 200
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


@on_both_loops
async def test_who_says_nothing_is_closed_without_a_word() -> None:
    """It connected and sent not one byte: there is no request that could be answered with 408."""
    async with serving(Witness(), head_s=0.1, keep_alive_s=60) as room:
        client = await room.connect()
        assert await client.rest() == b""
        await room.empty()


@on_both_loops
async def test_empty_line_is_no_first_byte() -> None:
    """CR LF, once and slowly, is no way around it either."""
    async with serving(Witness(), head_s=0.1, keep_alive_s=60) as room:
        client = await room.connect()
        client.send(b"\r\n")
        assert (await client.rest())[:13] in (b"", b"HTTP/1.1 408 ")
        await room.empty()


# ── --body-timeout ──


@pytest.mark.parametrize("chunked", [False, True])
@on_both_loops
async def test_stalled_body_is_a_408_and_a_disconnect(chunked: bool) -> None:
    """Half a body comes: the client is told, the application sees that nobody is there any more, once and for all."""
    told: list[dict[str, Any]] = []
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            told.append(message)
        told.extend([message, await receive()])
        try:
            await respond(send, b"late")
        except OSError as error:
            errors.append(error)

    head = POST[:-22] + b"Transfer-Encoding: chunked\r\n\r\n4\r\n" if chunked else POST % 4
    async with serving(app, body_s=0.1) as room:
        client = await room.connect()
        client.send(head + b"12")
        said = await client.rest()
        assert said.startswith(b"HTTP/1.1 408 ") and said.count(b"HTTP/1.1 ") == 1
        await room.empty()
        assert room.door.lost == 0
    assert [message["type"] for message in told] == ["http.request", "http.disconnect", "http.disconnect"]
    assert len(errors) == 1


@on_both_loops
async def test_body_that_never_begins_is_a_408() -> None:
    """The head came, and not one byte behind it."""
    async with serving(Witness(), body_s=0.1) as room:
        client = await room.connect()
        client.send(POST % 4)
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        await room.empty()


@on_both_loops
async def test_body_that_trickles_steadily_is_taken() -> None:
    """The time is between two pieces: one that takes several of them in all is well."""
    app = Witness()
    async with serving(app, body_s=1.0) as room:
        client = await room.connect()
        client.send(POST % 40)
        async with Drip(client, b"x" * 40, 0.04):
            assert (await client.response())[0] == 200
    assert app.seen == [("POST", "/", b"x" * 40)]


@on_both_loops
async def test_slow_application_is_no_slow_body() -> None:
    """It has taken a piece and works on it; the client has sent the rest long ago, which waits in the kernel."""
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        size = len((await receive())["body"])
        await asyncio.sleep(0.9)
        more = True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            size += len(message["body"])
            more = message["more_body"]
        await respond(send, b"%d" % size)

    async with serving(app, body_s=0.4) as room:
        client = await room.connect()
        client.send(POST % len(MUCH))
        await begun.wait()
        client.send(MUCH)
        assert (await client.response())[2] == b"%d" % len(MUCH)


@on_both_loops
async def test_client_may_wait_while_the_application_works() -> None:
    """The next piece comes later than the option allows, but nobody was waiting for it."""
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": (await receive())["body"], "more_body": True})
        await asyncio.sleep(0.9)
        await send({"type": "http.response.body", "body": b" more?", "more_body": True})
        await send({"type": "http.response.body", "body": (await receive())["body"]})

    async with serving(app, body_s=0.4) as room:
        client = await room.connect()
        client.send(POST % 2)
        await begun.wait()
        client.send(b"1")
        await client.until(b" more?\r\n")
        client.send(b"2")
        assert (await client.until(b"0\r\n\r\n")).startswith(b"1\r\n2\r\n")


@on_both_loops
async def test_unread_body_that_stalls_ends_the_connection() -> None:
    """The answer is there, the rest of the body does not come: the connection is not held for it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"early")

    async with serving(app, body_s=0.1) as room:
        client = await room.connect()
        client.send(POST % 9 + b"1")
        assert (await client.response())[2] == b"early"
        assert await client.rest() == b""
        await room.empty()


# ── --keep-alive ──


@on_both_loops
async def test_idle_connection_is_closed() -> None:
    """No request within the time: an orderly end, no word."""
    async with serving(Witness(), head_s=60, keep_alive_s=0.1) as room:
        client = await room.connect()
        await client.ask(GET)
        assert await client.rest() == b""
        await room.empty()


@on_both_loops
async def test_request_that_comes_as_the_idle_connection_closes() -> None:
    """The client sees an orderly end and no answer, so that it may ask again elsewhere: the application saw nothing."""
    app = Witness()
    async with serving(app, head_s=60, keep_alive_s=0.1) as room:
        client = await room.connect()
        await client.ask(GET)
        assert await client.rest() == b""
        client.send(ask_for(b"/late"))  # behind our end, before it is closed
        await asyncio.sleep(0)
        assert client.reader.exception() is None
        await room.empty()
    assert app.paths == ["/"]


@on_both_loops
async def test_keep_alive_of_zero_is_no_limit() -> None:
    """As for each of these options."""
    async with serving(Witness(), head_s=0, keep_alive_s=0) as room:
        client = await room.connect()
        assert await deadline(room) == NEVER
        await client.ask(GET)
        assert await deadline(room) == NEVER
        client.send(b"G")
        await asyncio.sleep(0.1)
        assert await deadline(room) == NEVER


# ── --request-timeout ──


class Stuck:
    """Waits for ever where the path says, and remembers that it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        elif scope["path"] == "/whole":
            await respond(send, b"whole")
        elif scope["path"] == "/much":
            await respond(send, MUCH)
        if scope["path"] in ("/", "/begun", "/whole"):
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1


@on_both_loops
async def test_request_that_takes_too_long_is_a_504(caplog: pytest.LogCaptureFixture) -> None:
    """The application is cancelled, the client told, the connection ends; one line in the log, a warning."""
    app = Stuck()
    async with serving(app, request_s=0.1) as room:
        said = await room.ask(GET + ask_for(b"/next"))
        assert said.startswith(b"HTTP/1.1 504 ") and said.count(b"HTTP/1.1 ") == 1
        await eventually_async(lambda: app.cancelled == 1)
        await room.empty()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@on_both_loops
async def test_answer_that_takes_too_long_is_cut() -> None:
    """It has begun: nobody may take the part for the whole."""
    app = Stuck()
    async with serving(app, request_s=0.1) as room:
        client = await room.connect()
        client.send(ask_for(b"/begun"))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.response()
        await eventually_async(lambda: app.cancelled == 1)
        await room.empty()


@on_both_loops
async def test_work_behind_the_answer_has_all_the_time() -> None:
    """The time is to the end of the answer; a background task goes on, and so does the connection."""
    app = Stuck()
    async with serving(app, request_s=0.4, keep_alive_s=60) as room:
        client = await room.connect()
        assert (await client.ask(ask_for(b"/whole")))[2] == b"whole"
        await asyncio.sleep(0.7)
        assert app.cancelled == 0
        assert (await client.ask(ask_for(b"/whole")))[2] == b"whole"


@on_both_loops
async def test_body_does_not_prolong_the_request() -> None:
    """A body that trickles within --body-timeout: the whole request has its own time."""
    async with serving(Witness(), body_s=60, request_s=0.2) as room:
        client = await room.connect()
        client.send(POST % 1000)
        async with Drip(client, b"x" * 1000, 0.01):
            assert (await client.rest()).startswith(b"HTTP/1.1 504 ")
        await room.empty()


@pytest.mark.parametrize("write_s", [0.0, 60.0])
@on_both_loops
async def test_time_of_a_pipelined_request_is_its_own(write_s: float) -> None:
    """The answer before it is not taken yet: neither --write-timeout nor its absence takes its place."""
    app = Stuck()
    async with serving(app, request_s=0.2, write_s=write_s) as room:
        peer = await room.peer(4096)
        await peer.send(ask_for(b"/much") + GET)
        while app.cancelled == 0:
            got = await asyncio.wait_for(peer.receive(65536), 20)
            assert got
            if b"HTTP/1.1 504 " in got:
                break
        await eventually_async(lambda: app.cancelled == 1)
