"""FastAPI: what people write, with its decorators and its models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Cookie, FastAPI, Request, Response, UploadFile, WebSocket, WebSocketException
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from tests.apps.frameworks import common


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"opened": "by the lifespan"}
    common.tell("lifespan: closed")


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers[common.MARK] = "fastapi"
    return response


@app.get("/items/{item_id}")
async def item(item_id: int, q: str | None = None) -> dict[str, object]:
    return {"item": item_id, "query": q}


@app.post("/echo")
async def echo(document: dict[str, Any]) -> dict[str, Any]:
    return document


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(common.lines(), media_type="text/plain")


@app.get("/download")
async def download() -> StreamingResponse:
    return StreamingResponse(common.download(), media_type="application/octet-stream")


@app.get("/events")
async def events() -> StreamingResponse:
    return StreamingResponse(common.events(), media_type="text/event-stream")


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, object]:
    return common.description(file.filename, await file.read())


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("on purpose")


@app.get("/state")
async def state(request: Request) -> dict[str, str]:
    return {"opened": request.state.opened}


@app.get("/background", response_class=PlainTextResponse)
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(common.background)
    return "begun"


@app.get("/release", response_class=PlainTextResponse)
async def release() -> str:
    common.gate.set()
    return "released"


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(common.SERVED)


@app.get("/cookies")
async def cookies(given: Annotated[str, Cookie()] = "") -> PlainTextResponse:
    response = PlainTextResponse(given)
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response


@app.websocket("/rooms/{room}")
async def room(websocket: WebSocket, room: str) -> None:
    await websocket.accept(common.chosen(websocket.scope["subprotocols"]))

    async def send(said: str | bytes) -> None:
        await (websocket.send_text(said) if isinstance(said, str) else websocket.send_bytes(said))

    while (message := await websocket.receive())["type"] == "websocket.receive":
        said = message["text"] if message.get("text") is not None else message["bytes"]
        await common.converse(room, said, send, websocket.close)
    common.tell(f"websocket: {message['code']}")


@app.websocket("/denied")
async def denied(websocket: WebSocket) -> None:
    raise WebSocketException(1008)


@app.websocket("/refused")
async def refused(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("go away", 401, {"x-why": "not you"}))
