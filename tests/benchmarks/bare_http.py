"""A floor for :mod:`tests.benchmarks.peers`: a uvloop protocol that parses nothing and writes the same answer.

    python -m tests.benchmarks.bare_http HOST PORT

What a server on uvloop costs before it does anything: accept, read, write, close. No peer: it serves no application.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from tests.benchmarks.apps_http import HELLO

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(HELLO), HELLO)


class Bare(asyncio.Protocol):
    """Answers each request in what was read, if it was read whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer; close if the client says so."""
        self._transport.write(_ANSWER * data.count(b"\r\n\r\n"))
        if b"onnection: close" in data:
            self._transport.close()


async def serve(host: str, port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Bare, host, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
