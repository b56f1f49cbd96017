"""Serve HTTP with aiohttp's own protocol on all cores; needs ``pip install aiohttp``.

    hybrid-serve examples/aiohttp_server.py:make_server --factory --bind 127.0.0.1:8080

Try it: ``curl http://127.0.0.1:8080/somewhere``
"""

from __future__ import annotations

import os

from aiohttp import web

import hybrid


async def handle(request: web.BaseRequest) -> web.Response:
    """Answer every request; ``web.Server`` has no routes."""
    return web.Response(text=f"{request.path} from process {os.getpid()}\n")


async def finish(connection: web.RequestHandler) -> None:
    """Let a connection answer the request that it is serving, then close it; an idle one closes now.

    No timeout: hybrid's own grace ends what takes too long.
    """
    connection.close()
    await connection.shutdown(timeout=None)


async def make_server() -> object:
    """Make the server in the worker's loop, to which it is bound: that is what an async factory is for."""
    return hybrid.protocol(web.Server(handle), on_drain=finish)
