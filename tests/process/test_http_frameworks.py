"""Real frameworks on a real pool: whatever an application is written with, its clients see the same.

One server for each framework, asked by httpx and by curl.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from hybrid.ground.states import Life
from tests.apps.frameworks import common
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand
from tests.support.server import Server, running
from tests.support.variations import mostly_long

WSGI = ("flask", "bottle", "django_wsgi")
FRAMEWORKS = ("starlette", "fastapi", "django", "litestar", "quart", *WSGI)
SHORT = ("fastapi", "django", "flask")
RAISES = ("starlette", "fastapi")
"""Frameworks that answer with 500 themselves, and then let the server have the exception."""
CONTENT = bytes(range(256)) * 1200
"""Of the static file: several pieces."""


@dataclass
class Served:
    """One framework's application on a pool of two workers."""

    name: str
    server: Server
    http: httpx.Client
    """Keeps its connection, and so its worker."""

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"

    def said(self) -> Callable[[], str]:
        """Return what gives what the log says from now on."""
        before = len(self.server.log)
        return lambda: self.server.log[before:]


@pytest.fixture(scope="module", params=mostly_long(FRAMEWORKS, SHORT.__contains__))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve each framework in turn; the end is a test as well, whose server nobody can have after it."""
    name = request.param
    if find_spec(name.removesuffix("_wsgi")) is None:  # an import would take a second, here where it is of no use
        pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(name)
    (folder / "served.bin").write_bytes(CONTENT)
    env = {**os.environ, "SERVED_FILE": str(folder / "served.bin")}
    target = (f"tests.apps.frameworks.{name}_app:app", "--workers", "2", "--bind", "127.0.0.1:0")
    lifespan = ("--lifespan", "tests.apps.frameworks.wsgi_common:lifespan") if name in WSGI else ()
    with running(*target, *lifespan, log=folder / "log", env=env) as server:
        server.wait_ready()
        with httpx.Client(base_url=f"http://{server.address}", timeout=10, trust_env=False) as http:
            yield Served(name, server, http)
        _stops_in_order(name, server)


def _stops_in_order(name: str, server: Server) -> None:
    """SIGTERM ends an event stream, and lets a download go on to its end; the log has no error since."""
    before = len(server.log)
    with ByHand(server.connect()) as watcher, ByHand(server.connect()) as reader:
        watcher.send(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        reader.send(b"GET /download HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert watcher.head()[0] == reader.head()[0] == 200
        server.signal(signal.SIGTERM)
        eventually(lambda: all(worker.life is not Life.READY for worker in server.workers()))
        while watcher.chunk():
            pass
        size = 0
        while piece := reader.chunk():
            size += len(piece)
        assert size == len(common.PIECE) * common.PIECES, name
        assert watcher.is_closed() and reader.is_closed()
    assert server.wait() == 0, server.log
    assert server.log.count("lifespan: closed") == (0 if name == "django" else 2), server.log
    assert not re.search(r"[1-9]\d* (were cancelled|cut)|error|Traceback", server.log[before:]), server.log


@pytest.fixture
def fresh(served: Served) -> Iterator[httpx.Client]:
    """Return a client with a connection of its own, for what breaks it."""
    with httpx.Client(base_url=served.url, timeout=10, trust_env=False) as http:
        yield http


@dataclass(frozen=True)
class Curl:
    """The command, and where it connects to."""

    url: str

    def __call__(self, path: str, *arguments: str) -> bytes:
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", "10", *arguments, self.url + path]
        return subprocess.run(command, capture_output=True, check=True, timeout=20).stdout


@pytest.fixture
def curl(served: Served) -> Curl:
    """Return the command; skip where there is none."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return Curl(served.url)


def test_route_has_its_parameters(served: Served) -> None:
    """Path and query arrive decoded, on one connection after another request; a middleware had the response."""
    for number in (7, 8):
        response = served.http.get(f"/items/{number}", params={"q": "a b&ü"})
        assert response.status_code == 200 and response.json() == {"item": number, "query": "a b&ü"}
        assert response.headers[common.MARK] == served.name
        assert response.headers.get_list("server") == ["hybrid"] and "date" in response.headers
    assert served.http.get("/nowhere").status_code == 404


def test_json_comes_back(served: Served) -> None:
    """A body of several segments, with a length and in chunks."""
    document = {"text": "ü" * 100_000, "list": [1, None, {"a": "b"}]}
    assert served.http.post("/echo", json=document).json() == document
    if served.name in ("django_wsgi", "bottle"):
        return  # they know no body without CONTENT_LENGTH
    pieces = json.dumps(document).encode()
    chunks = (pieces[start : start + 7001] for start in range(0, len(pieces), 7001))
    answer = served.http.post("/echo", content=chunks, headers={"content-type": "application/json"})
    assert answer.json() == document


def test_stream_is_chunked(served: Served) -> None:
    """What has no length comes in chunks, is whole, and leaves the connection usable."""
    response = served.http.get("/stream")
    assert response.headers["transfer-encoding"] == "chunked" and "content-length" not in response.headers
    assert response.text == "".join(common.LINES)
    assert served.http.get("/items/1").json()["item"] == 1


def test_upload(served: Served) -> None:
    """A form with a file in it arrives byte for byte."""
    data = os.urandom(1_000_000)
    answer = served.http.post("/upload", files={"file": ("ü.bin", data, "application/octet-stream")})
    assert answer.json() == {"name": "ü.bin", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_endless_stream_ends_with_its_client(served: Served, fresh: httpx.Client) -> None:
    """Events arrive as they are sent; when the client goes, the application is told, and says nothing of an error."""
    said = served.said()
    with fresh.stream("GET", "/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert [next(lines), next(lines), next(lines)] == ["data: 0", "", "data: 1"]
    fresh.close()
    eventually(lambda: "events: ended" in said())
    assert served.http.get("/items/1").status_code == 200
    assert "error" not in said() and "Traceback" not in said()


def test_failure_is_answered(served: Served, fresh: httpx.Client) -> None:
    """An application that raises is answered with 500, is logged once, and is served on."""
    said = served.said()
    assert fresh.get("/fail").status_code == 500
    assert fresh.get("/items/3").json()["item"] == 3
    if served.name in RAISES:
        eventually(lambda: "RuntimeError: on purpose" in said())
        assert said().count("failed, GET /fail from 127.0.0.1:") == 1


def test_lifespan_has_opened(served: Served) -> None:
    """What the lifespan opened a request can use."""
    if served.name == "django":
        pytest.skip("Django has no lifespan")
    assert served.http.get("/state").json() == {"opened": "by the lifespan"}


def test_background_task_goes_on(served: Served, fresh: httpx.Client) -> None:
    """The response does not wait for the task, nor does the next request on the same connection."""
    if served.name in ("django", *WSGI):
        pytest.skip("it has no background tasks of that kind")
    said = served.said()
    assert fresh.get("/background").text == "begun"
    eventually(lambda: "background: begun" in said())
    assert "background: done" not in said()
    assert fresh.get("/release").text == "released"
    eventually(lambda: "background: done" in said())


def test_file(served: Served) -> None:
    """A static file is whole, and has its length."""
    response = served.http.get("/file")
    assert response.content == CONTENT
    assert response.headers["content-length"] == str(len(CONTENT))


def test_cookies(served: Served, fresh: httpx.Client) -> None:
    """Several set-cookie fields stay several; cookies that the client has arrive."""
    fresh.cookies.set("given", "away")
    response = fresh.get("/cookies")
    assert response.text == "away"
    assert sorted(each.partition(";")[0] for each in response.headers.get_list("set-cookie")) == ["one=1", "two=2"]
    assert "HttpOnly" in "".join(response.headers.get_list("set-cookie"))


def test_curl(served: Served, curl: Curl, tmp_path: Path) -> None:
    """Another client: a route, two responses on one connection, a form with a file."""
    assert json.loads(curl("/items/7?q=x")) == {"item": 7, "query": "x"}
    twice = curl("/stream", "--write-out", "[%{num_connects}]", f"{served.url}/file")
    assert twice == CONTENT + b"[1]" + "".join(common.LINES).encode() + b"[0]"
    (tmp_path / "form.bin").write_bytes(CONTENT)
    assert json.loads(curl("/upload", "--form", f"file=@{tmp_path / 'form.bin'}"))["size"] == len(CONTENT)
