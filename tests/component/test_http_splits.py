"""A stream of pipelined requests, cut anywhere: the answers are the same bytes, and so is what the application sees."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.component.http_wire import Wired, settle
from tests.unit.http.cuts import CUTS, pieces, single

GET = st.sampled_from(
    [
        b"GET /get?a=b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nHEAD /head HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40 + b"\r\n\r\n",
        b"GET /hint HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
)
LENGTH = st.sampled_from(
    [
        b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / HTTP/",
        b"POST /empty HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n" + b"GET /not HTTP/1.1\r\nHost: a\r\n\r\n.",
        b"POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n" + b"z" * 3000,
    ]
)
CODING = b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = st.sampled_from(
    [
        b"PUT /chunked" + CODING + b"3;x=y\r\nabc\r\nB\r\nGET / HTTP/\r\n0\r\n\r\n",
        b"PUT /trailer" + CODING + b"1\r\n.\r\n0\r\nX: y\r\nHost: b\r\n\r\n",
        b"PUT /early" + CODING + b"1\r\n.\r\n2\r\n..\r\n0\r\n\r\n",
    ]
)
INVALID = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /bad path HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n",
        b"PUT /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ]
)
STREAM = st.one_of(
    st.tuples(GET, LENGTH, CHUNKED),
    st.tuples(GET, CHUNKED, INVALID),
    st.tuples(LENGTH, INVALID, GET),
    st.permutations([0, 1, 2]).flatmap(lambda order: st.tuples(*((GET, LENGTH, CHUNKED)[kind] for kind in order))),
).map(b"".join)


@dataclass(frozen=True)
class Outcome:
    """What was written, what the application saw, and how the connection ended."""

    written: bytes
    seen: tuple[tuple[str, str, bytes, object], ...]
    has_ended: bool


class Recorder:
    """Sees the requests; answers in the way that the path asks for."""

    def __init__(self, patience: int) -> None:
        self.seen: list[tuple[str, str, bytes, object]] = []
        self._patience = patience

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        path = scope["path"]
        for _ in range(self._patience):
            await asyncio.sleep(0)
        if path == "/early":
            self.seen.append((scope["method"], path, b"", scope["headers"]))
            await self._respond(send, b"early")
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.seen.append((scope["method"], path, b"left", scope["headers"]))
                return
            body += message["body"]
            more = message["more_body"]
        self.seen.append((scope["method"], path, body, scope["headers"]))
        if path == "/hint":
            await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await self._respond(send, body + scope["query_string"])

    async def _respond(self, send: Any, body: bytes) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})


async def outcome(data: bytes, cuts: list[int], patience: int, turns: int) -> Outcome:
    """Serve ``data`` in pieces."""
    app = Recorder(patience)
    async with Wired(app, limit_body_bytes=4000) as wired:
        await wired.feed_all(pieces(data, cuts), turns)
        for _ in range(patience):
            await settle()
        transport = wired.transport
        return Outcome(bytes(transport.written), tuple(app.seen), transport.has_ended or transport.lost is not None)


def served(data: bytes, cuts: list[int], patience: int = 0, turns: int = 0) -> Outcome:
    """Do :func:`outcome` in a loop of its own."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(outcome(data, cuts, patience, turns))
    finally:
        loop.close()


@given(data=STREAM, cuts=CUTS, patience=st.integers(0, 2), turns=st.integers(0, 4))
def test_cuts_change_nothing(data: bytes, cuts: list[int], patience: int, turns: int) -> None:
    """Whole or in pieces, at once or with turns of the loop between, with an application that takes some itself."""
    assert served(data, cuts, patience, turns) == served(data, [])


@given(data=STREAM, turns=st.integers(0, 1))
def test_single_bytes_change_nothing(data: bytes, turns: int) -> None:
    """The finest cut."""
    assert served(data, single(data), turns=turns) == served(data, [])


def test_every_kind_of_stream_has_answers() -> None:
    """The recorder is not blind: three answers to three requests, and none behind what is invalid."""
    data = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 2
    good = served(data + b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", [])
    assert good.written.count(b"HTTP/1.1 200 ") == 3 and len(good.seen) == 3 and not good.has_ended
    bad = served(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n" + data, [])
    assert bad.written.count(b"HTTP/1.1 ") == 2 and b"HTTP/1.1 400 " in bad.written and len(bad.seen) == 1
    assert bad.has_ended
