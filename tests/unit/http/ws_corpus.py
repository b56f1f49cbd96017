"""What WebSocket clients send, and what comes of it: one table, read by the tests and by the comparison with others.

The order is that of RFC 6455 §5, then the close codes. Text is in :mod:`tests.unit.http.ws_utf8`, compression in
:mod:`tests.unit.http.ws_deflate_corpus`.
"""

from __future__ import annotations

from tests.unit.http.ws_frames import Case, close, head, in_frames, masked, rest, sent, text

GOOD = text("good")
READ = (1, "good")
NAMES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}


def fault(name: str, data: bytes, code: int = 1002) -> Case:
    """Return a case in which a frame before ``data`` is read, and one after it is not."""
    return Case(name, GOOD + data + GOOD, [READ], code)


SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 124, 125, 126, 127, 128, 129, 255, 256, 1000, 65535, 65536, 65537)
"""Around each of the forms of a length, and around the mask's four bytes."""


def pattern(size: int) -> bytes:
    """Return bytes of which no two neighbours at a mask's distance are alike."""
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


EXAMPLES = [
    Case("5.7 a masked Hello", bytes.fromhex("8185 37fa213d 7f9f4d5158"), [(1, "Hello")]),
    Case("5.7 a masked Hello in pong", bytes.fromhex("8a85 37fa213d 7f9f4d5158"), [(10, b"Hello")]),
]

FRAMING = [
    *(Case(f"5.2 text of {n} bytes", text("*" * n), [(1, "*" * n)]) for n in SIZES),
    *(Case(f"5.2 binary of {n} bytes", sent(2, pattern(n)), [(2, pattern(n))]) for n in SIZES),
    *(
        Case(f"5.3 mask {mask.hex()}", head(0x82, 9, mask=mask) + masked(b"abcdefghi", mask), [(2, b"abcdefghi")])
        for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0", b"abcd")
    ),
    Case("5.2 nothing", b""),
    Case("5.2 one byte", b"\x81", between=False),
    Case("5.2 two bytes", b"\x81\x85", between=False),
    Case("5.2 a header without its mask", head(0x81, 5)[:5], between=False),
    Case("5.2 a header, no payload", head(0x81, 5), between=False),
    Case("5.2 all but the last byte", text("Hello")[:-1], between=False),
    Case("5.2 half of a 16-bit length", head(0x82, 300)[:3], between=False),
    Case("5.2 most of a 64-bit length", head(0x82, 70000)[:9], between=False),
    Case("5.2 many messages", text("a") * 50 + sent(2, b"b") * 50, [(1, "a")] * 50 + [(2, b"b")] * 50),
    Case("5.2 a message and a half", GOOD + text("Hello")[:8], [READ], between=False),
    *(
        fault(f"5.2 {NAMES[op]} of {n} bytes, a length of {form} bits", sent(op, b"*" * n, form=form))
        for form, sizes in ((16, (0, 1, 5, 125)), (64, (0, 1, 125, 126, 127, 65535)))
        for n in sizes
        for op in (1, 2)
    ),
    fault("5.2 the highest bit of a length", head(0x82, 2**63, form=64)),
    fault("5.2 all bits of a length", head(0x82, 2**64 - 1, form=64)),
    fault("5.2 a length of 2^63 - 1: above every limit", head(0x82, 2**63 - 1, form=64), 1009),
]

MASKING = [
    fault(f"5.1 {NAMES[op]} of {n} bytes without a mask", head(0x80 | op, n, mask=None) + b"*" * n)
    for op in NAMES
    for n in (0, 5, 125)
] + [
    fault("5.1 200 bytes without a mask", head(0x82, 200, mask=None) + b"*" * 200),
    fault("5.1 70000 bytes without a mask", head(0x82, 70000, mask=None)),
    Case("5.1 two bytes show that there is no mask", head(0x82, 70000, mask=None)[:2], [], 1002),
]

RESERVED_BITS = [
    fault(f"5.2 RSV {rsv:03b} in {name}{' of 5 bytes' if size else ''}", sent(op, b"\3\xe8abc"[:size], rsv=rsv))
    for rsv in range(1, 8)
    for op, name in NAMES.items()
    for size in (0, 5)
] + [
    fault("5.2 RSV1 in a continuation", text("a", fin=False) + sent(0, b"b", rsv=4)),
    fault("5.2 RSV2 in a fragment", sent(1, b"b", rsv=2, fin=False)),
    Case("5.2 two bytes show RSV3", b"\x91\x85", [], 1002),
]

OPCODES = [
    fault(f"5.2 opcode {op:#x}{'' if fin else ', not final'}, {size} bytes", sent(op, b"*" * size, fin=fin))
    for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    for fin in (True, False)
    for size in (0, 5)
] + [fault(f"5.2 opcode {op:#x} inside of a message", text("a", fin=False) + sent(op)) for op in (3, 7, 11, 15)]

PINGS = [
    *(
        Case(f"5.5.2 {name} of {n} bytes", sent(op, pattern(n)), [(op, pattern(n))])
        for op, name in ((9, "ping"), (10, "pong"))
        for n in (0, 1, 4, 5, 124, 125)
    ),
    *(
        fault(f"5.5 {NAMES[op]} of {n} bytes", sent(op, b"\3\xe8" + b"*" * (n - 2)))
        for op in (8, 9, 10)
        for n in (126, 127, 65536)
    ),
    *(fault(f"5.5 {NAMES[op]} in fragments", sent(op, b"", fin=False) + rest(b"")) for op in (8, 9, 10)),
    *(
        fault(f"5.5 {NAMES[op]} of 5 bytes, a length of {form} bits", sent(op, b"\3\xe8abc", form=form))
        for op in (8, 9, 10)
        for form in (16, 64)
    ),
    Case("5.5.2 ten pings", b"".join(sent(9, b"%d" % n) for n in range(10)), [(9, b"%d" % n) for n in range(10)]),
    Case(
        "5.5.2 pings of some bytes",
        sent(9, b"first") + sent(10, b"second") + sent(9, b""),
        [(9, b"first"), (10, b"second"), (9, b"")],
    ),
    Case("5.5.2 not UTF-8 in a ping", sent(9, b"\xff\xfe\xc0"), [(9, b"\xff\xfe\xc0")]),
    Case("5.5.3 a pong that nobody asked for", sent(10, b"x") + GOOD, [(10, b"x"), READ]),
    Case("5.5.2 half of a ping", sent(9, b"abc")[:-2], between=False),
    Case("5.5.2 a ping after half of a message", text("a", fin=False) + sent(9), [(9, b"")], between=False),
    Case("5.5 two bytes show a control frame that is too long", b"\x89\xfe", [], 1002),
]

FRAGMENTS = [
    *(
        Case(f"5.4 {name} in {n + 1} fragments", in_frames(op, b"fragments", [1] * n), [(op, value)])
        for op, name, value in ((1, "text", "fragments"), (2, "binary", b"fragments"))
        for n in range(1, 10)
    ),
    *(
        Case(
            f"5.4 {size} bytes in fragments of {part}",
            in_frames(2, pattern(size), [part] * (size // part)),
            [(2, pattern(size))],
        )
        for size, part in ((1024, 1), (65536, 1300), (65536, 32768), (65537, 65536), (2000, 126))
    ),
    Case("5.4 nothing in three fragments", in_frames(1, b"", [0, 0]), [(1, "")]),
    Case("5.4 no bytes in binary fragments", in_frames(2, b"", [0, 0]), [(2, b"")]),
    Case("5.4 all in the middle", text("", fin=False) + rest("middle", fin=False) + rest(""), [(1, "middle")]),
    Case("5.4 all in the first", text("first", fin=False) + rest(""), [(1, "first")]),
    Case("5.4 all in the last", text("", fin=False) + rest("last"), [(1, "last")]),
    Case("5.4 a ping between", text("a", fin=False) + sent(9, b"p") + rest("b"), [(9, b"p"), (1, "ab")]),
    Case(
        "5.4 pings and pongs between many",
        text("a", fin=False) + (sent(9, b"p") + rest("b", fin=False) + sent(10, b"q")) * 5 + rest("c"),
        [(9, b"p"), (10, b"q")] * 5 + [(1, "abbbbbc")],
    ),
    Case("5.4 one after the other", (text("a", fin=False) + rest("b")) * 3, [(1, "ab")] * 3),
    Case("5.4 a fragment, no end", text("a", fin=False), between=False),
    Case("5.4 two fragments, no end", text("a", fin=False) + rest("b", fin=False), between=False),
    fault("5.4 a continuation of nothing", rest("a")),
    fault("5.4 a continuation of nothing, not final", rest("a", fin=False)),
    fault("5.4 a continuation of nothing, then a message", rest("a", fin=False) + text("b")),
    Case("5.4 a continuation after a message", text("", fin=False) + rest("") * 2, [(1, "")], 1002),
    Case("5.4 a continuation first", rest("a"), [], 1002),
    *(
        fault(
            f"5.4 {NAMES[op]}{'' if fin else ', not final,'} inside of a message",
            text("a", fin=False) + sent(op, fin=fin),
        )
        for op in (1, 2)
        for fin in (True, False)
    ),
    fault("5.4 a new message after two fragments", sent(2, b"a", fin=False) + rest("b", fin=False) + sent(2, b"c")),
]
GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
BAD_CODES = (0, 1, 125, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 5001, 65535)

CLOSING = [
    Case("5.5.1 no code", sent(8), [(8, (1005, ""))]),
    fault("5.5.1 half of a code", sent(8, b"\3")),
    *(Case(f"7.4 code {code}", close(code, b"why"), [(8, (code, "why"))]) for code in GOOD_CODES),
    *(Case(f"7.4 code {code}, no reason", close(code), [(8, (code, ""))]) for code in GOOD_CODES),
    *(fault(f"7.4.2 code {code} is not for the wire", close(code, b"why")) for code in BAD_CODES),
    *(fault(f"7.4.2 code {code} is not for the wire, no reason", close(code)) for code in BAD_CODES),
    *(Case(f"5.5.1 a reason of {n} bytes", close(1000, b"*" * n), [(8, (1000, "*" * n))]) for n in (1, 122, 123)),
    fault("5.5.1 a reason of 124 bytes", close(1000, b"*" * 124)),
    fault("5.5.1 a reason that is not UTF-8", close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80"), 1007),
    fault("5.5.1 a reason that ends in a character", close(1000, b"\xe2\x82"), 1007),
    fault("5.5.1 a bad code and a bad reason", close(999, b"\xff"), 1002),
    Case("5.5.1 a reason of 123 bytes, three each", close(1000, "€".encode() * 41), [(8, (1000, "€" * 41))]),
    Case("5.5.1 a message after it", close(1000) + GOOD, [(8, (1000, ""))]),
    Case("5.5.1 a ping after it", close(1000) + sent(9), [(8, (1000, ""))]),
    Case("5.5.1 a fault after it", close(1000) + b"\xff" * 20, [(8, (1000, ""))]),
    Case("5.5.1 another one after it", close(1000) + close(1001), [(8, (1000, ""))]),
    Case("5.5.1 half a header after it", close(1000) + b"\x81", [(8, (1000, ""))]),
    Case("5.5.1 a message before it", GOOD + close(1000), [READ, (8, (1000, ""))]),
    Case("5.4 inside of a message", text("a", fin=False) + close(1000) + rest("b"), [(8, (1000, ""))]),
    Case("5.5.1 half of it", close(1000, b"why")[:-1], between=False),
    Case("5.5.1 250 KiB after it", close(1000) + b"\x82" * 256000, [(8, (1000, ""))]),
]

LIMITS = [
    Case("10.4 each has its limit, in fragments", in_frames(2, b"*" * 80, [40]) * 3, [(2, b"*" * 80)] * 3, limit=100),
    Case("10.4 as large as allowed", sent(2, b"*" * 100), [(2, b"*" * 100)], limit=100),
    Case("10.4 one byte more", GOOD + sent(2, b"*" * 101), [READ], 1009, limit=100),
    Case("10.4 the header alone is enough", head(0x82, 101), [], 1009, limit=100),
    Case("10.4 16 bits of a length are enough", head(0x82, 20001)[:4], [], 1009, limit=20000),
    Case("10.4 64 bits of a length are enough", head(0x82, 70000)[:10], [], 1009, limit=20000),
    Case("10.4 two bytes are enough", head(0x82, 101)[:2], [], 1009, limit=100),
    Case(
        "10.4 two bytes of a fragment are enough", sent(2, b"*", fin=False) + head(0x80, 100)[:2], [], 1009, limit=100
    ),
    Case("5.2 four bytes show a length that is too long", head(0x82, 5, form=16)[:4], [], 1002),
    Case("5.2 ten bytes show a highest bit", head(0x82, 2**63, form=64)[:10], [], 1002),
    Case("10.4 a last fragment that fits", in_frames(2, b"*" * 100, [50, 49]), [(2, b"*" * 100)], limit=100),
    Case("10.4 a last fragment that does not", in_frames(2, b"*" * 101, [50, 50]), [], 1009, limit=100),
    Case("10.4 its header is enough", in_frames(2, b"*" * 101, [50, 50])[:-1], [], 1009, limit=100),
    Case("10.4 the limit is a message's", sent(2, b"*" * 100) * 3, [(2, b"*" * 100)] * 3, limit=100),
    Case(
        "10.4 a ping is no part of it",
        sent(1, b"*" * 60, fin=False) + sent(9, b"p" * 90) + rest("*" * 40),
        [(9, b"p" * 90), (1, "*" * 100)],
        limit=100,
    ),
    Case("10.4 control frames have their own limit", sent(9, b"p" * 125), [(9, b"p" * 125)], limit=10),
    Case("10.4 nothing is allowed", text("") + text("a"), [(1, "")], 1009, limit=0),
    Case("10.4 the limit counts bytes", text("€" * 4), [], 1009, limit=11),
    Case("10.4 in bytes it fits", text("€" * 4), [(1, "€" * 4)], limit=12),
    Case("10.4 a frame above its limit", sent(2, b"*" * 51), [], 1009, limit=100, limit_frame=50),
    Case(
        "10.4 a fragment above its limit",
        sent(2, b"*", fin=False) + head(0x80, 51),
        [],
        1009,
        limit=100,
        limit_frame=50,
    ),
    Case("10.4 frames at their limit", in_frames(2, b"*" * 100, [50]), [(2, b"*" * 100)], limit=100, limit_frame=50),
    Case("10.4 bad text before it is too long", text(b"\xff", fin=False) + head(0x80, 100), [], 1007, limit=100),
    Case("10.4 a ping without a mask, then too long", head(0x89, 0, mask=None) + head(0x82, 999), [], 1002, limit=100),
]

CORPUS = [
    *(*EXAMPLES, *FRAMING, *MASKING, *RESERVED_BITS, *OPCODES, *PINGS, *FRAGMENTS, *CLOSING, *LIMITS),
]
