"""A service that holds its loop for as long as its client says, and tells how long it did."""

from __future__ import annotations

import asyncio
import threading
import time

from hybrid import Connection


async def loads(conn: Connection) -> None:
    """Obey lines; answer in ns.

    ``spin 0.1`` computes, ``block 0.1`` waits without letting the loop go on, ``await 0.1`` lets it.
    """
    async for line in conn.lines():
        word, _, seconds = line.decode().partition(" ")
        began_ns = time.monotonic_ns()
        until_ns = began_ns + round(float(seconds) * 1e9)
        if word == "block":
            threading.Event().wait(float(seconds))
        elif word == "await":
            await asyncio.sleep(float(seconds))
        while time.monotonic_ns() < until_ns:
            pass
        await conn.send(b"%d\n" % (time.monotonic_ns() - began_ns))
