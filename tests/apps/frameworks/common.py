"""What the applications of all frameworks do alike: they differ in how they say it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

LINES = [f"line {number}\n" for number in range(500)]
SERVED = Path(os.environ.get("SERVED_FILE", __file__))
"""The static file."""
PIECE = b"0123456789abcdef" * 4096
PIECES = 200
"""Of a download: more than the buffers of a connection hold."""
MARK = "x-middleware"
"""The field that a middleware of the application puts into every response."""
gate = asyncio.Event()
"""What background tasks wait for. Of one worker: made before the fork, bound to no loop until somebody waits."""


def tell(what: str) -> None:
    """Say it in the log of the server."""
    print(what, flush=True)


async def lines() -> AsyncIterator[str]:
    """Yield many small pieces."""
    for line in LINES:
        yield line


async def download() -> AsyncIterator[bytes]:
    """Yield much, without waiting."""
    for _ in range(PIECES):
        yield PIECE


async def events() -> AsyncIterator[str]:
    """Yield server-sent events without end; say when somebody ends it."""
    tell("events: begun")
    try:
        for number in itertools.count():
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.01)
    finally:
        tell("events: ended")


async def background() -> None:
    """Work on after the response, until another request opens the gate."""
    gate.clear()
    tell("background: begun")
    await gate.wait()
    tell("background: done")


def description(name: str | None, data: bytes) -> dict[str, object]:
    """Return what an upload is answered with."""
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


Said = Callable[[Any], Awaitable[Any]]


async def converse(room: str, said: str | bytes, send: Said, close: Said) -> None:
    """Answer one message of a WebSocket: ``close 4001`` is a wish, ``push`` and ``fail`` are, all else comes back."""
    if isinstance(said, bytes):
        await send(said)
    elif said.startswith("close "):
        await close(int(said[6:]))
    elif said == "push":
        for number in range(3):
            await asyncio.sleep(0.02)
            await send(f"pushed {number}")
    elif said == "fail":
        raise RuntimeError("on purpose")
    else:
        await send(f"{room}: {said}")


def chosen(subprotocols: Iterable[str]) -> str | None:
    """Return which subprotocol a WebSocket gets."""
    return "chat" if "chat" in subprotocols else None
