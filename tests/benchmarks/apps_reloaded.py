"""What is served while the server reloads: an ASGI application and a stream handler that do the same.

``fast N`` is answered at once, ``slow N`` after SLOW_S, ``drip N`` in pieces over as long. N comes back, so that an
answer to another request is noticed. HTTP says which answer is the last one of a connection; so does the stream
handler, with a word behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from hybrid import Connection

SLOW_S = 1.0
DRIPS = 10
LAST = b" last"
"""Behind a line of the stream handler's: it closes now, and reads nothing more."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def answer_to(word: str, number: int) -> bytes:
    """Return the whole answer."""
    return b"%s %d;" % (word.encode(), number) * (DRIPS if word == "drip" else 1)


async def _pieces(word: str, number: int) -> AsyncIterator[bytes]:
    whole = answer_to(word, number)
    if word == "slow":
        await asyncio.sleep(SLOW_S)
    if word != "drip":
        yield whole
        return
    size = len(whole) // DRIPS
    for at in range(0, len(whole), size):
        yield whole[at : at + size]
        await asyncio.sleep(SLOW_S / DRIPS)


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer ``/word/N``."""
    if scope["type"] != "http":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    _, word, number = scope["path"].split("/")
    headers = [(b"content-length", b"%d" % len(answer_to(word, int(number))))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for piece in _pieces(word, int(number)):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def stream(conn: Connection) -> None:
    """Answer lines of ``word N`` with lines; say when one is the last."""
    async for line in conn.lines():
        word, number = line.decode().split()
        async for piece in _pieces(word, int(number)):
            await conn.send(piece)
        is_last = conn.draining
        await conn.send((LAST if is_last else b"") + b"\n")
        if is_last:
            return
