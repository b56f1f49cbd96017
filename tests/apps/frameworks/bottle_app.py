"""Bottle."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bottle import Bottle, HTTPResponse, request, response, static_file

from tests.apps.frameworks import common, wsgi_common

app = Bottle()
Bottle.MEMFILE_MAX = 1 << 20
app.add_hook("after_request", lambda: response.set_header(common.MARK, "bottle"))


def item(item_id: int) -> dict[str, object]:
    return {"item": item_id, "query": request.query.getunicode("q")}


def echo() -> dict[str, object]:
    document: dict[str, object] = json.loads(request.body.read())
    return document


def stream() -> Iterator[str]:
    yield from common.LINES


def download() -> Iterator[bytes]:
    return wsgi_common.download()


def events() -> Iterator[bytes]:
    response.content_type = "text/event-stream"
    return wsgi_common.events()


def upload() -> dict[str, object]:
    file = request.files.file
    return common.description(file.raw_filename, file.file.read())


def fail() -> None:
    raise RuntimeError("on purpose")


def state() -> dict[str, str]:
    opened: dict[str, str] = request.environ["hybrid.state"]
    return opened


def file() -> HTTPResponse:
    return static_file(common.SERVED.name, root=str(common.SERVED.parent))


def cookies() -> str:
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    given: str = request.get_cookie("given", "")
    return given


app.get("/items/<item_id:int>", callback=item)
app.post("/echo", callback=echo)
app.get("/stream", callback=stream)
app.get("/download", callback=download)
app.get("/events", callback=events)
app.post("/upload", callback=upload)
app.get("/fail", callback=fail)
app.get("/state", callback=state)
app.get("/file", callback=file)
app.get("/cookies", callback=cookies)
