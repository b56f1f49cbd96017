"""On whose behalf a request comes: who is believed, which hop is the client, and that nobody can choose it. S38."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.fields import FIELD_BYTES, FORWARDED, parse_fields
from hybrid.http.forwarded import Origin, Trust, forwarded
from hybrid.shared.proxy_settings import ProxySettings
from tests.support.build import pure_only
from tests.unit.http.cuts import CUTS, pieces

DEFAULT = ProxySettings().allow_ips
PROXIES = (*DEFAULT, "10.0.0.0/8", "2001:db8:a::/48")
XFF, RFC7239 = "x-forwarded-for", "forwarded"
PEER = "127.0.0.1"
Client = tuple[str, int] | None


def said(header: str, *values: bytes, peer: str | None = PEER, allow: tuple[str, ...] = PROXIES) -> Origin | None:
    """Return what a peer says with several fields of one header."""
    return forwarded([(header.encode(), value) for value in values], peer, Trust(allow, header))


def client(header: str, *values: bytes, **who: Any) -> Client:
    """Return the client that they lead to; None: it is the peer."""
    origin = said(header, *values, **who)
    return None if origin is None else origin.client


# ── who is believed ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("allow", "believed", "others"),
    [
        (DEFAULT, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "", None], ["10.0.0.1", "::2", "128.0.0.1"]),
        (("10.0.0.7",), ["10.0.0.7", "::ffff:10.0.0.7"], ["10.0.0.8", "127.0.0.1", "", None, "::10.0.0.7"]),
        (("fe80::1",), ["fe80::1", "fe80::1%eth0", "FE80:0::1"], ["fe80::2%eth0", "1.2.3.4"]),
        (("::ffff:10.0.0.0/104", "::ffff:1.2.3.4"), ["10.9.9.9", "::ffff:10.9.9.9", "1.2.3.4"], ["11.0.0.1"]),
        (("2001:db8::/32",), ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "32.1.13.184"]),
        (("0.0.0.0/0",), ["1.2.3.4", "::ffff:1.2.3.4"], ["::1", "", None]),
        (("::/0",), ["::1", "2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4", None]),
        (("unix",), ["", None], ["127.0.0.1", "unix", "/run/a.sock"]),
        (("*",), ["1.2.3.4", "::1", "", None, "@abstract"], []),
        ((), [], ["127.0.0.1", "::1", "", None, "no address", "1.2.3", "\0", "é", "1.2.3.4.5", "%eth0"]),
    ],
)
def test_who_is_believed(allow: tuple[str, ...], believed: list[str | None], others: list[str | None]) -> None:
    """Addresses in whatever form, networks, unix sockets; asked twice, since answers are kept."""
    trust = Trust(allow)
    for _ in range(2):
        assert {peer: trust.trusts(peer) for peer in (*believed, *others)} == {
            **dict.fromkeys(believed, True),
            **dict.fromkeys(others, False),
        }


def test_kept_answers_are_bounded() -> None:
    """Ten thousand peers leave a few hundred answers behind, and right ones."""
    trust = Trust(DEFAULT)
    assert not any(trust.trusts(f"10.0.{number >> 8}.{number & 255}") for number in range(10_000))
    assert len(trust._memo) <= 256 and trust.trusts("127.0.0.1")


def test_peer_that_is_not_trusted_says_nothing() -> None:
    """Whatever it sends."""
    fields = [(name, b"1.2.3.4") for name in FORWARDED]
    for header in (XFF, RFC7239):
        assert forwarded(fields, "203.0.113.9", Trust(PROXIES, header)) is None


def test_all_that_is_looked_at_is_in_the_fields_of_a_head() -> None:
    """The parser of a header block keeps them apart, so that their absence costs nothing."""
    block = (
        b"Host: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=_x\r\nX-FORWARDED-PROTO: https\r\nx-forwarded-port: 1"
    )
    fields = parse_fields(block, 9)
    assert [*fields.forwarded] == [pair for pair in fields.pairs if pair[0] in FORWARDED]
    assert len(fields.forwarded) == 4 and fields.with_host(b"b").forwarded == fields.forwarded
    assert parse_fields(b"Host: a\r\nX_Forwarded_For: 1\r\nX-Forwarded: 1\r\nUpgrade: x", 9).forwarded == ()


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────────────────


CHAINS: dict[tuple[bytes, ...], Client] = {
    (b"203.0.113.7",): ("203.0.113.7", 0),
    (b" 203.0.113.7\t",): ("203.0.113.7", 0),
    (b"6.6.6.6, 203.0.113.7",): ("203.0.113.7", 0),  # spoofed left-most
    (b"203.0.113.7, 10.0.0.1, 10.0.0.2",): ("203.0.113.7", 0),
    (b"6.6.6.6,203.0.113.7,10.0.0.1",): ("203.0.113.7", 0),
    (b"6.6.6.6", b"203.0.113.7", b"10.0.0.1"): ("203.0.113.7", 0),  # several fields are one list
    (b"203.0.113.7,", b"", b", ,10.0.0.1"): ("203.0.113.7", 0),  # empty elements
    (b"10.0.0.3, 10.0.0.2",): ("10.0.0.3", 0),  # all trusted: the left-most
    (b"10.0.0.1, garbage, 10.0.0.2",): ("10.0.0.2", 0),  # garbage ends the walk
    (b"10.0.0.1", b"unknown", b"10.0.0.2"): ("10.0.0.2", 0),
    (b"garbage",): None,
    (b"203.0.113.7, garbage",): None,
    (b"",): None,
    (b",",): None,
    (b"203.0.113.7:4711",): ("203.0.113.7", 4711),
    (b"[2001:db8::1]:4711",): ("2001:db8::1", 4711),
    (b"[2001:DB8:0::1]",): ("2001:db8::1", 0),
    (b"2001:db8::1",): ("2001:db8::1", 0),
    (b"::ffff:203.0.113.7",): ("203.0.113.7", 0),
    (b"[::ffff:203.0.113.7]:1",): ("203.0.113.7", 1),
    (b"fe80::1, ::ffff:10.0.0.1, 2001:db8:a::9",): ("fe80::1", 0),
    (b"[fe80::1%eth0]:80",): ("fe80::1", 80),
    (b"203.0.113.7, unix:",): ("203.0.113.7", 0),
    (b"203.0.113.7:65536",): None,
    (b"203.0.113.7:-1",): None,
    (b"203.0.113.007",): None,
    (b"203.0.113",): None,
    (b"0x7f000001",): None,
    (b"[203.0.113.7]",): None,
    (b"[2001:db8::1",): None,
    (b"2001:db8::1]:80",): None,
    (b"1.2.3.4\x00",): None,
    (b"\xff\xfe",): None,
    (b'"203.0.113.7"',): None,
    (b"1.2.3.4 5.6.7.8",): None,
}


def test_chain_leads_to_its_client() -> None:
    """X-Forwarded-For: the right-most hop that is no trusted proxy, never what stands left of it, never raw bytes."""
    assert {values: client(XFF, *values) for values in CHAINS} == CHAINS


ELEMENTS: dict[tuple[bytes, ...], tuple[Client, str | None]] = {
    (b"for=203.0.113.7",): (("203.0.113.7", 0), None),
    (b'For="[2001:db8:cafe::17]:4711"',): (("2001:db8:cafe::17", 4711), None),
    (b'FOR="203.0.113.7:80";PROTO=HTTPS;By=10.0.0.1',): (("203.0.113.7", 80), "https"),
    (b"proto=https;for=203.0.113.7",): (("203.0.113.7", 0), "https"),
    (b"for=203.0.113.7; proto=http ;by=_x",): (("203.0.113.7", 0), "http"),
    (b";for=203.0.113.7;;proto=wss; ",): (("203.0.113.7", 0), "https"),  # pairs may be empty
    (b"for=203.0.113.7;proto=gopher",): (("203.0.113.7", 0), None),
    (b'for=203.0.113.7;host="a,b;for=6.6.6.6";proto=http',): (("203.0.113.7", 0), "http"),
    (rb'for=203.0.113.7;host="a\",for=6.6.6.6,x=\"b\\"',): (("203.0.113.7", 0), None),
    (rb'for="203.0.113.\7"',): (("203.0.113.7", 0), None),
    (b"for=6.6.6.6, for=203.0.113.7, for=10.0.0.1",): (("203.0.113.7", 0), None),
    (b"for=6.6.6.6", b"for=203.0.113.7;proto=https", b"for=10.0.0.1;proto=http"): (("203.0.113.7", 0), "https"),
    (b"for=10.0.0.3;proto=https,for=10.0.0.2;proto=http",): (("10.0.0.3", 0), "https"),
    (b"for=203.0.113.7,for=unknown,for=10.0.0.1",): (("10.0.0.1", 0), None),
    (b"for=203.0.113.7,garbage,for=10.0.0.1;proto=http",): (("10.0.0.1", 0), "http"),
    (rb'for=6.6.6.6,for=203.0.113.7;host="\\";by="\\\"a"',): (("203.0.113.7", 0), None),
    (b"for=203.0.113.7,for=_hidden;proto=https,for=10.0.0.1",): (("10.0.0.1", 0), "https"),
    (b'for=203.0.113.7,for="_hidden:_port"',): (None, None),
    (b'for="203.0.113.7:_port"',): (("203.0.113.7", 0), None),
    (b"for=[2001:db8::1]:80",): (("2001:db8::1", 80), None),  # without the quotes that it should have
    (b"proto=https",): (None, "https"),
    (b"for=203.0.113.7;for=6.6.6.6",): (None, None),  # twice in one element
    (b"for=203.0.113.7;proto=http;Proto=https",): (None, None),
    (b'for="203.0.113.7',): (None, None),
    (b'for=203.0.113.7"',): (None, None),
    (b"for = 203.0.113.7",): (None, None),
    (b"for=203.0.113.7 proto=https",): (None, None),
    (b"203.0.113.7",): (None, None),
    (b"for=",): (None, None),
    (b'for=""',): (None, None),
    (b'for="[2001:db8::1',): (None, None),
    (b" , ,", b""): (None, None),
    (b'for=6.6.6.6;x=",for=203.0.113.7',): (("203.0.113.7", 0), None),  # a quotation mark left open by the client
    (b'for="6.6.6.6,for=203.0.113.7;host="a",for=10.0.0.1',): (("203.0.113.7", 0), None),
    (rb'for="6.6.6.6\",for=203.0.113.7',): (("203.0.113.7", 0), None),
}


def test_elements_lead_to_their_client() -> None:
    """Forwarded, RFC 7239 §4 to §6: the same walk, with the scheme that the hop which named the client has seen."""
    found = {values: (said(RFC7239, *values) or Origin(None, None, None))[:2] for values in ELEMENTS}
    assert found == ELEMENTS


@pytest.mark.parametrize(
    ("fields", "scheme", "port"),
    [
        ({"proto": [b"https"], "port": [b"443"]}, "https", 443),
        ({"proto": [b"HTTP"], "port": [b"080"]}, "http", 80),
        ({"proto": [b"wss"]}, "https", None),
        ({"proto": [b"ws"]}, "http", None),
        ({"proto": [b"https, http"]}, "http", None),
        ({"proto": [b"https", b"http"], "port": [b"1", b"2,3"]}, "http", 3),
        ({"proto": [b"https,"]}, None, None),
        ({"proto": [b"javascript"], "port": [b"0"]}, None, None),
        ({"proto": [b"https;"], "port": [b"65536"]}, None, None),
        ({"proto": [b""], "port": [b"-1"]}, None, None),
        ({"port": [b"0000443"]}, None, None),
        ({"port": ["٤".encode()]}, None, None),
    ],
)
def test_scheme_and_port_are_what_the_peer_wrote(
    fields: dict[str, list[bytes]], scheme: str | None, port: int | None
) -> None:
    """X-Forwarded-Proto and -Port: of several values the right-most; of what else they hold, nothing."""
    pairs = [(f"x-forwarded-{name}".encode(), value) for name, values in fields.items() for value in values]
    origin = forwarded(pairs, None, Trust(DEFAULT))
    assert origin == (None if (scheme, port) == (None, None) else Origin(None, scheme, port))


@pytest.mark.parametrize(
    ("header", "wanted"),
    [(XFF, Origin(("1.1.1.1", 0), "https", 1)), (RFC7239, Origin(("2.2.2.2", 0), "http", None))],
)
def test_one_header_is_believed(header: str, wanted: Origin) -> None:
    """Both are there: the one that the proxy writes counts, whatever the client says in the other."""
    pairs = [
        *((b"forwarded", b"for=2.2.2.2;proto=http"), (b"x-forwarded-for", b"1.1.1.1")),
        *((b"x-forwarded-proto", b"https"), (b"x-forwarded-port", b"1"), (b"x-forwarded-host", b"evil.example")),
    ]
    assert forwarded(pairs, PEER, Trust(PROXIES, header)) == wanted


@pytest.mark.parametrize("header", [XFF, RFC7239])
def test_other_header_alone_says_nothing(header: str) -> None:
    """A proxy that does not write the one leaves both to the client."""
    other = RFC7239 if header == XFF else XFF
    value = b"for=6.6.6.6" if other == RFC7239 else b"6.6.6.6"
    assert forwarded([(other.encode(), value)], PEER, Trust(PROXIES, header)) is None


def test_any_peer_is_no_hop() -> None:
    """With ``*`` the client is whom the peer names, not whom the client names; hops can be named besides."""
    assert client(XFF, b"6.6.6.6, 203.0.113.7", peer="1.2.3.4", allow=("*",)) == ("203.0.113.7", 0)
    assert client(XFF, b"203.0.113.7, 10.0.0.1", peer="1.2.3.4", allow=("*",)) == ("10.0.0.1", 0)
    assert client(XFF, b"203.0.113.7, 10.0.0.1", peer="1.2.3.4", allow=("*", "10.0.0.0/8")) == ("203.0.113.7", 0)


def test_unix_hop_is_trusted_where_unix_is() -> None:
    """``unix:`` stands for a proxy on this machine; where unix sockets are not trusted it ends the walk."""
    assert client(XFF, b"203.0.113.7, unix:", allow=("127.0.0.1",)) is None
    assert client(XFF, b"203.0.113.7, unix:, 10.0.0.1", peer=None, allow=("unix", "10.0.0.1")) == ("203.0.113.7", 0)


# ── any bytes ────────────────────────────────────────────────────────────────────────────────────────────────

TRUSTED = st.sampled_from(["10.0.0.1", "10.255.0.2", "127.0.0.1", "2001:db8:a::1", "::1"])
STRANGE = st.sampled_from(["203.0.113.7", "198.51.100.1", "11.0.0.1", "2001:db8:b::1", "fe80::9"])
WORDS = [
    *(bytes([byte]) for byte in FIELD_BYTES),
    *(b'"', b"\\", b",", b";", b"=", b"[", b"]", b":", b" ") * 12,
    *(b"for=", b"for=6.6.6.6", b"6.6.6.6", b"10.0.0.1", b"::1", b'proto="https"', b'for="10.0.0.1"', b"unix:") * 12,
]
HOSTILE = st.binary(max_size=24).map(lambda drawn: b"".join(WORDS[7 * each % len(WORDS)] for each in drawn))
"""Half of it as a field may be, half made of what the grammar is made of."""


def written(header: str, host: str, style: int) -> bytes:
    """Return a hop as one of the proxies of this world writes it."""
    bracketed = f"[{host}]" if ":" in host else host
    if header == XFF:
        return (host, f"{bracketed}:4711", f" {bracketed}", f"{host}\t")[style % 4].encode()
    return (
        f'for="{bracketed}"',
        f'For="{bracketed}:4711";proto=https',
        f' by=_me;FOR="{bracketed}"; host="a, \\"b"',
        f'proto=http;for="{bracketed}:_p";',
    )[style % 4].encode()


@settings(max_examples=100, deadline=None)
@given(HOSTILE, STRANGE, st.lists(TRUSTED, max_size=4), st.binary(min_size=5, max_size=5), CUTS)
def test_client_is_whom_trusted_proxies_have_seen(
    junk: bytes, host: str, proxies: list[str], styles: bytes, cuts: list[int]
) -> None:
    """Whatever a client sends, and in however many fields: the proxies' own words are behind it, and they count."""
    before = [piece.strip(b" \t") for piece in pieces(junk, cuts)]
    for header in (XFF, RFC7239):
        honest = [written(header, each, style) for each, style in zip([host, *proxies], styles, strict=False)]
        together = [*before[:-1], b",".join([*before[-1:], *honest])]
        for values in ([*before, *honest], together):
            found = client(header, *values)
            assert found is not None and found[0] == host


@settings(max_examples=100, deadline=None)
@given(st.lists(HOSTILE, max_size=4), st.lists(TRUSTED, max_size=3))
def test_nothing_but_an_address_comes_out(hostile: list[bytes], proxies: list[str]) -> None:
    """Nothing raises; a client is an address in its one form, whatever it was read from; strangers get nothing."""
    for header in (XFF, RFC7239):
        values = [*hostile, *(written(header, each, 0) for each in proxies)]
        origin = said(header, *values)
        assert said(header, *values, peer="203.0.113.9") is None
        if origin is not None and origin.client is not None:
            host, port = origin.client
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            assert socket.inet_ntop(family, ip_address(host).packed) == host and 0 <= port <= 65535
        assert origin is None or origin.scheme in (None, "http", "https")


# ── cost ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Looked(bytes):
    """Bytes that count how many of them are looked at, one by one or by a search, and how many are copied."""

    seen = 0

    def __getitem__(self, key: Any) -> Any:
        """Take one, or a piece."""
        found = super().__getitem__(key)
        Looked.seen += 1 if isinstance(found, int) else len(found)
        return found

    def rfind(self, sub: Any, start: Any = 0, stop: Any = None) -> int:
        """Search from the right."""
        found = super().rfind(sub, start, stop)
        Looked.seen += (len(self) if stop is None else stop) - max(found, start)
        return found


@pure_only
@pytest.mark.parametrize(
    ("header", "value", "most"),
    [
        (XFF, b"127.0.0.1," * 6000, 1000),
        (XFF, b"," * 60_000, 200),
        (XFF, b"a" * 60_000, 2 * 60_001),
        (XFF, b"a" * 60_000 + b",203.0.113.7", 100),
        (RFC7239, b"for=127.0.0.1," * 4000, 1000),
        (RFC7239, b"," * 60_000, 200),
        (RFC7239, b"a" * 60_000, 1200),
        (RFC7239, b'"' * 60_000, 2100),
        (RFC7239, b'"' + b"\\" * 60_000 + b'"', 1200),
        (RFC7239, b'"' + b'\\"' * 30_000 + b'"', 3000),
        (RFC7239, b'"' + b"," * 60_000 + b'"', 1200),
        (RFC7239, b'"' * 60_000 + b",for=203.0.113.7", 100),
    ],
)
def test_cost_is_bounded(header: str, value: bytes, most: int) -> None:
    """At most 32 hops; what a client puts in front of what its proxy writes is not even looked at."""
    Looked.seen = 0
    said(header, Looked(value))
    assert 0 < Looked.seen <= most


@pytest.mark.parametrize("header", [XFF, RFC7239])
def test_hops_are_counted_over_all_fields(header: str) -> None:
    """The thirty-second is the last; what is left of it may be true, but nobody has a chain like that."""
    hops = [written(header, f"10.0.0.{number}", 0) for number in range(40)]
    assert client(header, *hops) == client(header, b",".join(hops)) == ("10.0.0.8", 0)
    assert client(header, *hops[8:]) == ("10.0.0.8", 0)
