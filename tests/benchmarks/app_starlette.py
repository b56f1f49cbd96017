"""A Starlette application for :mod:`tests.benchmarks.peers`: a route with a parameter, JSON, one pure ASGI middleware.

Nothing of ours is imported here: a peer loads this file as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

# Starlette is in .venv-peers only.
from starlette.applications import Starlette  # type: ignore[import-not-found,unused-ignore]
from starlette.middleware import Middleware  # type: ignore[import-not-found,unused-ignore]
from starlette.requests import Request  # type: ignore[import-not-found,unused-ignore]
from starlette.responses import JSONResponse  # type: ignore[import-not-found,unused-ignore]
from starlette.routing import Route  # type: ignore[import-not-found,unused-ignore]

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class AddHeader:
    """Middleware that adds one header to each response."""

    def __init__(self, app: Callable[[dict[str, Any], Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Call the application with a ``send`` that adds the header."""

        async def send_more(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-served-by", b"bench")]
            await send(message)

        await self._app(scope, receive, send_more)


async def item(request: Request) -> JSONResponse:
    """Return the item that the path names."""
    return JSONResponse({"id": request.path_params["number"], "name": "a thing", "tags": ["one", "two"]})


app = Starlette(routes=[Route("/items/{number:int}", item)], middleware=[Middleware(AddHeader)])
