"""UTF-8, right and wrong, in WebSocket messages: the well-known sequences, each in one frame and cut at every byte.

What is right is not asked of Python's decoder, which the server uses, but of the ABNF: RFC 3629 §4.
"""

from __future__ import annotations

import re

from tests.unit.http.ws_frames import Case, close, in_frames, sent, text

_TAIL = "[\x80-\xbf]"
_FORMS = (
    ("[\x00-\x7f]",),
    ("[\xc2-\xdf]", _TAIL),
    ("\xe0", "[\xa0-\xbf]", _TAIL),
    ("[\xe1-\xec]", _TAIL, _TAIL),
    ("\xed", "[\x80-\x9f]", _TAIL),
    ("[\xee-\xef]", _TAIL, _TAIL),
    ("\xf0", "[\x90-\xbf]", _TAIL, _TAIL),
    ("[\xf1-\xf3]", _TAIL, _TAIL, _TAIL),
    ("\xf4", "[\x80-\x8f]", _TAIL, _TAIL),
)
"""``UTF8-char``, a row for each of its forms, a column for each byte."""
_ANY = "|".join("".join(form) for form in _FORMS)
_PART = "|".join("".join(form[:count]) for form in _FORMS for count in range(1, len(form)))
_WHOLE = re.compile(f"(?:{_ANY})*", re.DOTALL)
_BEGUN = re.compile(f"(?:{_PART})?", re.DOTALL)


def fault_at(data: bytes) -> int:
    """Return how many bytes of ``data`` show that it begins no UTF-8 text: 0, if it does."""
    for end in range(1, len(data) + 1):
        latin = data[:end].decode("latin-1")
        begun = _WHOLE.match(latin)
        assert begun is not None
        if _BEGUN.fullmatch(latin, begun.end()) is None:
            return end
    return 0


def is_whole(data: bytes) -> bool:
    """Whether ``data`` is UTF-8 text, to its end."""
    return _WHOLE.fullmatch(data.decode("latin-1")) is not None


RIGHT: dict[str, bytes] = {
    "nothing": b"",
    "ASCII": b"Hello, world",
    "two, three and four bytes": "Hello-µ@ßöäüàá-UTF-8!! κόσμε €😀".encode(),
    "the first of one byte": b"\x00",
    "the last of one byte": b"\x7f",
    "the first of two bytes": b"\xc2\x80",
    "the last of two bytes": b"\xdf\xbf",
    "the first of three bytes": b"\xe0\xa0\x80",
    "before the surrogates": b"\xed\x9f\xbf",
    "after the surrogates": b"\xee\x80\x80",
    "the last of three bytes": b"\xef\xbf\xbf",
    "the first of four bytes": b"\xf0\x90\x80\x80",
    "the last of all": b"\xf4\x8f\xbf\xbf",
    "the replacement character": b"\xef\xbf\xbd",
    "a byte order mark": b"\xef\xbb\xbfx",
    "not a character, but a code point": b"\xef\xbf\xbe\xef\xb7\x90",
    "not a character of each plane": b"".join(chr(plane << 16 | 0xFFFF).encode() for plane in range(17)),
    "private use": b"\xee\x80\x80\xef\xa3\xbf\xf3\xb0\x80\x80\xf4\x8f\xbf\xbd",
}

WRONG: dict[str, bytes] = {
    "a continuation byte": b"\x80",
    "the last continuation byte": b"\xbf",
    "several continuation bytes": b"\x80\xbf\x80\xbf\x80\xbf",
    "each continuation byte": bytes(range(0x80, 0xC0)),
    "a continuation byte after a character": b"\xc3\xa4\x80",
    **{f"{byte:#x}, which begins nothing": bytes([0x61, byte, 0x80, 0x80, 0x80]) for byte in (0xC0, 0xC1)},
    **{f"{byte:#x}, which begins nothing": bytes([0x61, byte, 0x80, 0x80, 0x80]) for byte in range(0xF5, 0x100)},
    **{
        f"{byte:#x}, then no continuation": bytes([0x61, byte, 0x20, 0x61])
        for byte in (0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4)
    },
    "a third byte missing": b"\xe2\x82x",
    "a fourth byte missing": b"\xf0\x9f\x98x",
    "overlong slash, two bytes": b"\xc0\xaf",
    "overlong slash, three bytes": b"\xe0\x80\xaf",
    "overlong slash, four bytes": b"\xf0\x80\x80\xaf",
    "overlong slash, five bytes": b"\xf8\x80\x80\x80\xaf",
    "overlong slash, six bytes": b"\xfc\x80\x80\x80\x80\xaf",
    "overlong NUL, two bytes": b"\xc0\x80",
    "overlong NUL, three bytes": b"\xe0\x80\x80",
    "overlong NUL, four bytes": b"\xf0\x80\x80\x80",
    "the largest overlong, two bytes": b"\xc1\xbf",
    "the largest overlong, three bytes": b"\xe0\x9f\xbf",
    "the largest overlong, four bytes": b"\xf0\x8f\xbf\xbf",
    "the first surrogate": b"\xed\xa0\x80",
    "the last high surrogate": b"\xed\xaf\xbf",
    "the first low surrogate": b"\xed\xb0\x80",
    "the last surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "a surrogate in a text": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "above U+10FFFF in a text": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "Latin-1": b"Gr\xfc\xdfe",
    "UTF-16": b"\xff\xfeH\x00",
}

UNFINISHED: dict[str, bytes] = {
    "one of two bytes": b"a\xc3",
    "one of three bytes": b"a\xe2",
    "two of three bytes": b"a\xe2\x82",
    "one of four bytes": b"a\xf0",
    "two of four bytes": b"a\xf0\x9f",
    "three of four bytes": b"a\xf0\x9f\x98",
}
"""Wrong only where the text ends."""


def _cases() -> list[Case]:
    cases = []
    for name, data in {**RIGHT, **WRONG, **UNFINISHED}.items():
        events, code = ([(1, data.decode())], 0) if name in RIGHT else ([], 1007)
        cases.append(Case(f"8.1 {name}", text(data), list(events), code))
        cases += [
            Case(f"8.1 {name}, cut after {cut}", in_frames(1, data, [cut]), list(events), code)
            for cut in range(1, len(data))
        ]
        cases.append(Case(f"8.1 {name}, byte by byte", in_frames(1, data, [1] * len(data)), list(events), code))
        cases.append(Case(f"5.6 {name}, binary", sent(2, data), [(2, data)]))
        if len(data) <= 123:
            closing: list[tuple[int, object]] = [] if code else [(8, (1000, data.decode()))]
            cases.append(Case(f"5.5.1 {name}, a reason", close(1000, data), closing, code))
    return cases


CORPUS = _cases()
