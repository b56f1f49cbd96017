"""The ASGI applications that every server of :mod:`tests.benchmarks.peers` serves.

Nothing of ours is imported here: a peer loads this file as it is. They are as plain as an application can be, so that
what is measured is the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

HELLO = b"Hello, world"
PIECE = b"x" * 65536
PIECES = 16
"""A streamed body is so many pieces: 1 MiB."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_HELLO_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(HELLO))],
}
_HELLO_BODY = {"type": "http.response.body", "body": HELLO}
_STREAM_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/octet-stream")],
}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without waiting for anything."""
    if scope["type"] != "http":
        await _lifespan(receive, send)
        return
    await send(_HELLO_START)
    await send(_HELLO_BODY)


async def suspends(scope: Scope, receive: Receive, send: Send) -> None:
    """Let the loop turn once before answering, as an application that asks a database does."""
    if scope["type"] != "http":
        await _lifespan(receive, send)
        return
    await asyncio.sleep(0)
    await send(_HELLO_START)
    await send(_HELLO_BODY)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the request's body back."""
    if scope["type"] != "http":
        await _lifespan(receive, send)
        return
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Send PIECES pieces, of a length that is not said beforehand."""
    if scope["type"] != "http":
        await _lifespan(receive, send)
        return
    await send(_STREAM_START)
    for _ in range(PIECES):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def websocket_echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send every message of a WebSocket back."""
    if scope["type"] != "websocket":
        await _lifespan(receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
