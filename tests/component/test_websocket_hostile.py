"""WebSockets of peers that do what they should not: each ends, and nothing of it stays."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from typing import Any

import pytest

from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.websocket import CLOSE_S
from tests.component.http_room import serving
from tests.component.test_websocket import Echo, shared
from tests.component.websocket_room import (
    BINARY,
    CLOSE,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    accept,
    asked,
    close,
    closing,
    deflated,
    deny,
    dial,
    handshake,
    masked,
    nothing,
)
from tests.support.connections import Client as Peer
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

# ── peers that leave ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [accept, close, deny, nothing], ids=lambda each: each.__name__)
@on_both_loops
async def test_peer_that_sends_no_more_before_it_is_answered(answer: Any) -> None:
    """It has shut its sending side, or was killed: whatever the application says to that, the connection ends."""
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await go.wait()
        await answer(send)

    async with serving(app) as room:
        peer = await room.peer()
        await peer.send(handshake())
        connection = await asked(room)
        peer.end()
        await eventually_async(lambda: connection._peer_is_done)
        go.set()
        await room.empty()
        assert room.door.lost == 0


@pytest.mark.parametrize("leave", [Peer.end, Peer.reset], ids=["fin", "rst"])
@pytest.mark.parametrize("stage", ["asked", "denying", "open", "unread", "closing"])
@on_both_loops
async def test_peer_that_dies_in_every_stage(stage: str, leave: Any) -> None:
    """The application hears of it, or its send() says so; the connection is gone, and no error is counted."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if stage == "denying":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            while True:
                await send({"type": "websocket.http.response.body", "body": bytes(10000), "more_body": True})
        if stage != "asked":
            await accept(send)
        if stage == "unread":
            while True:
                await send({"type": "websocket.send", "bytes": bytes(10000)})
        if stage == "closing":
            await close(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with serving(app) as room:
        peer = await room.peer(4096)
        await peer.send(handshake())
        connection = await asked(room)
        if stage in ("denying", "unread"):
            await eventually_async(lambda: connection.is_full)
        elif stage != "asked":
            assert (await peer.receive()).startswith(b"HTTP/1.1 101 ")
        leave(peer)
        if leave is Peer.end:
            while await peer.receive():
                pass
        await room.empty()
        assert room.door.lost == 0


# ── floods ───────────────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_floods_of_small_frames() -> None:
    """Empty messages, pongs nobody asked for, empty fragments: all arrive, in order, and one after them, too."""
    app = Echo()
    async with serving(app) as room:
        client = await dial(room)
        client.send(masked(TEXT, b"") * 3000 + masked(PONG, b"") * 3000)
        client.send(masked(TEXT, b"", fin=False) + masked(0, b"", fin=False) * 3000 + masked(0, b"end"))
        frames = [await client.frame() for _ in range(3001)]
        assert frames == [(TEXT, b"")] * 3000 + [(TEXT, b"end")]


@on_both_loops
async def test_flood_of_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a segment are answered in one write: a call of the kernel for each would be dearer than their asking."""
    async with serving(Echo()) as room:
        client = await dial(room)
        (connection,) = room.door.open
        writes: list[int] = []
        write = HttpConnection.write

        def counted(self: HttpConnection, data: bytes) -> None:
            writes.append(len(data))
            write(self, data)

        monkeypatch.setattr(HttpConnection, "write", counted)
        client.send(b"".join(masked(PING, b"%d" % number) for number in range(5000)))
        payload = b""
        while payload != b"4999":
            opcode, payload = await client.frame()
            assert opcode == PONG
        assert len(writes) < 10
        client.send(masked(TEXT, b"on"))
        assert await client.frame() == (TEXT, b"on")
        assert connection.transport.get_write_buffer_size() == 0  # type: ignore[attr-defined]


@on_both_loops
async def test_many_small_bombs_in_one_segment() -> None:
    """Each inflates to what is allowed: only as many as that are held at a time, and a close behind them is heard."""
    held: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await accept(send)
        (connection,) = room.door.open
        while (await receive())["type"] == "websocket.receive":
            held.append(connection._upgraded._size)  # type: ignore[attr-defined]
            await asyncio.sleep(0)

    async with serving(app, shared=shared(limit_bytes=100_000)) as room:
        client = await dial(room, b"/", DEFLATE)
        client.send(deflated(bytes(100_000)) * 200 + closing(1000))
        assert (await client.close())[0] == 1000
        await room.empty()
        assert len(held) == 200 and max(held) <= 200_000


@on_both_loops
async def test_bombs_while_closing() -> None:
    """We have said Close; what it sends is thrown away, and its Close behind it heard, long before the time is up."""
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await accept(send)
        await go.wait()
        await send({"type": "websocket.close"})

    async with serving(app, shared=shared(limit_bytes=100_000)) as room:
        client = await dial(room, b"/", DEFLATE)
        (connection,) = room.door.open
        client.send(deflated(bytes(100_000)) * 100 + closing(1000))
        await eventually_async(lambda: not connection._is_reading)  # type: ignore[attr-defined]
        go.set()
        assert (await client.close())[0] == 1000
        began = time.monotonic()
        assert await client.end() == b""
        assert time.monotonic() - began < CLOSE_S
        await room.empty()


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflated"])
async def test_at_the_limit_and_above(compressed: bool) -> None:
    """As many bytes as are allowed, in one frame and in many; one more is 1009."""
    for pieces in (1, 7):
        for size, fits in ((1000, True), (1001, False)):
            async with serving(Echo(), shared=shared(limit_bytes=1000)) as room:
                client = await dial(room, b"/", *([DEFLATE] if compressed else []))
                data = b"x" * size
                if compressed:
                    stream = zlib.compressobj(0, zlib.DEFLATED, -15)
                    data = (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
                cuts = [data[at * len(data) // pieces : (at + 1) * len(data) // pieces] for at in range(pieces)]
                for at, cut in enumerate(cuts):
                    rsv = 4 if compressed and not at else 0
                    client.send(masked(0 if at else BINARY, cut, fin=at == pieces - 1, rsv=rsv))
                opcode, payload = await client.frame()
                if fits:
                    assert opcode == BINARY
                else:
                    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1009))


async def test_close_storm() -> None:
    """One is answered; whatever is behind it is not looked at."""
    app = Echo()
    async with serving(app) as room:
        peer = await room.peer()
        await peer.send(handshake() + closing(1000) * 1000 + masked(TEXT, b"late") + b"\xff" * 1000)
        said = await asyncio.wait_for(peer.receive_all(), 20)
        assert said.partition(b"\r\n\r\n")[2] == b"\x88\x02\x03\xe8"
        await room.empty()
        assert app.end[0] == 1000 and room.door.lost == 0


async def test_early_flood_is_not_read() -> None:
    """What is behind a handshake that nobody has answered stays in the kernel, and so it is once it is accepted."""
    go, take = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go.wait()
        await accept(send)
        await take.wait()

    async with serving(app) as room:
        client = await room.connect()
        client.send(handshake() + masked(BINARY, bytes(60_000)) * 100)
        connection = await asked(room)
        await eventually_async(lambda: not connection._is_reading)
        assert len(connection._buffer) < 1_000_000
        go.set()
        await eventually_async(lambda: connection._upgraded is not None)
        assert not connection._is_reading
        take.set()


# ── upgrades that are none ───────────────────────────────────────────────────────────────────────────────────

BEHIND = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


class Paths:
    """Denies WebSockets, answers requests; remembers where they went."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one."""
        self.seen.append((scope["type"], scope["path"]))
        if scope["type"] == "websocket":
            await receive()
            await (close if scope["path"] == "/closes" else deny)(send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(
    "asks",
    [
        handshake(b"/closes"),
        handshake(b"/denies"),
        handshake(version=b"7"),
        handshake(key=b"AA=="),
        handshake(b"/", b"Content-Length: %d" % len(BEHIND)),
        handshake(b"/", b"Transfer-Encoding: chunked") + b"%x\r\n" % len(BEHIND) + BEHIND + b"\r\n0\r\n\r\n",
        handshake(b"/", b"Sec-WebSocket-Extensions: ;;;"),
    ],
    ids=["403", "401", "426", "key", "length", "chunked", "extensions"],
)
@on_both_loops
async def test_nothing_is_smuggled_behind_an_upgrade(asks: bytes) -> None:
    """A proxy that took the upgrade for granted passes on what it takes for frames: no request is found in them."""
    app = Paths()
    async with serving(app) as room:
        said = await room.ask(BEHIND.replace(b"smuggled", b"before") + asks + BEHIND * 3)
        assert said.count(b"HTTP/1.1 ") == 2 and b"connection: close" in said.lower()
        assert [path for _, path in app.seen if path == "/smuggled"] == [] and app.seen[0] == ("http", "/before")


@pytest.mark.parametrize(
    ("asks", "kind"),
    [
        (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), "http"),
        (handshake().replace(b"Connection: Upgrade\r\n", b""), "http"),
        (handshake().replace(b"Upgrade: websocket", b"Upgrade: h2c, WebSocket"), "websocket"),
        (handshake().replace(b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: websocket"), "websocket"),
        (handshake().replace(b"Connection: Upgrade", b"Connection: keep-alive, upgrade"), "websocket"),
        (handshake().replace(b"Upgrade: websocket", b"Upgrade: websocket-2"), "http"),
        (handshake().replace(b"GET", b"HEAD"), "http"),
    ],
    ids=["1.0", "no connection", "list", "lines", "keep-alive", "other", "head"],
)
async def test_who_asks_for_a_websocket(asks: bytes, kind: str) -> None:
    """What is none is a plain request; several protocols are a list, in one line or in several."""
    app = Paths()
    async with serving(app) as room:
        client = await room.connect()
        client.send(asks)
        assert (await client.until(b"\r\n")).split()[1] == (b"401" if kind == "websocket" else b"200")
        assert app.seen == [(kind, "/")]


@on_both_loops
async def test_pipelined_before_and_garbage_behind() -> None:
    """Requests in front of the handshake are answered, in order; garbage behind it breaks the WebSocket alone."""
    app = Echo()

    async def both(scope: Any, receive: Any, send: Any) -> None:
        await (Paths() if scope["type"] == "http" else app)(scope, receive, send)

    async with serving(both) as room:
        said = await room.ask(BEHIND * 5 + handshake() + b"\xff\xff\xff garbage")
        assert said.count(b"HTTP/1.1 200 ") == 5 and said.count(b"HTTP/1.1 101 ") == 1
        assert said.rpartition(b"\r\n\r\n")[2][2:4] == struct.pack("!H", 1002)
        await room.empty()
        assert app.end[0] == 1002
