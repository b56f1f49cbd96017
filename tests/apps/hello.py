"""An ASGI application that says hello."""

from __future__ import annotations

from typing import Any

BODY = b"hello\n"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"6"), (b"x-greeting", b"caf\xc3\xa9")]


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer every request alike; know no lifespan. Raises: NotImplementedError, as the specification asks."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
