"""WebSockets of ASGI applications: what they are told, what they may say, and what a client gets."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from hybrid.connection import websocket as wire
from hybrid.connection.farewell import Farewell
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.websocket_settings import WebSocketSettings
from tests.component.http_room import respond, serving
from tests.component.websocket_room import (
    ACCEPT,
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    closing,
    dial,
    handshake,
    masked,
)
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async


def shared(farewell: Farewell | None = None, http: HttpSettings | None = None, **options: Any) -> HttpShared:
    """Return what listeners share, with these options of WebSockets."""
    made = HttpShared.of(http or HttpSettings(), websocket=WebSocketSettings(**options))
    if farewell is not None:
        made.farewell = farewell
    return made


class Echo:
    """Accepts, and sends back what comes; remembers every message, and the scope."""

    def __init__(self, **accept: Any) -> None:
        self.accept = accept
        self.heard: list[dict[str, Any]] = []
        self.scope: dict[str, Any] = {}
        self.returned = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one WebSocket."""
        self.scope = scope
        while True:
            message = await receive()
            self.heard.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept", **self.accept})
            elif message["type"] == "websocket.receive":
                kind = "text" if message.get("text") is not None else "bytes"
                with suppress(OSError):  # it may be over: then the next message says so
                    await send({"type": "websocket.send", kind: message[kind]})
            else:
                self.returned = True
                return

    @property
    def end(self) -> tuple[int, str]:
        """Code and reason of the disconnect that it was told."""
        last = self.heard[-1]
        assert last["type"] == "websocket.disconnect"
        return last["code"], last["reason"]


# ── the handshake ────────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_scope_and_accept() -> None:
    """The scope has every key of the specification; the 101 has the accept value, the subprotocol, own headers."""
    app = Echo(subprotocol="chat", headers=[(b"x-one", b"1")])
    async with serving(app, {"pool": "p"}, root_path="/api") as room:
        client = await dial(room, b"/a%20b?x=1", b"Sec-WebSocket-Protocol: soap, chat", b"Cookie: a=b")
        name = client.client.writer.get_extra_info("sockname")
        assert client.status == 101 and client.head["sec-websocket-accept"] == ACCEPT
        assert (client.head["upgrade"].lower(), client.head["connection"].lower()) == ("websocket", "upgrade")
        assert client.head["sec-websocket-protocol"] == "chat" and client.head["x-one"] == "1"
        assert "content-length" not in client.head and "sec-websocket-extensions" not in client.head
        scope = app.scope
        assert scope["type"] == "websocket" and scope["scheme"] == "ws" and "method" not in scope
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"} and scope["http_version"] == "1.1"
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/api/a b", b"/a%20b", b"x=1")
        assert scope["root_path"] == "/api" and scope["state"] == {"pool": "p"}
        assert scope["client"] == name and scope["server"] == ("127.0.0.1", room.port)
        assert scope["subprotocols"] == ["soap", "chat"] and (b"cookie", b"a=b") in scope["headers"]
        assert set(scope["extensions"]) == {"websocket.http.response", "hybrid.drain"}


@on_both_loops
async def test_text_and_bytes_there_and_back() -> None:
    """Of every length that has a form of its own; then the client closes, and is answered with its own code."""
    app = Echo()
    async with serving(app) as room:
        client = await dial(room)
        for payload in (b"", b"a", b"b" * 125, b"c" * 126, b"d" * 65535, b"e" * 70000):
            client.send(masked(TEXT, payload) + masked(BINARY, payload))
            assert await client.frame() == (TEXT, payload) and await client.frame() == (BINARY, payload)
        client.send(closing(4001, b"bye"))
        assert await client.close() == (4001, b"") and await client.end() == b""
        await room.empty()
        assert app.end == (4001, "bye") and app.returned and room.door.lost == 0


@on_both_loops
async def test_bytes_behind_the_handshake_are_its_first_frames() -> None:
    """A client that does not wait for the 101 loses nothing; pings are answered while the application is busy."""
    app = Echo()
    async with serving(app) as room:
        client = await dial(room, behind=masked(TEXT, b"early") + masked(PING, b"p") + masked(TEXT, b"bird"))
        frames = [await client.frame() for _ in range(3)]
        assert sorted(frames) == [(TEXT, b"bird"), (TEXT, b"early"), (PONG, b"p")]


@pytest.mark.parametrize(
    ("request_bytes", "status", "line"),
    [
        (handshake(version=b"8"), 426, b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"),
        (handshake(key=b"short"), 400, b""),
        (handshake(b"/", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, b""),
        (handshake(b"/", b"Content-Length: 3") + b"abc", 400, b""),
    ],
)
async def test_who_asks_wrongly_is_refused(request_bytes: bytes, status: int, line: bytes) -> None:
    """The application sees nothing of it, and what follows is no request."""
    app = Echo()
    async with serving(app) as room:
        said = (await room.ask(request_bytes + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).lower()
    assert said.startswith(b"http/1.1 %d" % status) and line in said and said.count(b"http/1.1 ") == 1
    assert not app.heard


async def test_other_upgrades_are_plain_requests() -> None:
    """Nobody is forced to switch: RFC 9110 §7.8. So is a WebSocket that is asked for with POST."""
    kinds: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kinds.append(scope["type"])
        await respond(send, b"plain")

    async with serving(app) as room:
        client = await room.connect()
        for head in (b"GET / HTTP/1.1\r\nUpgrade: h2c", b"POST / HTTP/1.1\r\nContent-Length: 0\r\nUpgrade: websocket"):
            status, _, body = await client.ask(head + b"\r\nConnection: upgrade\r\nHost: a\r\n\r\n")
            assert (status, body) == (200, b"plain")
    assert kinds == ["http", "http"]


# ── denial ───────────────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_denied_with_403() -> None:
    """An application that closes before it accepts; what the client has sent already is never looked at."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.close", "code": 4000})
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(app) as room:
        said = await room.ask(handshake() + masked(TEXT, b"early"))
        assert said.startswith(b"HTTP/1.1 403 Forbidden\r\n") and b"connection: close" in said.lower()
        assert room.door.lost == 0


@on_both_loops
async def test_denied_with_a_response_of_its_own() -> None:
    """The extension websocket.http.response: status, headers, a body in pieces."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert "websocket.http.response" in scope["extensions"]
        await receive()
        headers = [(b"x-why", b"not you")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"go ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"away"})
        with pytest.raises(RuntimeError, match="denied or closed"):
            await send({"type": "websocket.accept"})

    async with serving(app) as room:
        client = await room.connect()
        status, headers, body = await client.ask(handshake())
        assert (status, headers["x-why"], body) == (401, "not you", b"go away") and await client.rest() == b""
        await room.empty()
        assert room.door.lost == 0


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.accept", "headers": [(b"x-a", b"1\r\nx-b: 2")]},
        {"type": "websocket.accept", "subprotocol": "chat\r\nx: y"},
        {"type": "websocket.http.response.start", "status": 302, "headers": [(b"location", b"/\r\nx: y")]},
    ],
)
async def test_nothing_is_injected(message: dict[str, Any]) -> None:
    """A line end in what the application says is an error of its own, and nothing of it is sent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(message)

    async with serving(app) as room:
        said = await room.ask(handshake(b"/", b"Sec-WebSocket-Protocol: chat"))
        assert said.startswith(b"HTTP/1.1 500 ") and b"x-b" not in said and b"x: y" not in said
        await eventually_async(lambda: room.door.lost == 1)


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_peer_that_breaks_the_protocol() -> None:
    """It is told with the code of the RFC; the application sees the end, once, and what came before it."""
    for data, code in (
        (b"\x81\x03abc", 1002),  # not masked
        (masked(TEXT, b"\xff"), 1007),
        (masked(3, b""), 1002),
        (masked(TEXT, b"x", rsv=4), 1002),
        (masked(BINARY, b"y" * 1001), 1009),
    ):
        app = Echo()
        async with serving(app, shared=shared(limit_bytes=1000)) as room:
            client = await dial(room)
            client.send(masked(TEXT, b"before") + data)
            assert (await client.close())[0] == code and await client.end() == b""
            await room.empty()
            assert app.end[0] == code and app.heard[1]["text"] == "before" and room.door.lost == 0


@on_both_loops
async def test_peer_that_leaves_without_a_word() -> None:
    """1006; sending raises what frameworks know."""
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        assert (message["type"], message["code"]) == ("websocket.disconnect", 1006)
        try:
            await send({"type": "websocket.send", "text": "?"})
        except OSError as error:
            raised.append(error)
        await send({"type": "websocket.close"})  # too late, and no error
        with pytest.raises(RuntimeError, match="received already"):
            await receive()
        raised.append(RuntimeError())

    async with serving(app) as room:
        client = await dial(room)
        client.client.close()
        await room.empty()
        assert len(raised) == 2 and room.door.lost == 0


@pytest.mark.parametrize("accepts", [True, False])
async def test_application_that_fails(accepts: bool) -> None:
    """500 before it has accepted, 1011 after; one record, and the connection counts as failed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if accepts:
            await send({"type": "websocket.accept"})
        raise ValueError("mine")

    async with serving(app) as room:
        client = await dial(room)
        if accepts:
            assert await client.close() == (1011, b"")
            client.send(closing(1011))
            assert await client.end() == b""
        else:
            assert client.status == 500
        await room.empty()
        assert room.door.lost == 1


class WebSocketDisconnect(Exception):
    """What frameworks raise in a handler that receives when its client has gone."""


@pytest.mark.parametrize(("raised", "failed"), [(WebSocketDisconnect, 0), (KeyError, 1)])
async def test_handler_that_leaves_with_its_client(
    raised: type[Exception], failed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What says no more than that the client has left is nobody's failure; a bug behind it still is one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if (await receive())["type"] == "websocket.disconnect":
            raise raised(1012)

    async with serving(app) as room:
        client = await dial(room)
        client.send(closing(1000))
        assert await client.close() == (1000, b"")
        await room.empty()
        assert room.door.lost == failed and len(caplog.records) == failed


@on_both_loops
async def test_application_that_just_returns() -> None:
    """After it has accepted that is a close with 1000; before, an error of its own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/accept":
            await receive()
            await send({"type": "websocket.accept"})

    async with serving(app) as room:
        client = await dial(room, b"/accept")
        assert await client.close() == (1000, b"")
        client.send(closing(1000))
        assert await client.end() == b""
        assert (await dial(room)).status == 500


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        ({"type": "websocket.send", "text": b"bytes"}, TypeError, "text is bytes"),
        ({"type": "websocket.send", "bytes": "text"}, TypeError, "key text"),
        ({"type": "websocket.send"}, ValueError, "neither"),
        ({"type": "websocket.close", "code": 1005}, ValueError, "1005"),
        ({"type": "websocket.close", "code": 5000}, ValueError, "5000"),
        ({"type": "websocket.accept"}, RuntimeError, "is accepted"),
        ({"type": "http.response.start", "status": 200}, RuntimeError, "http.response.start"),
    ],
)
async def test_messages_that_do_not_fit(message: dict[str, Any], error: type[Exception], words: str) -> None:
    """Each is an error that says what it is; the WebSocket goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(error, match=words):
            await send(message)
        await send({"type": "websocket.send", "bytes": bytearray(b"on")})

    async with serving(app) as room:
        assert await (await dial(room)).frame() == (BINARY, b"on")


# ── pings, closing ───────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_pings_until_nobody_answers() -> None:
    """A peer that answers stays; one that does not is cut, and the application is told 1011."""
    app = Echo()
    async with serving(app, shared=shared(ping_s=0.05, pong_s=0.4)) as room:
        client = await dial(room)
        for _ in range(3):
            opcode, payload = await client.frame()
            assert opcode == PING
            client.send(masked(PONG, payload))
        assert (await client.frame())[0] == PING
        assert (await client.close())[0] == 1011
        await room.empty()
        assert app.end[0] == 1011 and room.door.lost == 0


async def test_no_pings() -> None:
    """--ws-ping-interval 0."""
    async with serving(Echo(), shared=shared(ping_s=0.0)) as room:
        client = await dial(room)
        (connection,) = room.door.open
        assert connection.deadline == float("inf")  # type: ignore[attr-defined]  # an HttpConnection
        client.send(masked(TEXT, b"x"))
        assert await client.frame() == (TEXT, b"x")


@on_both_loops
async def test_close_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits so long and no longer; what comes meanwhile is not the application's."""
    monkeypatch.setattr(wire, "CLOSE_S", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 3000, "reason": "enough"})
        message = await receive()
        assert (message["type"], message["code"], message["reason"]) == ("websocket.disconnect", 3000, "enough")
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.send", "text": "more"})

    async with serving(app) as room:
        client = await dial(room)
        assert await client.close() == (3000, b"enough")
        client.send(masked(TEXT, b"never read"))
        await room.empty()
        assert room.door.lost == 0


# ── backpressure ─────────────────────────────────────────────────────────────────────────────────────────────


@on_both_loops
async def test_messages_that_nobody_takes_stay_in_the_kernel() -> None:
    """The socket is not read any more; all of them are there when the application asks, and pongs too."""
    go = asyncio.Event()
    got = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal got
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (await receive())["type"] == "websocket.receive":
            got += 1

    async with serving(app) as room:
        client = await dial(room)
        message = masked(BINARY, bytes(60000))
        for _ in range(400):
            client.send(message)
        (connection,) = room.door.open
        await eventually_async(lambda: not connection._is_reading)  # type: ignore[attr-defined]  # an HttpConnection
        socket = connection._upgraded  # type: ignore[attr-defined]
        assert socket._size < 1 << 20
        client.send(closing(1000))
        go.set()
        assert await client.close() == (1000, b"")
        await room.empty()
        assert got == 400


@on_both_loops
async def test_peer_that_takes_nothing_holds_the_sender() -> None:
    """And when it takes, everything comes; its own pings are not answered meanwhile, or they would fill the memory."""
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(200):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent += 1

    async with serving(app) as room:
        peer = await room.peer(4096)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(peer.sock, handshake())
        (connection,) = [each async for each in _opened(room)]
        await eventually_async(lambda: connection.is_full)
        before = sent
        await loop.sock_sendall(peer.sock, masked(PING, b"x" * 100) * 100)
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.transport.get_write_buffer_size() < 1_000_000 and sent == before < 200
        taken = 0
        while taken < 200 * 100_000:
            taken += len(await loop.sock_recv(peer.sock, 1 << 20))
        await eventually_async(lambda: sent == 200)


async def _opened(room: Any) -> Any:
    await eventually_async(lambda: room.door.open)
    yield next(iter(room.door.open))


# ── the drain ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("last", "code"), [(True, 1001), (False, 1012)])
@on_both_loops
async def test_drain_closes(last: bool, code: int) -> None:
    """1001 when the server stops, 1012 when others go on: clients connect again. It counts as no failure."""
    farewell, app = Farewell(), Echo()
    async with serving(app, shared=shared(farewell)) as room:
        client = await dial(room)
        farewell.begin(1, 30.0, last=last)
        for connection in tuple(room.door.open):
            connection.start_draining()
        assert (await client.close())[0] == code
        client.send(closing(code))
        assert await client.end() == b""
        await room.empty()
        assert app.end[0] == code and room.door.lost == 0


async def test_accepted_while_the_worker_drains() -> None:
    """It is closed at once, so that its client connects elsewhere."""
    farewell, app, go = Farewell(), Echo(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await app(scope, receive, send)

    async with serving(slow, shared=shared(farewell)) as room:
        client = await room.connect()
        client.send(handshake())
        await eventually_async(lambda: room.door.open and next(iter(room.door.open))._exchange)  # type: ignore[attr-defined]
        farewell.begin(1, 30.0, last=False)
        for connection in tuple(room.door.open):
            connection.start_draining()
        go.set()
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert (await asyncio.wait_for(client.reader.readexactly(4), 20))[:1] == bytes([0x80 | CLOSE])
        await eventually_async(lambda: app.heard and app.heard[-1]["type"] == "websocket.disconnect")


async def test_cancelled_at_the_end_of_the_grace() -> None:
    """Nobody is waited for; a Close still says why."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    farewell = Farewell()
    async with serving(app, shared=shared(farewell)) as room:
        client = await dial(room)
        farewell.begin(1, 0.0, last=True)
        for connection in tuple(room.door.open):
            connection.cancel()
        assert (await client.close())[0] == 1001 and await client.end() == b""
        await room.empty()
        assert room.door.lost == 0


# ── limits that are not its own ──────────────────────────────────────────────────────────────────────────────


async def test_concurrency_and_request_timeout() -> None:
    """A WebSocket is one request for --limit-concurrency; --request-timeout ends with the 101."""
    http = HttpSettings(limit_concurrency=1, request_s=0.4)
    async with serving(Echo(), shared=shared(http=http, ping_s=0.0)) as room:
        client = await dial(room)
        assert (await dial(room)).status == 503
        (connection,) = [each for each in room.door.open if each._upgraded is not None]  # type: ignore[attr-defined]
        assert connection._answer_by == float("inf")  # type: ignore[attr-defined]
        client.send(masked(TEXT, b"still here"))
        assert await client.frame() == (TEXT, b"still here")


async def test_not_accepted_in_time() -> None:
    """--request-timeout: 504, and the application is cancelled."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with serving(app, shared=shared(http=HttpSettings(request_s=0.05))) as room:
        assert (await dial(room)).status == 504
        await room.empty()
