"""The security record of HTTP servers, S1 to S13: how requests are framed, asked of a real connection.

Whatever is refused is answered once, with the RFC's status and a close, costs no line of the log above debug, and
**nothing is smuggled**: each case has a request behind it, which the application must never see. The same heads and
bodies by themselves: :mod:`tests.unit.http`. Answers and logs: :mod:`tests.component.test_http_injection`; floods:
:mod:`tests.component.test_http_exhaustion`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.component.http_room import Client, Witness, ask_for, respond, serving
from tests.support.connections import on_both_loops

SMUGGLED = ask_for(b"/smuggled")
BEHIND = b"0\r\n\r\n" + SMUGGLED
"""What ends a chunked body, for who believes in one, and a request."""
Case = tuple[bytes, int]
Cases = dict[str, Case]


def post(*lines: bytes, version: bytes = b"1.1", behind: bytes = BEHIND) -> bytes:
    """Return a request with these header lines, and what is to be smuggled behind it."""
    return b"\r\n".join((b"POST /p HTTP/" + version, b"Host: a", *lines, b"", behind))


def chunked(body: bytes) -> bytes:
    """Return a request with this chunked body, and what is to be smuggled behind it."""
    return post(b"Transfer-Encoding: chunked", behind=body + BEHIND)


S1: Cases = {
    "S1 length, then chunked": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "S1 chunked, then length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    "S1 both, length of 0": (post(b"Content-Length: 0", b"Transfer-Encoding: chunked"), 400),
    "S1 chunked is not the last": (post(b"Transfer-Encoding: chunked, gzip"), 400),
    "S1 chunked is not the last, two lines": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"), 400),
    "S1 chunked twice": (post(b"Transfer-Encoding: chunked, chunked"), 400),
    "S1 chunked twice, two lines": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "S1 chunked with a parameter": (post(b"Transfer-Encoding: chunked;q=1"), 400),
    "S1 unknown coding": (post(b"Transfer-Encoding: xchunked"), 501),
    "S1 unknown coding and length": (post(b"Transfer-Encoding: x", b"Content-Length: 5"), 400),
    "S1 identity": (post(b"Transfer-Encoding: identity"), 501),
    "S1 gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked"), 501),
    "S1 empty coding": (post(b"Transfer-Encoding:"), 400),
    "S1 quoted": (post(b'Transfer-Encoding: "chunked"'), 400),
    "S1 in HTTP/1.0": (post(b"Transfer-Encoding: chunked", version=b"1.0"), 400),
    "S1 in HTTP/1.0, kept": (post(b"Connection: keep-alive", b"Transfer-Encoding: chunked", version=b"1.0"), 400),
}
S2: Cases = {
    f"S2 {name}": (post(*lines), 400)
    for name, lines in {
        "twice, alike": (b"Content-Length: 5", b"Content-Length: 5"),
        "twice": (b"Content-Length: 5", b"Content-Length: 6"),
        "list": (b"Content-Length: 5, 5",),
        "plus": (b"Content-Length: +5",),
        "minus": (b"Content-Length: -5",),
        "blank within": (b"Content-Length: 5 5",),
        "underscore": (b"Content-Length: 5_0",),
        "hexadecimal": (b"Content-Length: 0x5",),
        "empty": (b"Content-Length:",),
        "superscript": (b"Content-Length: \xb2",),
        "Arabic digit": (b"Content-Length: \xd9\xa5",),
        "fraction": (b"Content-Length: 5.0",),
        "huge": (b"Content-Length: " + b"9" * 20,),
        "very huge": (b"Content-Length: " + b"9" * 5000,),
        "zeros": (b"Content-Length: " + b"0" * 20 + b"5",),
    }.items()
}
S3: Cases = {
    "S3 bare LF ends the head": (b"POST /p HTTP/1.1\nHost: a\nContent-Length: 5\n\n" + BEHIND, 400),
    "S3 bare LF ends a line": (post(b"X: y\nContent-Length: 5"), 400),
    "S3 bare CR ends a line": (post(b"X: y\rContent-Length: 5"), 400),
    "S3 CR CR LF": (post(b"X: y\r"), 400),
    "S3 blank before the colon": (post(b"Content-Length : 5"), 400),
    "S3 tab before the colon": (post(b"Transfer-Encoding\t: chunked"), 400),
    "S3 blank before the name": (post(b"X: y", b" Content-Length: 5"), 400),
    "S3 obs-fold": (post(b"Transfer-Encoding:", b" chunked"), 400),
    "S3 obs-fold on the first line": (b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S3 vertical tab": (post(b"Transfer-Encoding:\x0bchunked"), 400),
    "S3 form feed": (post(b"Transfer-Encoding: chunked\x0c"), 400),
    "S3 two blanks in the request line": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S3 tab in the request line": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
}
S4: Cases = {
    f"S4 {name}": (chunked(body), 400)
    for name, body in {
        "hexadecimal sign": b"0x5\r\nhello\r\n",
        "plus": b"+5\r\nhello\r\n",
        "minus": b"-5\r\nhello\r\n",
        "underscore": b"0_5\r\nhello\r\n",
        "no digit": b"\r\nhello\r\n",
        "not hexadecimal": b"g\r\nhello\r\n",
        "blank before": b" 5\r\nhello\r\n",
        "blank behind": b"5 \r\nhello\r\n",
        "2^63": b"8000000000000000\r\nhello\r\n",
        "2^64 + 5": b"10000000000000005\r\nhello\r\n",
        "longer than it says": b"4\r\nhello\r\n",
        "LF behind the data": b"5\r\nhello\n",
        "CR behind the data": b"5\r\nhello\rX",
        "nothing behind the data": b"5\r\nhello",
    }.items()
}
S5: Cases = {
    f"S5 {name}": (chunked(body), 400)
    for name, body in {
        "bare LF ends the size": b"5\nhello\r\n",
        "bare CR ends the size": b"5\rhello\r\n",
        "bare LF in an extension": b"5;a\nhello\r\n",
        "bare CR in an extension": b"5;a=b\rc\r\nhello\r\n",
        "LF in a quoted extension": b'5;a="\n"\r\nhello\r\n',
        "NUL in an extension": b"5;a=\x00\r\nhello\r\n",
        "long extension": b"5;a=" + b"b" * 300 + b"\r\nhello\r\n",
        "extension without end": b"5;" + b"b" * 20000,
    }.items()
}
S6: Cases = {"S6 no CRLF behind the last chunk": (post(b"Transfer-Encoding: chunked", behind=b"0\r\n" + SMUGGLED), 400)}
S9: Cases = {
    "S9 no host": (b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED, 400),
    "S9 two hosts": (post(b"Host: a"), 400),
    "S9 list of hosts": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n" + SMUGGLED, 400),
    "S9 host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n" + SMUGGLED, 400),
    "S9 host with a user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n" + SMUGGLED, 400),
    "S9 port is no number": (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n" + SMUGGLED, 400),
    "S9 target elsewhere": (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S9 target with a user": (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S9 authority-form": (b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + SMUGGLED, 400),
    "S9 asterisk-form": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S9 no slash": (b"GET p HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S9 other scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S9 fragment": (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400),
    "S9 HTTP/0.9": (b"GET /\r\n\r\n" + SMUGGLED, 400),
    "S9 HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, 505),
    "S9 TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n" + SMUGGLED, 400),
}
S10: Cases = {
    "S10 control byte in a trailer": (chunked(b"0\r\nX: \x00\r\n\r\n"), 400),
    "S10 bare LF in a trailer": (chunked(b"0\r\nX: y\nZ: y\r\n\r\n"), 400),
    "S10 no name in a trailer": (chunked(b"0\r\n: y\r\n\r\n"), 400),
    "S10 many trailers": (chunked(b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n"), 431),
    "S10 large trailers": (chunked(b"0\r\nX: " + b"y" * 70000 + b"\r\n\r\n"), 431),
}
S11: Cases = {
    f"S11 {name}": (post(line), 400)
    for name, line in {
        "empty name": b": y",
        "no colon": b"X",
        "blank in a name": b"X Y: z",
        "slash in a name": b"X/Y: z",
        "quote in a name": b'"X": y',
        "high byte in a name": b"X\xe9: y",
        "NUL in a name": b"X\x00: y",
    }.items()
}
S12: Cases = {
    f"S12 {byte:#04x} in a value": (post(b"X: a" + bytes([byte]) + b"b"), 400)
    for byte in (0, 1, 7, 8, 0x0B, 0x0C, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x7F)
} | {
    f"S12 {byte:#04x} in a target": (b"GET /a" + bytes([byte]) + b"b HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, 400)
    for byte in (0, 0x0B, 0x0C, 0x1C, 0x7F, 0x85, 0xFF)
}
REFUSED: Cases = S1 | S2 | S3 | S4 | S5 | S6 | S9 | S10 | S11 | S12


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
@on_both_loops
async def test_refused_once_and_nothing_is_smuggled(data: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """S1 to S6, S9 to S12, and S18: at most one line of the log, none of it above debug."""
    caplog.set_level(logging.DEBUG)
    app = Witness()
    async with serving(app) as room:
        said = await room.ask(data)
        assert said.startswith(b"HTTP/1.1 %d " % status)
        assert said.count(b"HTTP/1.1 ") == 1 and b"connection: close\r\n" in said.lower()
        await room.empty()
        assert room.door.lost == 0
    assert app.seen in ([], [("POST", "/p", b"")]) or (len(app.seen) == 1 and app.seen[0][2].endswith(Witness.LEFT))
    lines = [record for record in caplog.records if record.name.startswith("hybrid")]
    assert len(lines) <= 1 and all(record.levelno == logging.DEBUG for record in lines)


@on_both_loops
async def test_s6_body_without_its_last_line_is_not_whole() -> None:
    """S6: the client ends behind ``0 CR LF``: the application is told that it left, not that the body is complete."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        client.send(post(b"Transfer-Encoding: chunked", behind=b"5\r\nhello\r\n0\r\n"))
        client.writer.write_eof()
        assert b" 200 " not in await client.rest()
        await room.empty()
    assert app.seen == [("POST", "/p", b"hello" + Witness.LEFT)]


class Early:
    """Answers without a look at the body, and remembers the paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        self.paths.append(scope["path"])
        await respond(send, scope["path"].encode())


UNREAD = {
    "length": (b"Content-Length: %d" % len(SMUGGLED), SMUGGLED),
    "chunked": (b"Transfer-Encoding: chunked", b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "behind the answer"])
@pytest.mark.parametrize(("line", "body"), UNREAD.values(), ids=UNREAD)
@on_both_loops
async def test_s7_unread_body_is_no_request(line: bytes, body: bytes, late: bool) -> None:
    """S7: passed over, whether it is there before the answer or comes behind it; the request behind it is served."""
    app = Early()
    async with serving(app) as room:
        client = await room.connect()
        head = post(line, behind=b"")
        client.send(head if late else head + body + ask_for(b"/next"))
        assert (await client.response())[2] == b"/p"
        if late:
            client.send(body + ask_for(b"/next"))
        assert (await client.response())[2] == b"/next"
    assert app.paths == ["/p", "/next"]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "behind the answer"])
@on_both_loops
async def test_s7_broken_unread_body_ends_the_connection(late: bool) -> None:
    """S7: where the next request begins is not known; the answer that was given stays the only one."""
    app = Early()
    async with serving(app) as room:
        client = await room.connect()
        head = post(b"Transfer-Encoding: chunked", behind=b"")
        client.send(head if late else head + b"zz\r\n\r\n" + SMUGGLED)
        if late:
            assert (await client.response())[2] == b"/p"
            client.send(b"zz\r\n\r\n" + SMUGGLED)
            assert await client.rest() == b""
        else:
            assert (await client.rest()).count(b"HTTP/1.1 ") == 1
        await room.empty()
    assert app.paths == ["/p"]


@pytest.mark.parametrize("line", [b"Content-Length: 9", b"Transfer-Encoding: chunked"], ids=["length", "chunks"])
@on_both_loops
async def test_s7_body_too_large_ends_the_connection(line: bytes) -> None:
    """S7: 413, and what was meant for a body or for a next request is for nobody."""
    app = Witness()
    async with serving(app, limit_body_bytes=8) as room:
        said = await room.ask(post(line, behind=b"9\r\n123456789\r\n" + BEHIND))
        assert said.startswith(b"HTTP/1.1 413 ") and said.count(b"HTTP/1.1 ") == 1
        await room.empty()
    assert "/smuggled" not in app.paths


@on_both_loops
async def test_s8_answers_come_in_the_order_of_the_requests() -> None:
    """S8: though the first takes longest, and has a body behind which the others stand."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep({"/0": 0.05, "/1": 0.02}.get(scope["path"], 0))
        await respond(send, scope["path"].encode())

    async with serving(app) as room:
        client = await room.connect()
        first = b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        client.send(first + b"".join(ask_for(b"/%d" % number) for number in range(1, 10)))
        assert [(await client.response())[2] for _ in range(10)] == [b"/%d" % number for number in range(10)]


@on_both_loops
async def test_s10_trailers_reach_no_header() -> None:
    """S10: nor the request behind them."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        trailers = b"0\r\nX-Forwarded-For: 1.2.3.4\r\nHost: b\r\nContent-Length: 5\r\nCookie: c\r\nX-Fine: y\r\n\r\n"
        client.send(post(b"Transfer-Encoding: chunked", behind=b"2\r\nhi\r\n" + trailers) + ask_for(b"/next"))
        assert [(await client.response())[2] for _ in range(2)] == [b"/p", b"/next"]
    assert app.seen == [("POST", "/p", b"hi"), ("GET", "/next", b"")]
    assert [scope["headers"] for scope in app.scopes] == [
        [(b"host", b"a"), (b"transfer-encoding", b"chunked")],
        [(b"host", b"a")],
    ]


@on_both_loops
async def test_s11_underscores_and_hyphens_are_two_names() -> None:
    """S11: neither is merged with the other, nor dropped; ASGI has no environment in which they would be one."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX_Real_IP: 1\r\nX-Real-IP: 2\r\nx-real-ip: 3\r\n\r\n")
    assert app.scopes[0]["headers"][1:] == [(b"x_real_ip", b"1"), (b"x-real-ip", b"2"), (b"x-real-ip", b"3")]


@on_both_loops
async def test_s12_bytes_that_text_splits_at_do_not_split() -> None:
    """S12: 0x85 and 0xA0 end a line, or a word, of text; in a value they are bytes like others."""
    app = Witness()
    async with serving(app) as room:
        client = await room.connect()
        await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x85Content-Length: 5\xa0\r\n\r\n")
    assert app.scopes[0]["headers"][1:] == [(b"x", b"a\x85Content-Length: 5\xa0")]


@on_both_loops
async def test_s13_head_that_is_known_is_read_as_one_that_is_not() -> None:
    """S13: what a connection keeps of the last head is a second parser, so to say: it must say the same."""

    async def asked(client: Client, head: bytes) -> None:
        assert (await client.ask(head))[0] == 200

    heads = [
        b"GET /a%41?q HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
        b"GET /a%41?q HTTP/1.0\r\nHost: a\r\nX: 1\r\nConnection: keep-alive\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nX: 1\r\nContent-Length: 0\r\n\r\n",
        b"GET http://a/b HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    ]
    app = Witness()
    async with serving(app) as room:
        kept = await room.connect()
        for head in heads:
            for _ in range(3):
                await asked(kept, head)
            await asked(await room.connect(), head)
    for start in range(0, len(app.scopes), 4):
        said = [{key: scope[key] for key in scope if key != "client"} for scope in app.scopes[start : start + 4]]
        assert said[0] == said[1] == said[2] == said[3]
        assert (
            len({id(scope["headers"]) for scope in app.scopes[start : start + 4]}) == 4
        )  # nobody's changes reach others
