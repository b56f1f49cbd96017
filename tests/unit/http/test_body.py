"""Request bodies, in the order of RFC 9112 §6 and §7; S: the case of the security list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.http.body import Body, ChunkedBody, LengthBody, body_of
from hybrid.http.errors import HttpError
from hybrid.http.fields import parse_fields

BEHIND = b"GET / HTTP/1.1\r\n"


def decode(body: Body, data: bytes, cuts: list[int] | None = None) -> tuple[bytes, bytes]:
    """Feed ``data`` in pieces; return what was decoded, and what was left behind the end."""
    decoded, begun = b"", 0
    for cut in [*sorted({cut for cut in cuts or [] if 0 < cut < len(data)}), len(data)]:
        piece, begun = data[begun:cut], cut
        end = body.feed(piece, 0)
        decoded += body.take()
        if body.is_complete:
            return decoded, piece[end:] + data[cut:]
    return decoded, b""


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (b"", None),
        (b"Content-Length: 0", None),
        (b"Content-Length: 5", LengthBody),
        (b"Transfer-Encoding: chunked", ChunkedBody),
    ],
)
def test_head_says_whether_a_body_comes(block: bytes, kind: type | None) -> None:
    """§6.3: a request without either header has none."""
    body = body_of(parse_fields(block, 10), 0)
    assert body is None if kind is None else isinstance(body, kind)


def test_announced_length_over_the_limit_is_413() -> None:
    """Before a byte of it was read; one byte less is taken."""
    fields = parse_fields(b"Content-Length: 9", 10)
    assert isinstance(body_of(fields, 9), LengthBody)
    with pytest.raises(HttpError, match="a body of 9 bytes, 8 are allowed") as caught:
        body_of(fields, 8)
    assert caught.value.status == 413


@given(data=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(0, 320), max_size=8))
def test_length_ends_where_it_says(data: bytes, cuts: list[int]) -> None:
    """§6.2: not a byte more, however the bytes are cut (S7)."""
    assert decode(LengthBody(len(data)), data + BEHIND, cuts) == (data, BEHIND)


def test_body_may_begin_anywhere_in_the_data() -> None:
    """As it does, behind its head."""
    for body in (LengthBody(5), ChunkedBody()):
        data = b"head" + (b"hello" if isinstance(body, LengthBody) else b"5\r\nhello\r\n0\r\n\r\n") + BEHIND
        end = body.feed(data, 4)
        assert (body.take(), data[end:], body.is_complete) == (b"hello", BEHIND, True)


CHUNKED = {
    "one": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "two": (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    "none": (b"0\r\n\r\n", b""),
    "hexadecimal": (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "zeros": (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "extension": (b"5;name=value;x\r\nhello\r\n0;last\r\n\r\n", b"hello"),
    "quoted extension": (b'5;a="b c"\r\nhello\r\n0\r\n\r\n', b"hello"),
    "trailer": (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello"),
    "line ends inside": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
}


@pytest.mark.parametrize(("data", "wanted"), CHUNKED.values(), ids=CHUNKED)
def test_chunks_are_decoded_however_they_are_cut(data: bytes, wanted: bytes) -> None:
    """§7.1: whole, byte by byte, and cut in two at every place."""
    assert decode(ChunkedBody(), data + BEHIND) == (wanted, BEHIND)
    assert decode(ChunkedBody(), data + BEHIND, list(range(len(data) + 1))) == (wanted, BEHIND)
    for cut in range(1, len(data)):
        assert decode(ChunkedBody(), data + BEHIND, [cut]) == (wanted, BEHIND)


BAD = {
    "S4 no size": b"\r\nhello\r\n0\r\n\r\n",
    "S4 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "S4 plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "S4 minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "S4 underscore": b"1_0\r\nhello world 1234\r\n0\r\n\r\n",
    "S4 no digit": b"5g\r\nhello\r\n0\r\n\r\n",
    "S4 above 2^64": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "S4 blank before": b" 5\r\nhello\r\n0\r\n\r\n",
    "S4 blank behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "S4 blank before the semicolon": b"5 ;a\r\nhello\r\n0\r\n\r\n",
    "S4 more than the size": b"5\r\nhelloX\r\n0\r\n\r\n",
    "S4 chunk ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "S4 chunk ends in CR": b"5\r\nhello\rX0\r\n\r\n",
    "S5 line ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "S5 bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "S5 bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "S5 NUL in an extension": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "S5 long extension": b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n",
    "S5 long extension that does not end": b"5;" + b"a" * 300,
    "S10 bad trailer": b"0\r\nX : 1\r\n\r\n",
    "S10 folded trailer": b"0\r\nX: 1\r\n 2\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
@pytest.mark.parametrize("step", [1, 1000])
def test_bad_framing_is_refused(data: bytes, step: int) -> None:
    """400, whole or byte by byte."""
    with pytest.raises(HttpError) as caught:
        decode(ChunkedBody(), data, list(range(0, len(data), step)))
    assert caught.value.status == 400


def test_half_an_end_is_no_end() -> None:
    """S6: after ``0 CRLF`` the last CRLF is still to come."""
    body = ChunkedBody()
    assert body.feed(b"5\r\nhello\r\n0\r\n", 0) == 13
    assert (body.take(), body.is_complete) == (b"hello", False)
    assert body.feed(b"\r", 0) == 1 and not body.is_complete
    assert body.feed(b"\n" + BEHIND, 0) == 1 and body.is_complete


def test_decoded_size_is_limited() -> None:
    """413 as soon as the sizes add up to more, before their bytes come."""
    body = ChunkedBody(limit_bytes=8)
    body.feed(b"8\r\n12345678\r\n", 0)
    with pytest.raises(HttpError, match="at least 9 bytes, 8 are allowed") as caught:
        body.feed(b"1\r\n", 0)
    assert caught.value.status == 413


def test_large_chunk_is_handed_on_as_it_comes() -> None:
    """It is never gathered: what was taken is gone."""
    body = ChunkedBody()
    body.feed(b"FFFFFFF\r\n", 0)
    for _ in range(100):
        assert body.feed(b"x" * 1000, 0) == 1000
        assert body.take() == b"x" * 1000
    assert body.take() == b""


def test_flood_of_tiny_chunks_is_refused() -> None:
    """S21, S22: framing may not cost many times what it carries; a byte to a chunk is allowed."""
    body = ChunkedBody()
    for _ in range(20_000):
        body.feed(b"1\r\nx\r\n", 0)
    body = ChunkedBody()
    with pytest.raises(HttpError, match="bytes of chunk framing") as caught:
        for _ in range(200):
            body.feed(b"1;" + b"a" * 200 + b"\r\nx\r\n", 0)
    assert caught.value.status == 400


def test_trailers_are_kept_but_for_those_that_steer() -> None:
    """S10: what frames, routes or authenticates is dropped; count and size are limited."""
    body = ChunkedBody()
    body.feed(b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\nAuthorization: me\r\nHost: b\r\n\r\n", 0)
    assert body.is_complete and body.trailers == [(b"x-sum", b"1")]
    for flood in (b"0\r\n" + b"X: 1\r\n" * 40 + b"\r\n", b"0\r\nX: " + b"a" * 9000):
        with pytest.raises(HttpError) as caught:
            ChunkedBody().feed(flood, 0)
        assert caught.value.status == 431


@given(pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=6), cuts=st.lists(st.integers(0, 500), max_size=10))
def test_any_split_yields_the_same(pieces: list[bytes], cuts: list[int]) -> None:
    """What comes out does not depend on how it came in."""
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert decode(ChunkedBody(), data + BEHIND, cuts) == (b"".join(pieces), BEHIND)
