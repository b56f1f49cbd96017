"""Responses, in the order of RFC 9112 and RFC 9110; S: the case of the security list."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadLimits, HeadReader
from hybrid.http.response import Response
from hybrid.http.status import refusal

STANDING = b"date: now\r\nserver: hybrid\r\n"
Pairs = list[tuple[bytes, bytes]]


def head(method: str = "GET", version: str = "1.1", keep_alive: bool = True) -> Head:
    """Return the head of a request, as far as a response looks at it."""
    connection = (
        b"" if keep_alive == (version == "1.1") else b"Connection: %b\r\n" % (b"keep-alive" if keep_alive else b"close")
    )
    data = b"%b / HTTP/%b\r\nHost: a\r\n%b\r\n" % (method.encode(), version.encode(), connection)
    read = HeadReader(HeadLimits()).read(data, 0)
    assert read is not None
    return read


def whole(
    status: int, headers: Pairs, *pieces: bytes, request: Head | None = None, **start: Any
) -> tuple[bytes, Response]:
    """Return all that is written for a response, and the response."""
    response = Response(request or head())
    response.start(status, headers, STANDING, **start)
    written = b"".join([response.body(piece, True) for piece in pieces[:-1]] + [response.body(pieces[-1], False)])
    return written, response


LENGTH: Pairs = [(b"content-length", b"5")]


def test_response_of_known_length() -> None:
    """§6.2: head and body in one piece of bytes; names as the application wrote them."""
    written, response = whole(200, [(b"X-One", b"1"), *LENGTH], b"hello")
    assert written == b"HTTP/1.1 200 OK\r\nX-One: 1\r\ncontent-length: 5\r\n" + STANDING + b"\r\nhello"
    assert response.is_complete and not response.must_close


def test_response_of_unknown_length_is_chunked() -> None:
    """§7.1: an empty piece in the middle is no last chunk."""
    written, response = whole(200, [], b"one", b"", b"two", b"")
    assert written.endswith(b"transfer-encoding: chunked\r\n" + STANDING + b"\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert not response.must_close


def test_old_clients_get_what_they_understand() -> None:
    """1.0: closed at the end, or kept alive when the length is known and it was asked for."""
    written, response = whole(200, [], b"one", b"two", request=head(version="1.0"))
    assert written.endswith(b"connection: close\r\n\r\nonetwo") and b"chunked" not in written and response.must_close
    written, response = whole(200, LENGTH, b"hello", request=head(version="1.0", keep_alive=True))
    assert b"connection: keep-alive\r\n" in written and not response.must_close


@pytest.mark.parametrize(
    ("status", "method", "keeps_length"), [(200, "HEAD", True), (204, "GET", False), (304, "GET", True)]
)
def test_response_without_a_body(status: int, method: str, keeps_length: bool) -> None:
    """S17: whatever the application sends, and with the length that a body would have had, but for 204."""
    written, response = whole(status, LENGTH, b"hello", request=head(method))
    assert written.endswith(b"\r\n\r\n") and (b"content-length: 5" in written) is keeps_length
    assert b"chunked" not in written and response.is_complete and not response.must_close
    assert b"ength" not in whole(status, [], b"hello", request=head(method))[0], "of a length nothing is known"


@pytest.mark.parametrize("headers", [[], LENGTH, [(b"Content-Length", b"0")]])
def test_reset_content_has_no_bytes(headers: Pairs) -> None:
    """S17, RFC 9110 §15.3.6: a 205 says so, whatever the application says and sends; the connection stays."""
    for request in (head(), head("HEAD"), head(version="1.0"), head("HEAD", "1.0")):
        written, response = whole(205, headers, b"hel", b"lo", request=request)
        assert written.endswith(b"\r\n\r\n") and b"chunked" not in written
        assert written.lower().count(b"content-length:") == written.count(b"content-length: 0\r\n") == 1
        assert response.is_complete and not response.must_close


def test_every_status_has_a_reason() -> None:
    """§4: known ones their own, others that of their class."""
    for status, line in [
        (404, b"404 Not Found"),
        (299, b"299 Success"),
        (599, b"599 Server Error"),
        (999, b"999 Unknown"),
    ]:
        assert whole(status, LENGTH, b"hello")[0].startswith(b"HTTP/1.1 " + line + b"\r\n")


@pytest.mark.parametrize("status", [0, 99, 101, 199, 1000, -200])
def test_impossible_status_is_an_error(status: int) -> None:
    """A final response has 200 to 999."""
    with pytest.raises(ValueError, match="cannot respond with status"):
        Response(head()).start(status, [], STANDING)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((b"x", value) for value in (b"a\r\nb: c", b"a\nb", b"a\rb", b"\x00", b"\x7f")),
        *((name, b"a") for name in (b"x\r\ny", b"", b"x y", b"x:", "ü".encode())),
    ],
)
def test_response_cannot_be_split(name: bytes, value: bytes) -> None:
    """S14, S15: in the head, in trailers, in a 103; nothing is written."""
    response = Response(head())
    with pytest.raises(ValueError, match="cannot send"):
        response.informational(103, [(name, value)])
    with pytest.raises(ValueError, match="cannot send"):
        response.start(200, [(name, value)], STANDING)
    assert not response.has_begun
    response.start(200, [], STANDING, trailers=True)
    response.body(b"", False)
    with pytest.raises(ValueError, match="cannot send"):
        response.trailers([(name, value)], False)


def test_framing_is_ours() -> None:
    """§6.1: an application's Transfer-Encoding is dropped; its Content-Length is one number."""
    written, _ = whole(200, [(b"Transfer-Encoding", b"chunked"), *LENGTH], b"hello")
    assert b"ransfer" not in written
    assert whole(200, [*LENGTH, *LENGTH], b"hello")[0].count(b"content-length") == 1
    for bad in ([*LENGTH, (b"Content-Length", b"6")], [(b"content-length", b"-1")], [(b"content-length", b"5, 5")]):
        with pytest.raises(ValueError, match="cannot send content-length"):
            Response(head()).start(200, bad, STANDING)


@pytest.mark.parametrize(("pieces", "says"), [((b"hell",), "1 bytes shorter"), ((b"hello", b"!"), "1 bytes longer")])
def test_body_has_its_length(pieces: tuple[bytes, ...], says: str) -> None:
    """§6.3: a wrong length would shift the next response."""
    with pytest.raises(RuntimeError, match=says):
        whole(200, LENGTH, *pieces)


def test_end_of_the_connection_is_said_once() -> None:
    """§9.6: when the client wants it, the server, or the application."""
    for written, response in (
        whole(200, LENGTH, b"hello", request=head(keep_alive=False)),
        whole(200, LENGTH, b"hello", close=True),
        whole(200, [*LENGTH, (b"Connection", b"Close")], b"hello"),
    ):
        assert written.lower().count(b"connection: close\r\n") == 1 and response.must_close


def test_application_may_say_date_and_server_itself() -> None:
    """Then ours is left out, that one only."""
    written, _ = whole(200, [*LENGTH, (b"Date", b"then")], b"hello")
    assert b"Date: then\r\n" in written and b"date: now" not in written and b"server: hybrid\r\n" in written


def test_trailers_end_a_chunked_body() -> None:
    """§7.1.2, where they were announced; in several messages."""
    response = Response(head())
    response.start(200, [], STANDING, trailers=True)
    assert response.body(b"one", False).endswith(b"\r\n\r\n3\r\none\r\n") and not response.is_complete
    assert response.trailers([(b"x-sum", b"1")], True) == b""
    assert response.trailers([(b"x-two", b"2")], False) == b"0\r\nx-sum: 1\r\nx-two: 2\r\n\r\n"
    assert response.is_complete


def test_early_hints_come_before() -> None:
    """RFC 8297: a 103 of its own, and not after the start."""
    response = Response(head())
    assert response.informational(103, [(b"link", b"</a>")]) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    response.start(200, [], STANDING)
    with pytest.raises(RuntimeError, match="after"):
        response.informational(103, [])


def test_messages_out_of_order_are_errors() -> None:
    """Body before start, start twice, anything after the end, trailers that nobody announced."""
    response = Response(head())
    with pytest.raises(RuntimeError, match=r"before http\.response\.start"):
        response.body(b"", False)
    response.start(200, [], STANDING)
    with pytest.raises(RuntimeError, match="started already"):
        response.start(200, [], STANDING)
    with pytest.raises(RuntimeError, match=r"trailers was sent"):
        response.trailers([], False)
    response.body(b"", False)
    with pytest.raises(RuntimeError, match="after the end"):
        response.body(b"", False)


def test_refusal_is_a_whole_response_that_says_little() -> None:
    """The message of the error is for the log: it may quote what the peer sent."""
    said = refusal(HttpError(400, "not a header field: <script>"))
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b"script" not in said
    assert b"connection: close\r\n" in said and said.endswith(b"\r\n\r\nBad Request\n")
    assert b"content-length: 12\r\n" in said


def test_refused_piece_was_not_said() -> None:
    """S14: an application that goes on after an error shifts no later response: what was not sent is not counted."""
    response = Response(head())
    response.start(200, LENGTH, STANDING)
    for piece, more in ((b"hel", False), (b"hello!", True)):
        with pytest.raises(RuntimeError, match="than its content-length"):
            response.body(piece, more)
    with pytest.raises(RuntimeError, match="3 bytes shorter"):
        response.body(b"lo", False)
    assert not response.is_complete and not response.has_begun
    assert response.body(b"hello", False).endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("length", [LENGTH, []])
def test_body_is_bytes(length: Pairs) -> None:
    """Text is refused before anything changes, also behind the first piece; what holds bytes is taken."""
    response = Response(head())
    response.start(200, length, STANDING)
    response.body(b"he", True)
    with pytest.raises(TypeError, match="cannot send a body of type str"):
        response.body("llo", False)  # type: ignore[arg-type]  # what is tested
    assert not response.is_complete
    assert b"l" in response.body(bytearray(b"l"), True)
    assert b"lo" in response.body(memoryview(b"lo"), False) and response.is_complete


@pytest.mark.parametrize("place", [b"%b", b"a%bb", b"a%b"], ids=["alone", "inside", "last"])
def test_every_control_byte_is_refused(place: bytes) -> None:
    """S14: all but HTAB, wherever it stands, in whichever header."""
    refused = set()
    for byte in range(256):
        response = Response(head())
        try:
            response.start(200, [(b"x-one", b"1"), (b"content-type", place % bytes([byte])), *LENGTH], STANDING)
        except ValueError as error:
            assert "cannot send header b'content-type'" in str(error) and not response.has_begun
            refused.add(byte)
    assert refused == {*range(32), 127} - {9}


@pytest.mark.parametrize(
    ("value", "closes", "left"),
    [
        (b"close", True, b""),
        (b"Close, x-one", True, b"x-one"),
        (b"keep-alive", False, b""),
        (b"x-one,,Keep-Alive , x-two", False, b"x-one, x-two"),
        (b"x-disclosed", False, b"x-disclosed"),
    ],
)
@pytest.mark.parametrize("keep_alive", [True, False])
def test_connection_is_said_without_contradiction(value: bytes, closes: bool, left: bytes, keep_alive: bool) -> None:
    """§9.6: options are whole words; whether it closes is ours to say; the rest stays the application's."""
    written, response = whole(200, [*LENGTH, (b"Connection", value)], b"hello", request=head(keep_alive=keep_alive))
    assert response.must_close is (closes or not keep_alive)
    lines = [line for line in written.split(b"\r\n") if line.lower().startswith(b"connection:")]
    assert lines == [b"Connection: " + left] * bool(left) + [b"connection: close"] * response.must_close


def test_trailers_that_cannot_be_carried_are_dropped() -> None:
    """RFC 9110 §6.5.1: without chunks, without an error: the application was told that it may send them."""
    for request, headers in ((head("HEAD"), []), (head(version="1.0"), []), (head(), LENGTH)):
        response = Response(request)
        response.start(200, headers, STANDING, trailers=True)
        response.body(b"hello", False)
        assert not response.is_complete
        assert response.trailers([(b"x-sum", b"1")], True) == response.trailers([], False) == b""
        assert response.is_complete


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"Connection", b"set-cookie", b"trailer"])
def test_trailer_that_steers_is_an_error(name: bytes) -> None:
    """S10: it belongs to the head; nothing is written."""
    response = Response(head())
    response.start(200, [], STANDING, trailers=True)
    response.body(b"one", False)
    with pytest.raises(ValueError, match="belongs to the head"):
        response.trailers([(name, b"5")], False)
    assert response.trailers([], False) == b"0\r\n\r\n"


@pytest.mark.parametrize("status", [99, 101, 200, 404])
def test_only_a_1xx_comes_before(status: int) -> None:
    """S15: a final status there would be a second response; 101 ends HTTP."""
    with pytest.raises(ValueError, match="before a response"):
        Response(head()).informational(status, [])


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"Connection"])
def test_1xx_has_no_framing(name: bytes) -> None:
    """S15, S17: RFC 9110 §8.6, RFC 9112 §6.1."""
    with pytest.raises(ValueError, match="belongs to the head"):
        Response(head()).informational(103, [(name, b"5")])


def test_old_clients_get_no_1xx() -> None:
    """RFC 9110 §15.2: MUST NOT."""
    assert Response(head(version="1.0")).informational(103, [(b"link", b"</a>")]) == b""


def test_refusal_has_the_standing_lines() -> None:
    """RFC 9110 §6.6.1: a server with a clock says the date in a 4xx."""
    said = refusal(HttpError(431, ""), STANDING)
    assert STANDING in said and said.endswith(b"\r\n\r\nRequest Header Fields Too Large\n")


@pytest.mark.parametrize("headers", [[("a", "b")], [(b"a", "b")], ["abc"], [(b"a", b"b", b"c")], [(b"a", 1)], [7]])
def test_headers_that_are_no_bytes_are_named(headers: Any) -> None:
    """Text for bytes is what applications get wrong most: the header is shown, and what it would have to be."""
    with pytest.raises(TypeError, match="both bytes"):
        Response(head()).start(200, headers, b"")
