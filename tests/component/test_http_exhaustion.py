"""The security record of HTTP servers, S20 to S25: floods, and peers that are gone.

S19, slow peers: :mod:`tests.component.test_http_deadlines` and :mod:`tests.component.test_http_overload`. S23, a line
without end on raw protocols: :mod:`tests.component.test_connection_framing`. S24, no descriptors:
:mod:`tests.process.test_http_descriptors`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.component.http_room import HttpRoom, Witness, ask_for, respond, serving
from tests.component.http_wire import Wired, settle
from tests.support.connections import Client as Peer
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async
from tests.unit.http.cuts import pieces, single

GET = ask_for(b"/")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
KIB = 1024
MIB = 1024 * KIB

# ── S20: large and many ──


@pytest.mark.parametrize(
    ("flood", "status"),
    [
        (b"GET /" + b"a" * MIB, 414),
        (b"a" * MIB, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * MIB, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b'a="\\' * 15000 + b"\r\n\r\n", 200),
        (b"\r\n" * MIB, 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"Connection: close, x\r\n" * 90 + b"\r\n", 200),
    ],
    ids=["line", "no line", "field", "fields", "one field too many", "cookie", "empty lines", "list"],
)
@on_both_loops
async def test_s20_flood_of_a_head(flood: bytes, status: int) -> None:
    """S20: its status, without waiting for the end of it, and with the answer readable behind all that was sent."""
    async with serving(Witness()) as room:
        peer = await room.peer()
        await asyncio.wait_for(peer.send(flood), 20)
        if status == 200:
            assert (await asyncio.wait_for(peer.receive(), 20)).startswith(b"HTTP/1.1 200 ")
        else:
            assert (await asyncio.wait_for(peer.receive_all(), 20)).startswith(b"HTTP/1.1 %d " % status)
        peer.sock.close()
        await room.empty()


@on_both_loops
async def test_s20_head_that_trickles_in_grows_in_place() -> None:
    """S20: byte by byte; copied for each of them, 64 KiB would cost 2 GiB. What is searched: tests/unit/http."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 50
    async with Wired(Witness()) as wired:
        wired.feed(head[:1])
        grows = wired.connection._buffer
        await wired.feed_all(pieces(head[1:], single(head[1:])))
        assert wired.connection._buffer is grows and grows == head


@on_both_loops
async def test_s21_body_of_tiny_chunks_is_taken() -> None:
    """S21: 20,000 chunks of a byte each, at once: whole, in order, and soon."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        client.send(CHUNKED + b"".join(b"1\r\n%c\r\n" % (number % 251) for number in range(20000)) + b"0\r\n\r\n")
        assert (await client.response())[0] == 200
    assert app.seen[0][2] == bytes(number % 251 for number in range(20000))


@on_both_loops
async def test_s21_framing_without_a_body_is_refused() -> None:
    """S21: bytes of extensions cost and carry nothing."""
    async with serving(Witness()) as room:
        said = await room.ask(CHUNKED + (b"1;" + b"x" * 200 + b"\r\na\r\n") * 1000)
        assert said.startswith(b"HTTP/1.1 400 ")


# ── S22: limits hold for each request, and for all of it ──


@on_both_loops
async def test_s22_limits_hold_on_a_kept_connection() -> None:
    """S22: what one request used up is not missing to the next one, and nothing is added to what it may have."""
    limits: dict[str, Any] = {
        "limit_fields": 10,
        "limit_head_bytes": 300,
        "limit_line_bytes": 100,
        "limit_body_bytes": 8,
    }
    fits = [
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 9 + b"\r\n",
        b"GET /" + b"a" * 86 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 240 + b"\r\n\r\n",
        POST % 8 + b"12345678",
        CHUNKED + b"4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n",
    ]
    too_much = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10 + b"\r\n", 431),
        (b"GET /" + b"a" * 90 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300 + b"\r\n\r\n", 431),
        (POST % 9 + b"123456789", 413),
        (CHUNKED + b"4\r\n1234\r\n4\r\n5678\r\n1\r\n9\r\n0\r\n\r\n", 413),
    ]
    async with serving(Witness(), **limits) as room:
        for data, status in too_much:
            client = await room.connect()
            for fine in fits * 3:
                assert (await client.ask(fine))[0] == 200
            client.send(data)
            assert (await client.rest()).startswith(b"HTTP/1.1 %d " % status)
            client.close()


@on_both_loops
async def test_s22_unread_bodies_do_not_add_up() -> None:
    """S22: what is thrown away behind an answer is counted for each request; a body longer than that ends it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"early")

    async with serving(app) as room:
        client = await room.connect()
        for _ in range(4):
            client.send(POST % 200_000)
            assert (await client.response())[2] == b"early"
            client.send(b"x" * 200_000)
        client.send(POST % (64 * MIB))
        assert (await client.response())[2] == b"early"
        client.send(b"x" * MIB)
        assert await client.rest() == b""


# ── S25: gone at every stage ──


class Staged:
    """Does what the path says, and tells how far it is."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request; an application that ends when its client is gone, in each of the ways there are."""
        self.begun += 1
        try:
            if scope["path"] == "/reads":
                while (await receive())["type"] == "http.request":
                    pass
            elif scope["path"] == "/waits":
                await receive()
                assert (await receive())["type"] == "http.disconnect"
            elif scope["path"] == "/streams":
                await send({"type": "http.response.start", "status": 200})
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
                    await asyncio.sleep(0)
            elif scope["path"] == "/fills":
                await send({"type": "http.response.start", "status": 200})
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            elif scope["path"] == "/closes":
                await respond(send, b"x" * 3_000_000, 200, (b"connection", b"close"))
            else:
                await respond(send, b"hello")
        finally:
            self.ended += 1


async def idle(room: HttpRoom, peer: Peer, app: Staged) -> None:
    """Nothing was asked yet."""


async def kept(room: HttpRoom, peer: Peer, app: Staged) -> None:
    """One answer was given."""
    await peer.send(GET)
    assert (await peer.receive()).endswith(b"hello")


async def in_a_head(room: HttpRoom, peer: Peer, app: Staged) -> None:
    """Half a head."""
    await peer.send(GET[:20])
    await eventually_async(lambda: any(each._buffer for each in room.door.open))  # type: ignore[attr-defined]


def asked(data: bytes) -> Callable[[HttpRoom, Peer, Staged], Awaitable[None]]:
    """Return the stage in which the application has begun with this request."""

    async def stage(room: HttpRoom, peer: Peer, app: Staged) -> None:
        await peer.send(data)
        await eventually_async(lambda: app.begun)
        await settle()

    return stage


async def refused(room: HttpRoom, peer: Peer, app: Staged) -> None:
    """A 400 was given, and the connection lingers."""
    await peer.send(b"\x00\r\n\r\n")
    assert (await peer.receive()).startswith(b"HTTP/1.1 400 ")


STAGES: dict[str, Callable[[HttpRoom, Peer, Staged], Awaitable[None]]] = {
    "idle": idle,
    "kept": kept,
    "in a head": in_a_head,
    "in a body that is read": asked(b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123"),
    "in chunks that are read": asked(b"POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123"),
    "in a body behind the answer": asked(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123"),
    "while the application waits": asked(ask_for(b"/waits")),
    "in an answer": asked(ask_for(b"/streams")),
    "in an answer that is not read": asked(ask_for(b"/fills")),
    "while lingering with an answer": asked(ask_for(b"/closes")),
    "while lingering": refused,
    "with a pipeline behind it": asked(ask_for(b"/waits") + GET * 50),
    "with a pipeline before it": asked(GET * 50),
}


@pytest.mark.parametrize("ending", ["reset", "close", "end"])
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@on_both_loops
async def test_s25_peer_is_gone(stage: Any, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    """S25: RST, close and half-close in each phase: the application ends, nothing is left, nothing is logged."""
    caplog.set_level(logging.DEBUG)
    app = Staged()
    async with serving(app, write_s=0.3, body_s=0.3) as room:
        peer = await room.peer(4096)
        await eventually_async(lambda: room.door.open)
        await stage(room, peer, app)
        if ending == "reset":
            peer.reset()
        elif ending == "close":
            peer.sock.close()
        else:
            peer.end()
            if stage is STAGES["in an answer"]:
                peer.sock.close()  # an endless answer is read on by who has only said all that it had to say
        await room.empty()
        assert app.begun == app.ended and room.door.lost == 0
        assert room.door.came == 1
        assert (await room.ask(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"hello")
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("data", [b"", GET, POST % 5 + b"12", GET * 3 + GET[:9], b"\x00\r\n\r\n"])
@on_both_loops
async def test_s25_peer_is_gone_before_it_is_accepted(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """S25: connected, said this, and reset, all before our loop turns; the listener goes on."""
    caplog.set_level(logging.DEBUG)
    app = Witness()
    async with serving(app) as room:
        for _ in range(20):
            peer = await room.peer()
            if data:
                peer.sock.send(data)
            peer.reset()
        await eventually_async(lambda: not room.door.open)
        assert (await room.ask(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await room.empty()
        assert room.door.lost == 0
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
