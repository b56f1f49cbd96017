"""A whole stream of requests, heads and bodies, valid and not: however it is cut, the same is read from it (S7)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.body import Body, ChunkedBody, body_of
from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadLimits, HeadReader
from tests.unit.http.cuts import CHANGES, CUTS, changed, pieces, single

LIMITS = HeadLimits(line_bytes=60, head_bytes=300, count=5)
BODY_BYTES = 400


class Reader:
    """Reads requests as a connection does: a head, its body, and only then the next head. Keeps what it has read."""

    def __init__(self) -> None:
        self.read: list[dict[str, Any]] = []
        self._heads = HeadReader(LIMITS)
        self._kept = b""
        self._body: Body | None = None

    def feed(self, data: bytes) -> None:
        """Take a piece. Raises: HttpError: nothing that follows is a request."""
        data, self._kept = self._kept + data, b""
        at = 0
        while True:
            body = self._body
            if body is not None:
                at = self._feed_body(body, data, at)
                if self._body is not None:
                    return
            head = self._heads.read(data, at)
            if head is None:
                self._kept = data[at:]
                return
            at = head.end
            self.read.append(facts(head))
            self._body = body_of(head.fields, BODY_BYTES)

    def _feed_body(self, body: Body, data: bytes, at: int) -> int:
        try:
            return body.feed(data, at)
        finally:
            self.read[-1]["body"] += body.take()
            if body.is_complete:
                self.read[-1]["trailers"] = body.trailers if isinstance(body, ChunkedBody) else []
                self._body = None

    @property
    def state(self) -> tuple[str, bytes]:
        """Where it is after the last byte, and the bytes of a head that is not whole."""
        return ("in a body", b"") if self._body is not None else ("before a head", self._kept)


def facts(head: Head) -> dict[str, Any]:
    """Return what an application would be told, and a body that is to come."""
    return {
        "request": (head.method, head.target, head.version, head.keep_alive, head.expect_continue, head.upgrade),
        "fields": head.fields.pairs,
        "body": b"",
    }


def outcome(data: bytes, cuts: list[int]) -> tuple[list[dict[str, Any]], object]:
    """Return the requests in ``data``, and how it ends: with a status, or what is waited for."""
    reader = Reader()
    try:
        for piece in pieces(data, cuts):
            reader.feed(piece)
    except HttpError as error:
        return reader.read, error.status
    return reader.read, reader.state


def post(block: bytes, body: bytes, version: bytes = b"1.1") -> bytes:
    """Return a request with a body."""
    return b"POST /p HTTP/" + version + b"\r\nHost: a\r\n" + block + b"\r\n\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
VALID = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET /?x HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
    b"HEAD /%41 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    post(b"Content-Length: 0", b""),
    post(b"Content-Length: 5", b"hello"),
    post(b"Content-Length: 40", b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n\r\n"),
    post(b"Expect: 100-continue\r\nContent-Length: 3", b"abc", b"1.0"),
    post(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    post(CHUNKED, b"0\r\n\r\n"),
    post(CHUNKED, b"4;a=b\r\n\r\n\r\n\r\nA\r\n0123456789\r\n000\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"),
    post(CHUNKED, b"26\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n\r\n0\r\n\r\n"),
]
"""A request each, whole; joined in any order they are a stream of as many requests."""
INVALID = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET /\nHost: a\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /" + b"a" * 60 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 60 + b"\r\n",
    post(b"Content-Length: 401", b"hello"),
    post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    post(b"Transfer-Encoding: gzip", b""),
    post(CHUNKED, b"5\r\nhelloX\r\n0\r\n\r\n"),
    post(CHUNKED, b"3\r\nabc\r\n5 \r\nhello\r\n0\r\n\r\n"),
    post(CHUNKED, b"3\r\nabc\r\n191\r\nhello"),
    post(CHUNKED, b"3\r\nabc\r\n0\r\nX : 1\r\n\r\n"),
    post(CHUNKED, b"0\r\nX: 1\rY\r\n\r\n"),
    post(CHUNKED, b"0\r\n" + b"X: 1\r\n" * 33 + b"\r\n"),
    post(CHUNKED, b"3\r\nabc\r\n0\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
]
"""What ends the connection, with some status, at some byte of it."""
BITS = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b" ", b"0", b"1", b";", b":", b"g"]
ORDER = st.binary(min_size=1, max_size=5)


def joined(order: bytes, requests: list[bytes]) -> bytes:
    """Return the requests that ``order`` names, in that order."""
    return b"".join(requests[each % len(requests)] for each in order)


@settings(max_examples=60, deadline=None)
@given(ORDER, CUTS)
def test_valid_stream_is_read_as_so_many_requests(order: bytes, cuts: list[int]) -> None:
    """What was written is what is read, each request as it is read alone, and nothing of a body is a request."""
    alone = [outcome(VALID[each % len(VALID)], [])[0] for each in order]
    assert all(len(requests) == 1 for requests in alone)
    data = joined(order, VALID)
    for each in (cuts, [], single(data)):
        assert outcome(data, each) == ([request for requests in alone for request in requests], ("before a head", b""))


@settings(max_examples=100, deadline=None)
@given(ORDER, CHANGES, st.integers(0, 9), CUTS)
def test_changed_stream_has_one_outcome(order: bytes, changes: list[bytes], missing: int, cuts: list[int]) -> None:
    """Of bad requests among good ones, with bytes changed: the same requests, bodies and status for any cut."""
    data = changed(joined(order, VALID + INVALID), changes, BITS)
    data = data[: len(data) - missing]
    whole = outcome(data, [])
    assert outcome(data, cuts) == whole
    assert outcome(data, single(data)) == whole


def test_bad_request_ends_the_stream() -> None:
    """A status, wherever it is cut in two; what came before it was read, what comes behind it is not."""
    for bad in INVALID:
        data = VALID[0] + bad + VALID[0] * 2
        requests, status = outcome(data, [])
        assert isinstance(status, int) and len(requests) <= 2 and requests[0] == outcome(VALID[0], [])[0][0], bad
        cuts = range(0, len(data), 1 + len(data) // 200)
        assert [cut for cut in cuts if outcome(data, [cut]) != (requests, status)] == [], bad


def test_no_smuggled_request_is_read() -> None:
    """What looks like a request in a body is a body's, in every place of a stream."""
    read, _ = outcome(joined(bytes(range(len(VALID))) * 2, VALID), [])
    assert len(read) == 2 * len(VALID)
    assert not [request for request in read if b"smuggled" in request["request"][1]]
    assert sum(b"smuggled" in request["body"] for request in read) == 4
