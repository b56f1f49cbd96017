"""WebSockets of peers and applications that do what they should not: each ends, and nothing of it stays."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from typing import Any

import pytest

from hybrid.connection.farewell import Farewell
from hybrid.shared.http_settings import HttpSettings
from tests.component.http_room import HttpRoom, serving
from tests.component.test_websocket import Echo, shared
from tests.component.websocket_room import BINARY, CLOSE, PING, PONG, TEXT, closing, dial, handshake, masked
from tests.support.connections import Client as Peer
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"


def deflated(payload: bytes) -> bytes:
    """Return a client's compressed message."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    return masked(BINARY, data[:-4], rsv=4)


async def asked(room: HttpRoom) -> Any:
    """Return the connection of the one client, as soon as its application runs."""
    await eventually_async(lambda: room.door.open and next(iter(room.door.open))._exchange)  # type: ignore[attr-defined]
    return next(iter(room.door.open))


# ── peers that leave ─────────────────────────────────────────────────────────────────────────────────────────


async def accept(send: Any) -> None:
    """Accept."""
    await send({"type": "websocket.accept"})


async def close(send: Any) -> None:
    """Deny with a 403."""
    await send({"type": "websocket.close"})


async def deny(send: Any) -> None:
    """Deny with a response."""
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"no"})


async def nothing(send: Any) -> None:
    """Just return."""


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
async def test_flood_of_pings() -> None:
    """The last one is answered; what they cost is not one write for each."""
    async with serving(Echo()) as room:
        client = await dial(room)
        (connection,) = room.door.open
        client.send(b"".join(masked(PING, b"%d" % number) for number in range(5000)))
        payload = b""
        while payload != b"4999":
            opcode, payload = await client.frame()
            assert opcode == PONG
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
        assert time.monotonic() - began < 3
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
        said = await asyncio.wait_for(peer.receive_all(), 5)
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


async def test_pong_behind_a_blocked_loop() -> None:
    """The loop did not turn for longer than a pong may take: a pong that is there already is heard first."""
    app = Echo()
    async with serving(app, shared=shared(ping_s=0.05, pong_s=0.05)) as room:
        peer = await room.peer()
        await peer.send(handshake())
        said = b""
        while not said.endswith(b"\x89\x011"):
            said += await peer.receive()
        peer.sock.send(masked(PONG, b"1"))
        time.sleep(0.3)  # noqa: ASYNC251  # an application that blocks is what this is about
        assert (await peer.receive())[:2] == b"\x89\x01"  # the next ping, no Close
        peer.sock.close()


@on_both_loops
async def test_pong_behind_what_inflates(monkeypatch: pytest.MonkeyPatch) -> None:
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
    http = HttpSettings(limit_concurrency=1, request_s=0.2)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with serving(app, shared=shared(http=http)) as room:
        first = await room.connect()
        first.send(handshake())
        await asked(room)
        said = await room.ask(handshake() + BEHIND)
        assert said.startswith(b"HTTP/1.1 503 ") and said.count(b"HTTP/1.1 ") == 1
        rest = await first.rest()
        assert rest.startswith(b"HTTP/1.1 504 ")
        await room.empty()
