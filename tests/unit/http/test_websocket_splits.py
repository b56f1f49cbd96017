"""Any frames, right or wrong, changed in any place: however they are cut, the same is read from them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.deflate import DeflateParameters, Inflater
from hybrid.http.frames import FrameReader
from tests.unit.http.cuts import CHANGES, CUTS, changed, pieces, single
from tests.unit.http.ws_corpus import CORPUS
from tests.unit.http.ws_deflate_corpus import CORPUS as DEFLATED
from tests.unit.http.ws_frames import outcome
from tests.unit.http.ws_utf8 import CORPUS as UTF8

CHUNKS = [case.data for case in (*CORPUS, *UTF8, *DEFLATED) if 0 < len(case.data) < 200]
BITS = [
    *(bytes([byte]) for byte in (0, 1, 2, 8, 9, 0x41, 0x7E, 0x7F, 0x80, 0x81, 0x82, 0x88, 0x89, 0xC1, 0xFE, 0xFF)),
    *(b"\x81\x80\0\0\0\0", b"\0\x80\0\0\0\0", b"\x89\x80\0\0\0\0", b"\x01\x80\0\0\0\0", b"\xc1\x81\0\0\0\0\0"),
]
STREAMS = st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=5).map(b"".join)


def reader(compressed: bool) -> FrameReader:
    """Return a reader with a small limit."""
    return FrameReader(300, 250, Inflater(DeflateParameters()) if compressed else None)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(STREAMS, CHANGES, CUTS, st.booleans())
def test_outcome_does_not_depend_on_the_cuts(data: bytes, changes: list[bytes], cuts: list[int], packed: bool) -> None:
    """Whole, byte by byte and cut anywhere: the same messages, the same code, the same end."""
    data = changed(data, changes, BITS)
    whole = outcome(reader(packed), [data])
    assert outcome(reader(packed), pieces(data, cuts)) == whole
    assert outcome(reader(packed), pieces(data, single(data))) == whole


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=60), CUTS, st.booleans())
def test_no_bytes_raise(data: bytes, cuts: list[int], packed: bool) -> None:
    """Noise ends in a code, or is waited for: feed raises nothing."""
    whole = outcome(reader(packed), [data])
    assert whole[1] in (0, 1002, 1007, 1008, 1009)
    assert outcome(reader(packed), pieces(data, cuts)) == whole
