"""permessage-deflate: what is agreed on for which offer, and that what we send is what a client inflates."""

from __future__ import annotations

import re
import zlib
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.deflate import OURS, DeflateParameters, Deflater, Inflater, negotiate, parse_extensions
from hybrid.http.errors import HttpError, WebSocketError
from tests.unit.http.ws_deflate_corpus import AGAIN, HELLO
from tests.unit.http.ws_frames import Compressor

BEST = DeflateParameters(True, True, 15, 15)
"""What we agree to if the client asks for nothing."""
PD = b"permessage-deflate"

OFFERS: dict[str, tuple[bytes, DeflateParameters | None]] = {
    "7.1 nothing": (PD, BEST),
    "7.1.1.1 server_no_context_takeover": (PD + b"; server_no_context_takeover", BEST),
    "7.1.1.2 client_no_context_takeover": (PD + b"; client_no_context_takeover", BEST),
    "7.1.1.1 with a value": (PD + b"; server_no_context_takeover=1", None),
    "7.1.1.2 with a value": (PD + b"; client_no_context_takeover=true", None),
    "7.1.1.1 with an empty quoted value": (PD + b'; client_no_context_takeover="x"', None),
    **{
        f"7.1.2.1 server_max_window_bits={bits}": (
            PD + b"; server_max_window_bits=%d" % bits,
            DeflateParameters(True, True, min(12, bits), 15),
        )
        for bits in range(8, 16)
    },
    **{
        f"7.1.2.2 client_max_window_bits={bits}": (
            PD + b"; client_max_window_bits=%d" % bits,
            DeflateParameters(True, True, 15, bits),
        )
        for bits in range(8, 16)
    },
    "7.1.2.2 client_max_window_bits": (PD + b"; client_max_window_bits", BEST),
    "7.1.2.1 without a value": (PD + b"; server_max_window_bits", None),
    **{
        f"7.1.2 {side}_max_window_bits={value.decode()}": (
            PD + b"; %b_max_window_bits=%b" % (side.encode(), value),
            None,
        )
        for side in ("server", "client")
        for value in (b"0", b"7", b"16", b"-8", b"08", b"010", b"1e1", b"1_0", b"99999999999999999999", b"x", b"15.0")
    },
    "7.1 unknown parameter": (PD + b"; foo", None),
    "7.1 unknown parameter with a value": (PD + b"; foo=1; client_max_window_bits", None),
    "7.1 a parameter in another case": (PD + b"; Client_Max_Window_Bits", None),
    "7.1 twice, alike": (PD + b"; server_no_context_takeover; server_no_context_takeover", None),
    "7.1 twice, differently": (PD + b"; client_max_window_bits=10; client_max_window_bits=11", None),
    "7.1 twice, once without a value": (PD + b"; client_max_window_bits; client_max_window_bits=11", None),
    "7.1 all": (
        PD + b"; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10"
        b"; client_max_window_bits=9",
        DeflateParameters(True, True, 10, 9),
    ),
    "5.1 the first acceptable one": (
        PD + b"; foo, " + PD + b"; server_max_window_bits=9, " + PD,
        DeflateParameters(True, True, 9, 15),
    ),
    "5.1 none acceptable": (PD + b"; foo, " + PD + b"; server_max_window_bits=7", None),
    "5.1 after an unknown extension": (b"foo; bar=1, " + PD, BEST),
    "9.1 an unknown extension": (b"foo", None),
    "9.1 another name": (b"permessage-deflate2", None),
    "9.1 a name in another case": (b"Permessage-Deflate", None),
    "9.1 WebKit's": (b"x-webkit-deflate-frame", None),
    "9.1 a browser's": (PD + b"; client_max_window_bits", BEST),
    "9.1 nothing at all": (b"", None),
    "9.1 blanks": (b" \t ", None),
    "9.1 commas": (b", ,,", None),
    "9.1 doubled commas": (b",, foo ,, " + PD + b" ,,", BEST),
    "9.1 no blanks": (PD + b";server_max_window_bits=10;client_max_window_bits", DeflateParameters(True, True, 10, 15)),
    "9.1 many blanks": (
        b" \t" + PD + b" \t; \tserver_max_window_bits \t= \t10 \t",
        DeflateParameters(True, True, 10, 15),
    ),
    "9.1 a quoted value": (PD + b'; server_max_window_bits="10"', DeflateParameters(True, True, 10, 15)),
    "9.1 a quoted value with a pair": (PD + b'; server_max_window_bits="1\\0"', DeflateParameters(True, True, 10, 15)),
    "9.1 a quoted value that is wrong": (PD + b'; server_max_window_bits="7"', None),
    "9.1 a quoted token of an unknown extension": (b'foo; a="b", ' + PD, BEST),
}
"""Sec-WebSocket-Extensions → what is agreed on. RFC 7692's sections; 9.1 is RFC 6455's."""

MALFORMED: dict[str, bytes] = {
    "no name": b"; a",
    "a name with a value": b"foo=1",
    "two names": b"foo bar",
    "no parameter": b"foo;",
    "no parameter, then an extension": b"foo;, " + PD,
    "an empty parameter": b"foo; ; a",
    "two parameters without a semicolon": b"foo; a b",
    "no value": b"foo; a=",
    "no value, then another": b"foo; a=; b",
    "a value that is no token": b"foo; a=b/c",
    "two values": b"foo; a=b=c",
    "a quote that is not closed": b'foo; a="b',
    "a quote that is escaped": b'foo; a="b\\"',
    "a quoted value that is no token": b'foo; a="b c"',
    "a quoted list": b'foo; a="b,c"',
    "an empty quoted value": b'foo; a=""',
    "a quote, then more": b'foo; a="b"c',
    "a quoted name": b'"foo"',
    "obs-text": b"f\xfcr",
    "quoted obs-text": b'foo; a="\xfc"',
    "a slash": b"foo/1",
    "a semicolon alone": b";",
    "an equals sign alone": b"=",
    "after a good one": PD + b", =",
    "a name in parentheses": b"(foo)",
}


@pytest.mark.parametrize(("value", "agreed"), OFFERS.values(), ids=OFFERS)
def test_offer(value: bytes, agreed: DeflateParameters | None) -> None:
    """What is agreed on, or that the offer is declined."""
    assert negotiate(value) == agreed


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("before", [b"", PD + b", "])
def test_malformed_header_is_refused(value: bytes, before: bytes) -> None:
    """RFC 6455 §9.1: whoever sends what is no list has failed, whatever stands before it."""
    with pytest.raises(HttpError, match="not a list of WebSocket extensions") as caught:
        negotiate(before + value)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("agreed", "text"),
    [
        (DeflateParameters(), b""),
        (DeflateParameters(server_no_context_takeover=True), b"; server_no_context_takeover"),
        (DeflateParameters(client_no_context_takeover=True), b"; client_no_context_takeover"),
        (DeflateParameters(server_max_window_bits=8), b"; server_max_window_bits=8"),
        (DeflateParameters(client_max_window_bits=14), b"; client_max_window_bits=14"),
        (
            DeflateParameters(True, True, 9, 10),
            b"; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9"
            b"; client_max_window_bits=10",
        ),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
def test_response(agreed: DeflateParameters, text: bytes) -> None:
    """RFC 7692 §7.1: only what differs from what holds when nothing is said."""
    assert agreed.response == PD + text


@pytest.mark.parametrize("offered", [value for value, agreed in OFFERS.values() if agreed is not None])
def test_response_says_nothing_that_the_client_did_not_offer(offered: bytes) -> None:
    """§7.1.2: a client that never spoke of windows is not told about them; whoever asked for one is told."""
    agreed = negotiate(offered)
    assert agreed is not None
    acceptable = b"," not in offered.strip(b", ")
    for side in (b"server", b"client"):
        name = side + b"_max_window_bits"
        assert name not in agreed.response or name in offered
        if side == b"server" and name in offered and acceptable:
            assert name in agreed.response


TAKEOVER = list(product((False, True), (False, True)))


@pytest.mark.parametrize(("asked", "wished"), list(product(TAKEOVER, TAKEOVER)))
def test_either_side_ends_takeover(asked: tuple[bool, bool], wished: tuple[bool, bool]) -> None:
    """§7.1.1: what the client asks for is granted, what we wish for is said; nobody else gives it up."""
    names = (b"; server_no_context_takeover", b"; client_no_context_takeover")
    offer = PD + b"".join(name for name, is_asked in zip(names, asked, strict=True) if is_asked)
    agreed = negotiate(offer, DeflateParameters(*wished))
    assert agreed == DeflateParameters(asked[0] or wished[0], asked[1] or wished[1])


@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("wished", range(8, 16))
def test_smaller_window_wins(bits: int, wished: int) -> None:
    """§7.1.2: ours is never larger than asked for, theirs never larger than they offer."""
    offer = PD + b"; server_max_window_bits=%d; client_max_window_bits=%d" % (bits, bits)
    least = min(bits, wished)
    assert negotiate(offer, DeflateParameters(False, False, wished, wished)) == DeflateParameters(
        False, False, least, least
    )


# ── what is sent ───────────────────────────────────────────────────────────────────────────────────────────────────

MESSAGES = [
    *(b"", b"x", b"Hello", b"Hello", b"", b"", bytes(range(256)) * 40, b"Hello"),
    *(b'{"id": 1, "name": "first", "on": true}' * 200, b"\0" * 70_000, bytes(range(256)) * 40),
]


def inflated(stream: zlib._Decompress, payload: bytes) -> bytes:
    """Return what a client makes of a payload: §7.2.2."""
    return stream.decompress(payload + b"\0\0\xff\xff")


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("bits", range(8, 16))
def test_client_inflates_what_is_sent(bits: int, alone: bool) -> None:
    """§7.2.1, with each window, also that of 8 bits, which zlib cannot make; with and without takeover."""
    deflater = Deflater(DeflateParameters(server_no_context_takeover=alone, server_max_window_bits=bits))
    stream = zlib.decompressobj(-bits)
    for message in MESSAGES * 2:
        if alone:
            stream = zlib.decompressobj(-bits)
        payload = deflater.deflate(message)
        assert payload
        assert not payload.endswith(b"\0\0\xff\xff")
        assert inflated(stream, payload) == message
        assert not stream.unused_data


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=40).map(lambda seed: seed * 40), max_size=8), st.sampled_from([8, 9]))
def test_smallest_windows_hold(messages: list[bytes], bits: int) -> None:
    """A client with a window of 256 bytes inflates whatever zlib makes for 512."""
    deflater = Deflater(DeflateParameters(server_max_window_bits=bits))
    stream = zlib.decompressobj(-bits)
    for message in messages:
        assert inflated(stream, deflater.deflate(message)) == message


def test_takeover_makes_the_second_message_smaller() -> None:
    """§7.2.3.2, the RFC's own bytes; without takeover the first ones again."""
    shared, alone = Deflater(DeflateParameters()), Deflater(OURS)
    assert [shared.deflate(b"Hello") for _ in range(2)] == [HELLO, AGAIN]
    assert [alone.deflate(b"Hello") for _ in range(2)] == [HELLO, HELLO]


def test_nothing_is_one_byte() -> None:
    """§7.2.3.6; also after nothing, where a flush alone would make no byte at all."""
    deflater = Deflater(DeflateParameters())
    assert [deflater.deflate(b"") for _ in range(3)] == [b"\0"] * 3


# ── what is received ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_message_is_inflated_in_pieces(bits: int, alone: bool, step: int) -> None:
    """§7.2.2: with each window, however the payload is cut."""
    client = Compressor(bits, alone=alone)
    inflater = Inflater(DeflateParameters(client_no_context_takeover=alone, client_max_window_bits=bits))
    for message in MESSAGES[:9]:
        payload = client.deflate(message)
        made = b"".join(
            inflater.inflate(payload[at : at + step], len(message), False) for at in range(0, len(payload), step)
        )
        assert made + inflater.inflate(b"", len(message)) == message


@pytest.mark.parametrize("data", [b"\x07", b"\xff", b"Hello, world, this is plain", AGAIN], ids=bytes.hex)
def test_what_is_not_deflated_is_1007(data: bytes) -> None:
    """RFC 6455 §7.4.1: data that is not consistent with its type; no code is named for it."""
    with pytest.raises(WebSocketError, match="not deflated as agreed") as caught:
        Inflater(OURS).inflate(data, 1000)
    assert caught.value.code == 1007


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(st.sampled_from('aZ0 \t,;="\\-_/\x80\xff'), max_size=20).map(lambda text: text.encode("latin-1")))
def test_any_header_is_read_or_refused(value: bytes) -> None:
    """What is read names tokens only; nothing else is raised."""
    token = re.compile(rb"[-aZ0_]+")
    try:
        found = parse_extensions(value)
    except HttpError as error:
        assert error.status == 400
    else:
        for name, parameters in found:
            for part in (name, *(part for pair in parameters for part in pair)):
                assert part is None or token.fullmatch(part)
