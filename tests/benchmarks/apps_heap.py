"""An ASGI application with many objects, made when it is imported, that says which version of the code answers.

:mod:`tests.benchmarks.reload_time` copies it into a directory of its own, with another version each time. Nothing of
ours is imported here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

VERSION = 0
MEGABYTES = 100

HEAP = [{"id": index, "name": f"row {index}", "tags": [index, index + 1]} for index in range(MEGABYTES * 2200)]

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with the version."""
    if scope["type"] != "http":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b"%d" % VERSION
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
