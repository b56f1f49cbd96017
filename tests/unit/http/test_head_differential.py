"""Our reading of a head against llhttp's (httptools) and h11's.

Two parsers that differ are how requests are smuggled (S12, S13). So where we accept, the others must have seen the
same request; where one side refuses what the other accepts, :data:`DISAGREEMENTS` has the reason, or a test fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.errors import HttpError
from hybrid.http.head import HeadLimits, HeadReader
from tests.unit.http.corpus import BROWSER, CORPUS
from tests.unit.http.cuts import CHANGES, changed
from tests.unit.http.disagreements import BOTH, Disagreement, classes

httptools = pytest.importorskip("httptools")
h11 = pytest.importorskip("h11")


@dataclass
class Seen:
    """What a parser made of a head. ``refused``: why it was not read; empty when it was."""

    refused: str = ""
    method: bytes = b""
    target: bytes = b""
    version: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    has_body: bool = False
    keep_alive: bool | None = False

    def difference(self, other: Seen) -> str:
        """Return the first thing in which two parsers that accepted differ, or nothing."""
        for each in (self, other):  # h11 lower-cases a coding
            each.headers = [
                (name, value.lower() if name == b"transfer-encoding" else value) for name, value in each.headers
            ]
        for name in ("method", "target", "version", "headers", "has_body", "keep_alive"):
            if None is not getattr(other, name) != getattr(self, name):
                return f"{name}: {getattr(self, name)!r} != {getattr(other, name)!r}"
        return ""


def ours(data: bytes) -> Seen:
    """Return our view of ``data``."""
    try:
        head = HeadReader(HeadLimits()).read(data, 0)
    except HttpError as error:
        return Seen(refused=str(error))
    if head is None:
        return Seen(refused="unfinished")
    has_body = head.fields.chunked or head.fields.content_length > 0
    return Seen("", head.method.encode(), head.target, head.version, head.fields.pairs, has_body, head.keep_alive)


class Llhttp:
    """httptools' callbacks for one head."""

    def __init__(self) -> None:
        self.seen = Seen(refused="unfinished", has_body=True)
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        """Take (a part of) the target."""
        self.seen.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        self.seen.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Take what is known at the end of the head."""
        self.seen.refused = ""
        self.seen.method = self.parser.get_method()
        self.seen.version = self.parser.get_http_version()
        self.seen.keep_alive = self.parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Note that no body is waited for."""
        self.seen.has_body = False


def llhttp(data: bytes) -> Seen:
    """Return llhttp's view of ``data``."""
    view = Llhttp()
    try:
        view.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        view.seen.refused = str(error) or type(error).__name__
    return view.seen


def python_h11(data: bytes) -> Seen:
    """Return h11's view of ``data``. It keeps no HTTP/1.0 connection, so keep-alive is not compared."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=70_000)
    try:
        connection.receive_data(data)
        event = connection.next_event()
        if not isinstance(event, h11.Request):
            return Seen(refused="unfinished")
        seen = Seen("", event.method, event.target, event.http_version.decode(), list(event.headers))
        seen.has_body = not isinstance(connection.next_event(), h11.EndOfMessage)
        seen.keep_alive = None
    except h11.RemoteProtocolError as error:
        return Seen(refused=str(error))
    return seen


DISAGREEMENTS: dict[str, Disagreement] = {
    "line end": Disagreement(
        BOTH + "a bare (CR|LF)",
        "RFC 9112 §2.2 allows a lone LF and asks to refuse a lone CR; S3: neither",
        rb"(?<!\r)\n|\r(?!\n)",
    ),
    "control byte": Disagreement(BOTH + "a control byte", "RFC 9110 §5.5: invalid; h11 stops NUL, LF, VT, FF, CR only"),
    "lines before": Disagreement(
        BOTH + r"no method begins with b'\\[rn]'",
        "RFC 9112 §2.2: at least one CRLF is skipped; we skip one",
        rb"\A[\r\n]+",
    ),
    "major version": Disagreement(BOTH + "not HTTP/1.x", "RFC 9110 §15.6.6: 505", rb"HTTP/[02-9]\.[0-9]\r\n"),
    "HTTP/0.9": Disagreement(
        "llhttp accepts: not a request line", "RFC 9112 §3: no version", rb"\A(\r\n)?[^ ]+ +[^ \r]*\r\n"
    ),
    "blanks in the request line": Disagreement(
        BOTH + "not a request line",
        "RFC 9112 §3: single SP; parsing by whitespace may be lenient",
        rb"\A(\r\n)?[^\n]*(  | \r)",
    ),
    "fragment": Disagreement(BOTH + "not a request line", "RFC 9112 §3.2: none in a target", rb"\A(\r\n)?[^\r]*#"),
    "other target forms": Disagreement(BOTH + "not a request target", "RFC 9112 §3.2: four forms, §3.2.4: * alone"),
    "asterisk": Disagreement(BOTH + r"only OPTIONS is for \*", "RFC 9112 §3.2.4", rb" \* HTTP"),
    "CONNECT": Disagreement(BOTH + "CONNECT ", "RFC 9110 §9.3.6: for proxies", rb"\A(\r\n)?CONNECT "),
    "target against Host": Disagreement(BOTH + "the target is at", "RFC 9112 §3.2: both alike; S9", rb"://"),
    "no Host": Disagreement(BOTH + "no Host", "RFC 9112 §3.2: 400; llhttp asks nothing, h11 only in exactly 1.1"),
    "two Hosts": Disagreement("llhttp accepts: more than one Host", "RFC 9112 §3.2: 400", rb"(?is)\nhost:.*\nhost:"),
    "invalid Host": Disagreement(BOTH + "not a host", "RFC 9112 §3.2: 400 for an invalid value; S9"),
    "obs-fold": Disagreement(
        "h11 accepts: not a header field: b['\"][ \\\\]", "RFC 9112 §5.2: 400, or unfold", rb"\n[ \t]"
    ),
    "length repeated": Disagreement(
        "h11 accepts: (more than one|not a) Content-Length",
        "RFC 9112 §6.3: may be read as one; S2",
        rb"(?i)content-length",
    ),
    "length of 20 digits": Disagreement(BOTH + r"not a Content-Length: b'\d{20}", "RFC 9110 §8.6: no overflow"),
    "coding with length": Disagreement(
        "h11 accepts: both Transfer", "RFC 9112 §6.3: ought to be handled as an error; S1"
    ),
    "coding in 1.0": Disagreement(BOTH + "Transfer-Encoding in", "RFC 9112 §6.1: faulty framing; S1", rb"HTTP/1\.0\r"),
    "coding unknown": Disagreement(
        "llhttp accepts: transfer coding not", "RFC 9112 §6.1: 501", rb"(?i)chunked|upgrade"
    ),
    "coding list": Disagreement(
        "llhttp accepts: (not a list of transfer|chunked)", "RFC 9110 §5.6.1: a sender puts no empty element; S1"
    ),
    "expectation": Disagreement(BOTH + "cannot meet", "RFC 9110 §10.1.1: 417", rb"(?i)\nexpect:"),
    "size": Disagreement(BOTH + r"(a request line|a head|\d+ header fields)(,| above)", "RFC 6585 §5; S20"),
    "minor version": Disagreement(
        "llhttp refuses: Invalid HTTP version|h11 differs: version",
        "RFC 9110 §2.5: 1.x is read as 1.1",
        rb"HTTP/1\.[2-9]\r",
    ),
    "unknown method": Disagreement("llhttp refuses: (Invalid method|Expected)", "RFC 9110 §9.1: any token"),
    "empty line": Disagreement("h11 refuses: no request line received", "RFC 9112 §2.2: SHOULD ignore one", rb"\A\r\n"),
    "Host from the target": Disagreement("(llhttp|h11) differs: headers", "RFC 9112 §3.2.2", rb"://[^\r]* HTTP/1\.0\r"),
    "coding then HTAB": Disagreement(
        "llhttp refuses: Request has invalid `Transfer-Encoding`", "RFC 9112 §5: OWS after a value", rb"(?i)chunked *\t"
    ),
    "upgrade with a body": Disagreement(
        "llhttp differs: has_body: True != False",
        "RFC 9110 §7.8: the request's body comes before the other protocol; httptools skips it",
        rb"(?i)\nupgrade:",
    ),
    "close wins": Disagreement("llhttp differs: keep_alive", "RFC 9112 §9.3: close first", rb"(?i)close"),
}
"""Every way in which we differ on purpose."""


def disagreement(peer: str, data: bytes) -> str:
    """Return how ``peer`` (``llhttp`` or ``h11``) reads the head in ``data`` other than we do; empty: it does not."""
    end = re.compile(b"\r\n\r\n").search(data, len(data) - len(data.lstrip(b"\r\n")))
    whole = data[: end.end()] if end else data
    us, them = ours(whole), PEERS[peer](whole)
    if us.refused and them.refused:
        return ""
    if us.refused:
        return f"{peer} accepts: {us.refused}"
    if them.refused:
        return f"{peer} refuses: {them.refused}"
    found = us.difference(them)
    return f"{peer} differs: {found}" if found else ""


def unexplained(peer: str, data: bytes) -> str:
    """Return the disagreement over ``data``, unless a class of the table covers it."""
    text = disagreement(peer, data)
    covered = text and classes(DISAGREEMENTS, text, data)
    return "" if covered else text


PEERS: dict[str, Callable[[bytes], Seen]] = {"llhttp": llhttp, "h11": python_h11}


@pytest.mark.parametrize("peer", PEERS)
def test_corpus_is_read_alike(peer: str) -> None:
    """Every head of the corpus: the same request for both, or a class of the table."""
    found = {case.name: unexplained(peer, case.data) for case in CORPUS}
    assert {name: text for name, text in found.items() if text} == {}


def test_every_class_of_disagreement_is_met() -> None:
    """A class that no head of the corpus shows is one too many."""
    met = {
        name
        for case in CORPUS
        for peer in PEERS
        for name in classes(DISAGREEMENTS, disagreement(peer, case.data), case.data)
    }
    assert DISAGREEMENTS.keys() - met == set()


VALID = [case.data for case in CORPUS if case.status == 200 and len(case.data) < 500] + [BROWSER]
BITS = [
    *(bytes([byte]) for byte in b'\x00\t\n\x0b\x0c\r\x1f !"#%,/:;?@[]{}~09aA\x7f\x80\xff'),
    *(b"\r\n", b"\r\n\r\n", b"\r\n ", b"chunked", b", ", b"HTTP/1.0", b"HTTP/1.1", b"Host: a.example\r\n", b"http://"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Connection: close\r\n", b"Expect: x\r\n"),
]


@settings(max_examples=150, deadline=None, derandomize=True)  # a new class is found on purpose, not on somebody's CI
@given(st.sampled_from(VALID), CHANGES)
def test_changed_head_is_read_alike(data: bytes, changes: list[bytes]) -> None:
    """Valid heads with a few bytes changed: the same request for both, or a class of the table."""
    data = changed(data, changes, BITS)
    assert [found for peer in PEERS if (found := unexplained(peer, data))] == []


@pytest.mark.parametrize(
    "text",
    ["llhttp differs: target: b'/a' != b'/b'", "h11 differs: has_body: True != False", "h11 accepts: unfinished"],
)
def test_table_does_not_cover_what_it_does_not_name(text: str) -> None:
    """Another target, another framing, another end: no class excuses these."""
    assert not classes(DISAGREEMENTS, text, BROWSER)
