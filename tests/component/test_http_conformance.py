"""RFC 9110 and 9112 beyond framing: 100-continue, HTTP/1.0, bodiless answers, half-close, lingering, forms of a target.

In the order of the RFCs. What is refused: :mod:`tests.component.test_http_security`.
"""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import pytest

from hybrid.connection import http_ending
from tests.component.http_room import Witness, ask_for, respond, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = ask_for(b"/")
PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def early(scope: Any, receive: Any, send: Any) -> None:
    """Answer without a look at the body; then ask for it, too late."""
    await respond(send, b"early")
    await receive()


# ── RFC 9110 §9: methods ──


@pytest.mark.parametrize("method", ["TRACE", "get", "PURGE", "M-SEARCH", "PRI", "DELETE", "PATCH", "OPTIONS"])
@on_both_loops
async def test_method_reaches_the_application_as_it_came(method: str) -> None:
    """Methods are case-sensitive, and which ones there are is for the application to say (§9.1)."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        assert (await client.ask(f"{method} /p HTTP/1.1\r\nHost: a\r\n\r\n".encode()))[2] == b"/p"
        assert (await client.ask(GET))[0] == 200
    assert app.seen == [(method, "/p", b""), ("GET", "/", b"")]


@on_both_loops
async def test_options_for_the_whole_server() -> None:
    """``OPTIONS *`` (§9.3.7): the target as it came."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        assert (await client.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 200
    (scope,) = app.scopes
    assert (scope["path"], scope["raw_path"]) == ("*", b"*")


@pytest.mark.parametrize(("target", "status"), [(b"a:443", 501), (b"/", 400), (b"http://a/", 400), (b"a", 400)])
@on_both_loops
async def test_connect_makes_no_tunnel(target: bytes, status: int) -> None:
    """We are no proxy (§9.3.6); what comes behind is for nobody."""
    app = Witness()
    async with serving(app) as room:
        said = await room.ask(b"CONNECT " + target + b" HTTP/1.1\r\nHost: a:443\r\n\r\n" + GET)
        assert said.startswith(b"HTTP/1.1 %d " % status) and said.count(b"HTTP/1.1 ") == 1
    assert not app.seen


@pytest.mark.parametrize("broken", [False, True])
@on_both_loops
async def test_head_has_no_content(broken: bool) -> None:
    """§9.3.2: not even when the application fails, and the server answers in its place."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if broken:
            raise ValueError("as told")
        await respond(send, b"hello", 200, (b"connection", b"close"))

    async with serving(app) as room:
        said = await room.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 500 " if broken else b"HTTP/1.1 200 ")
        assert said.endswith(b"\r\n\r\n") and said.count(b"\r\n\r\n") == 1
        assert b"content-length: " in said.lower()


@pytest.mark.parametrize("status", [204, 304])
@on_both_loops
async def test_status_without_content(status: int) -> None:
    """§15.3.5, §15.4.5: no byte of a body, no chunks, and the next answer is where the client looks for it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"hello", "more_body": True})
            await send({"type": "http.response.body", "body": b"hello"})
        else:
            await respond(send, b"hello", status)

    async with serving(app) as room:
        client = await room.connect()
        for path in (b"/", b"/stream", b"/"):
            client.send(ask_for(path))
            head = (await client.until(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 %d " % status) and b"transfer-encoding" not in head
            if status == 204:
                assert b"content-length" not in head


# ── RFC 9110 §10.1.1: Expect ──


@on_both_loops
async def test_continue_is_said_once_and_only_when_asked() -> None:
    """When the application asks for the body, and only if none of it is there."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        assert (await receive())["body"] == b"o"
        assert (await receive())["body"] == b"k"
        await respond(send, b"done")

    async with serving(app) as room:
        client = await room.connect()
        client.send(PUT)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not client.reader._buffer  # type: ignore[attr-defined]  # nothing was said yet
        gate.set()
        assert await client.until(b"\r\n\r\n") == CONTINUE
        client.send(b"o")
        for _ in range(20):
            await asyncio.sleep(0)
        client.send(b"k")
        assert (await client.response())[2] == b"done"


@on_both_loops
async def test_no_continue_behind_the_final_answer() -> None:
    """§10.1.1: the application answers first and asks then; the body may come or not, so the connection ends."""
    async with serving(early) as room:
        said = await room.ask(PUT)
        assert said.count(b"HTTP/1.1 ") == 1 and said.endswith(b"early") and b"connection: close" in said.lower()


@on_both_loops
async def test_no_continue_within_the_final_answer() -> None:
    """It has begun when the application asks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        body = (await receive())["body"]
        await send({"type": "http.response.body", "body": body})

    async with serving(app) as room:
        client = await room.connect()
        client.send(PUT)
        assert b" 100 " not in await client.until(b"part\r\n")
        client.send(b"ok")
        assert await client.rest() == b"2\r\nok\r\n0\r\n\r\n"


@on_both_loops
async def test_no_continue_for_a_body_that_is_there() -> None:
    """A client that does not wait: a 100 is not needed, and the connection stays."""
    async with serving(Witness()) as room:
        client = await room.connect()
        for _ in range(2):
            status, headers, _ = await client.ask(PUT + b"ok")
            assert (status, headers.get("connection")) == (200, None)


@pytest.mark.parametrize(
    "head",
    [
        b"PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["HTTP/1.0", "no body"],
)
@on_both_loops
async def test_expectation_that_means_nothing(head: bytes) -> None:
    """§10.1.1: a client of HTTP/1.0 would take a 100 for the answer; without a body there is nothing to wait for."""
    async with serving(Witness()) as room:
        said = await room.ask(head + b"ok")
        assert said.startswith(b"HTTP/1.1 200 ") and said.count(b"HTTP/1.1 ") == 1


@on_both_loops
async def test_other_expectation_is_a_417() -> None:
    """§10.1.1."""
    app = Witness()
    async with serving(app) as room:
        assert (await room.ask(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: other\r\n\r\n")).startswith(b"HTTP/1.1 417 ")
    assert not app.seen


# ── RFC 9110 §7.8: Upgrade ──


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Upgrade: TLS/1.2\r\nConnection: Upgrade\r\n",
    ],
    ids=["h2c", "TLS"],
)
@on_both_loops
async def test_upgrade_that_we_do_not_know_is_ignored(upgrade: bytes) -> None:
    """§7.8: the request is served as if it did not offer one, and the connection stays HTTP/1.1."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        for _ in range(2):
            status, headers, body = await client.ask(b"GET /p HTTP/1.1\r\nHost: a\r\n" + upgrade + b"\r\n")
            assert (status, body) == (200, b"/p") and "upgrade" not in headers
    assert [scope["type"] for scope in app.scopes] == ["http", "http"]


# ── RFC 9112 §3.2: the target ──


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://example.org/a%20b?q", "/a b", b"q"),
        (b"HTTP://EXAMPLE.org:80", "/", b""),
        (b"http://example.org?q", "/", b"q"),
        (b"https://example.org:443/x", "/x", b""),
    ],
)
@on_both_loops
async def test_absolute_form(target: bytes, path: str, query: bytes) -> None:
    """§3.2.2: a server takes it, though only proxies are asked so; the application sees the path."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        assert (await client.ask(b"GET " + target + b" HTTP/1.1\r\nHost: example.org\r\n\r\n"))[0] == 200
    (scope,) = app.scopes
    assert (scope["path"], scope["query_string"], scope["scheme"]) == (path, query, "http")


# ── RFC 9112 §9: connections ──


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", True),
        (b"GET / HTTP/1.9\r\nHost: a\r\n\r\n", True),
    ],
)
@on_both_loops
async def test_persistence(head: bytes, stays: bool) -> None:
    """§9.3: what the version and Connection say; the answer to HTTP/1.0 echoes keep-alive."""
    async with serving(Witness()) as room:
        client = await room.connect()
        _, headers, _ = await client.ask(head)
        if stays:
            assert headers.get("connection") == ("keep-alive" if b"1.0" in head else None)
            assert (await client.ask(head))[0] == 200
        else:
            assert headers["connection"] == "close"
            assert await client.rest() == b""


@on_both_loops
async def test_half_closed_pipeline_is_answered_whole() -> None:
    """§9.6: a client that said all at once and shut its sending side, as ``printf | nc -N`` does."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        client.send(b"".join(ask_for(b"/%d" % number) for number in range(20)))
        client.writer.write_eof()
        for number in range(20):
            assert (await client.response())[2] == b"/%d" % number
        assert await client.rest() == b""
        await room.empty()
    assert len(app.seen) == 20


@on_both_loops
async def test_half_close_within_a_body_is_no_end_of_it() -> None:
    """§8: half a body is never taken for the whole."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123")
        client.writer.write_eof()
        assert b" 200 " not in await client.rest()
        await room.empty()
    assert app.seen == [("POST", "/", b"123" + Witness.LEFT)]


@on_both_loops
async def test_last_answer_survives_what_comes_behind_it() -> None:
    """§9.6: a megabyte behind a request whose answer closes: read and thrown away, or its RST would eat the answer."""
    app = Witness()
    async with serving(app) as room:
        peer = await room.peer()
        with patch.object(http_ending, "_LINGER_S", 5.0):
            rest = GET * (1_000_000 // len(GET))
            sending = asyncio.ensure_future(
                peer.send(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + rest)
            )
            await asyncio.wait_for(sending, 20)  # before it reads a byte
            said = await asyncio.wait_for(peer.receive_all(), 20)
            assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"/last") and said.count(b"HTTP/1.1 ") == 1
            peer.sock.close()
            await room.empty()
    assert app.paths == ["/last"]


@on_both_loops
async def test_large_last_answer_survives_what_comes_behind_it() -> None:
    """The same with an answer that fills every buffer, and a refusal of a body that is still being sent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * 5_000_000)

    async with serving(app, limit_body_bytes=10) as room:
        with patch.object(http_ending, "_LINGER_S", 5.0):
            peer = await room.peer()
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET * 3000)
            said = await asyncio.wait_for(peer.receive_all(), 20)
            assert len(said) > 5_000_000
            peer.sock.close()
            peer = await room.peer()
            await asyncio.wait_for(
                peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000), 5
            )
            assert (await asyncio.wait_for(peer.receive_all(), 20)).startswith(b"HTTP/1.1 413 ")
            peer.sock.close()
            await room.empty()


@pytest.mark.parametrize("write_s", [0.0, 60.0])
@on_both_loops
async def test_lingering_ends_though_the_client_does_not_close(write_s: float) -> None:
    """Also one that was slow with the last bytes: the time to close begins when it has them."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * 200_000, 200, (b"connection", b"close"))

    async with serving(app, write_s=write_s) as room:
        peer = await room.peer(4096)
        await peer.send(GET)
        await eventually_async(lambda: room.door.open)
        assert len(await asyncio.wait_for(peer.receive_all(), 20)) > 200_000
        await eventually_async(lambda: not room.door.open)
