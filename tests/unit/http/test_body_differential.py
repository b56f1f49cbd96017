"""Our reading of a chunked body against llhttp's (httptools) and h11's.

Two parsers that end a body at two places read two different next requests (S4, S5, S7). So where we accept, the
others must have seen the same bytes and the same end; where one side refuses what the other accepts,
:data:`DISAGREEMENTS` has the reason, or a test fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.body import ChunkedBody
from hybrid.http.errors import HttpError
from tests.unit.http.cuts import CHANGES, changed
from tests.unit.http.disagreements import BOTH, Disagreement, classes

httptools = pytest.importorskip("httptools")
h11 = pytest.importorskip("h11")

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
BEHIND = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True)
class Seen:
    """What a parser made of a body. ``refused``: why it was not read; empty when it was. ``end``: its length."""

    refused: str = ""
    decoded: bytes = b""
    end: int = 0


def ours(data: bytes) -> Seen:
    """Return our view of ``data``."""
    body = ChunkedBody()
    try:
        end = body.feed(data, 0)
    except HttpError as error:
        return Seen(refused=str(error))
    return Seen("", body.take(), end) if body.is_complete else Seen(refused="unfinished")


class Llhttp:
    """httptools' callbacks for one body."""

    def __init__(self) -> None:
        self.decoded = b""
        self.is_complete = False

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self.decoded += data

    def on_message_complete(self) -> None:
        """Note the end."""
        self.is_complete = True


def llhttp(data: bytes) -> Seen:
    """Return llhttp's view of ``data``: byte by byte, for it says when a message ends, not where."""
    view = Llhttp()
    parser = httptools.HttpRequestParser(view)
    parser.feed_data(HEAD)
    for index in range(len(data)):
        try:
            parser.feed_data(data[index : index + 1])
        except httptools.HttpParserError as error:
            return Seen(refused=str(error) or type(error).__name__)
        if view.is_complete:
            return Seen("", view.decoded, index + 1)
    return Seen(refused="unfinished")


def python_h11(data: bytes) -> Seen:
    """Return h11's view of ``data``."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=70_000)
    connection.receive_data(HEAD + data)
    decoded = b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return Seen(refused="unfinished")
            if isinstance(event, h11.Data):
                decoded += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Seen("", decoded, len(data) - len(connection.trailing_data[0]))
    except h11.RemoteProtocolError as error:
        return Seen(refused=str(error))


PEERS: dict[str, Callable[[bytes], Seen]] = {"llhttp": llhttp, "h11": python_h11}


NO_SIZE = "not a chunk size"
EXTENSION = rb"(?i)(\A|\n)[0-9a-f]+[ \t]*;"
TRAILER = rb"\n0+(;[^\n]*)?\r\n(?!\r\n)|\A0+(;[^\n]*)?\r\n(?!\r\n)"
DISAGREEMENTS: dict[str, Disagreement] = {
    "digits": Disagreement(BOTH + NO_SIZE, "RFC 9112 §7.1: no overflow; S4: 16, zeros included", rb"[0-9A-Fa-f]{17}"),
    "blank behind a size": Disagreement(
        "h11 accepts: " + NO_SIZE, "RFC 9112 §7.1: there is none; S4", rb"(?i)[0-9a-f][ \t]+\r\n"
    ),
    "control byte in an extension": Disagreement(
        "h11 accepts: " + NO_SIZE,
        "RFC 9112 §7.1.1: token or quoted-string; S5",
        EXTENSION + rb"[^\n]*[^\t -~\x80-\xff\r\n]",
    ),
    "bare CR in an extension": Disagreement(
        "h11 accepts: " + NO_SIZE, "RFC 9112 §2.2: a bare CR is invalid; S5", EXTENSION + rb"[^\n]*\r(?!\n)"
    ),
    "long extension": Disagreement(
        BOTH + NO_SIZE, "RFC 9112 §7.1.1: limit the total length; S5", EXTENSION + rb".{250}"
    ),
    "framing": Disagreement(BOTH + r"\d+ bytes of chunk framing", "RFC 9112 §7.1.1: limit the total length; S21, S22"),
    "grammar of an extension": Disagreement(
        "llhttp refuses: Invalid character in chunk extensions",
        "RFC 9112 §7.1.1: MUST ignore what is not known; within the line it cannot move the end",
        EXTENSION,
    ),
    "line end of a trailer": Disagreement(
        "h11 accepts: a bare CR or a bare LF", "RFC 9112 §2.2 allows a lone LF; S3, S6: never", rb"(?<!\r)\n|\r(?!\n)"
    ),
    "trailer is no field": Disagreement(
        "h11 accepts: in a trailer: (not a header field: b['\"][ \\\\]|a control byte)",
        "RFC 9112 §5.2, RFC 9110 §5.5; S10",
        TRAILER,
    ),
    "many trailers": Disagreement(BOTH + r"in a trailer: \d+ header fields", "RFC 6585 §5; S10"),
    "trailer steers": Disagreement(
        BOTH + "in a trailer: (cannot meet|transfer coding|not a host|more than one|not a Content-Length|both|chunked)",
        "RFC 9110 §6.5.1: it must not be there; a wrong one is no better than in a head; S10",
        rb"(?i)\n(expect|host|content-length|transfer-encoding):",
    ),
    "trailer steers, and is dropped": Disagreement(
        "llhttp refuses: (Content-Length can't|Invalid `Transfer-Encoding`)",
        "RFC 9110 §6.5.1: ignored or kept apart; S10",
        rb"(?i)\n(content-length|transfer-encoding):",
    ),
}
"""Every way in which we differ on purpose."""


def disagreement(peer: str, data: bytes) -> str:
    """Return how ``peer`` (``llhttp`` or ``h11``) reads the body in ``data`` other than we do; empty: it does not."""
    us, them = ours(data), PEERS[peer](data)
    if us.refused and them.refused:
        return ""
    if us.refused:
        return f"{peer} accepts: {us.refused}"
    if them.refused:
        return f"{peer} refuses: {them.refused}"
    return "" if us == them else f"{peer} differs: {us} {them}"


def unexplained(peer: str, data: bytes) -> str:
    """Return the disagreement over ``data``, unless a class of the table covers it."""
    text = disagreement(peer, data)
    return "" if text and classes(DISAGREEMENTS, text, data) else text


CORPUS: dict[str, bytes] = {
    "one": b"5\r\nhello\r\n0\r\n\r\n",
    "three": b"1\r\na\r\n2\r\nbc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
    "none": b"0\r\n\r\n",
    "digits of both cases": b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "line ends inside": b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
    "zeros before": b"0005\r\nhello\r\n000\r\n\r\n",
    "S4 17 digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "S4 21 digits": b"000000000000000000005\r\nhello\r\n0\r\n\r\n",
    "S4 2^63": b"8000000000000000\r\nhello\r\n0\r\n\r\n",
    "S4 2^64 and 5": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "S4 no digit": b"\r\nhello\r\n0\r\n\r\n",
    "S4 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "S4 sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "S4 negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "S4 underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "S4 letter": b"5g\r\nhello\r\n0\r\n\r\n",
    "S4 blank before": b" 5\r\nhello\r\n0\r\n\r\n",
    "S4 blank behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "S4 blank before the semicolon": b"5 ;a\r\nhello\r\n0\r\n\r\n",
    "S4 HTAB before the semicolon": b"5\t;a\r\nhello\r\n0\r\n\r\n",
    "S4 data too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "S4 other two bytes behind data": b"5\r\nhelloXX0\r\n\r\n",
    "S4 data ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "S4 data ends in CR": b"5\r\nhello\r0\r\n\r\n",
    "S5 extension": b"5;a\r\nhello\r\n0;b\r\n\r\n",
    "S5 extension with value": b"5;a=b;c=d\r\nhello\r\n0\r\n\r\n",
    "S5 blanks in an extension": b"5; a = b\r\nhello\r\n0\r\n\r\n",
    "S5 quoted extension": b'5;a="b;c"\r\nhello\r\n0\r\n\r\n',
    "S5 quote that does not end": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "S5 semicolon alone": b"5;\r\nhello\r\n0\r\n\r\n",
    "S5 size line ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "S5 size line ends in CR": b"5\rhello\r\n0\r\n\r\n",
    "S5 extension with LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "S5 extension with CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "S5 extension with NUL": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "S5 extension with obs-text": b"5;a=\xff\r\nhello\r\n0\r\n\r\n",
    "S5 extension too long": b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n",
    "S6 last line is missing": b"5\r\nhello\r\n0\r\n",
    "S6 last line ends in LF": b"5\r\nhello\r\n0\r\n\n",
    "S6 last chunk is missing": b"5\r\nhello\r\n",
    "S10 trailer": b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    "S10 two trailers": b"0\r\nA: 1\r\nB: 2\r\n\r\n",
    "S10 trailer ends in LF": b"0\r\nA: 1\n\r\n",
    "S10 trailer ends in CR": b"0\r\nA: 1\rB: 2\r\n\r\n",
    "S10 trailer with a blank before the colon": b"0\r\nA : 1\r\n\r\n",
    "S10 folded trailer": b"0\r\nA: 1\r\n 2\r\n\r\n",
    "S10 trailer without a colon": b"0\r\nA\r\n\r\n",
    "S10 trailer with a control byte": b"0\r\nA: \x01\r\n\r\n",
    "S10 length in a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "S10 bad length in a trailer": b"0\r\nContent-Length: x\r\n\r\n",
    "S10 coding in a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "S10 unknown coding in a trailer": b"0\r\nTransfer-Encoding: gzip\r\n\r\n",
    "S10 expectation in a trailer": b"0\r\nExpect: x\r\n\r\n",
    "S10 many trailers": b"0\r\n" + b"A: 1\r\n" * 40 + b"\r\n",
    "S21 framing without end": b"1;%b\r\nx\r\n" % (b"a" * 200) * 100 + b"0\r\n\r\n",
    "S21 a byte in each chunk": b"1\r\nx\r\n" * 500 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("peer", PEERS)
def test_corpus_is_read_alike(peer: str) -> None:
    """Every body of the corpus, a request behind it: the same bytes and the same end, or a class of the table."""
    found = {name: unexplained(peer, data + BEHIND) for name, data in CORPUS.items()}
    assert {name: text for name, text in found.items() if text} == {}


def test_every_class_of_disagreement_is_met() -> None:
    """A class that no body of the corpus shows is one too many."""
    bodies = [data + BEHIND for data in CORPUS.values()]
    met = {name for data in bodies for peer in PEERS for name in classes(DISAGREEMENTS, disagreement(peer, data), data)}
    assert DISAGREEMENTS.keys() - met == set()


VALID = [data for data in CORPUS.values() if not ours(data).refused and len(data) < 200]
BITS = [
    *(bytes([byte]) for byte in b'\x00\t\n\x0b\x0c\r\x1f !"+,-0159:;=_AFaxg\x7f\x80\xff'),
    *(b"\r\n", b"\r\n\r\n", b"0\r\n", b"1\r\n", b"0x", b";a=b", b"\r\n0\r\n\r\n", b"X: 1\r\n", b"0000000000000000"),
]


@settings(max_examples=150, deadline=None, derandomize=True)  # a new class is found on purpose, not on somebody's CI
@given(st.sampled_from(VALID), CHANGES)
def test_changed_body_is_read_alike(data: bytes, changes: list[bytes]) -> None:
    """Valid bodies with a few bytes changed: the same for both, or a class of the table."""
    data = changed(data, changes, BITS)
    assert [found for peer in PEERS if (found := unexplained(peer, data + BEHIND))] == []


@pytest.mark.parametrize(
    "text",
    [
        "llhttp differs: b'a' b'b'",
        "h11 differs: 5 6",
        "h11 accepts: unfinished",
        "llhttp accepts: not the end of a chunk",
    ],
)
def test_table_does_not_cover_what_it_does_not_name(text: str) -> None:
    """Other bytes, another end, a body that is not whole: no class excuses these."""
    assert not [name for data in CORPUS.values() for name in classes(DISAGREEMENTS, text, data)]
