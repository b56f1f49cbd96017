"""The security record of HTTP servers, S14 to S18: what an application, or a client, makes the server say or log."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hybrid.connection.access_line import compile_format
from hybrid.connection.access_log import AccessLog
from hybrid.connection.line_handler import LineHandler
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.log_line import LogWriter, Style
from tests.component.http_room import Witness, ask_for, respond, serving
from tests.support.connections import on_both_loops

GET = ask_for(b"/")
EVIL: dict[str, tuple[bytes, bytes]] = {
    "CR LF in a value": (b"x", b"a\r\nset-cookie: evil"),
    "LF in a value": (b"x", b"a\nset-cookie: evil"),
    "CR in a value": (b"x", b"a\rset-cookie: evil"),
    "NUL in a value": (b"x", b"a\x00evil"),
    "whole response in a value": (b"x", b"a\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil"),
    "CR LF in a name": (b"x: a\r\nset-cookie", b"evil"),
    "colon in a name": (b"set-cookie:", b"evil"),
    "blank in a name": (b"set-cookie ", b"evil"),
    "empty name": (b"", b"evil"),
    "CR LF in connection": (b"connection", b"x\r\nset-cookie: evil"),
    "CR LF in content-length": (b"content-length", b"0\r\nset-cookie: evil"),
    "CR LF in date": (b"date", b"now\r\nset-cookie: evil"),
}


def names_no_evil(said: bytes) -> None:
    """Check that nothing that was to be injected left, and that no header line is odd."""
    assert b"evil" not in said and b"cookie" not in said
    assert said.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize(("name", "value"), EVIL.values(), ids=EVIL)
@on_both_loops
async def test_s14_header_cannot_split_the_response(name: bytes, value: bytes) -> None:
    """S14: send() raises; an application that lets it is answered for with 500, again and again alike."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-fine", b"1"), (name, value)]})
        await send({"type": "http.response.body", "body": b"fine"})

    async with serving(app) as room:
        for _ in range(10):  # what an endpoint keeps of the starts of responses has to be asked, too
            said = await room.ask(GET)
            assert said.startswith(b"HTTP/1.1 500 ")
            names_no_evil(said)


@on_both_loops
async def test_s14_refused_header_leaves_the_application_its_choice() -> None:
    """S14: it may catch the error and answer otherwise: nothing of the refused start was sent, or is remembered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for name, value in EVIL.values():
            with pytest.raises(ValueError):
                await send({"type": "http.response.start", "status": 200, "headers": [(name, value)]})
        await respond(send, b"otherwise")

    async with serving(app) as room:
        client = await room.connect()
        for _ in range(2):
            status, headers, body = await client.ask(GET)
            assert (status, body) == (200, b"otherwise") and set(headers) == {"content-length", "date", "server"}


@pytest.mark.parametrize(
    "status", [0, 99, 100, 101, 199, 1000, -200, "200 OK\r\nset-cookie: evil", b"200", None, 200.5]
)
@on_both_loops
async def test_s14_status_is_a_number_of_a_response(status: object) -> None:
    """S14: nothing but 200 to 999 makes a status line."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async with serving(app) as room:
        said = await room.ask(GET)
        assert said.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        names_no_evil(said)


@pytest.mark.parametrize(("name", "value"), list(EVIL.values())[:9], ids=list(EVIL)[:9])
@on_both_loops
async def test_s14_trailer_cannot_split_the_response(name: bytes, value: bytes) -> None:
    """S14: the response has begun, so it is cut; nobody takes it for whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"fine"})
        await send({"type": "http.response.trailers", "headers": [(name, value)]})

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        said = await client.until(b"fine\r\n")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)) as raised:
            await client.until(b"0\r\n")
        names_no_evil(said + getattr(raised.value, "partial", b""))


@pytest.mark.parametrize(
    "link", [b"</a>\r\nset-cookie: evil", b"</a>\nevil", b"</a>\r\n\r\nHTTP/1.1 200 OK", b"\x00evil"]
)
@on_both_loops
async def test_s15_early_hint_cannot_split_the_response(link: bytes) -> None:
    """S15: checked as the headers of a response are."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</fine>", link]})
        await respond(send, b"")

    async with serving(app) as room:
        said = await room.ask(GET)
        assert said.startswith(b"HTTP/1.1 500 ")
        names_no_evil(said)


@on_both_loops
async def test_s15_early_hint_is_for_who_can_read_it() -> None:
    """S15: a client of HTTP/1.0 would take it for the response; behind the start it would be in the body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</fine>"]})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["http_version"] == "1.1":
            with pytest.raises(RuntimeError):
                await send({"type": "http.response.early_hint", "links": [b"</late>"]})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as room:
        client = await room.connect()
        client.send(GET)
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nlink: </fine>\r\n\r\n"
        assert (await client.response())[0] == 200
        assert (await room.ask(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


# ── logs ──


@contextmanager
def error_log(path: Path, style: Style = Style.TEXT) -> Iterator[None]:
    """Write ``hybrid.error`` to a file, as workers do."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    writer = LogWriter(fd, style, "debug", "worker 0")
    handler = LineHandler(writer)
    logger = logging.getLogger("hybrid.error")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        writer.close()
        os.close(fd)


@contextmanager
def access_log(path: Path, form: str = "combined") -> Iterator[HttpShared]:
    """Return what a worker shares that writes its access log to a file."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    line_of, wants_response_headers = compile_format(form, 0)
    shared = HttpShared.of(HttpSettings())
    shared.access_log = AccessLog(line_of, fd, wants_response_headers=wants_response_headers)
    try:
        yield shared
    finally:
        shared.access_log.close()
        os.close(fd)


FORGED = {
    "new line": b"/a%0A2026-11-27%20forged",
    "CR": b"/a%0D2026-11-27%20forged",
    "ANSI": b"/a%1B%5B31mforged%1B%5D0;title%07",
    "C1": b"/a%C2%9B31mforged",
    "right-to-left": b"/a%E2%80%AEforged",
    "line separator": b"/a%E2%80%A8forged",
    "next line": b"/a%C2%85forged",
    "not UTF-8": b"/a%FF%9Bforged",
    "NUL": b"/a%00forged",
}


def lines_of(path: Path) -> list[str]:
    """Return the lines of a log; nothing in them moves a terminal's cursor."""
    text = path.read_bytes().decode()
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    assert all(line.isprintable() for line in lines), lines
    return lines


@pytest.mark.parametrize("path", FORGED.values(), ids=FORGED)
@on_both_loops
async def test_s16_error_log_is_not_forged(path: bytes, tmp_path: Path) -> None:
    """S16: an application that fails at the client's bytes, which are in the request and in the error: one event."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/":
            raise ValueError(f"no such path: {scope['path']}")

    with error_log(tmp_path / "log"):
        async with serving(app) as room:
            await room.ask(ask_for(path))
    first, *detail = lines_of(tmp_path / "log")
    assert " error   app app failed, GET /a" in first and all(line.startswith("    ") for line in detail)


@on_both_loops
async def test_s16_refused_bytes_do_not_forge(tmp_path: Path) -> None:
    """S16: what a debug line quotes of a bad request."""
    with error_log(tmp_path / "log"):
        async with serving(Witness()) as room:
            await room.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\x1b[31mforged\x0b: y\r\n\r\n")
            await room.ask(b"\x1b[31mforged\r\n\r\n")
            await room.ask(b"GET http://\x1b[31m/ HTTP/1.1\r\nHost: \x9b31m\r\n\r\n")
            await room.ask(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: \x9b31m\xe2\x80\xae\r\n\r\n")
    assert len(lines_of(tmp_path / "log")) == 4


@pytest.mark.parametrize("form", ["combined", "json", "%(h)s %(r)s %(U)s %(q)s %({x-evil}i)s %({x-evil}o)s %(a)s"])
@on_both_loops
async def test_s16_access_log_is_not_forged(form: str, tmp_path: Path) -> None:
    """S16: paths, queries, and headers of the request and of the response, whose bytes may be high ones."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"", 200, (b"x-evil", b"\x9b31m \xe2\x80\xae"))

    with access_log(tmp_path / "log", form) as shared:
        async with serving(app, shared=shared) as room:
            client = await room.connect()
            evil = b'\x9b31m \xe2\x80\xae " \\x0a'
            for path in FORGED.values():
                for name in (b"X-Evil", b"User-Agent", b"Referer"):
                    head = b"GET %b?%b HTTP/1.1\r\nHost: a\r\n%b: %b\r\n\r\n" % (path, path, name, evil)
                    assert (await client.ask(head))[0] == 200
            await room.ask(b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n")
    lines = lines_of(tmp_path / "log")
    assert len(lines) == 3 * len(FORGED) + 1 and all(line.isascii() for line in lines)


# ── S17: answers without content ──


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", 200), (b"HEAD", 404), (b"GET", 204), (b"GET", 304), (b"GET", 205), (b"HEAD", 204)]
)
@pytest.mark.parametrize("streamed", [False, True])
@on_both_loops
async def test_s17_no_content_where_none_may_be(method: bytes, status: int, streamed: bool) -> None:
    """S17: whatever the application sends: its bytes would be the next answer to the client."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/next":
            await respond(send, b"next")
            return
        length = [] if streamed else [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": status, "headers": length})
        await send({"type": "http.response.body", "body": b"HTTP/", "more_body": True})
        await send({"type": "http.response.body", "body": b"1.1 9"})

    async with serving(app) as room:
        client = await room.connect()
        client.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n" + ask_for(b"/next"))
        head = (await client.until(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 %d " % status) and b"chunked" not in head
        assert (b"content-length" in head) == (status == 205 or (not streamed and status != 204))
        assert (await client.response())[2] == b"next"


# ── S18: one bad request, one line at most ──


@on_both_loops
async def test_s18_bad_request_is_one_line_of_the_access_log(tmp_path: Path) -> None:
    """S18: refused before the application, while it reads, and by what it raises: each is one line, with its status."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise ValueError("as told")
        while (await receive())["type"] == "http.request":
            pass

    asked = {
        b"GET / HTTP/1.1\r\n\r\n": 400,
        b"\x16\x03\x01 \r\n\r\n": 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n": 417,
        ask_for(b"/fails"): 500,
    }
    with access_log(tmp_path / "log", "%(s)s") as shared:
        async with serving(app, shared=shared) as room:
            for data, status in asked.items():
                assert (await room.ask(data)).startswith(b"HTTP/1.1 %d " % status)
    assert lines_of(tmp_path / "log") == [str(status) for status in asked.values()]


@on_both_loops
async def test_s18_failing_application_is_one_error(caplog: pytest.LogCaptureFixture) -> None:
    """S18: with its traceback in the same event; none, if it fails because its client's body was refused."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("as told")

    async with serving(app) as room:
        assert (await room.ask(GET + GET)).count(b"HTTP/1.1 500 ") == 1
        await room.empty()
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        bad = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        assert (await room.ask(bad + GET)).count(b"HTTP/1.1 ") == 1
        await room.empty()
    assert len(caplog.records) == 1
