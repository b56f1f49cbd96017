"""Request bodies, in the order of RFC 9112 §6 and §7; S: the case of the security list."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.http.body import Body, ChunkedBody, LengthBody, body_of
from hybrid.http.errors import HttpError
from hybrid.http.fields import parse_fields
from tests.support.build import pure_only
from tests.unit.http.cuts import CUTS, pieces, single

BEHIND = b"GET / HTTP/1.1\r\n"


def decode(body: Body, data: bytes, cuts: list[int] | None = None) -> tuple[bytes, bytes]:
    """Feed ``data`` in pieces; return what was decoded, and what was left behind the end."""
    decoded, left = b"", pieces(data, cuts or [])
    while left:
        piece = left.pop(0)
        end = body.feed(piece, 0)
        decoded += body.take()
        if body.is_complete:
            return decoded, piece[end:] + b"".join(left)
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


@given(data=st.binary(min_size=1, max_size=300), cuts=CUTS)
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
    assert decode(ChunkedBody(), data + BEHIND, single(data)) == (wanted, BEHIND)
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


@pytest.mark.parametrize("step", [1, 1000])
def test_bad_framing_is_refused(step: int) -> None:
    """400, whole or byte by byte."""
    found = {name: outcome(data, list(range(0, len(data), step))) for name, data in BAD.items()}
    assert found == dict.fromkeys(BAD, 400)


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


@given(chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=6), cuts=CUTS)
def test_any_split_yields_the_same(chunks: list[bytes], cuts: list[int]) -> None:
    """What comes out does not depend on how it came in."""
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert decode(ChunkedBody(), data + BEHIND, cuts) == (b"".join(chunks), BEHIND)


def outcome(data: bytes, cuts: list[int]) -> object:
    """Return what is decoded, left and kept of ``data``, or the status that refuses it."""
    body = ChunkedBody(limit_bytes=100_000)
    try:
        return (*decode(body, data, cuts), body.is_complete, body.trailers)
    except HttpError as error:
        return error.status


@given(
    lines=st.lists(
        st.sampled_from(
            [b"1", b"5", b"0", b"\r\n", b"\r", b"\n", b"hello", b"x", b";a", b"X: 1", b"X: 1\r\n" * 33, b"a" * 250]
        ),
        max_size=12,
    ),
    cuts=CUTS,
)
def test_any_split_has_the_same_outcome(lines: list[bytes], cuts: list[int]) -> None:
    """Of what is no body, too: the same status, whole, cut anywhere, and byte by byte."""
    data = b"5\r\nhello\r\n0\r\n" * (len(lines) % 2) + b"".join(lines)
    assert outcome(data, cuts) == outcome(data, []) == outcome(data, single(data))


def test_bound_on_framing_does_not_depend_on_the_cuts() -> None:
    """S22: a large chunk behind a flood does not excuse it when both come at once."""
    data = b"1;%b\r\nx\r\n" % (b"e" * 250) * 100 + b"10000\r\n" + b"y" * 65536 + b"\r\n0\r\n\r\n"
    assert outcome(data, []) == outcome(data, list(range(0, len(data), 100))) == 400


@pytest.mark.parametrize(
    "data",
    [b"g", b" ", b"5 ", b"5g", b"5;\n", b"5\n", b"5\rx", b"8000000000000000", b"0\r\n\n", b"0\r\nX: 1\n", b"0\r\nX\r1"],
)
def test_what_cannot_become_right_is_refused_at_once(data: bytes) -> None:
    """S4, S5: with the byte that is wrong, not when the line is whole: nobody waits for more."""
    body = ChunkedBody()
    for index in range(len(data) - 1):
        body.feed(data[index : index + 1], 0)
    with pytest.raises(HttpError) as caught:
        body.feed(data[-1:], 0)
    assert caught.value.status == 400


def test_fault_in_a_trailer_comes_before_their_number() -> None:
    """S10: or the status would depend on how they were cut."""
    data = b"0\r\n" + b"X: 1\r\n" * 40 + b"X: 1\r\r\n\r\n"
    assert outcome(data, []) == outcome(data, single(data)) == 400


def test_largest_size_is_one_that_others_can_count() -> None:
    """S4: 2^63 - 1 is taken, one more is not."""
    ChunkedBody().feed(b"7FFFFFFFFFFFFFFF\r\n", 0)
    assert outcome(b"8000000000000000\r\n", []) == 400


@pytest.mark.parametrize("field", [b"Expect: x", b"Transfer-Encoding: gzip", b"Content-Length: x", b"Host: a b"])
def test_wrong_field_in_a_trailer_is_400(field: bytes) -> None:
    """S10: not the 417 or 501 that it would be in a head, where it would ask for something."""
    assert outcome(b"0\r\n%b\r\n\r\n" % field, []) == 400


@pytest.mark.parametrize(
    "field", [b"X-Forwarded-For: 1", b"x-forwarded-anything: 1", b"X-Real-IP: 1", b"Keep-Alive: 1", b"Proxy: 1"]
)
def test_trailer_that_steers_is_dropped(field: bytes) -> None:
    """S10: what a proxy would have set, or a connection would obey."""
    body = ChunkedBody()
    body.feed(b"0\r\n%b\r\nX-Sum: 1\r\n\r\n" % field, 0)
    assert body.is_complete and body.trailers == [(b"x-sum", b"1")]


def test_what_was_fed_may_change_afterwards() -> None:
    """A bytearray that is filled again does not change what was decoded from it."""
    for body, wire in ((LengthBody(5), b"hello"), (ChunkedBody(), b"5\r\nhello\r\n0\r\n\r\n")):
        data = bytearray(wire)
        assert body.feed(data, 0) == len(wire)
        data[:] = b"X" * len(wire)
        decoded = body.take()
        assert type(decoded) is bytes and decoded == b"hello"


class Counted(bytes):
    """Bytes that count how many of them are copied and how many are searched, in whatever is cut from them, too."""

    copied = 0
    searched = 0

    def __bytes__(self) -> Counted:
        """Return the same: of what is bytes already no copy is made."""
        return self

    def __getitem__(self, key: Any) -> Any:
        """Cut, and count the piece."""
        found = super().__getitem__(key)
        return _copied(found) if isinstance(found, bytes) else found

    def __add__(self, other: Any) -> Counted:
        """Join, and count both."""
        return _copied(super().__add__(other))

    def __radd__(self, other: bytes) -> Counted:
        """Join, and count both."""
        return _copied(b"".join((other, self)))

    def find(self, sub: Any, start: Any = 0, stop: Any = sys.maxsize) -> int:
        """Search, and count what was looked at."""
        found = super().find(sub, start, stop)
        Counted.searched += (found if found >= 0 else min(stop, len(self))) - start
        return found


def _copied(made: bytes) -> Counted:
    Counted.copied += len(made)
    return Counted(made)


def work(begin: bytes, unit: bytes, times: int, step: int) -> tuple[int, int]:
    """Return how many bytes a body copies and searches while it takes ``times`` units, ``step`` bytes at once."""
    body, data = ChunkedBody(), unit * times
    body.feed(begin, 0)
    Counted.copied = Counted.searched = 0
    for at in range(0, len(data), step):
        body.feed(Counted(data[at : at + step]), 0)
    return Counted.copied, Counted.searched


FLOODS = {
    "chunks at once": (b"", b"1\r\nx\r\n", 4000, 24000),
    "chunks in pieces of seven": (b"", b"1\r\nx\r\n", 4000, 7),
    "chunks byte by byte": (b"", b"1\r\nx\r\n", 2000, 1),
    "data byte by byte": (b"FFFFFF\r\n", b"x", 8000, 1),
}


@pure_only
@pytest.mark.parametrize("flood", FLOODS)
def test_work_grows_as_the_bytes_do(flood: str) -> None:
    """S21: eight times the bytes are copied eight times as often, not sixty-four times. Counted, not timed."""
    begin, unit, times, step = FLOODS[flood]
    few, many = work(begin, unit, times // 8, step)[0], work(begin, unit, times, step)[0]
    assert times // 8 <= few, "the count sees nothing"
    assert many < 9 * few


def test_trailers_that_trickle_in_are_searched_once() -> None:
    """S21: byte by byte they cost as much as at once. They are joined anew each time, but they are 8 KiB at most."""
    assert 4000 <= work(b"0\r\n", b"X: 1\r\n", 1000, 1)[1] < 5 * 6000
