"""An ASGI application that counts with prometheus_client, as its users do: in every worker for itself."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from prometheus_client import Counter, Gauge

SERVED = Counter("app_served", "Requests, by path.", ["path"])
LAST = Gauge("app_last", "When a worker served last.", multiprocess_mode="livemostrecent")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Count, and answer with the pid; ``/slow``: in a while."""
    if scope["type"] != "http":
        return
    SERVED.labels(scope["path"]).inc()
    LAST.set_to_current_time()
    if scope["path"] == "/slow":
        await asyncio.sleep(0.05)
    body = b"%d" % os.getpid()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
