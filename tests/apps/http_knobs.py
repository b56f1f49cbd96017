"""A plain ASGI application that does what the path says: what clients and a stop meet."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Field = tuple[bytes, bytes]

PIECE = b"0123456789abcdef" * 4096
PIECES = 200
"""Of a download: more than the buffers of a connection hold."""
FAREWELLS = 20
"""Events sent by who was told to go."""
EVENTS = (b"content-type", b"text/event-stream")
SCRIPT = b"""
addEventListener("load", async () => {
    const colour = getComputedStyle(document.body).color;
    const image = document.querySelector("img").naturalWidth;
    const answer = await fetch("/echo", {method: "POST", body: "said by the page"});
    const node = document.createElement("p");
    node.textContent = [colour, image, await answer.text(), performance.getEntriesByType("resource").length].join("|");
    document.body.append(node);
});
"""
PAGE = b"""<!doctype html>
<title>page</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/style.css">
<script src="/script.js"></script><body><img src="/image.svg?1"><img src="/image.svg?2"><img src="/image.svg?3">
"""
IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="31" height="17"/>'


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by the path; say at the end of the lifespan that it ends."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    await ROUTES.get(scope["path"], nowhere)(scope, receive, send)


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("lifespan: closed", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def begin(send: Send, *fields: Field, status: int = 200, **more: Any) -> None:
    """Begin a response."""
    await send({"type": "http.response.start", "status": status, "headers": list(fields), **more})


async def say(send: Send, body: bytes, more: bool = False) -> None:
    """Send a part of a response."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def respond(send: Send, body: bytes, kind: bytes = b"text/plain", status: int = 200) -> None:
    """Send a whole response."""
    await begin(send, (b"content-type", kind), (b"content-length", b"%d" % len(body)), status=status)
    await say(send, body)


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Know no such path."""
    await respond(send, b"no such path", status=404)


async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    """Say which worker this is."""
    await respond(send, b"%d" % os.getpid())


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the body back when all of it is there."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await respond(send, body)


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Send each piece of the body back as it comes."""
    await begin(send, (b"content-type", b"application/octet-stream"))
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await say(send, message.get("body", b""), more)


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """Send much, and watch for the client to go meanwhile, as frameworks do."""
    await receive()
    watch = asyncio.ensure_future(receive())
    await begin(send, (b"content-type", b"text/plain"), (b"content-length", b"%d" % (len(PIECE) * PIECES)))
    for number in range(PIECES):
        if watch.done():
            return
        await say(send, PIECE, number < PIECES - 1)
    watch.cancel()


async def headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Say what was asked for: method, version, and the fields."""
    lines = [scope["method"].encode(), scope["http_version"].encode()]
    await respond(send, b"\n".join([*lines, *(b"%s: %s" % field for field in scope["headers"])]))


async def early(scope: Scope, receive: Receive, send: Send) -> None:
    """Hint at what the response will need."""
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]})
    await respond(send, b"late")


async def trailers(scope: Scope, receive: Receive, send: Send) -> None:
    """Say something behind the body."""
    await begin(send, (b"trailer", b"x-sum"), trailers=True)
    await say(send, b"body")
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"4")]})


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send events, and listen to nothing."""
    await begin(send, EVENTS)
    for number in itertools.count():
        await say(send, b"data: %d\n\n" % number, True)
        await asyncio.sleep(0.01)


async def farewell(scope: Scope, receive: Receive, send: Send) -> None:
    """Send nothing until the client is gone, as it seems; then say goodbye at length."""
    await receive()
    await begin(send, EVENTS)
    await say(send, b"data: here\n\n", True)
    assert await receive() == {"type": "http.disconnect"}
    for number in range(FAREWELLS):
        await say(send, b"data: farewell %d\n\n" % number, True)
        await asyncio.sleep(0.02)
    await say(send, b"")


async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
    """Go on for ever; nothing says that this is what it does."""
    await begin(send, (b"content-type", b"text/plain"))
    try:
        while True:
            await say(send, b"more", True)
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        print("stubborn: cancelled", flush=True)
        raise


def static(body: bytes, kind: bytes) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return what answers with the same always."""

    async def send_it(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, body, kind)

    return send_it


ROUTES: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
    "/pid": pid,
    "/echo": echo,
    "/mirror": mirror,
    "/download": download,
    "/headers": headers,
    "/early": early,
    "/trailers": trailers,
    "/events": events,
    "/farewell": farewell,
    "/stubborn": stubborn,
    "/page": static(PAGE, b"text/html"),
    "/style.css": static(b"body { color: rgb(1, 2, 3) }", b"text/css"),
    "/script.js": static(SCRIPT, b"text/javascript"),
    "/image.svg": static(IMAGE, b"image/svg+xml"),
}
