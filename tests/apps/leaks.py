"""An ASGI application that keeps more and more memory."""

from __future__ import annotations

from typing import Any

from tests.apps.hello import hello

KEPT: list[bytearray] = []


async def keeps(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Keep 8 MB for each request, every page of it touched, and say hello."""
    if scope["type"] == "http":
        KEPT.append(bytearray(b"x") * (8 << 20))
    await hello(scope, receive, send)
