"""Send as many bytes as the client asks for, then close: the small service that textbooks compare servers with.

    hybrid-serve examples/fetch.py:fetch --bind 127.0.0.1:7001

Try it: ``echo 4000 | nc 127.0.0.1 7001 | wc -c``
"""

from __future__ import annotations

from hybrid import Connection

MOST = 1_000_000
PAYLOAD = b"x" * MOST


async def fetch(conn: Connection) -> None:
    """Read a number in one line, answer with so many bytes. The connection is closed when the handler returns."""
    line = await conn.receive_until(b"\n", 16)
    if not line.strip().isdigit() or int(line) > MOST:
        await conn.send(b"ask for 0 to %d bytes\n" % MOST)
        return
    await conn.send(PAYLOAD[: int(line)])
