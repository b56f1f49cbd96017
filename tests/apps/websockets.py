"""A plain ASGI application of WebSockets that does what the path says: what clients, a reload and a stop meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tests.apps import http_knobs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PAGE = b"""<!doctype html><title>page</title><link rel="icon" href="data:,"><body><script>
const codes = [], pids = new Set();
function report(text) { return fetch("/said", {method: "POST", body: text}); }
async function dial() {
    const socket = new WebSocket(`ws://${location.host}/pid`);
    socket.onmessage = (event) => {
        pids.add(event.data);
        report(`open ${event.data} after ${codes.join()}`);
    };
    socket.onclose = (event) => { codes.push(`${event.code} ${event.wasClean}`); if (codes.length < 20) dial(); };
}
dial();
</script>
"""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve by the path."""
    if scope["type"] != "websocket":
        if scope.get("path") == "/socket":
            await http_knobs.respond(send, PAGE, b"text/html")
        elif scope.get("path") == "/said":
            print("page:", (await receive())["body"].decode(), flush=True)
            await http_knobs.respond(send, b"")
        else:
            await http_knobs.app(scope, receive, send)
        return
    assert (await receive())["type"] == "websocket.connect"
    await ROUTES[scope["path"]](scope, receive, send)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send back what comes, until the end."""
    await send({"type": "websocket.accept", "headers": [(b"x-pid", b"%d" % os.getpid())]})
    while (message := await receive())["type"] == "websocket.receive":
        with suppress(OSError):  # closed meanwhile: the next message says so
            await send({**message, "type": "websocket.send"})
    print(f"ended: {message['code']}", flush=True)


async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    """Say which worker this is; then say nothing."""
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (await receive())["type"] == "websocket.receive":
        pass


async def deny(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 403."""
    await send({"type": "websocket.close"})


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """Do not answer at all, until the client has left."""
    assert (await receive())["type"] == "websocket.disconnect"


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send until that is an error."""
    await send({"type": "websocket.accept"})
    with suppress(OSError):
        while True:
            await send({"type": "websocket.send", "bytes": bytes(10_000)})


async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Take no message; hold the connection until it is cancelled."""
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def drip(scope: Scope, receive: Receive, send: Send) -> None:
    """Take no message; say something now and then, until that is an error."""
    await send({"type": "websocket.accept"})
    with suppress(OSError):
        while True:
            await asyncio.sleep(0.05)
            await send({"type": "websocket.send", "text": "."})


async def hang_up(scope: Scope, receive: Receive, send: Send) -> None:
    """Close."""
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4000, "reason": "enough"})


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise."""
    await send({"type": "websocket.accept"})
    raise RuntimeError("on purpose")


ROUTES: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
    "/echo": echo,
    "/pid": pid,
    "/deny": deny,
    "/never": never,
    "/flood": flood,
    "/deaf": deaf,
    "/drip": drip,
    "/hang-up": hang_up,
    "/fail": fail,
}
