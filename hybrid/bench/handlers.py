"""The textbook's server, as a handler of each kind: read one line with a number, send so many bytes, close.

    hybrid-bench accept --handler blocking

A second word is for the scenario ``blocked``: ``block 500`` computes, as far as the others can tell, for 500 ms
before it answers with one byte: it holds the whole loop, or its thread.

Source: W. R. Stevens, UNIX Network Programming, vol. 1, 2nd ed., ch. 27 (3rd ed., ch. 30): the load that its
client/server designs are compared with.
"""

from __future__ import annotations

import asyncio
import socket
import time

from hybrid.connection.connection import Connection

MOST_BYTES = 1 << 20
PAYLOAD = bytes(range(256)) * (MOST_BYTES // 256)
LONGEST_LINE = 64
LONGEST_BLOCK_MS = 10_000


def answer(line: bytes) -> bytes:
    """Return what ``line`` asks for, after blocking if it asks for that; nothing if it is nonsense."""
    word, _, number = line.strip().rpartition(b" ")
    if not number.isdigit() or word not in (b"", b"block"):
        return b""
    if word:
        time.sleep(min(int(number), LONGEST_BLOCK_MS) / 1000)
        return PAYLOAD[:1]
    return PAYLOAD[: int(number)]


class Fetch(asyncio.Protocol):
    """The service as an asyncio protocol: what accepting costs, and as little as possible besides."""

    _transport: asyncio.Transport
    _line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # uvloop duck-types transports

    def data_received(self, data: bytes) -> None:
        """Collect the line, answer, close."""
        self._line += data
        if self._line.endswith(b"\n") or len(self._line) > LONGEST_LINE:
            self._transport.write(answer(self._line))
            self._transport.close()


async def fetch(conn: Connection) -> None:
    """Serve as a coroutine on a connection, which is closed when this returns."""
    reply = answer(await conn.receive_until(b"\n", LONGEST_LINE))
    if reply:
        await conn.send(reply)


def fetch_blocking(sock: socket.socket) -> None:
    """Serve as a function on a blocking socket, which is closed when this returns."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= LONGEST_LINE:
        data = sock.recv(LONGEST_LINE)
        if not data:
            return
        line += data
    sock.sendall(answer(line))


BUILT_IN = {
    "protocol": "hybrid.bench.handlers:Fetch",
    "stream": "hybrid.bench.handlers:fetch",
    "blocking": "hybrid.bench.handlers:fetch_blocking",
}
"""Targets of the handlers above, by the name that ``--handler`` takes."""
