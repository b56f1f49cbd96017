"""Quart: Flask's way of saying it. A response may take 60 s, unless it is told otherwise."""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Quart, Response, abort, make_response, request, send_file, websocket

from tests.apps.frameworks import common

app = Quart(__name__)


@app.before_serving
async def opening() -> None:
    app.config["OPENED"] = "by the lifespan"


@app.after_serving
async def closing() -> None:
    common.tell("lifespan: closed")


@app.after_request
async def mark(response: Response) -> Response:
    response.headers[common.MARK] = "quart"
    return response


@app.get("/items/<int:item_id>")
async def item(item_id: int) -> dict[str, Any]:
    return {"item": item_id, "query": request.args.get("q")}


@app.post("/echo")
async def echo() -> Any:
    return await request.get_json()


@app.get("/stream")
async def stream() -> Any:
    return common.lines(), {"content-type": "text/plain"}


@app.get("/download")
async def download() -> Any:
    return common.download(), {"content-type": "application/octet-stream"}


@app.get("/events")
async def events() -> Any:
    response = await make_response(common.events(), {"content-type": "text/event-stream"})
    response.timeout = None  # type: ignore[union-attr]  # ours is Quart's own response, not Werkzeug's
    return response


@app.post("/upload")
async def upload() -> dict[str, Any]:
    file = (await request.files)["file"]
    return common.description(file.filename, file.read())


@app.get("/fail")
async def fail() -> str:
    raise RuntimeError("on purpose")


@app.get("/state")
async def state() -> dict[str, Any]:
    return {"opened": app.config["OPENED"]}


@app.get("/background")
async def background() -> str:
    app.add_background_task(common.background)
    return "begun"


@app.get("/release")
async def release() -> str:
    common.gate.set()
    return "released"


@app.get("/file")
async def file() -> Response:
    return await send_file(common.SERVED)


@app.get("/cookies")
async def cookies() -> Any:
    response = await make_response(request.cookies.get("given", ""))
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response


@app.websocket("/rooms/<room>")
async def room(room: str) -> None:
    await websocket.accept(subprotocol=common.chosen(websocket.requested_subprotocols))
    try:
        while True:
            await common.converse(room, await websocket.receive(), websocket.send, websocket.close)
    except asyncio.CancelledError:
        common.tell("websocket: cancelled")
        raise


@app.websocket("/denied")
async def denied() -> None:
    abort(403)


@app.websocket("/refused")
async def refused() -> Any:
    return "go away", 401, {"x-why": "not you"}
