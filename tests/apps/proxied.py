"""A plain ASGI application behind a proxy: says who serves, holds a request for whoever kills it, blocks its loop."""

from __future__ import annotations

import asyncio
import os
import threading

from tests.apps.http_knobs import Receive, Scope, Send, pid, respond

HELD_S = 120.0
BLOCKED_S = 0.2


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by the path."""
    path = scope.get("path")
    if path is None:
        await live(receive, send)
    elif path == "/hold":
        await hold(send)
    elif path == "/block":
        threading.Event().wait(BLOCKED_S)  # the whole loop, and no CPU
        await respond(send, b"blocked")
    else:
        await pid(scope, receive, send)


async def live(receive: Receive, send: Send) -> None:
    """Be without anything to open or to close."""
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


async def hold(send: Send) -> None:
    """Hold the first request of all, for whoever kills this worker; answer every other one with the pid."""
    try:
        fd = os.open(os.environ["HELD_AT"], os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        await respond(send, b"%d" % os.getpid())
        return
    os.write(fd, b"%d\n" % os.getpid())
    os.close(fd)
    await asyncio.sleep(HELD_S)
