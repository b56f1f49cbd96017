"""A plain ASGI application behind a proxy: it says who serves, holds a request until somebody kills it, blocks its loop."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from tests.apps.http_knobs import Receive, Scope, Send, pid, respond

HELD_S = 120.0
BLOCKED_S = 0.2


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by the path."""
    path = scope["path"]
    if scope["type"] != "http":
        return
    if path == "/hold":
        await hold(send)
    elif path == "/block":
        threading.Event().wait(BLOCKED_S)  # the whole loop, and no CPU
        await respond(send, b"blocked")
    else:
        await pid(scope, receive, send)


async def hold(send: Send) -> None:
    """Hold the first request of all, for whoever kills this worker; answer every other one with the pid."""
    try:
        file = (Path(os.environ["HELD_AT"])).open("x")
    except FileExistsError:
        await respond(send, b"%d" % os.getpid())
        return
    with file:
        file.write(f"{os.getpid()}\n")
    await asyncio.sleep(HELD_S)
