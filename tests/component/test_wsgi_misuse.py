"""WSGI applications that do what they should not, and files that are not what they seem: who else pays for it."""

from __future__ import annotations

import gc
import gzip
import io
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid.connection.failures import log
from hybrid.handlers.wsgi_exchange import WsgiExchange
from hybrid.handlers.wsgi_file import LEAST_BYTES
from tests.component.wsgi_room import Environ, Gate, StartResponse, answer, serving
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually_async

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CONTENT = bytes(range(256)) * (LEAST_BYTES // 128)


def file_app(make: Callable[[], Any], *headers: tuple[str, str]) -> Callable[[Environ, StartResponse], Any]:
    """Return an application that answers with a file."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", list(headers))
        return environ["wsgi.file_wrapper"](make())

    return app


@pytest.mark.parametrize("size", [100, 3 * LEAST_BYTES])
@on_both_loops
async def test_file_that_is_unpacked_while_it_is_read(size: int, tmp_path: Path) -> None:
    """It has a descriptor, whose bytes are others: they are not sent in place of what reading it yields."""
    content = (CONTENT * 2)[:size]
    with gzip.open(tmp_path / "file", "wb", compresslevel=0) as packed:
        packed.write(content)

    async with serving(file_app(lambda: gzip.open(tmp_path / "file"))) as room:
        client = await room.connect()
        for _ in range(2):
            status, _, body = await client.ask(GET)
            assert (status, body == content) == (200, True)


@pytest.mark.parametrize("kind", ["large", "small", "memory", "none"])
@on_both_loops
async def test_length_of_a_part_of_a_file(kind: str, tmp_path: Path) -> None:
    """A file is sent as far as its Content-Length goes (PEP 3333), however it is sent; the connection stays."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT if kind == "large" else CONTENT[:1000])
    size = 0 if kind == "none" else 10

    def make() -> Any:
        return io.BytesIO(CONTENT) if kind == "memory" else path.open("rb")

    async with serving(file_app(make, ("Content-Length", str(size)))) as room:
        client = await room.connect()
        for _ in range(2):
            status, _, body = await client.ask(GET)
            assert (status, body) == (200, CONTENT[:size])


@on_both_loops
async def test_file_whose_size_is_not_said() -> None:
    """Those of /proc are regular files of no bytes, and yet there is something in them."""
    async with serving(file_app(lambda: Path("/proc/self/status").open("rb"))) as room:
        client = await room.connect()
        status, _, body = await client.ask(GET)
        assert status == 200 and body.startswith(b"Name:")


@on_both_loops
async def test_file_that_cannot_be_read_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the file is not taken for a client that has left."""
    (tmp_path / "file").write_bytes(CONTENT)

    def app(environ: Environ, start_response: StartResponse) -> Any:
        file = (tmp_path / "file").open("ab", buffering=0)  # for writing only
        file.seek(0)
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file)

    async with serving(app) as room:
        await room.ask(GET)
        await eventually_async(lambda: any(each.levelno >= logging.ERROR for each in caplog.records))


class Closing:
    """One block, and a close of the test's."""

    def __init__(self, close: Callable[[], Any]) -> None:
        self._blocks = iter([b"block"])
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks


@on_both_loops
async def test_nobody_waits_for_close() -> None:
    """All of the body was said: the client has its end, whatever the application still does."""
    gate = Gate()

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return Closing(gate.pass_through)

    async with serving(app) as room:
        client = await room.connect()
        assert (await client.ask(GET))[2] == b"block"
        await gate.wait_reached()
        gate.open()


@on_both_loops
async def test_close_that_raises_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged; the answer is whole, and the connection stays."""

    def close() -> None:
        raise KeyError("on purpose")

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return Closing(close)

    async with serving(app) as room:
        client = await room.connect()
        for _ in range(2):
            assert (await client.ask(GET))[2] == b"block"
        await eventually_async(lambda: len(caplog.records) == 2)
    assert "on purpose" in caplog.records[0].getMessage()


class Unspeakable(Exception):
    """What the record of a failure would say of it cannot be had."""

    def __str__(self) -> str:
        raise SystemExit("on purpose")


@on_both_loops
async def test_error_that_raises_when_shown_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """One record for each, and the only thread serves on."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        if environ["PATH_INFO"] == "/fails":
            raise Unspeakable
        return answer(start_response, b"hello")

    async with serving(app, threads=1) as room:
        for _ in range(2):
            assert (await room.ask(b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
        client = await room.connect()
        assert (await client.ask(GET))[2] == b"hello"
    assert "Unspeakable: (its text cannot be had: SystemExit)" in caplog.records[0].getMessage()
    assert len(caplog.records) == 2


@on_both_loops
async def test_headers_that_are_none(caplog: pytest.LogCaptureFixture) -> None:
    """The record says what headers are."""
    async with serving(lambda environ, start_response: start_response("200 OK", None)) as room:
        assert (await room.ask(GET)).startswith(b"HTTP/1.1 500 ")
        await eventually_async(lambda: bool(caplog.records))
    assert "cannot send header None: it is a tuple" in caplog.records[0].getMessage()


class Held:
    """What an application holds while it runs."""


@on_both_loops
async def test_what_a_request_held_is_free_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the garbage collector: nothing of a request is in a cycle, also when it fails."""
    seen: list[weakref.ref[Held]] = []

    def app(environ: Environ, start_response: StartResponse) -> Any:
        held = Held()
        seen.append(weakref.ref(held))
        if environ["PATH_INFO"] == "/fails":
            raise ValueError("on purpose")
        return answer(start_response, b"hello")

    said: list[str] = []
    monkeypatch.setattr(log, "filter", lambda record: said.append(record.levelname))  # pytest would keep the record

    async with serving(app) as room:
        client = await room.connect()
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await client.ask(GET)
            await room.ask(b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n")
            await eventually_async(lambda: said == ["ERROR"])
            await eventually_async(lambda: not any(ref() for ref in seen))
            await eventually_async(lambda: sum(type(each) is WsgiExchange for each in gc.get_objects()) <= 2)
        finally:
            gc.enable()


@on_both_loops
async def test_line_without_an_end_is_its_requests(caplog: pytest.LogCaptureFixture) -> None:
    """What is left in wsgi.errors is logged when the request ends, and does not begin another one's line."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        environ["wsgi.errors"].write(environ["QUERY_STRING"])
        return answer(start_response, b"hello")

    async with serving(app, threads=1) as room:
        client = await room.connect()
        for query in (b"one", b"two"):
            await client.ask(b"GET /?%b HTTP/1.1\r\nHost: a\r\n\r\n" % query)
        await eventually_async(lambda: len(caplog.records) == 2)
    assert [each.getMessage() for each in caplog.records] == ["app app: one", "app app: two"]
