"""Compressed messages, right ones and wrong ones, and what comes of them. The order is RFC 7692's."""

from __future__ import annotations

import zlib
from itertools import product

from hybrid.http.deflate import DeflateParameters
from tests.unit.http.ws_corpus import GOOD, READ
from tests.unit.http.ws_frames import Case, Compressor, close, head, in_frames, rest, sent, text

AGREED = DeflateParameters()
ALONE = DeflateParameters(client_no_context_takeover=True)
HELLO = bytes.fromhex("f248cdc9c90700")
"""§7.2.3.1: "Hello" in one block of fixed codes."""
AGAIN = bytes.fromhex("f200110000")
"""§7.2.3.2: "Hello" as what was said before."""


def packed(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return a frame with RSV1 set."""
    return sent(opcode, payload, fin=fin, rsv=4)


def deflated(data: bytes) -> bytes:
    """Return ``data`` as a message on its own."""
    return Compressor().deflate(data)


def final(data: bytes) -> bytes:
    """Return ``data`` in a stream that ends, and the byte after it: §7.2.3.4."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush() + b"\0"


def stored(data: bytes) -> bytes:
    """Return ``data`` in a block without compression: §7.2.3.3."""
    size = len(data)
    return b"\0" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data + b"\0"


def fault(name: str, data: bytes, code: int, limit: int = 1 << 24) -> Case:
    """Return a case in which a frame before ``data`` is read, and one after it is not."""
    return Case(f"RFC 7692 {name}", GOOD + data + GOOD, [READ], code, deflate=AGREED, limit=limit)


def right(name: str, data: bytes, *messages: str, agreed: DeflateParameters = AGREED) -> Case:
    """Return a case of texts that are read, and one more that is not compressed."""
    return Case(f"RFC 7692 {name}", data + GOOD, [*((1, each) for each in messages), READ], deflate=agreed)


ZEROS = b"\0" * 100_000

EXAMPLES = [
    right("7.2.3.1 one block", packed(1, HELLO), "Hello"),
    *(
        right(f"7.2.3.1 one block in fragments, cut after {n}", in_frames(1, HELLO, [n], rsv=4), "Hello")
        for n in range(8)
    ),
    right("7.2.3.1 a byte in each fragment", in_frames(1, HELLO, [1] * 7, rsv=4), "Hello"),
    right("7.2.3.2 the window is shared", packed(1, HELLO) + packed(1, AGAIN), "Hello", "Hello"),
    right("7.2.3.2 the window is not used", packed(1, HELLO) * 2, "Hello", "Hello"),
    right("7.1.1.2 the window is not shared", packed(1, HELLO) * 2, "Hello", "Hello", agreed=ALONE),
    right("7.2.3.3 no compression", packed(1, bytes.fromhex("000500faff48656c6c6f00")), "Hello"),
    right("7.2.3.4 BFINAL", packed(1, bytes.fromhex("f348cdc9c9070000")), "Hello"),
    right("7.2.3.4 BFINAL, then as ever", packed(1, final(b"Hello")) + packed(1, HELLO) * 2, *["Hello"] * 3),
    right("7.2.3.4 BFINAL without the byte after it", packed(1, final(b"Hello")[:-1]) * 2, "Hello", "Hello"),
    right("7.2.3.4 BFINAL in the middle", packed(1, final(b"Hel")[:-1] + deflated(b"lo")), "Hello"),
    right(
        "7.2.3.4 BFINAL in every fragment",
        packed(1, final(b"Hel")[:-1], fin=False) + rest(final(b"lo")[:-1], fin=False) + rest(b""),
        "Hello",
    ),
    right("7.2.3.5 two blocks", packed(1, bytes.fromhex("f24805000000ffffcac9c90700")), "Hello"),
    right("7.2.3.6 nothing", packed(1, b"\0"), ""),
    right("7.2.3.6 nothing, twice, then something", packed(1, b"\0") * 2 + packed(1, HELLO), "", "", "Hello"),
    right("7.2.1 no byte at all", packed(1, b"") + packed(1, HELLO), "", "Hello"),
    right("7.2.1 an empty last fragment", packed(1, HELLO, fin=False) + rest(b""), "Hello"),
    right("7.2.1 an empty first fragment", packed(1, b"", fin=False) + rest(HELLO), "Hello"),
    right("7.2.1 two blocks without compression", packed(1, stored(b"aaa")[:-1] + stored(b"b")), "aaab"),
]

FRAMES = [
    right("6.1 a message that is not compressed", text("plain") + packed(1, HELLO), "plain", "Hello"),
    right("6.1 fragments that are not compressed", in_frames(1, b"plain", [2]) + packed(1, HELLO), "plain", "Hello"),
    Case(
        "RFC 7692 6.1 a ping between",
        packed(1, HELLO[:3], fin=False) + sent(9, b"p") + rest(HELLO[3:]),
        [(9, b"p"), (1, "Hello")],
        deflate=AGREED,
    ),
    Case(
        "RFC 7692 6.1 a close between", packed(1, HELLO[:3], fin=False) + close(1000), [(8, (1000, ""))], deflate=AGREED
    ),
    Case("RFC 7692 6.1 a fragment, no end", packed(1, HELLO, fin=False), between=False, deflate=AGREED),
    Case("RFC 7692 6.1 half of a frame", packed(1, HELLO)[:-3], between=False, deflate=AGREED),
    Case("RFC 7692 6 not agreed on", GOOD + packed(1, HELLO), [READ], 1002),
    *(fault(f"6.1 RSV1 in opcode {op:#x}", sent(op, b"\3\xe8", rsv=4), 1002) for op in (0, 3, 7, 8, 9, 10, 11, 15)),
    fault("6.1 RSV1 in a continuation", packed(1, HELLO[:3], fin=False) + packed(0, HELLO[3:]), 1002),
    fault("6.1 RSV1 in a continuation of what is not", text("a", fin=False) + packed(0, HELLO), 1002),
    *(fault(f"6 RSV {rsv:03b} in text", sent(1, HELLO, rsv=rsv), 1002) for rsv in (1, 2, 3, 5, 6, 7)),
    fault("6 a new message inside", packed(1, HELLO, fin=False) + packed(1, HELLO), 1002),
]

FAULTY = [
    fault("7.2.2 a block of the reserved type", packed(1, b"\x07"), 1007),
    fault("7.2.2 a length that is not repeated", packed(1, b"\0\5\0\0\0Hello"), 1007),
    fault("7.2.2 not deflated", packed(1, b"Hello, world, this is no compressed text"), 1007),
    fault("7.2.2 a distance too far back", packed(1, AGAIN), 1007),
    fault("7.2.2 bad data in a later fragment", packed(1, HELLO, fin=False) + rest(b"\xff\xff"), 1007),
    Case(
        "RFC 7692 7.2.3.4 a distance beyond BFINAL",
        packed(1, final(b"Hello")) + packed(1, AGAIN),
        [(1, "Hello")],
        1007,
        deflate=AGREED,
    ),
    Case(
        "RFC 7692 7.1.1.2 the window is used though it was given up",
        packed(1, HELLO) + packed(1, AGAIN),
        [(1, "Hello")],
        1007,
        deflate=ALONE,
    ),
    fault("8.1 not UTF-8", packed(1, deflated(b"abc\xff")), 1007),
    fault("8.1 not UTF-8 in a fragment", packed(1, deflated(b"abc\xff"), fin=False), 1007),
    fault("8.1 not UTF-8 at its end", packed(1, deflated(b"abc\xe2\x82")), 1007),
    fault("8.1 not UTF-8, then too much", packed(1, deflated(b"\xff" + ZEROS)), 1007, 1000),
    Case("RFC 7692 8.1 not UTF-8, binary", packed(2, deflated(b"\xff")), [(2, b"\xff")], deflate=AGREED),
    right(
        "8.1 a character in two fragments",
        packed(1, zlib.compressobj(0, 8, -15).flush(zlib.Z_SYNC_FLUSH) + stored(b"\xe2\x82")[:-1], fin=False)
        + rest(stored(b"\xac")),
        "€",
    ),
]

LIMITS = [
    Case("RFC 7692 8 as large as allowed", packed(2, deflated(ZEROS)), [(2, ZEROS)], deflate=AGREED, limit=100_000),
    fault("8 one byte more", packed(2, deflated(ZEROS + b"\0")), 1009, 100_000),
    fault("8 a thousand times more", packed(2, deflated(ZEROS)), 1009, 100),
    fault("8 in fragments", in_frames(2, deflated(ZEROS), [20, 20], rsv=4), 1009, 50_000),
    fault("8 in the middle of a frame", head(0xC2, 500) + sent(2, deflated(ZEROS))[6:], 1009, 5_000),
    fault("8 nothing is allowed", packed(1, HELLO), 1009, 4),
    Case("RFC 7692 8 nothing is nothing", packed(1, b"\0") * 2, [(1, "")] * 2, deflate=AGREED, limit=0),
    Case(
        "RFC 7692 8 more bytes sent than meant",
        packed(2, stored(bytes(range(100)))),
        [(2, bytes(range(100)))],
        deflate=AGREED,
        limit=100,
    ),
    fault("8 far more bytes sent than meant", packed(2, b"\0\0\0\xff\xff" * 200), 1009, 100),
    fault("8 their header is enough", head(0xC2, 1000), 1009, 100),
    Case(
        "RFC 7692 8 messages that are each within the limit",
        packed(2, deflated(ZEROS)) * 5,
        [(2, ZEROS)] * 5,
        deflate=DeflateParameters(client_no_context_takeover=True),
        limit=100_000,
    ),
    Case(
        "RFC 7692 8 the limit and pings",
        (packed(2, deflated(ZEROS)) + sent(9, b"p")) * 3,
        [(2, ZEROS), (9, b"p")] * 3,
        deflate=ALONE,
        limit=100_000,
    ),
    fault("8 too many final blocks", packed(1, b"\3\0" * 400), 1008),
    Case("RFC 7692 8 many final blocks", packed(1, b"\3\0" * 200 + HELLO), [(1, "Hello")], deflate=AGREED),
]

MESSAGES = [b"", b"Hello", b"Hello", b"{" + b'"key": "value", ' * 300 + b"}", bytes(range(128)) * 20, b"Hello", b""]


def _combinations() -> list[Case]:
    """Return a conversation under each of the parameters that concern a client's messages, and in fragments."""
    cases = []
    for bits, alone, fragmented in product(range(8, 16), (False, True), (False, True)):
        client = Compressor(bits, alone=alone)
        payloads = [client.deflate(each) for each in MESSAGES]
        data = b"".join(
            in_frames(1, each, [len(each) // 3] * 2, rsv=4) if fragmented else packed(1, each) for each in payloads
        )
        name = f"RFC 7692 7.1 window of {bits} bits, takeover {not alone}, {'fragments' if fragmented else 'frames'}"
        agreed = DeflateParameters(client_no_context_takeover=alone, client_max_window_bits=bits)
        cases.append(Case(name, data, [(1, each.decode()) for each in MESSAGES], deflate=agreed))
    return cases


CORPUS = [*EXAMPLES, *FRAMES, *FAULTY, *LIMITS, *_combinations()]
