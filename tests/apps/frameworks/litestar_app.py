"""Litestar: routes are objects, their parameters are told by type."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State, UploadFile
from litestar.enums import RequestEncodingType
from litestar.exceptions import PermissionDeniedException
from litestar.params import Body
from litestar.response import File, Stream
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tests.apps.frameworks import common


def mark(app: ASGIApp) -> ASGIApp:
    """Put a field into every response, as a middleware that is a plain ASGI application."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (common.MARK.encode(), b"litestar")]
            await send(message)

        await app(scope, receive, marked)

    return middleware


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    app.state.opened = "by the lifespan"
    yield
    common.tell("lifespan: closed")


@get("/items/{item_id:int}")
async def item(item_id: int, q: str | None = None) -> dict[str, Any]:
    return {"item": item_id, "query": q}


@post("/echo", status_code=200)
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@get("/stream")
async def stream() -> Stream:
    return Stream(common.lines(), media_type="text/plain")


@get("/download")
async def download() -> Stream:
    return Stream(common.download(), media_type="application/octet-stream")


@get("/events")
async def events() -> Stream:
    return Stream(common.events(), media_type="text/event-stream")


@post("/upload", status_code=200)
async def upload(data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)]) -> Any:
    file = data["file"]
    return common.description(file.filename, await file.read())


@get("/fail")
async def fail() -> None:
    raise RuntimeError("on purpose")


@get("/state")
async def opened(state: State) -> dict[str, Any]:
    return {"opened": state.opened}


@get("/background")
async def background() -> Response[str]:
    return Response("begun", media_type="text/plain", background=BackgroundTask(common.background))


@get("/release", media_type="text/plain")
async def release() -> str:
    common.gate.set()
    return "released"


@get("/file")
async def file() -> File:
    return File(common.SERVED)


@get("/cookies")
async def cookies(request: Request[Any, Any, Any]) -> Response[str]:
    response = Response(request.cookies.get("given", ""), media_type="text/plain")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response


@websocket("/rooms/{room:str}")
async def room(socket: WebSocket[Any, Any, Any], room: str) -> None:
    await socket.accept(subprotocols=common.chosen(socket.scope["subprotocols"]))

    async def send(said: str | bytes) -> None:
        await (socket.send_text(said) if isinstance(said, str) else socket.send_bytes(said))

    while (message := await socket.receive())["type"] == "websocket.receive":
        said = message["text"] if message.get("text") is not None else message["bytes"]
        assert said is not None
        await common.converse(room, said, send, socket.close)
    common.tell(f"websocket: {message['code']}")  # type: ignore[typeddict-item]  # of the other kind


@websocket("/denied")
async def denied(socket: WebSocket[Any, Any, Any]) -> None:
    raise PermissionDeniedException


app = Litestar(
    [room, denied, item, echo, stream, download, events, upload, fail, opened, background, release, file, cookies],
    middleware=[mark],
    lifespan=[lifespan],
    logging_config=None,  # its own starts a thread, and then every worker has to import all of this
)
