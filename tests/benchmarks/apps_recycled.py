"""Applications that say which process answers: for who counts how many there were. Nothing of ours is imported here."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

READY = b"ready"
WORK_S = 0.005
"""What a request takes, as one that asks a database does: some are always under way."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def _body(path: str) -> bytes:
    return READY if path == "/ready" else b"%d" % os.getpid()


async def answer(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with the number of the process, as an ASGI application."""
    if scope["type"] != "http":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await asyncio.sleep(WORK_S)
    body = _body(scope["path"])
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def answer_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do the same as a WSGI application."""
    time.sleep(WORK_S)
    body = _body(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
