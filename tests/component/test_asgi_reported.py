"""What real frameworks and real clients met, as small as it gets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from hybrid.connection.access_log import access_log
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.access_settings import AccessSettings
from hybrid.shared.http_settings import HttpSettings
from tests.component.http_room import ask_for, respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

EVENTS = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


async def give_up_stream(receive: Any, send: Any) -> None:
    """Return when the client has left an endless stream, as Django, Litestar and Quart do."""
    await send(EVENTS)
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    assert await receive() == {"type": "http.disconnect"}


async def give_up_answer(receive: Any, send: Any) -> None:
    """Return when the client has left before there was an answer, as Django and Quart do."""
    assert await receive() == {"type": "http.disconnect"}


async def raise_within_upload(receive: Any, send: Any) -> None:
    """Raise when the client has left within its body, as Starlette's ClientDisconnect does."""
    assert await receive() == {"type": "http.disconnect"}
    raise RuntimeError("the client has left")


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234"


@pytest.mark.parametrize(
    ("act", "request_head"),
    [(give_up_stream, GET), (give_up_answer, GET), (raise_within_upload, HALF)],
    ids=["stream", "answer", "upload"],
)
async def test_client_that_leaves_is_no_error(act: Any, request_head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Who was told http.disconnect may end as it likes: nobody is there, nothing is logged, nothing is counted."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        begun.set()
        try:
            await act(receive, send)
        finally:
            ended.set()

    with caplog.at_level(logging.INFO):
        async with serving(app) as room:
            client = await room.connect()
            client.send(request_head)
            await asyncio.wait_for(begun.wait(), 20)
            if act is give_up_stream:
                await client.until(b"data: 1\n\n")
            client.close()
            await asyncio.wait_for(ended.wait(), 20)
            await eventually_async(lambda: not room.door.open)
            assert room.door.lost == 0
    assert caplog.messages == []


# ── receive() that several call ──


@pytest.mark.parametrize("looks", [False, True])
@on_both_loops
async def test_each_receiver_hears_that_the_client_is_gone(looks: bool) -> None:
    """A task that listens for it, beside one that does, or that looks as Starlette's is_disconnected(): cancelled."""
    begun, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        listeners = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        if looks:
            listeners.pop().cancel()
            await asyncio.sleep(0)
        begun.set()
        await asyncio.wait(listeners, timeout=20)
        if all(listener.done() for listener in listeners):
            told.set()
        for listener in listeners:
            listener.cancel()

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        await asyncio.wait_for(begun.wait(), 20)
        client.close()
        await asyncio.wait_for(told.wait(), 20)


# ── what grows, and what is never let go ──


@on_both_loops
async def test_request_has_its_time_also_when_its_client_is_gone() -> None:
    """``--request-timeout``: else an application that hangs holds its place of ``--limit-concurrency`` for ever."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(app, request_s=0.1) as room:
        client = await room.connect()
        client.send(GET)
        await asyncio.wait_for(begun.wait(), 20)
        reset = struct.pack("ii", 1, 0)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.close()
        await asyncio.wait_for(cancelled.wait(), 20)


@on_both_loops
async def test_exchanges_that_have_ended_are_let_go() -> None:
    """While work goes on behind one answer of a connection, hundreds of others come and go on it."""
    stop = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"")
        if scope["path"] == "/works":
            await stop.wait()

    async with serving(app) as room:
        client = await room.connect()
        await client.ask(ask_for(b"/works"))
        for _ in range(20):
            await client.ask(GET)
        (connection,) = room.door.open
        held = len(connection._earlier)  # type: ignore[attr-defined]
        stop.set()
    assert held <= 2


@on_both_loops
async def test_flood_of_pipelined_requests_stays_in_the_kernel() -> None:
    """A client that sends faster than it is answered, and takes the answers: what is kept is bounded."""
    size = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal size
        for _ in range(3):
            await asyncio.sleep(0)
        for connection in room.door.open:
            size = max(size, len(connection._buffer))  # type: ignore[attr-defined]
        await respond(send, b"")

    async with serving(app) as room:
        peer = await room.peer()
        flood = asyncio.ensure_future(peer.send(GET * 200_000))
        await asyncio.wait_for(_take(peer, 20_000), 20)
        flood.cancel()
        await asyncio.wait([flood])
    assert size < 400_000  # read_high_bytes, and one read of the loop's behind it


async def _take(peer: Any, count: int) -> None:
    """Receive so many bytes."""
    while count > 0:
        count -= len(await peer.receive(65536))


@on_both_loops
async def test_connection_of_who_closed_before_its_last_answer_is_let_go() -> None:
    """Something behind the last request, then a close: shutdown(2) fails, and must not leave the transport for ever."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await go_on.wait()
        await respond(send, b"")

    async with serving(app) as room:
        peer = await room.peer()
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\r\n")
        await asyncio.wait_for(begun.wait(), 20)
        (connection,) = room.door.open
        peer.sock.close()
        await eventually_async(lambda: connection._peer_is_done)  # type: ignore[attr-defined]
        go_on.set()
        try:
            await eventually_async(lambda: not room.door.open)
            assert room.door.lost == 0
        finally:
            for left in room.door.open:
                left.abort()


@on_both_loops
async def test_answer_does_not_wait_for_a_slow_one_whose_head_comes_in_two() -> None:
    """Two reads in one turn of the loop, as libuv does: the answer held back for the next one leaves all the same."""
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await respond(send, b"")

    async with serving(app) as room:
        client = await room.connect()
        (connection,) = await eventually_async(lambda: tuple(room.door.open))
        slow = ask_for(b"/slow")
        connection.data_received(GET + slow[:9])  # type: ignore[attr-defined]
        for _ in range(9):
            if connection._exchange is not None:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        connection.data_received(slow[9:])  # type: ignore[attr-defined]
        try:
            assert (await asyncio.wait_for(client.response(), 20))[0] == 200
        finally:
            go_on.set()


# ── messages that are changed after they were sent ──


def _with_log(path: Path) -> tuple[HttpShared, int]:
    """Return what a worker shares, with an access log in ``path``, and its descriptor."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    settings = AccessSettings(enabled=True, format="%(s)s %(r)s %({x-a}o)s")
    return HttpShared.of(HttpSettings(), None, access_log(settings, fd, 0)), fd


@on_both_loops
async def test_message_that_is_used_again(tmp_path: Path) -> None:
    """One dict for start and body: the response is logged as it was sent, and nothing fails."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1"), (b"x-a", b"1")]
        message: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": headers}
        await send(message)
        message.clear()
        headers.clear()
        message.update(type="http.response.body", body=b"x")
        await send(message)

    shared, fd = _with_log(tmp_path / "access.log")
    try:
        async with serving(app, shared=shared) as room:
            client = await room.connect()
            assert (await client.ask(GET))[0] == 200
            assert (await client.ask(GET))[0] == 200
            assert room.door.lost == 0
    finally:
        os.close(fd)
    assert (tmp_path / "access.log").read_text() == "200 GET / HTTP/1.1 1\n" * 2


@on_both_loops
async def test_headers_that_can_be_read_once(tmp_path: Path) -> None:
    """ASGI asks for an iterable: what a generator gave is in the access log, too."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": (each for each in [(b"x-a", b"1")])})
        await send({"type": "http.response.body"})

    shared, fd = _with_log(tmp_path / "access.log")
    try:
        async with serving(app, shared=shared) as room:
            assert (await (await room.connect()).ask(GET))[1]["x-a"] == "1"
    finally:
        os.close(fd)
    assert (tmp_path / "access.log").read_text() == "200 GET / HTTP/1.1 1\n"


@on_both_loops
async def test_event_stream_whose_headers_can_be_read_once_ends_with_the_drain() -> None:
    """It is an event stream however its headers were given."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({**EVENTS, "headers": iter([(b"content-type", b"text/event-stream")])})
        await send({"type": "http.response.body", "more_body": True})
        begun.set()
        assert await receive() == {"type": "http.disconnect"}
        ended.set()

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        await asyncio.wait_for(begun.wait(), 20)
        for connection in tuple(room.door.open):
            connection.start_draining()
        await asyncio.wait_for(ended.wait(), 20)


@on_both_loops
async def test_nothing_in_a_scope_is_the_next_request_s() -> None:
    """Behind a proxy the next request of a connection is another user's."""
    seen: list[tuple[int, int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(TypeError):
            scope["extensions"].pop("hybrid.drain")["user"] = "first"
        seen.append((len(scope["asgi"]), sum(map(len, scope["extensions"].values()))))
        scope["asgi"]["user"] = "first"
        for extension in scope["extensions"].values():
            extension["user"] = "first"
        await respond(send, b"")

    async with serving(app) as room:
        client = await room.connect()
        await client.ask(GET)
        await client.ask(GET)
    assert seen == [(2, 0), (2, 0)]


# ── Expect ──


@on_both_loops
async def test_no_continue_for_http_1_0() -> None:
    """The expectation of an HTTP/1.0 client is ignored, RFC 9110 §10.1.1; it would take the 100 for its answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, (await receive())["body"])

    async with serving(app) as room:
        client = await room.connect()
        client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        (connection,) = await eventually_async(lambda: tuple(room.door.open))
        await eventually_async(lambda: connection._awaits_body)  # type: ignore[attr-defined]
        client.send(b"ok")
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


@on_both_loops
async def test_empty_body_that_came_with_its_head_was_not_waited_for() -> None:
    """Whoever sends an empty body in chunks at once waits for no 100: the connection stays, with what is behind it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, scope["path"].encode())

    async with serving(app) as room:
        client = await room.connect()
        empty = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        client.send(empty + ask_for(b"/next"))
        assert (await client.response())[2] == b"/"
        assert (await client.response())[2] == b"/next"


# ── a log that raises ──


class _Broken(logging.Filter):
    """A filter that reads what this record has not: nobody catches what a filter raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Fail."""
        return bool(record.user)  # type: ignore[attr-defined]


async def test_log_that_raises_does_not_keep_the_client_waiting() -> None:
    """The error of an application cannot be logged; its client gets the 500 all the same."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no such user")

    logger = logging.getLogger("hybrid")
    handler = logging.StreamHandler()
    handler.addFilter(_Broken())
    logger.addHandler(handler)
    try:
        async with serving(app) as room:
            client = await room.connect()
            client.send(GET)
            assert (await asyncio.wait_for(client.response(), 20))[0] == 500
    finally:
        logger.removeHandler(handler)
