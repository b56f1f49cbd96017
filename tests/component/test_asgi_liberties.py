"""What applications send that the specification allows, or that worked in one build: it works in both.

Compiled code refuses a value that is not of its declared type. Here stands what really comes.
"""

from __future__ import annotations

import asyncio
import os
from collections import UserDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import pytest

from hybrid.connection.access_line import compile_format
from hybrid.connection.access_log import AccessLog
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.worker.dump import report
from tests.component.http_room import Client, serving
from tests.component.websocket_room import dial, masked
from tests.support.connections import on_both_loops

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Pair:
    """A header as the specification has it: an iterable of two."""

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __iter__(self) -> Any:
        return iter(self._parts)


class Number:
    """A whole number that is no int, as numpy's are."""

    def __index__(self) -> int:
        return 404


HEADERS: dict[str, Callable[[], Iterable[Any]]] = {
    "a list of tuples": lambda: [(b"x-a", b"1")],
    "a list of lists": lambda: [[b"x-a", b"1"]],
    "a tuple of lists": lambda: ([b"x-a", b"1"],),
    "a generator of tuples": lambda: ((b"x-a", b"1") for _ in "1"),
    "a generator of lists": lambda: ([b"x-a", b"1"] for _ in "1"),
    "iterables of two": lambda: [Pair(b"x-a", b"1")],
    "a bytearray": lambda: [(b"x-a", bytearray(b"1"))],
    "items of a dict": lambda: {b"x-a": b"1"}.items(),
}
each_headers = pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)


@each_headers
@on_both_loops
async def test_headers_in_every_shape(headers: Callable[[], Iterable[Any]]) -> None:
    """Of a response, time and again on one listener; of its trailers; and as the access log has them."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers(), "trailers": True})
        await send({"type": "http.response.body", "body": b"hi"})
        await send({"type": "http.response.trailers", "headers": headers()})

    reading, writing = os.pipe()
    line, wants_response_headers = compile_format("%({x-a}o)s", 1)
    log = AccessLog(line, writing, wants_response_headers=wants_response_headers)
    try:
        async with serving(app, None, HttpShared.of(HttpSettings(), access_log=log)) as room:
            client = await room.connect()
            for _ in range(9):  # the eighth is what a memo would be made of
                client.send(GET)
                assert b"\r\nx-a: 1\r\n" in await client.until(b"\r\n\r\n")
                assert await client.until(b"\r\n\r\n") == b"2\r\nhi\r\n0\r\nx-a: 1\r\n\r\n"
        assert os.read(reading, 999) == b"1\n" * 9
    finally:
        log.close()
        os.close(reading)
        os.close(writing)


@each_headers
@on_both_loops
async def test_headers_of_a_websocket_in_every_shape(headers: Callable[[], Iterable[Any]]) -> None:
    """Accepted, or denied with a response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/accept":
            await send({"type": "websocket.accept", "headers": headers()})
        else:
            await send({"type": "websocket.http.response.start", "status": 403, "headers": headers()})
            await send({"type": "websocket.http.response.body", "body": b"n", "more_body": 1})
            await send({"type": "websocket.http.response.body", "body": b"o", "more_body": 0})

    async with serving(app) as room:
        for path, status in ((b"/accept", 101), (b"/deny", 403)):
            frames = await dial(room, path)
            assert (frames.status, frames.head["x-a"]) == (status, "1")


@pytest.mark.parametrize("header", ["x-a: 1", ("x-a", "1"), (b"x-a",), (b"x-a", 1), (b"a", b"b", b"c"), 5, None])
@on_both_loops
async def test_header_that_is_no_pair_of_bytes(header: object) -> None:
    """It says so in the same words, wherever it stands."""
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (
            {"type": "http.response.early_hint", "links": [header]},
            {"type": "http.response.start", "status": 200, "headers": [header]},
            {"type": "http.response.start", "status": 200, "headers": iter([header])},
        ):
            with pytest.raises(TypeError) as error:
                await send(message)
            said.append(str(error.value))

    async with serving(app) as room:
        await room.ask(GET)
    assert len(said) == 3
    assert all(each.startswith("cannot send header") and "a name and a value, both bytes" in each for each in said)


async def whole(client: Client) -> bytes:
    """Return the body of one answer."""
    client.send(GET)
    return (await client.response())[2]


@pytest.mark.parametrize(("yes", "no"), [(True, False), (1, 0), ("yes", ""), ([1], None)])
@on_both_loops
async def test_what_is_true_is_enough(yes: object, no: object) -> None:
    """more_body, trailers and more_trailers need not be a bool."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": yes})
        await send({"type": "http.response.body", "body": b"a", "more_body": yes})
        await send({"type": "http.response.body", "body": b"b", "more_body": no})
        await send({"type": "http.response.trailers", "headers": [(b"x-a", b"1")], "more_trailers": yes})
        await send({"type": "http.response.trailers", "headers": [(b"x-b", b"2")], "more_trailers": no})

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        await client.until(b"\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"1\r\na\r\n1\r\nb\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n"


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, Number()])
@pytest.mark.parametrize("kind", [dict, UserDict, MappingProxyType])
@on_both_loops
async def test_numbers_and_messages_of_other_types(status: object, kind: Callable[[dict[str, Any]], Any]) -> None:
    """A status that is as good as an int, a message that is as good as a dict; also those of a WebSocket."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        prefix = "" if scope["type"] == "http" else "websocket."
        if scope["path"] == "/accept":
            await send(kind({"type": "websocket.accept"}))
            await send(kind({"type": "websocket.send", "text": "hi"}))
            return
        await send(kind({"type": f"{prefix}http.response.start", "status": status}))
        await send(kind({"type": f"{prefix}http.response.body", "body": b"no"}))

    async with serving(app) as room:
        assert (await (await room.connect()).ask(GET))[0] == 404
        assert (await dial(room, b"/deny")).status == 404
        assert await (await dial(room, b"/accept")).frame() == (1, b"hi")


@pytest.mark.parametrize("status", ["200", 200.0, None, b"200"])
@on_both_loops
async def test_status_that_is_no_whole_number(status: object) -> None:
    """A TypeError in both builds."""
    raised: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": status})
        except Exception as error:
            raised.append(type(error))
            raise

    async with serving(app) as room:
        assert (await room.ask(GET)).startswith(b"HTTP/1.1 500 ")
    assert raised == [TypeError]


@pytest.mark.parametrize("returned", [None, [], [b"body"], ""], ids=repr)
@on_both_loops
async def test_application_that_is_not_async(returned: object, caplog: pytest.LogCaptureFixture) -> None:
    """What it returned is not awaited because it can be iterated over; the log says what is wrong."""
    async with serving(lambda scope, receive, send: returned) as room:
        assert (await room.ask(GET)).startswith(b"HTTP/1.1 500 ")
        assert (await dial(room)).status == 500
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 2
    assert all(f"the application returned {type(returned).__name__}, not an awaitable" in each for each in said)


@on_both_loops
async def test_application_that_returns_an_awaitable() -> None:
    """A future, or an object with ``__await__``, is as good as a coroutine."""

    def app(scope: Any, receive: Any, send: Any) -> Any:
        async def serve() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"hi"})

        return asyncio.ensure_future(serve())

    async with serving(app) as room:
        assert await whole(await room.connect()) == b"hi"


@pytest.mark.parametrize("reason", [b"bye", 5, ["bye"]])
@on_both_loops
async def test_reason_that_is_no_text(reason: object) -> None:
    """It says so, whether or not the WebSocket is still open; the end is that of an application that failed."""
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        with pytest.raises(TypeError) as error:
            await send({"type": "websocket.close", "reason": reason})
        said.append(str(error.value))
        raise error.value

    async with serving(app) as room:
        assert await (await dial(room)).close() == (1011, b"")
    assert said == [f"websocket.close: reason is {type(reason).__name__}, not str"]


async def waits_here(event: asyncio.Event) -> None:
    with suppress(asyncio.CancelledError):
        await event.wait()


@pytest.mark.parametrize("path", ["request", "websocket"])
@on_both_loops
async def test_dump_tells_where_an_application_waits(path: str) -> None:
    """In the line of the application's own, though our part below it may be compiled, and has no frame then."""
    begun, event = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if path == "websocket":
            await send({"type": "websocket.accept"})
        begun.set()
        await waits_here(event)

    async with serving(app) as room:
        if path == "websocket":
            (await dial(room)).send(masked(1, b"hi"))
        else:
            (await room.connect()).send(GET)
        await begun.wait()
        told = await asyncio.to_thread(report, asyncio.get_running_loop())
    (line,) = (each for each in told.splitlines() if each.startswith("  app "))
    assert f" at {__file__}:" in line and line.endswith(" in waits_here")
