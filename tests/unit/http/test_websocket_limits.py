"""What a client can cost: bytes are looked at once, an announcement costs nothing, a fragment leaves its payload only.

Work is counted, never timed.
"""

from __future__ import annotations

import tracemalloc
import zlib
from codecs import utf_8_decode
from collections.abc import Callable
from typing import Any

import pytest

from hybrid.http import frames
from hybrid.http.deflate import DeflateParameters, Deflater, Inflater
from hybrid.http.errors import MessageTooBig, WebSocketError
from hybrid.http.frames import BINARY, PING, FrameReader
from tests.support.build import pure_only
from tests.unit.http.ws_deflate_corpus import ALONE, deflated, packed
from tests.unit.http.ws_frames import drain, head, in_frames, masked, rest, sent, text

MIB = 1024 * 1024


class Counted(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(key, slice):
            Counted.copied += len(found)
        return found


def held(make: Callable[[], object]) -> tuple[object, int, int]:
    """Return what ``make`` returns, the bytes that are held for it, and the most that were."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        made = make()
        now, peak = tracemalloc.get_traced_memory()
        return made, now - before, peak - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        sent(2, b"") * 5000,
        sent(2, b"x") * 5000,
        sent(9, b"") * 5000,
        in_frames(2, b"*" * 5000, [1] * 4999),
        text("", fin=False) + rest("", fin=False) * 5000,
        text("€" * 10_000),
    ],
    ids=["empty messages", "small messages", "pings", "fragments", "empty fragments", "one message"],
)
def test_bytes_of_a_chunk_are_copied_once(data: bytes) -> None:
    """However many frames are in it, no rest is cut off and cut again."""
    Counted.copied = 0
    FrameReader().feed(Counted(data))
    assert Counted.copied <= len(data)


@pure_only
@pytest.mark.parametrize("opcode", [1, 2])
def test_frame_that_trickles_in_is_unmasked_and_checked_once(monkeypatch: pytest.MonkeyPatch, opcode: int) -> None:
    """Byte by byte; of a text, up to three bytes are looked at again: they begin a character."""
    counts = {"unmasked": 0, "checked": 0}

    def unmask(data: bytes, mask: bytes) -> bytes:
        counts["unmasked"] += len(data)
        return masked(data, mask)

    def check(data: bytes, errors: str, final: bool) -> tuple[str, int]:
        counts["checked"] += len(data)
        return utf_8_decode(data, errors, final)

    monkeypatch.setattr(frames, "apply_mask", unmask)
    monkeypatch.setattr(frames, "utf_8_decode", check)
    payload = "aä€😀".encode() * 300
    reader = FrameReader()
    data = sent(opcode, payload)
    found = [event for at in range(len(data)) for event in reader.feed(data[at : at + 1])]
    assert found == [(opcode, payload.decode() if opcode == 1 else payload)]
    assert counts["unmasked"] == len(payload)
    assert counts["checked"] <= (2 * len(payload) if opcode == 1 else 0)


def test_announced_frame_costs_nothing_before_it_comes() -> None:
    """A header of 14 bytes for 16 MiB."""
    reader = FrameReader()
    _, now, peak = held(lambda: reader.feed(head(0x82, 16 * MIB) + b"\0"))
    assert now < 1024
    assert peak < 2048


@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_fragments_leave_nothing_but_their_payload(size: int) -> None:
    """Five thousand of them: the payload, an eighth for growth, and no more than a kilobyte."""
    reader = FrameReader()
    reader.feed(sent(2, b"", fin=False))
    chunk = sent(0, b"*" * size, fin=False) * 100

    def feed() -> None:
        for _ in range(50):
            reader.feed(chunk)

    _, now, _ = held(feed)
    assert reader.error is None
    assert now <= 5_000 * size * 9 // 8 + 1024


@pure_only
def test_flood_of_fragments_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as allowed are read, message after message; one more is a 1008."""
    monkeypatch.setattr(frames, "FRAGMENTS_MOST", 10)
    reader = FrameReader()
    assert reader.feed(in_frames(2, b"", [0] * 9) * 3 + in_frames(2, b"", [0] * 10)) == [(BINARY, b"")] * 3
    assert reader.error is not None
    assert reader.error.code == 1008


def test_sixteen_mebibytes_in_small_fragments_are_allowed() -> None:
    """The two limits fit each other: the largest message, in pieces of 128 bytes."""
    assert frames.FRAGMENTS_MOST * 128 >= 16 * MIB


@pytest.mark.parametrize(
    "fault",
    [
        sent(1),
        head(0x00, 17 * MIB),
        rest("") + head(0x81, MIB, mask=bytes(4)) + b"\xff",
        rest("") + packed(2, deflated(b"\0" * 17 * MIB)),
        rest("") + head(0xC1, MIB, mask=bytes(4)) + b"\7",
    ],
    ids=["opcode", "size", "text", "bomb", "deflate"],
)
def test_reader_holds_nothing_after_a_fault(fault: bytes) -> None:
    """Not the half message before it, nor what came behind it, nor what an exception remembers."""

    def make() -> FrameReader:
        reader = FrameReader(inflater=Inflater(ALONE))
        reader.feed(head(0x02, MIB, mask=bytes(4)) + b"*" * MIB)
        reader.feed(fault + b"*" * MIB)
        return reader

    reader, now, _ = held(make)
    assert isinstance(reader, FrameReader)
    assert reader.error is not None
    assert now < 8192


def test_much_that_is_inflated_comes_in_several_calls() -> None:
    """No call returns more than the limit and one message; nothing is lost, and the order stays."""
    data = b"".join(packed(2, deflated(bytes([n]) * 60_000)) + sent(9, b"%d" % n) for n in range(20))
    assert len(data) < 10_000
    reader = FrameReader(100_000, inflater=Inflater(ALONE))
    calls = [reader.feed(data)]
    while reader.has_more:
        assert not reader.is_between
        calls.append(reader.feed(b""))
    assert len(calls) >= 10
    for events in calls:
        assert sum(len(payload) for _, payload in events if isinstance(payload, bytes)) < 160_000
    expected = [event for n in range(20) for event in ((BINARY, bytes([n]) * 60_000), (PING, b"%d" % n))]
    assert [event for events in calls for event in events] == expected
    assert reader.is_between


def test_bytes_that_come_before_more_was_asked_for_wait_their_turn() -> None:
    """Whoever does not ask, but feeds, gets what was held back first."""
    reader = FrameReader(1000, inflater=Inflater(ALONE))
    one = packed(2, deflated(b"*" * 1000))
    events = reader.feed(one * 2)
    assert reader.has_more
    events += reader.feed(sent(9, b"later"))
    events += drain(reader, b"")
    assert events == [(BINARY, b"*" * 1000)] * 2 + [(PING, b"later")]


def test_messages_that_are_not_compressed_come_at_once() -> None:
    """Their bytes are there already: to hold them back would save nothing."""
    reader = FrameReader(1000, inflater=Inflater(ALONE))
    assert len(reader.feed(sent(2, b"*" * 1000) * 50)) == 50
    assert not reader.has_more


@pytest.mark.parametrize("limit", [0, 1, 1000, 65536])
def test_bomb_is_not_inflated(limit: int) -> None:
    """Ten kilobytes that would be ten mebibytes: one byte above the limit is made, and what zlib needs."""
    bomb = deflated(b"\0" * 10 * MIB)
    inflater = Inflater(ALONE)

    def inflate() -> MessageTooBig:
        with pytest.raises(MessageTooBig) as caught:
            inflater.inflate(bomb, limit)
        return caught.value

    error, _, peak = held(inflate)
    assert isinstance(error, MessageTooBig)
    assert error.code == 1009
    assert error.begin == b"\0" * (limit + 1)
    assert peak < 3 * limit + 128 * 1024


def test_final_blocks_are_counted_for_each_message() -> None:
    """Each costs a new inflater and a copy of what follows: two bytes of a peer's must not cost more and more."""
    inflater = Inflater(ALONE)
    for _ in range(3):
        assert inflater.inflate(b"\3\0" * 256, 100) == b""
    with pytest.raises(WebSocketError, match="too many final deflate blocks") as caught:
        inflater.inflate(b"\3\0" * 257, 100)
    assert caught.value.code == 1008


def test_connection_between_messages_holds_no_zlib() -> None:
    """As we agree on it: nothing before the first message, nothing after one; with takeover, what the file says."""
    message = b'{"key": "value"}' * 50

    def use(agreed: DeflateParameters) -> tuple[Inflater, Deflater]:
        inflater, deflater = Inflater(agreed), Deflater(agreed)
        stream = zlib.compressobj(9, zlib.DEFLATED, -15)
        inflater.inflate(stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH), 10_000)
        deflater.deflate(message)
        return inflater, deflater

    _, fresh, _ = held(lambda: (Inflater(DeflateParameters()), Deflater(DeflateParameters())))
    _, alone, _ = held(lambda: use(DeflateParameters(True, True)))
    _, kept, _ = held(lambda: use(DeflateParameters()))
    assert fresh < 512
    assert alone < 1024
    assert 30_000 < kept < 120_000
