"""Starlette, behind its BaseHTTPMiddleware, through which every message of the application goes once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.apps.frameworks import common


class Mark(BaseHTTPMiddleware):
    """Put a field into every response."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers[common.MARK] = "starlette"
        return response


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"opened": "by the lifespan"}
    common.tell("lifespan: closed")


async def item(request: Request) -> Response:
    return JSONResponse({"item": request.path_params["item_id"], "query": request.query_params.get("q")})


async def echo(request: Request) -> Response:
    return JSONResponse(await request.json())


async def stream(request: Request) -> Response:
    return StreamingResponse(common.lines(), media_type="text/plain")


async def download(request: Request) -> Response:
    return StreamingResponse(common.download(), media_type="application/octet-stream")


async def events(request: Request) -> Response:
    return StreamingResponse(common.events(), media_type="text/event-stream")


async def upload(request: Request) -> Response:
    async with request.form() as form:
        file = form["file"]
        assert isinstance(file, UploadFile)
        return JSONResponse(common.description(file.filename, await file.read()))


async def fail(request: Request) -> Response:
    raise RuntimeError("on purpose")


async def state(request: Request) -> Response:
    return JSONResponse({"opened": request.state.opened})


async def background(request: Request) -> Response:
    return PlainTextResponse("begun", background=BackgroundTask(common.background))


async def release(request: Request) -> Response:
    common.gate.set()
    return PlainTextResponse("released")


async def file(request: Request) -> Response:
    return FileResponse(common.SERVED)


async def cookies(request: Request) -> Response:
    response = PlainTextResponse(request.cookies.get("given", ""))
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response


async def room(websocket: WebSocket) -> None:
    await websocket.accept(common.chosen(websocket.scope["subprotocols"]))

    async def send(said: str | bytes) -> None:
        await (websocket.send_text(said) if isinstance(said, str) else websocket.send_bytes(said))

    while (message := await websocket.receive())["type"] == "websocket.receive":
        said = message["text"] if message.get("text") is not None else message["bytes"]
        await common.converse(websocket.path_params["room"], said, send, websocket.close)
    common.tell(f"websocket: {message['code']}")


async def denied(websocket: WebSocket) -> None:
    await websocket.close()


async def refused(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("go away", 401, {"x-why": "not you"}))


app = Starlette(
    routes=[
        Route("/items/{item_id:int}", item),
        Route("/echo", echo, methods=["POST"]),
        Route("/stream", stream),
        Route("/download", download),
        Route("/events", events),
        Route("/upload", upload, methods=["POST"]),
        Route("/fail", fail),
        Route("/state", state),
        Route("/background", background),
        Route("/release", release),
        Route("/file", file),
        Route("/cookies", cookies),
        WebSocketRoute("/rooms/{room}", room),
        WebSocketRoute("/denied", denied),
        WebSocketRoute("/refused", refused),
    ],
    middleware=[Middleware(Mark)],
    lifespan=lifespan,
)
