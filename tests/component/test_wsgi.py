"""WSGI over HTTP/1.1: what an application is told, what it may say, and what a client gets."""

from __future__ import annotations

import contextvars
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from wsgiref.validate import validator

import pytest

from hybrid.handlers.http_shared import HttpShared
from hybrid.handlers.wsgi_file import LEAST_BYTES
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.proxy_settings import ProxySettings
from tests.component.wsgi_room import Blocks, Environ, Gate, StartResponse, answer, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = b"GET /a%20b%C3%BC?x=1 HTTP/1.1\r\nHost: example.org\r\nX-One: 1\r\n\r\n"


def hello(environ: Environ, start_response: StartResponse) -> list[bytes]:
    return answer(start_response, b"hello")


def echo(environ: Environ, start_response: StartResponse) -> list[bytes]:
    return answer(start_response, environ["wsgi.input"].read())


@on_both_loops
async def test_environ_has_every_key() -> None:
    """What PEP 3333 makes mandatory, and what frameworks look for; a new dict for each request."""
    seen: list[Environ] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        return answer(start_response, b"")

    async with serving(app, state="s", root_path="/api") as room:
        client = await room.connect()
        for _ in range(3):
            await client.ask(GET)
        await client.ask(
            b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\n."
        )
        host, port = client.writer.get_extra_info("sockname")
    first, second, third, fourth = seen
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/api",
        "PATH_INFO": "/a bÃ¼",
        "QUERY_STRING": "x=1",
        "RAW_URI": "/a%20b%C3%BC?x=1",
        "REQUEST_URI": "/a%20b%C3%BC?x=1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(room.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": host,
        "REMOTE_PORT": str(port),
        "HTTP_HOST": "example.org",
        "HTTP_X_ONE": "1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "hybrid.state": "s",
    }
    for environ in (first, second, third):
        assert {key: environ.get(key) for key in expected} == expected
        assert "CONTENT_LENGTH" not in environ and "HTTPS" not in environ
    assert len({id(environ) for environ in seen}) == 4 and first["hybrid.draining"]() is False
    assert (fourth["CONTENT_TYPE"], fourth["CONTENT_LENGTH"], fourth["SERVER_PROTOCOL"]) == ("a/b", "1", "HTTP/1.0")
    assert "HTTP_X_ONE" not in fourth and "HTTP_CONTENT_TYPE" not in fourth


@on_both_loops
async def test_headers_that_could_be_taken_for_others_are_dropped() -> None:
    """S11, S40: an underscore, Proxy, and SCRIPT_NAME; what came several times is one list."""
    seen: list[Environ] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        return answer(start_response, b"")

    async with serving(app) as room:
        client = await room.connect()
        lines = b"X_User: evil\r\nX-User: good\r\nProxy: evil\r\nScript-Name: /evil\r\nContent_Length: 7\r\n"
        lines += b"A: 1\r\nCookie: a=1\r\nA: 2\r\nCookie: b=2\r\n"
        await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    environ = seen[0]
    assert environ["HTTP_X_USER"] == "good" and "evil" not in environ.values()
    assert environ["SCRIPT_NAME"] == "" and "HTTP_PROXY" not in environ and "" not in environ
    assert (environ["HTTP_A"], environ["HTTP_COOKIE"]) == ("1,2", "a=1; b=2")


@on_both_loops
async def test_trusted_proxy_is_believed() -> None:
    """The client, its scheme and its port come from the forwarded headers; from nobody else's."""
    seen: list[Environ] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        return answer(start_response, b"")

    lines = b"X-Forwarded-For: 9.8.7.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\n"
    for proxy in (ProxySettings(), ProxySettings(headers=False)):
        async with serving(app, shared=HttpShared.of(HttpSettings(), proxy)) as room:
            await (await room.connect()).ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert "REMOTE_PORT" not in seen[0]
    keys = ("REMOTE_ADDR", "wsgi.url_scheme", "SERVER_PORT", "HTTPS")
    assert [seen[0].get(key) for key in keys] == ["9.8.7.6", "https", "8443", "on"]
    assert [seen[1].get(key) for key in keys] == ["127.0.0.1", "http", str(room.port), None]


@on_both_loops
async def test_validator_has_no_complaint() -> None:
    """wsgiref.validate, around applications that use all of the interface."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        path = environ["PATH_INFO"]
        if path == "/iterates":
            assert b"".join(environ["wsgi.input"]) == b"line\nrest"
        elif path == "/reads":
            environ["wsgi.input"].readline()
            assert environ["wsgi.input"].readlines() == [b"rest"]
        environ["wsgi.errors"].write("noted\n")
        environ["wsgi.errors"].flush()
        if path == "/writes":
            start_response("200 OK", [("Content-Type", "text/plain")])(b"written ")
            return [b"and returned"]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [path.encode()] if path != "/streams" else iter([b"/str", b"", b"eams"])

    async with serving(validator(cast(Any, app))) as room:
        client = await room.connect()
        for path in (b"/whole", b"/streams", b"/iterates", b"/reads"):
            status, _, body = await client.ask(
                b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nline\nrest" % path
            )
            assert (status, body) == (200, path)
        assert (await client.ask(b"GET /writes HTTP/1.1\r\nHost: a\r\n\r\n"))[2] == b"written and returned"
        assert (await client.ask(b"GET /last HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 200
    assert room.door.lost == 0


@on_both_loops
async def test_length_is_added_to_what_is_whole() -> None:
    """A list has a length, whatever is in it; a generator comes in chunks; HTTP/1.0 gets neither of both."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [("X-Transfer-Encoding", "chunked")])
        return {"/one": [b"12"], "/two": (b"1", b"2"), "/none": [], "/some": iter([b"1", b"2"])}[environ["PATH_INFO"]]

    async with serving(app) as room:
        client = await room.connect()
        for path, length in ((b"/one", "2"), (b"/two", "2"), (b"/none", "0"), (b"/some", None)):
            status, headers, body = await client.ask(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            assert (status, headers.get("content-length"), len(body)) == (200, length, 0 if path == b"/none" else 2)
            assert headers["x-transfer-encoding"] == "chunked"
            assert headers.get("transfer-encoding") == (None if length else "chunked")
        said = await room.ask(b"GET /some HTTP/1.0\r\n\r\n")
        assert said.endswith(b"\r\n\r\n12") and b"connection: close" in said


@on_both_loops
async def test_response_without_a_body_has_none() -> None:
    """HEAD, 204 and 304: what the application yields is for nobody, and is not asked for; it is closed."""
    made: list[Blocks] = []

    def app(environ: Environ, start_response: StartResponse) -> Blocks:
        start_response(
            environ["QUERY_STRING"] + " X", [("Content-Length", "4")] if environ["QUERY_STRING"] == "200" else []
        )
        made.append(Blocks([b"body"] * 3))
        return made[-1]

    async with serving(app) as room:
        client = await room.connect()
        for method, status in ((b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")):
            client.send(b"%b /?%b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, status))
            head = await client.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
        assert (await client.ask(b"GET /?200 HTTP/1.1\r\nHost: a\r\n\r\n"))[2] == b"body"
    assert [each.closed for each in made] == [1] * 4
    assert [each.taken for each in made[:3]] == [1] * 3


@on_both_loops
async def test_errors_are_counted_by_class() -> None:
    """Those that the application says, and those that are said in its place."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/fails":
            raise ValueError("as told")
        return answer(start_response, b"", status=environ["PATH_INFO"][1:] + " So")

    worker = HttpShared.of(HttpSettings())
    async with serving(app, shared=worker) as room:
        for path in (b"200", b"404", b"404", b"503", b"fails"):
            client = await room.connect()
            await client.ask(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        assert (worker.load.client_errors, worker.load.server_errors) == (2, 2)


@on_both_loops
async def test_start_response_twice() -> None:
    """With exc_info it replaces a head that has not left, and raises what is in it when it has; without, it fails."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        path = environ["PATH_INFO"]
        write = start_response("200 OK", [("X-First", "1")])
        if path == "/sent":
            write(b"sent")
        try:
            raise KeyError("on purpose")
        except KeyError:
            start_response("409 Conflict", [], None if path == "/plain" else sys.exc_info())
        yield b"replaced"

    async with serving(app) as room:
        client = await room.connect()
        status, headers, body = await client.ask(b"GET /unsent HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (status, body, "x-first" in headers) == (409, b"replaced", False)
        assert (await client.ask(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 500
        said = await room.ask(b"GET /sent HTTP/1.1\r\nHost: a\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"4\r\nsent\r\n")
        await eventually_async(lambda: room.door.lost == 2)


WRONG = {
    "no start": (lambda start: [b"x"], "call start_response before the first block"),
    "no start, empty": (lambda start: [], "returned without calling start_response"),
    "text": (lambda start: start("200 OK", []) and ["x"], "made of bytes"),
    "text in a generator": (lambda start: start("200 OK", []) and iter(["x"]), "made of bytes"),
    "bytes": (lambda start: start("200 OK", []) and b"xy", "return a list of bytes"),
    "None": (lambda start: start("200 OK", []) and None, "return an iterable of bytes"),
    "status": (lambda start: start(200, []), "it is a str, like '200 OK'"),
    "status text": (lambda start: start("OK", []), "begins with three digits"),
    "status 100": (lambda start: start("100 Continue", []), "from 200 to 999"),
    "header": (lambda start: start("200 OK", [("a", 1)]), "both str"),
    "header bytes": (lambda start: start("200 OK", [(b"a", b"1")]), "both str"),
    "header Latin-1": (lambda start: start("200 OK", [("a", "€")]), "beyond Latin-1"),
    "injection": (lambda start: start("200 OK", [("a", "1\r\nb: 2")]), "holds a control byte"),
    "injection by name": (lambda start: start("200 OK", [("a: 1\r\nb", "2")]), "a name is a token"),
    "exit": (lambda start: sys.exit(3), "SystemExit: 3"),
    "coroutine": (lambda start: _never(), "serve it with --interface asgi"),
}


async def _never() -> None: ...


@pytest.mark.parametrize("name", WRONG)
@on_both_loops
async def test_wrong_application_is_answered_with_500(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One record says what is wrong and what to do; the client gets a whole answer."""
    make, message = WRONG[name]

    async with serving(lambda environ, start: make(start)) as room:  # type: ignore[no-untyped-call]
        said = await room.ask(b"GET /%0a HTTP/1.1\r\nHost: a\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 500 ") and b"connection: close" in said
        assert b"b: 2" not in said
        await eventually_async(lambda: len(caplog.records) > 0)
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(records) == 1 and records[0].exc_info
    assert message in records[0].getMessage() and "GET /\\n from 127.0.0.1" in records[0].getMessage()
    assert room.door.lost == 1


@on_both_loops
async def test_failure_in_the_middle_cuts(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that looks whole and is not would be worse; the iterable is closed, in every case."""
    made: list[Blocks] = []

    def fails() -> Iterator[bytes]:
        yield b"begun"
        raise RuntimeError("on purpose")

    def app(environ: Environ, start_response: StartResponse) -> Blocks:
        start_response("200 OK", [("Content-Length", "100")])
        made.append(Blocks(fails() if environ["PATH_INFO"] == "/fails" else [b"short"]))
        return made[-1]

    async with serving(app) as room:
        for path, message in ((b"/fails", "on purpose"), (b"/short", "shorter than its content-length")):
            caplog.clear()
            peer = await room.peer()
            await peer.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            await eventually_async(lambda: bool(caplog.records))
            assert message in caplog.records[0].getMessage()
    assert [each.closed for each in made] == [1, 1]
    assert room.door.lost == 2


@on_both_loops
async def test_body_beyond_its_length_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    """The answer is whole and right, the connection stays, and the log says what is wrong."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return iter([b"right", b"wrong"])

    async with serving(app) as room:
        client = await room.connect()
        for _ in range(2):
            assert (await client.ask(GET))[2] == b"right"
        await eventually_async(lambda: len(caplog.records) == 2)
    assert "longer than its content-length" in caplog.records[0].getMessage()


@on_both_loops
async def test_context_is_the_requests_own() -> None:
    """What one request sets in a context variable the next one in the same thread does not see."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="fresh")

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        before = variable.get()
        variable.set("used")
        return answer(start_response, before.encode())

    async with serving(app, threads=1) as room:
        client = await room.connect()
        for _ in range(3):
            assert (await client.ask(GET))[2] == b"fresh"


@on_both_loops
async def test_pipelined_requests_are_answered_in_order() -> None:
    """However long each takes, and whatever threads are there."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        return answer(start_response, environ["PATH_INFO"].encode())

    async with serving(app) as room:
        client = await room.connect()
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(200)))
        for number in range(200):
            assert (await client.response())[2] == b"/%d" % number


@on_both_loops
async def test_requests_wait_for_a_thread_in_order() -> None:
    """More than there are threads: none is lost, and the first comes first."""
    gate = Gate()
    begun: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        begun.append(environ["PATH_INFO"])
        gate.pass_through()
        return answer(start_response, environ["PATH_INFO"].encode())

    async with serving(app, threads=2) as room:
        clients = [await room.connect() for _ in range(8)]
        for number, client in enumerate(clients):
            client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)

        await gate.wait_reached(2)
        assert len(begun) == 2
        gate.open()
        for number, client in enumerate(clients):
            assert (await client.response())[2] == b"/%d" % number
    assert sorted(begun[:2]) == ["/0", "/1"]


@on_both_loops
async def test_all_threads_are_used() -> None:
    """As many requests wait in the application at a time as there are threads."""
    gate = Gate()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        gate.pass_through()
        return answer(start_response, b"")

    async with serving(app, threads=6) as room:
        clients = [await room.connect() for _ in range(6)]
        for client in clients:
            client.send(GET)
        await gate.wait_reached(6)
        gate.open()
        for client in clients:
            await client.response()


@on_both_loops
async def test_file_is_sent(tmp_path: Path) -> None:
    """A large one past Python, a small one and no file in blocks; each is closed, and the connection stays."""
    content = bytes(range(256)) * (LEAST_BYTES // 128)
    (tmp_path / "file").write_bytes(content)
    opened: list[Any] = []

    def app(environ: Environ, start_response: StartResponse) -> Any:
        path = environ["PATH_INFO"]
        file: Any = io.BytesIO(content) if path == "/memory" else (tmp_path / "file").open("rb")
        opened.append(file)
        file.seek(len(content) - 10 if path == "/end" else 100)
        start_response("200 OK", [("Content-Length", "200000")] if path == "/part" else [])
        return environ["wsgi.file_wrapper"](file)

    async with serving(app) as room:
        client = await room.connect()
        for path, size in (
            (b"/all", len(content) - 100),
            (b"/memory", len(content) - 100),
            (b"/end", 10),
            (b"/part", 200000),
        ):
            status, headers, body = await client.ask(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            assert status == 200 and len(body) == size
            assert body == (content[-10:] if path == b"/end" else content[100:][:size])
            assert ("content-length" in headers) == (path != b"/memory")
        await eventually_async(lambda: all(file.closed for file in opened))
