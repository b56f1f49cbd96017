"""A plain ASGI application, with a lifespan and without a framework.

    hybrid-serve examples/asgi.py:app --bind 127.0.0.1:8081

Try it: ``curl http://127.0.0.1:8081/Ada``
"""

from __future__ import annotations

import itertools
import os
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()  # lifespan.startup: once for each worker, before its first request
        scope["state"]["visits"] = itertools.count(1)
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown: its last request is answered
        await send({"type": "lifespan.shutdown.complete"})
        return
    visit = next(scope["state"]["visits"])
    body = f"hello, {scope['path'][1:] or 'stranger'}: visit {visit} of process {os.getpid()}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
