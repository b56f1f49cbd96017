"""Heads: what is read, what is refused with which status, and that the way the bytes are cut changes nothing."""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.errors import HttpError
from hybrid.http.fields import Fields
from hybrid.http.head import Head, HeadLimits, HeadReader
from tests.unit.http.corpus import ACCEPTED, BROWSER, CORPUS, HOST, SECTIONS
from tests.unit.http.cuts import CUTS, pieces, single

LIMITS = HeadLimits()
SMALL = HeadLimits(line_bytes=40, head_bytes=200, count=4)


def facts(head: Head | None) -> dict[str, Any]:
    """Return everything that a head says, to compare it with another."""
    if head is None:
        return {}
    said = {name: getattr(head, name) for name in attributes(Head) if name != "fields"}
    return said | {f"fields.{name}": getattr(head.fields, name) for name in attributes(Fields)}


@cache
def attributes(kind: type) -> list[str]:
    """Return the names of the data that a class keeps; compiled, it has no ``__slots__``."""
    return [name for name in dir(kind) if name[0] != "_" and not callable(getattr(kind, name))]


def outcome(reader: HeadReader, data: bytes | bytearray, start: int = 0) -> dict[str, Any]:
    """Return what ``reader`` makes of ``data``: the facts of a head, a status and its message, or nothing yet."""
    try:
        return facts(reader.read(data, start))
    except HttpError as error:
        return {"status": error.status, "message": str(error)}


def one(data: bytes) -> Head:
    """Return the head in ``data``."""
    head = HeadReader(LIMITS).read(data, 0)
    assert head is not None
    return head


def get(target: bytes, method: bytes = b"GET") -> Head:
    """Return the head of a request for ``target``."""
    return one(method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")


# ── what is read, what is refused ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("section", SECTIONS)
def test_head_gets_its_status(section: str) -> None:
    """Each case of the corpus is read, or refused with the status that the RFC names."""
    wanted = {case.name: (case.status, case.status) for case in SECTIONS[section]}
    assert wanted == {
        case.name: (
            outcome(HeadReader(LIMITS), case.data).get("status", ACCEPTED),
            outcome(HeadReader(LIMITS), bytearray(b"before" + case.data), 6).get("status", ACCEPTED),
        )
        for case in SECTIONS[section]
    }


def test_every_accepted_head_ends_where_its_bytes_end() -> None:
    """``end`` is the index after the head, counted in the data as given."""
    for case in CORPUS:
        if case.status == ACCEPTED:
            head = HeadReader(LIMITS).read(b"before" + case.data + b"body", 6)
            assert head is not None and head.end == 6 + len(case.data), case.name


@pytest.mark.parametrize(
    ("target", "raw_path", "path", "query_string"),
    [
        (b"/", b"/", "/", b""),
        (b"/a/b?x=1?y", b"/a/b", "/a/b", b"x=1?y"),
        (b"/?", b"/", "/", b""),
        (b"/%C3%A9%2f%25", b"/%C3%A9%2f%25", "/é/%", b""),
        (b"/%ff%41", b"/%ff%41", "/\ufffdA", b""),
        (b"/%zz%4", b"/%zz%4", "/%zz%4", b""),
        (b"//b.example/x", b"//b.example/x", "//b.example/x", b""),
        (b"http://a.example/x%20?y", b"/x%20", "/x ", b"y"),
        (b"http://a.example?y", b"/", "/", b"y"),
        (b"http://a.example", b"/", "/", b""),
    ],
)
def test_target_is_split_and_decoded(target: bytes, raw_path: bytes, path: str, query_string: bytes) -> None:
    """RFC 9112 §3.2.1, §3.2.2: the path decoded as ASGI wants it, the raw one and the query as they came."""
    head = get(target)
    assert (head.target, head.raw_path, head.path, head.query_string) == (target, raw_path, path, query_string)


def test_asterisk_is_its_own_path() -> None:
    """RFC 9112 §3.2.4: OPTIONS * asks about the server."""
    head = get(b"*", b"OPTIONS")
    assert (head.method, head.raw_path, head.path) == ("OPTIONS", b"*", "*")


def test_absolute_target_brings_the_host_that_an_old_client_leaves_out() -> None:
    """RFC 9112 §3.2.2: the host of the target counts; HTTP/1.0 need not say it again."""
    head = one(b"GET http://a.example:81/x HTTP/1.0\r\nX: y\r\nContent-Length: 3\r\n\r\n")
    assert head.fields.host == b"a.example:81"
    assert head.fields.pairs == [(b"host", b"a.example:81"), (b"x", b"y"), (b"content-length", b"3")]
    assert head.fields.content_length == 3


def test_host_of_an_absolute_target_does_not_stay_for_the_next_request() -> None:
    """The kept header block is not the place where a host from a target goes."""
    reader = HeadReader(LIMITS)
    first = reader.read(b"GET http://a.example/ HTTP/1.0\r\nX: y\r\n\r\n", 0)
    second = reader.read(b"GET / HTTP/1.0\r\nX: y\r\n\r\n", 0)
    assert first is not None and first.fields.host == b"a.example"
    assert second is not None and second.fields.host is None


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"close", False),
        (b"1.1", b"x, CLOSE", False),
        (b"1.1", b"keep-alive, close", False),
        (b"1.2", b"", True),
        (b"1.0", b"", False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_connection_is_kept_as_its_version_has_it(version: bytes, connection: bytes, keep_alive: bool) -> None:
    """RFC 9112 §9.3: 1.1 stays unless it says close, 1.0 goes unless it says keep-alive; close always wins."""
    head = one(b"GET / HTTP/" + version + b"\r\n" + HOST + b"Connection: " + connection + b"\r\n\r\n")
    assert head.keep_alive is keep_alive
    assert head.version == ("1.0" if version == b"1.0" else "1.1")


@pytest.mark.parametrize(("version", "heeded"), [(b"1.1", True), (b"1.0", False)])
def test_expectation_and_upgrade_count_from_1_1_on(version: bytes, heeded: bool) -> None:
    """RFC 9110 §7.8, §10.1.1: a server ignores both in HTTP/1.0."""
    block = HOST + b"Expect: 100-continue\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    head = one(b"GET / HTTP/" + version + b"\r\n" + block)
    assert head.expect_continue is heeded
    assert head.upgrade == (b"websocket" if heeded else b"")


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET /" + b"a" * 37, 414, id="S20 line without an end"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 190, 431, id="S20 field without an end"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40, 431, id="S20 fields without an end"),
        pytest.param(b"GET / HTTP/1.1\nHost", 400, id="S3 LF before the end is there"),
        pytest.param(b"\x16\x03", 400, id="TLS on a plain port"),
        pytest.param(b"\r\n\r\n", 400, id="two empty lines"),
    ],
)
def test_head_is_refused_before_it_ends(data: bytes, status: int) -> None:
    """What no further byte can mend is refused at once: no timeout is waited for, no buffer filled."""
    assert outcome(HeadReader(SMALL), data)["status"] == status


@pytest.mark.parametrize("data", [b"GET /" + b"a" * 36, b"GET / HTTP/1.1\r\nX: " + b"y" * 181, b"\r\n", b"\r", b""])
def test_head_is_waited_for_up_to_its_limit(data: bytes) -> None:
    """Before the limit nothing is said: the end may still come."""
    assert outcome(HeadReader(SMALL), data) == {}


@pytest.mark.parametrize("size", [0, 1, 20])
def test_head_at_its_limit_is_read(size: int) -> None:
    """The limit itself is allowed; the empty line before the request line is not counted."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 168 + b"\r\n\r\n"
    assert len(data) == SMALL.head_bytes
    assert "status" not in outcome(HeadReader(SMALL), b"\r\n" + data + b"z" * size)
    assert outcome(HeadReader(SMALL), data.replace(b"X: ", b"X:  ") + b"z" * size)["status"] == 431


class Counting(bytes):
    """Bytes that count how many of them were searched."""

    searched = 0

    def find(self, *args: Any) -> int:
        """Search, and count from where to the end."""
        if args[0] == b"\r\n\r\n":
            Counting.searched += len(self) - args[1]
        return super().find(*args)


def test_bytes_that_trickle_in_are_searched_once() -> None:
    """S20: a head byte by byte costs as much as a head at once, not its square."""
    reader, data = HeadReader(LIMITS), b"GET / HTTP/1.1\r\nX: " + b"y" * 3000
    Counting.searched = 0
    for length in range(len(data)):
        assert reader.read(Counting(data[:length]), 0) is None
    assert Counting.searched < 5 * len(data)


# ── cuts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def by_cuts(data: bytes, cuts: list[int], limits: HeadLimits) -> dict[str, Any]:
    """Return the outcome of ``data`` when it arrives in pieces that end at ``cuts``, in a buffer that moves."""
    reader = HeadReader(limits)
    for moved, cut in enumerate(accumulate(len(piece) for piece in pieces(data, cuts))):
        start = moved % 3
        found = outcome(reader, bytearray(b"\r" * start + data[:cut]), start)
        if found:
            return found | {"end": found["end"] - start} if "end" in found else found
    return {}


PIECES = [
    *(b"GET", b"CONNECT", b" ", b"/", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b"\x00", b"a" * 37),
    *(b"GET / HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HTTP/2.0\r\n", b"Host: a\r\n", b"X: y\r\n", b"Expect: z\r\n"),
]
STREAMS = st.binary(max_size=14).map(
    lambda drawn: b"".join(PIECES[each % len(PIECES)] for each in drawn)
) | st.sampled_from([case.data for case in CORPUS[:190]])


@settings(max_examples=200, deadline=None)
@given(STREAMS, CUTS)
def test_cuts_change_nothing(data: bytes, cuts: list[int]) -> None:
    """Any split of the bytes yields the same head, or the same error with the same message."""
    assert by_cuts(data, cuts, SMALL) == outcome(HeadReader(SMALL), data)


def test_cut_after_every_byte_changes_nothing() -> None:
    """The same, at every place at once."""
    for case in CORPUS:
        if len(case.data) < 300:
            assert by_cuts(case.data, single(case.data), LIMITS) == outcome(HeadReader(LIMITS), case.data), case.name


def test_head_after_one_that_came_in_pieces_is_found() -> None:
    """What was searched of one head says nothing about the next: a short one behind it is seen at once."""
    reader = HeadReader(LIMITS)
    assert reader.read(BROWSER[:-1], 0) is None
    first = reader.read(BROWSER, 0)
    assert first is not None and reader.read(b"GET / HTTP/1.0\r\n\r\n", 0) is not None


# ── the kept header block ────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([case.data for case in CORPUS if len(case.data) < 500]), min_size=1, max_size=6))
def test_kept_header_block_changes_nothing(requests: list[bytes]) -> None:
    """A reader that has seen other heads, or the same one, reads as a new one does."""
    reader = HeadReader(LIMITS)
    for data in (each for request in requests for each in (request, request)):
        expected = outcome(HeadReader(LIMITS), data)
        assert outcome(reader, data) == expected
        if not expected:
            reader = HeadReader(LIMITS)  # it waits for more of that head


def test_equal_header_block_is_parsed_once() -> None:
    """A client that repeats itself gets the same fields object; another block is parsed anew."""
    reader = HeadReader(LIMITS)
    first, again = reader.read(BROWSER, 0), reader.read(BROWSER.replace(b"index", b"other"), 0)
    changed = reader.read(BROWSER.replace(b"theme=dark", b"theme=none"), 0)
    assert first is not None and again is not None and changed is not None
    assert again.fields is first.fields
    assert again.raw_path == b"/other.html"
    assert changed.fields is not first.fields


def test_long_header_block_is_not_kept() -> None:
    """An idle connection holds no large block."""
    reader, data = HeadReader(LIMITS), b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 9000 + b"\r\n\r\n"
    first, again = reader.read(data, 0), reader.read(data, 0)
    assert first is not None and again is not None and again.fields is not first.fields
