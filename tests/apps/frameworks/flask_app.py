"""Flask."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request, send_file

from tests.apps.frameworks import common, wsgi_common

app = Flask(__name__)


@app.after_request
def mark(response: Response) -> Response:
    """Put a field into every response."""
    response.headers[common.MARK] = "flask"
    return response


@app.get("/items/<int:item_id>")
def item(item_id: int) -> Response:
    return jsonify(item=item_id, query=request.args.get("q"))


@app.post("/echo")
def echo() -> Response:
    return jsonify(request.get_json())


@app.get("/stream")
def stream() -> Response:
    return Response(iter(common.LINES), mimetype="text/plain")


@app.get("/download")
def download() -> Response:
    return Response(wsgi_common.download(), mimetype="application/octet-stream")


@app.get("/events")
def events() -> Response:
    return Response(wsgi_common.events(), mimetype="text/event-stream")


@app.post("/upload")
def upload() -> dict[str, object]:
    file = request.files["file"]
    return common.description(file.filename, file.read())


@app.get("/fail")
def fail() -> Response:
    raise RuntimeError("on purpose")


@app.get("/state")
def state() -> Response:
    return jsonify(request.environ["hybrid.state"])


@app.get("/file")
def file() -> Response:
    return send_file(common.SERVED)


@app.get("/cookies")
def cookies() -> Response:
    response = Response(request.cookies.get("given", ""))
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response
