"""How a line of the access log looks, and that nobody forges one."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybrid.connection.access_line import Client, Entry, compile_format
from hybrid.http.fields import Fields
from hybrid.http.head import Head, HeadLimits, HeadReader
from hybrid.http.request_line import RequestLine
from hybrid.shared.access_format import OWN_ATOMS, PLAIN_ATOMS

NOON = 1795417760.1239
"""2026-11-23 07:09:20.123 UTC."""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ+3:30")  # west of Greenwich
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def head_of(*lines: bytes, first: bytes = b"GET /a/b?c=d HTTP/1.1") -> Head:
    head = HeadReader(HeadLimits()).read(b"\r\n".join([first, b"Host: example.org", *lines, b"", b""]), 0)
    assert head is not None
    return head


def entry(head: Head | None = None, client: Client = ("192.0.2.1", 40000), **fields: Any) -> Entry:
    made = Entry(head, client, "http", **{"status": 200, "body_bytes": 17, "duration_s": 1.2345678, **fields})
    made.began_at = NOON
    return made


def line(text: str, of: Entry, slot: int = 3) -> str:
    line_of, _ = compile_format(text, slot)
    said = line_of(of).decode("ascii")
    assert said.endswith("\n")
    return said[:-1]


# ── the forms ────────────────────────────────────────────────────────────────────────────────────────────────


def test_combined_is_what_apache_writes() -> None:
    """Field by field, as every reader of access logs expects it."""
    head = head_of(b"Referer: http://example.org/", b"User-Agent: curl/8.0")
    assert line("combined", entry(head)) == (
        '192.0.2.1 - - [23/Nov/2026:03:39:20 -0330] "GET /a/b?c=d HTTP/1.1" 200 17 "http://example.org/" "curl/8.0"'
    )


def test_combined_of_what_is_no_request() -> None:
    """Refused before it was one: what is not known is a dash, and the columns stay."""
    said = line("combined", Entry(None, None, "http", 400))
    assert said.endswith('] "-" 400 - "-" "-"') and said.startswith("- - - [")


def test_json_is_an_object_of_these_keys() -> None:
    """Names, types and order."""
    head = head_of(b"Referer: http://example.org/", b'User-Agent: caf\xe9 "x"', b"X-Request-ID: abc")
    assert list(json.loads(line("json", entry(head))).items()) == [
        *(("time", "2026-11-23T07:09:20.123Z"), ("client", "192.0.2.1"), ("method", "GET"), ("path", "/a/b?c=d")),
        *(("version", "1.1"), ("status", 200), ("bytes", 17), ("duration_ms", 1234.568), ("request_id", "abc")),
        *(("worker", 3), ("pid", os.getpid()), ("referer", "http://example.org/"), ("user_agent", 'café "x"')),
        *(("host", "example.org"), ("scheme", "http")),
    ]


def test_json_of_what_is_no_request() -> None:
    """What is not known is null."""
    said = json.loads(line("json", Entry(None, None, "http", 0)))
    unknown = {name for name, value in said.items() if value is None}
    assert unknown == {
        *("client", "method", "path", "version", "status", "duration_ms", "referer", "user_agent", "host"),
    }
    assert len(said["request_id"]) == 24


BASIC = base64.b64encode(b"ada l\xe9:secret")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("%(h)s", "192.0.2.1"),
        ("%(l)s", "-"),
        ("%(u)s", "ada\\x20l\\xE9"),
        ("%(t)s", "[23/Nov/2026:03:39:20 -0330]"),
        ("%(r)s", "GET /a/b?c=d HTTP/1.1"),
        ("%(m)s", "GET"),
        ("%(U)s", "/a/b"),
        ("%(q)s", "c=d"),
        ("%(H)s", "HTTP/1.1"),
        ("%(s)s", "200"),
        ("%(B)s", "17"),
        ("%(b)s", "17"),
        ("%(f)s", "-"),
        ("%(a)s", "curl"),
        ("%(T)s", "1"),
        ("%(D)s", "1234567"),
        ("%(M)s", "1234"),
        ("%(L)s", "1.234568"),
        pytest.param("%(p)s", f"<{os.getpid()}>", id="pid"),  # the same name in every process that tests
        ("%({User-Agent}i)s", "curl"),
        ("%({x-twice}i)s", "one, two"),
        ("%({x-none}i)s", "-"),
        ("%({Content-Type}o)s", "text/html"),
        ("%({set-cookie}o)s", "a=b, c=d"),
        ("%({etag}o)s", "-"),
        ("%({TZ}e)s", "XYZ+3:30"),
        ("%({no_such_variable}e)s", "-"),
        ("%({request_id}x)s", "abc"),
        ("%({scheme}x)s", "http"),
        ("%({host}x)s", "example.org"),
        ("%({worker}x)s", "3"),
        ("%({time}x)s", "2026-11-23T07:09:20.123Z"),
        ("%%%(s)s%%\t%%(s)s", "%200%\t%(s)s"),
    ],
)
def test_atom_says(text: str, said: str) -> None:
    """What each atom stands for."""
    head = head_of(b"User-Agent: curl", b"X-Twice: one", b"Authorization: basic " + BASIC, b"X-Twice: two",
                   b"X-Request-ID: abc")  # fmt: skip
    headers = [(b"Content-Type", b"text/html"), (b"set-cookie", b"a=b"), (b"Set-Cookie", b"c=d")]
    assert line(text, entry(head, response_headers=headers)) == said


@pytest.mark.parametrize("name", [*PLAIN_ATOMS, *(f"{{{name}}}x" for name in OWN_ATOMS), "{a}i", "{a}o", "{a}e"])
def test_atom_of_what_is_no_request(name: str) -> None:
    """No atom needs a request: it says something, and mostly a dash."""
    known = {"t", "p", "B", "s", "{request_id}x", "{scheme}x", "{worker}x", "{time}x"}
    said = line(f"%({name})s", Entry(None, None, "http", 400))
    assert (said != "-") == (name in known)


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8::1", 1), "2001:db8::1"),
        (("fe80::1%eth0", 1), "fe80::1%eth0"),
        (("", 0), "-"),
        ("", "-"),
        (None, "-"),
        (("/run/client.sock", None), "/run/client.sock"),
        ("/run/a client", "unix:/run/a\\x20client"),
        ("\0abstract", "unix:\\x00abstract"),
        (("a\udcff\n", 0), "a\\xED\\xB3\\xBF\\x0A"),
    ],
)
def test_client_says(client: Client, said: str) -> None:
    """An address of any family, or none."""
    assert line("%(h)s", entry(client=client)) == said


@pytest.mark.parametrize(
    "value", [b"Bearer abc", b"Basic", b"Basic a", b"Basic =", b"basic " + base64.b64encode(b":secret"), b"Digest x=y"]
)
def test_user_who_names_no_one_is_a_dash(value: bytes) -> None:
    """Other schemes, and what is no base64."""
    assert line("%(u)s", entry(head_of(b"Authorization: " + value))) == "-"


def test_password_is_not_logged() -> None:
    """Only what stands before the colon."""
    assert "secret" not in line("combined", entry(head_of(b"Authorization: Basic " + BASIC)))


def test_empty_body_is_a_dash_in_common_log_format() -> None:
    """``b`` is Apache's %b, ``B`` its %B."""
    assert line("%(b)s %(B)s", entry(body_bytes=0)) == "- 0"


@pytest.mark.parametrize(("text", "wants"), [("combined", False), ("json", False), ("%(h)s %({etag}o)s", True)])
def test_response_headers_are_asked_for_only_if_needed(text: str, wants: bool) -> None:
    """Whoever answers need not keep them otherwise."""
    assert compile_format(text, 0)[1] is wants


@pytest.mark.parametrize("headers", ["etag", ["etag"], [("etag", "e")], [(b"etag", "e")], [(1, 2)], 5, [(b"etag",)]])
def test_headers_that_are_none_are_a_dash(headers: Any) -> None:
    """An application said nonsense and was refused: the request is logged all the same."""
    assert line("%({etag}o)s", entry(response_headers=headers)) == "-"


def test_id_is_made_once() -> None:
    """The line says what the application was told, and the other way round."""
    of = entry(head_of())
    assert line("%({request_id}x)s", of) == of.request_id == of.identify() != ""


# ── nobody forges a line ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        (b'"', "\\x22"),
        (b"\\x22", "\\x5Cx22"),
        (b"a\tb", "a\\x09b"),
        (b"\xc3\xa9\x9b31m", "\\xC3\\xA9\\x9B31m"),
        (b"%s %(h)s {0}", "%s %(h)s {0}"),
    ],
)
def test_header_is_escaped_as_nginx_does(agent: bytes, text: str) -> None:
    """Quotes, backslashes, and every byte that is not visible ASCII; JSON has an escape of its own for each."""
    head = head_of(b"User-Agent: " + agent)
    assert line("%(a)s", entry(head)) == text
    assert json.loads(line("json", entry(head)))["user_agent"] == agent.decode("latin-1")


EVERYTHING = (
    " ".join(f"%({name})s" for name in PLAIN_ATOMS)
    + " %({x-a}i)s %({x-a}o)s "
    + " ".join(f"%({{{name}}}x)s" for name in OWN_ATOMS)
)
_pairs = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"referer", b"user-agent", b"authorization", b"x-request-id"]),
        st.one_of(st.binary(max_size=40), st.binary(max_size=20).map(lambda user: b"Basic " + base64.b64encode(user))),
    ),
    max_size=6,
)
_text = st.text(max_size=20)
_heads = st.builds(
    lambda method, target, minor, pairs: Head(RequestLine(method, b"/%" + target, minor), Fields(pairs), 0),
    _text, st.binary(max_size=40), st.sampled_from([b"0", b"1"]), _pairs,
)  # fmt: skip
_entries = st.builds(
    Entry,
    head=st.one_of(st.none(), _heads),
    client=st.one_of(st.none(), _text, st.tuples(_text, st.one_of(st.none(), st.integers(0, 65535)))),
    scheme=_text,
    status=st.integers(0, 999),
    body_bytes=st.integers(0, 2**63),
    request_id=_text,
    response_headers=st.one_of(st.none(), _pairs),
    duration_s=st.floats(-1, 1e7),
)


@given(_entries, st.sampled_from(["combined", "json", EVERYTHING]))
@example(Entry(None, "\ud800", "\x1b[31m", 0), EVERYTHING)
def test_nothing_that_is_not_visible_ascii_gets_into_a_line(of: Entry, text: str) -> None:
    """CVE-2020-7694: whatever a peer sends, one line stays one, and colours nothing."""
    said = compile_format(text, 0)[0](of)
    assert said.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in said[:-1])
    if text == "json":
        assert json.loads(said)["scheme"] == (of.scheme or None)


@given(_entries)
def test_quoted_fields_of_a_line_stay_three(of: Entry) -> None:
    """No quote of a peer's ends a field of the combined form; no blank of his makes a column of the first ones."""
    said = compile_format("combined", 0)[0](of).decode()
    assert said.count('"') == 6
    assert len(said[: said.index('"')].split(" ")) == 6  # h l u [time zone], and the end
