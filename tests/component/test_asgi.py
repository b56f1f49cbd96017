"""ASGI over HTTP/1.1: what an application is told, what it may say, and what a client gets."""

from __future__ import annotations

import asyncio
import contextvars
import re
from typing import Any

import anyio
import pytest

from tests.component.http_room import respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = b"GET /a%20b?x=1 HTTP/1.1\r\nHost: example.org\r\nX-One: 1\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def whole_body(receive: Any) -> bytes:
    """Return the body of a request."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"hello")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, await whole_body(receive))


@on_both_loops
async def test_scope_has_every_key() -> None:
    """Each key that the specification makes mandatory, and the state, a copy for each request."""
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        scope["state"]["mine"] = len(seen)
        await respond(send, b"")

    async with serving(app, {"pool": "p"}, root_path="/api") as room:
        client = await room.connect()
        await client.ask(GET)
        await client.ask(b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        name = client.writer.get_extra_info("sockname")
        first, second = seen
        assert first["client"] == name and first["server"] == ("127.0.0.1", room.port)
    assert first["type"] == "http" and first["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert (first["http_version"], first["method"], first["scheme"]) == ("1.1", "GET", "http")
    assert (first["path"], first["raw_path"], first["query_string"]) == ("/api/a b", b"/a%20b", b"x=1")
    assert first["root_path"] == "/api"
    assert first["headers"] == [(b"host", b"example.org"), (b"x-one", b"1")]
    assert first["state"] == {"pool": "p", "mine": 1} and second["state"] == {"pool": "p", "mine": 2}
    assert (second["http_version"], second["method"], second["headers"]) == (
        "1.0",
        "POST",
        [(b"connection", b"keep-alive")],
    )


@on_both_loops
async def test_connection_is_kept() -> None:
    """One connection serves one request after another; date and server are in each response."""
    async with serving(hello) as room:
        client = await room.connect()
        for _ in range(3):
            status, headers, body = await client.ask(GET)
            assert (status, body, headers["server"]) == (200, b"hello", "hybrid") and headers["date"].endswith("GMT")
        assert room.door.came == 1


@on_both_loops
async def test_close_is_said_and_done() -> None:
    """Connection: close in the request: the response says it too, and the connection ends."""
    async with serving(hello) as room:
        said = await room.ask(LAST)
        assert said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(b"\r\n\r\nhello")
        assert b"connection: close" in said.lower()
        await eventually_async(lambda: not room.door.open)


@pytest.mark.parametrize("turns", [0, 1, 3])
@on_both_loops
async def test_pipelined_requests_are_answered_in_order(turns: int) -> None:
    """However long each takes (S8), and however many come at once."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await respond(send, scope["path"].encode())

    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(300))
    async with serving(app) as room:
        client = await room.connect()
        client.send(requests)
        for number in range(300):
            assert (await client.response())[2] == b"/%d" % number


@on_both_loops
async def test_pipelined_answer_does_not_wait_for_a_slow_one() -> None:
    """What is corked leaves when the next application takes its time."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        await respond(send, scope["path"].encode())

    async with serving(app) as room:
        client = await room.connect()
        client.send(b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.response())[2] == b"/fast"
        gate.set()
        assert (await client.response())[2] == b"/slow"


POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
BODIES = {
    "length": POST + b"Content-Length: 11\r\n\r\nhello world",
    "chunked": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("request_", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("step", [1, 7, 1000])
@on_both_loops
async def test_body_arrives_whole_however_it_is_cut(request_: bytes, step: int) -> None:
    """Cut anywhere, with a request behind it in the same bytes."""
    async with serving(echo) as room:
        client = await room.connect()
        data = request_ * 2
        for start in range(0, len(data), step):
            client.send(data[start : start + step])
            await asyncio.sleep(0)
        for _ in range(2):
            assert (await client.response())[2] == b"hello world"


@on_both_loops
async def test_continue_is_said_when_the_application_asks() -> None:
    """Expect: 100-continue: not before receive(), and not at all when it answers without."""
    async with serving(echo) as room:
        client = await room.connect()
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"ok"))[2] == b"ok"
    async with serving(hello) as room:
        client = await room.connect()
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await client.response())[0] == 200


@on_both_loops
async def test_unread_body_is_no_next_request() -> None:
    """S7: an answer that comes before the body: the rest of the body is passed over, or the connection ends."""
    hidden = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await respond(send, b"")

    async with serving(app) as room:
        client = await room.connect()
        await client.ask(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(hidden))
        client.send(hidden)
        client.send(b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await client.rest()
    assert paths in (["/a"], ["/a", "/b"])


@on_both_loops
async def test_head_and_no_content_have_no_body() -> None:
    """S17: whatever the application sends."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello", 204 if scope["path"] == "/204" else 200)

    async with serving(app) as room:
        client = await room.connect()
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await client.until(b"\r\n\r\n")
        assert b"content-length: 5" in head.lower()
        client.send(b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204 No Content\r\n") and b"content-length" not in head.lower()
        assert (await client.ask(GET))[2] == b"hello"


@on_both_loops
async def test_stream_without_length_is_chunked() -> None:
    """1.1: chunked; 1.0: until the connection closes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for piece in (b"one ", b"two ", b""):
            await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})

    async with serving(app) as room:
        client = await room.connect()
        assert (await client.ask(GET))[2] == b"one two "
        said = await room.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert said.endswith(b"\r\n\r\none two ") and b"chunked" not in said


@on_both_loops
async def test_application_that_raises_is_a_500() -> None:
    """Before the response began: 500 and close; the error is logged once and counted."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("broken")

    async with serving(app) as room:
        assert (await room.ask(GET)).startswith(b"HTTP/1.1 500 ")
        assert room.door.lost == 1


@on_both_loops
async def test_response_that_breaks_off_looks_broken() -> None:
    """After it began: cut, so that nobody takes a part for the whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError("broken")

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.response()


@on_both_loops
async def test_application_that_says_nothing_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """It returned without a response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    async with serving(app) as room:
        assert (await room.ask(GET)).startswith(b"HTTP/1.1 500 ")
    assert re.search(r"app \w+: GET /a b from .+: returned without a response", caplog.text)


@on_both_loops
async def test_half_closed_client_gets_its_answer() -> None:
    """A client that said all it has to say, as `nc -N` does."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"hello")

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        client.writer.write_eof()
        await asyncio.sleep(0)
        gate.set()
        assert (await client.rest()).endswith(b"hello")


@on_both_loops
async def test_client_that_leaves_is_seen_by_receive_and_send() -> None:
    """receive() gives http.disconnect; send() raises an OSError."""
    told = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        told.set_result(await receive())
        while True:
            try:
                await send({"type": "http.response.start", "status": 200})
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            except OSError as error:
                caught.append(error)
                return

    caught: list[OSError] = []
    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        await eventually_async(lambda: room.door.open)
        client.writer.transport.abort()
        assert (await asyncio.wait_for(told, 20))["type"] == "http.disconnect"
        await eventually_async(lambda: caught)
        await eventually_async(lambda: not room.door.open)
        assert room.door.lost == 0


@on_both_loops
async def test_sender_waits_for_a_slow_reader() -> None:
    """Backpressure: a client that reads nothing holds the application up, not the memory."""
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 65536
        await send({"type": "http.response.body"})

    async with serving(app) as room:
        client = await room.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(GET)
        last = -1

        def stands() -> bool:
            nonlocal last
            before, last = last, sent
            return sent > 0 and before == sent

        await eventually_async(stands)
        assert sent < 200 * 65536
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len((await client.response())[2]) == 200 * 65536


@on_both_loops
async def test_unread_body_stays_in_the_kernel() -> None:
    """An application that does not receive: we do not read on and on."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, str(len(await whole_body(receive))).encode())

    size = 30_000_000
    async with serving(app) as room:
        client = await room.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await eventually_async(lambda: room.door.open)
        for _ in range(200):
            await asyncio.sleep(0)
        assert client.writer.transport.get_write_buffer_size() > 10_000_000
        gate.set()
        assert (await client.response())[2] == str(size).encode()


@on_both_loops
async def test_application_runs_as_in_a_task_of_its_own() -> None:
    """Context variables do not leak, before or after a suspension; timeouts and task groups work."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[tuple[str, str]] = []
    tasks: set[int] = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        before = variable.get()
        if scope["path"] == "/set":
            variable.set("set")
        await asyncio.sleep(0)
        seen.append((before, variable.get()))
        task = asyncio.current_task()
        assert task is not None
        tasks.add(id(task))
        async with anyio.create_task_group() as group:
            group.start_soon(asyncio.sleep, 0)
        with anyio.move_on_after(0.01) as scope_:
            await anyio.sleep_forever()
        assert scope_.cancelled_caught
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        await respond(send, b"")

    async with serving(app) as room:
        client, other = await room.connect(), await room.connect()
        for path in (b"/set", b"/get", b"/set", b"/get"):
            await client.ask(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        await other.ask(GET)
    assert seen == [("none", "set"), ("none", "none"), ("none", "set"), ("none", "none"), ("none", "none")]


@on_both_loops
async def test_background_work_does_not_hold_up_the_next_request() -> None:
    """An answer is complete before its application returns; the connection counts as open until it does."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, scope["path"].encode())
        if scope["path"] == "/first":
            await gate.wait()

    async with serving(app) as room:
        client = await room.connect()
        assert (await client.ask(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"))[2] == b"/first"
        assert (await client.ask(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"))[2] == b"/second"
        client.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert room.door.open
        gate.set()
        await eventually_async(lambda: not room.door.open)


@pytest.mark.parametrize(
    ("header", "value"), [(b"x", b"a\r\nset-cookie: b"), (b"x\r\ny", b"a"), (b"x", b"a\x00"), (b"x y", b"a")]
)
@on_both_loops
async def test_response_cannot_be_split(header: bytes, value: bytes) -> None:
    """S14: an application that passes a client's bytes on cannot be made to say what it did not mean."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"", 200, (header, value))

    async with serving(app) as room:
        said = await room.ask(GET)
        assert said.startswith(b"HTTP/1.1 500 ") and b"set-cookie" not in said


BAD = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "length and chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "bad chunk": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
}


@pytest.mark.parametrize(("request_", "status"), BAD.values(), ids=BAD)
@on_both_loops
async def test_bad_request_is_refused_and_the_connection_ends(request_: bytes, status: int) -> None:
    """And what comes behind it is never taken for a request."""
    async with serving(echo) as room:
        said = await room.ask(request_ + GET)
        assert said.startswith(b"HTTP/1.1 %d " % status) and said.count(b"HTTP/1.1") == 1


LIMITS = {
    "line": (b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {"limit_line_bytes": 100}, 414),
    "head": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2000 + b"\r\n\r\n", {"limit_head_bytes": 1000}, 431),
    "fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 20 + b"\r\n", {"limit_fields": 10}, 431),
    "body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789", {"limit_body_bytes": 8}, 413),
    "chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
        {"limit_body_bytes": 8},
        413,
    ),
}


@pytest.mark.parametrize(("request_", "settings", "status"), LIMITS.values(), ids=LIMITS)
@on_both_loops
async def test_limit_is_kept(request_: bytes, settings: dict[str, Any], status: int) -> None:
    """Each limit by its option: one more than it allows is answered with the RFC's code."""
    async with serving(echo, **settings) as room:
        assert (await room.ask(request_)).startswith(b"HTTP/1.1 %d " % status)


@on_both_loops
async def test_slow_head_is_answered_with_408() -> None:
    """S19: from its first byte to its last, in total: another byte now and then gains nothing."""
    async with serving(hello, head_s=0.1) as room:
        client = await room.connect()
        client.send(b"GET / HTTP/1.1\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


@on_both_loops
async def test_slow_body_is_answered_with_408() -> None:
    """The application waits for a body that does not come."""
    async with serving(echo, body_s=0.1) as room:
        client = await room.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("asks_first", [False, True])
@on_both_loops
async def test_silent_connection_is_closed(asks_first: bool) -> None:
    """One that never asked, and one that is kept and asks no more."""
    async with serving(hello, head_s=0.4, keep_alive_s=0.4) as room:
        client = await room.connect()
        if asks_first:
            await client.ask(GET)
        assert await client.rest() == b""
        await eventually_async(lambda: not room.door.open)


@on_both_loops
async def test_client_that_takes_nothing_is_cut() -> None:
    """A write that stalls: the transport holds bytes, and none of them leaves."""
    errors: list[OSError] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        except OSError as error:
            errors.append(error)

    async with serving(app, write_s=0.1) as room:
        client = await room.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(GET)
        await eventually_async(lambda: errors)
        await eventually_async(lambda: not room.door.open)


@on_both_loops
async def test_drain_answers_what_was_asked() -> None:
    """A worker that drains: idle connections close, the others get their answer, which says that it is the last."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"hello")

    async with serving(app) as room:
        idle, busy = await room.connect(), await room.connect()
        busy.send(GET)
        await eventually_async(lambda: len(room.door.open) == 2)
        for _ in range(10):
            await asyncio.sleep(0)
        for connection in tuple(room.door.open):
            connection.start_draining()
        assert await idle.rest() == b""
        gate.set()
        said = await busy.rest()
        assert said.endswith(b"hello") and b"connection: close" in said.lower()
        await eventually_async(lambda: not room.door.open)


@on_both_loops
async def test_cancelled_request_is_answered_with_503(caplog: pytest.LogCaptureFixture) -> None:
    """The grace is over: the application is cancelled, the client is told; the log says whose request it was."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        for _ in range(100):
            await asyncio.sleep(0)
        (connection,) = room.door.open
        connection.cancel()
        assert (await client.rest()).startswith(b"HTTP/1.1 503 ")
    assert re.search(r"app \w+: GET /a b from .+: cancelled at the end of the grace", caplog.text)
