"""Frames in, messages out: the whole corpus, however it is cut; and the frames that a server sends."""

from __future__ import annotations

import random

import pytest

from hybrid.http.errors import WebSocketError
from hybrid.http.frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, close_frame, frame, text_frame
from hybrid.http.opcodes import FAULTS, may_be_sent
from tests.unit.http.cuts import pieces, single
from tests.unit.http.ws_corpus import BAD_CODES, CORPUS, GOOD, GOOD_CODES
from tests.unit.http.ws_deflate_corpus import CORPUS as DEFLATED
from tests.unit.http.ws_frames import Case, close, drain, head, masked, outcome, rest, sent, text
from tests.unit.http.ws_utf8 import CORPUS as UTF8
from tests.unit.http.ws_utf8 import RIGHT, UNFINISHED, WRONG, fault_at, is_whole

ALL = [*CORPUS, *UTF8, *DEFLATED]
SECTIONS = {
    section: [case for case in ALL if case.name.partition(" ")[0] == section]
    for section in sorted({case.name.partition(" ")[0] for case in ALL})
}
"""By the section of the RFC, which each name begins with. A test each would be two thousand tests."""
LONG_BYTES = 4096
"""Longer data is fed byte by byte at both ends only, where its headers are."""


def singles(data: bytes) -> list[int]:
    """Return the cuts that leave one byte in each piece, or nearly."""
    if len(data) <= LONG_BYTES:
        return single(data)
    return [*range(200), *range(200, len(data) - 200, 97), *range(len(data) - 200, len(data))]


def test_names_of_cases_differ() -> None:
    """What fails is found by its name."""
    names = [case.name for case in ALL]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("section", SECTIONS)
def test_cases(section: str) -> None:
    """Whole, byte by byte, and cut at random: the same messages, the same code, the same end."""
    for case in SECTIONS[section]:
        chance = random.Random(case.name)
        cuts = [sorted(chance.randrange(len(case.data)) for _ in range(count)) for count in (1, 2, 5, 11) if case.data]
        for each in ([], singles(case.data), *cuts):
            came = outcome(case.reader(), pieces(case.data, each))
            assert came == case.outcome, f"{case.name}, cut at {each[:20]}"


@pytest.mark.parametrize("section", SECTIONS)
def test_nothing_is_read_after_a_fault(section: str) -> None:
    """The error stays, with a reason that fits a close frame; nothing is held any more."""
    for case in SECTIONS[section]:
        if case.code:
            _nothing_is_read_after_a_fault(case)


def _nothing_is_read_after_a_fault(case: Case) -> None:
    reader = case.reader()
    drain(reader, case.data)
    error = reader.error
    assert isinstance(error, WebSocketError), case.name
    assert error.code == case.code, case.name
    assert error.reason == str(error), case.name
    assert 0 < len(error.reason.encode()) <= 123, case.name
    assert reader.feed(GOOD) == [], case.name
    assert reader.error is error, case.name
    assert not reader.has_more, case.name


# ── §8.1 how early bad text is seen ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fragmented", [False, True], ids=["frame", "fragments"])
def test_bad_text_is_seen_with_the_byte_that_shows_it(fragmented: bool) -> None:
    """In the middle of a frame and of a message, not one byte later; what may become a character is waited for."""
    for data in (*RIGHT.values(), *WRONG.values(), *UNFINISHED.values()):
        assert is_whole(data) == (data in RIGHT.values())
        assert _bytes_until_a_fault(data, fragmented) == fault_at(data), data


def _bytes_until_a_fault(data: bytes, fragmented: bool) -> int:
    """Return how many bytes of bad text are read until it is called so; 0: it never is."""
    reader = FrameReader()
    reader.feed(b"" if fragmented else head(0x81, len(data) + 100))
    for at in range(len(data)):
        byte = data[at : at + 1]
        if fragmented:
            reader.feed(text(byte, fin=False) if at == 0 else rest(byte, fin=False))
        else:
            reader.feed(masked(bytes(at) + byte)[at:])
        if reader.error is not None:
            assert reader.error.code == 1007
            return at + 1
    return 0


# ── what every first byte, every code says ─────────────────────────────────────────────────────────────────────────


def test_every_first_byte() -> None:
    """§5.2: of 256, ten begin a frame: three opcodes with and without FIN or a deflated one, three control frames."""
    assert {first for first in range(256) if not FAULTS[first]} == {
        *(0x00, 0x01, 0x02, 0x41, 0x42),
        *(0x80, 0x81, 0x82, 0xC1, 0xC2),
        *(0x88, 0x89, 0x8A),
    }


def test_every_close_code() -> None:
    """§7.4: each of 65536 is read if it may be sent, and else refused."""
    allowed = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    assert {code for code in range(65536) if may_be_sent(code)} == allowed
    assert allowed.issuperset(GOOD_CODES)
    assert allowed.isdisjoint(BAD_CODES)
    for code in (*range(6000), *range(6000, 65536, 101)):
        reader = FrameReader()
        found = reader.feed(close(code))
        assert found == ([(CLOSE, (code, ""))] if code in allowed else [])


# ── is_between ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_is_between_only_where_a_message_may_begin() -> None:
    """Asked after each byte of two messages with a ping in the first."""
    whole = text("ab", fin=False) + sent(9, b"p") + rest("c") + sent(2, b"d")
    ends = {len(whole), len(whole) - len(sent(2, b"d"))}
    reader = FrameReader()
    assert reader.is_between
    for at in range(len(whole)):
        reader.feed(whole[at : at + 1])
        assert reader.is_between == (at + 1 in ends)


# ── what a server sends ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (text_frame("Hello"), "8105 48656c6c6f"),
        (frame(PING, b"Hello"), "8905 48656c6c6f"),
        (frame(PONG, b"Hello"), "8a05 48656c6c6f"),
        (frame(BINARY, b""), "8200"),
        (frame(TEXT, bytes.fromhex("f248cdc9c90700"), True), "c107 f248cdc9c90700"),
        (frame(BINARY, b"x", True), "c201 78"),
        (close_frame(1000, ""), "8802 03e8"),
        (close_frame(1000, "bye"), "8805 03e8 627965"),
        (close_frame(4999, "é"), "8804 1387 c3a9"),
        (close_frame(1005, ""), "8800"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_frame_is_made(made: bytes, expected: str) -> None:
    """RFC 6455 §5.7, RFC 7692 §7.2.3.1: the examples, and their like."""
    assert made == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(125, "827d"), (126, "827e007e"), (256, "827e0100"), (65535, "827effff"), (65536, "827f0000000000010000")],
)
@pytest.mark.parametrize("rsv1", [False, True])
def test_length_is_in_its_shortest_form(size: int, expected: str, rsv1: bool) -> None:
    """§5.2, around each border."""
    header = bytes.fromhex(expected)
    if rsv1:
        header = bytes([header[0] | 0x40]) + header[1:]
    assert frame(BINARY, b"*" * size, rsv1) == header + b"*" * size


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frame_of_126_bytes_is_not_made(opcode: int) -> None:
    """§5.5: the peer would have to fail the connection."""
    assert len(frame(opcode, b"*" * 125)) == 127
    with pytest.raises(ValueError, match="cannot send 126 bytes in a control frame: 125 fit"):
        frame(opcode, b"*" * 126)


@pytest.mark.parametrize("code", [*BAD_CODES, -1, 65536])
def test_close_code_that_is_not_for_the_wire_is_not_sent(code: int) -> None:
    """§7.4: 1005 is said by saying nothing."""
    with pytest.raises(ValueError, match=f"cannot close with {code}: 1000 to 1003, 1007 to 1014 and 3000 to 4999"):
        close_frame(code, "why")


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_reason_is_cut_between_characters(character: str, shift: int) -> None:
    """§5.5.1: 123 bytes, which a character may straddle."""
    reason = "-" * shift + character * 130
    payload = close_frame(1001, reason)[4:]
    assert reason.startswith(payload.decode())
    assert 123 - len(character.encode()) < len(payload) <= 123


def test_text_with_half_a_surrogate_pair() -> None:
    """UTF-8 cannot say it: as a message it is an error, in a reason it is replaced."""
    with pytest.raises(ValueError, match="surrogates not allowed"):
        text_frame("a\ud800")
    assert close_frame(1000, "a\ud800b") == close_frame(1000, "a?b")
