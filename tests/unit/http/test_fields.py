"""Header blocks: pairs, framing facts and refusals, without a request line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.errors import HttpError
from hybrid.http.fields import FIELD_BYTES, FRAMING, TOKEN, parse_fields


def test_block_of_nothing_has_no_facts() -> None:
    """No field: no length, no coding, no Host, no option."""
    fields = parse_fields(b"", 0)
    assert fields.pairs == []
    assert (fields.content_length, fields.chunked, fields.host) == (-1, False, None)
    assert (fields.close, fields.keep_alive, fields.expect_continue, fields.upgrade) == (False, False, False, b"")


def test_pairs_keep_their_order_and_lose_case_and_outer_blanks() -> None:
    """RFC 9110 §5.1, §5.3, §5.5."""
    fields = parse_fields(b"User-Agent:x\r\nX-Odd: \t a b \t\r\nACCEPT: \r\nuser-agent: Y", 4)
    assert fields.pairs == [(b"user-agent", b"x"), (b"x-odd", b"a b"), (b"accept", b""), (b"user-agent", b"Y")]


def test_framing_facts_are_read() -> None:
    """Each of the six fields sets its fact and stays among the pairs."""
    fields = parse_fields(
        b"HOST: a:1\r\nContent-length: 007\r\nCONNECTION: Keep-Alive, Upgrade\r\nExpect: 100-CONTINUE\r\nUpgrade: H2C",
        9,
    )
    assert (fields.host, fields.content_length, fields.chunked) == (b"a:1", 7, False)
    assert (fields.keep_alive, fields.close, fields.expect_continue, fields.upgrade) == (True, False, True, b"h2c")
    assert [name for name, _ in fields.pairs] == [b"host", b"content-length", b"connection", b"expect", b"upgrade"]
    assert parse_fields(b"Transfer-Encoding: Chunked", 1).chunked


def test_upgrade_in_several_lines_is_one_list() -> None:
    """RFC 9110 §5.3, whatever the order of the lines."""
    block = b"Upgrade: websocket\r\nConnection: close\r\nUpgrade: foo/2\r\nConnection: ,UPGRADE"
    fields = parse_fields(block, 9)
    assert (fields.upgrade, fields.close) == (b"websocket,foo/2", True)


def test_fields_above_the_limit_are_refused() -> None:
    """S20: the count is limited, whatever the size."""
    assert len(parse_fields(b"\r\n".join([b"a: b"] * 5), 5).pairs) == 5
    with pytest.raises(HttpError) as caught:
        parse_fields(b"\r\n".join([b"a: b"] * 6), 5)
    assert caught.value.status == 431


@pytest.mark.parametrize("block", [b"a: b\r\n", b"\r\na: b", b"a: b\r\n\r\nc: d", b"\r\n"])
def test_empty_line_inside_is_refused(block: bytes) -> None:
    """A block has no empty line: whoever cut it out has cut wrongly."""
    with pytest.raises(HttpError):
        parse_fields(block, 9)


def test_underscore_is_not_a_hyphen() -> None:
    """S11: ``Content_Length`` is a field of its own and frames nothing."""
    fields = parse_fields(b"Content_Length: 5\r\nTransfer_Encoding: chunked", 9)
    assert (fields.content_length, fields.chunked) == (-1, False)


NAMES = (
    st.binary(min_size=1, max_size=12)
    .map(lambda drawn: bytes(TOKEN[each % len(TOKEN)] for each in drawn))
    .filter(lambda name: name.lower() not in FRAMING)
)
VALUES = st.binary(max_size=20).map(lambda drawn: bytes(FIELD_BYTES[each % len(FIELD_BYTES)] for each in drawn))
"""Drawn as bytes at once and mapped: a draw for each byte takes twenty times as long."""


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_every_legal_field_is_read(pairs: list[tuple[bytes, bytes]]) -> None:
    """RFC 9110 §5.1, §5.5: whatever token and field value, nothing is refused and nothing lost."""
    fields = parse_fields(b"\r\n".join(name + b": " + value for name, value in pairs), 8)
    assert fields.pairs == [(name.lower(), value.strip(b" \t")) for name, value in pairs]


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from([*range(9), *range(0x0A, 0x20), 0x7F]), VALUES)
def test_every_control_byte_is_refused(before: bytes, byte: int, after: bytes) -> None:
    """S12: no parser behind us may find a line end, or a blank, that we did not."""
    with pytest.raises(HttpError) as caught:
        parse_fields(b"Accept: " + before + bytes([byte]) + after, 9)
    assert caught.value.status == 400
