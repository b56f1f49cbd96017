"""The opening handshake: which requests are one, what is refused and how, and the answers, byte by byte."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from hybrid.http.deflate import DeflateParameters
from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadLimits, HeadReader
from hybrid.http.websocket import Handshake, read_handshake, switching, wants_websocket

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")
ALL = (*UPGRADE, KEY, VERSION)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What §1.3 answers to its key."""


def head(*lines: str, line: str = "GET /chat HTTP/1.1") -> Head:
    """Return a head with these fields, and Host."""
    data = "".join(f"{each}\r\n" for each in (line, "Host: a.example", *lines, ""))
    found = HeadReader(HeadLimits()).read(data.encode("latin-1"), 0)
    assert found is not None
    return found


# ── which requests are one ─────────────────────────────────────────────────────────────────────────────────────────

WANTED: dict[str, tuple[Head, bool]] = {
    "4.2.1 as the RFC has it": (head(*ALL), True),
    "4.2.1 another case": (head("UPGRADE: WebSocket", "connection: UPGRADE"), True),
    "9110 7.8 among others": (head("Upgrade: h2c, websocket", "Connection: keep-alive, Upgrade"), True),
    "9110 7.8 in several lines": (
        head("Upgrade: h2c", "Upgrade: websocket", "Connection: keep-alive", "Connection: upgrade"),
        True,
    ),
    "9110 5.6.1 blanks and commas": (head("Upgrade: , \twebsocket\t ,", "Connection: ,,upgrade,"), True),
    "4.2.1 with close": (head("Upgrade: websocket", "Connection: close, upgrade"), True),
    "4.2.1 no Upgrade": (head("Connection: Upgrade"), False),
    "9110 7.8 no Connection": (head("Upgrade: websocket"), False),
    "9110 7.8 Connection lists others": (head("Upgrade: websocket", "Connection: keep-alive"), False),
    "9110 7.8 another protocol": (head("Upgrade: h2c", "Connection: Upgrade"), False),
    "9110 7.8 a version of it": (head("Upgrade: websocket/13", "Connection: Upgrade"), False),
    "9110 7.8 another name": (head("Upgrade: websockets", "Connection: Upgrade"), False),
    "9110 7.8 two words": (head("Upgrade: web socket", "Connection: Upgrade"), False),
    "4.2.1 POST": (head(*ALL, line="POST /chat HTTP/1.1"), False),
    "4.2.1 HEAD": (head(*ALL, line="HEAD /chat HTTP/1.1"), False),
    "4.2.1 a method in lower case": (head(*ALL, line="get /chat HTTP/1.1"), False),
    "9110 7.8 HTTP/1.0": (head(*ALL, line="GET /chat HTTP/1.0"), False),
    "4.2.1 nothing": (head(), False),
}


@pytest.mark.parametrize(("request_head", "wanted"), WANTED.values(), ids=WANTED)
def test_request_is_one_or_not(request_head: Head, wanted: bool) -> None:
    """Who is none cannot be read as one."""
    assert wants_websocket(request_head) is wanted
    if not wanted:
        with pytest.raises(HttpError, match="no WebSocket handshake") as caught:
            read_handshake(request_head, True)
        assert caught.value.status == 400


# ── what it asks for ───────────────────────────────────────────────────────────────────────────────────────────────


def test_example_of_the_rfc() -> None:
    """§1.2, §1.3."""
    request = head(*ALL, "Origin: http://example.com", "Sec-WebSocket-Protocol: chat, superchat")
    assert read_handshake(request, True) == Handshake(("chat", "superchat"), ACCEPT, None)


PROTOCOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "none": ((), ()),
    "one": (("chat",), ("chat",)),
    "several": (("chat, superchat,v12.stomp",), ("chat", "superchat", "v12.stomp")),
    "in several lines": (("chat", "superchat, mqtt"), ("chat", "superchat", "mqtt")),
    "in the client's order and case": (("b,a,B",), ("b", "a", "B")),
    "one twice": (("chat, mqtt, chat",), ("chat", "mqtt")),
    "empty": (("",), ()),
    "commas only": ((" , ,,",), ()),
    "doubled commas": ((",chat,, \t,mqtt,",), ("chat", "mqtt")),
    "tabs": (("\tchat\t,\tmqtt\t",), ("chat", "mqtt")),
    "all of a token": (("!#$%&'*+-.^_`|~09azAZ",), ("!#$%&'*+-.^_`|~09azAZ",)),
}


@pytest.mark.parametrize(("lines", "expected"), PROTOCOLS.values(), ids=PROTOCOLS)
def test_subprotocols(lines: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """§4.1, §11.3.4: a list, which several lines may make up."""
    request = head(*ALL, *(f"Sec-WebSocket-Protocol: {line}" for line in lines))
    assert read_handshake(request, True).subprotocols == expected


@pytest.mark.parametrize(
    ("lines", "deflate", "expected"),
    [
        ((), True, None),
        (("permessage-deflate",), True, DeflateParameters(True, True, 15, 15)),
        (("permessage-deflate",), False, None),
        (("foo", "permessage-deflate; server_max_window_bits=10"), True, DeflateParameters(True, True, 10, 15)),
        (("permessage-deflate; nonsense", "permessage-deflate"), True, DeflateParameters(True, True, 15, 15)),
        (("permessage-deflate; client_max_window_bits",), True, DeflateParameters(True, True, 15, 15)),
        (("foo; bar",), True, None),
        (("",), True, None),
        (("", ",", "permessage-deflate,"), True, DeflateParameters(True, True, 15, 15)),
    ],
)
def test_deflate(lines: tuple[str, ...], deflate: bool, expected: DeflateParameters | None) -> None:
    """§9.1, §11.3.2: several lines are one list; not asked, if it is switched off."""
    request = head(*ALL, *(f"Sec-WebSocket-Extensions: {line}" for line in lines))
    assert read_handshake(request, deflate).deflate == expected


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────


def key(value: str) -> tuple[str, ...]:
    """Return a handshake with this key."""
    return (*UPGRADE, VERSION, f"Sec-WebSocket-Key: {value}")


def version(value: str) -> tuple[str, ...]:
    """Return a handshake of this version."""
    return (*UPGRADE, KEY, f"Sec-WebSocket-Version: {value}")


REFUSED: dict[str, tuple[tuple[str, ...], int]] = {
    "4.2.1 no key": ((*UPGRADE, VERSION), 400),
    "4.2.1 an empty key": (key(""), 400),
    "11.3.1 two keys": ((*ALL, KEY), 400),
    "11.3.1 two keys in a line": (key("dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="), 400),
    "4.2.1 a key of 15 bytes": (key("dGhlIHNhbXBsZSBub25j"), 400),
    "4.2.1 a key of 17 bytes": (key("dGhlIHNhbXBsZSBub25jZWU="), 400),
    "4.2.1 a key without padding": (key("dGhlIHNhbXBsZSBub25jZQ"), 400),
    "4.2.1 a key of 21 letters": (key("dGhlIHNhbXBsZSBub25jZ=="), 400),
    "4.2.1 a key with one =": (key("dGhlIHNhbXBsZSBub25jZQ="), 400),
    "4.2.1 a key with three =": (key("dGhlIHNhbXBsZSBub25jZQ==="), 400),
    "4.2.1 a key with a blank": (key("dGhlIHNhbXBsZSB ub25jZ=="), 400),
    "4.2.1 a key for URLs": (key("dGhlIHNhbXBsZS-_b25jZQ=="), 400),
    "4.2.1 a key that is no base64": (key("*GhlIHNhbXBsZSBub25jZQ=="), 400),
    "4.2.1 a key in quotes": (key('"dGhlIHNhbXBsZSBub25jZQ=="'), 400),
    "4.2.1 a key beyond ASCII": (key("dGhlIHNhbXBsZSBub25jZ\xe9=="), 400),
    "4.2.1 a very long key": (key("A" * 5000), 400),
    "4.2.1 no version": ((*UPGRADE, KEY), 400),
    "4.2.1 an empty version": (version(""), 400),
    "11.3.5 two versions": ((*ALL, VERSION), 400),
    "11.3.5 two versions in a line": (version("13, 8"), 400),
    "4.1 a version that is no number": (version("thirteen"), 400),
    "4.1 a version with a sign": (version("+13"), 400),
    "4.1 a version with a zero": (version("013"), 400),
    "4.1 a version above 255": (version("256"), 400),
    "4.1 a version of many digits": (version("1" * 5000), 400),
    "4.1 a version with a point": (version("13.0"), 400),
    **{f"4.4 version {number}": (version(str(number)), 426) for number in (0, 1, 7, 8, 12, 14, 25, 99, 100, 255)},
    "4.4 another version, and no key": ((*UPGRADE, "Sec-WebSocket-Version: 8"), 426),
    "4.2.1 a length": ((*ALL, "Content-Length: 1"), 400),
    "4.2.1 chunks": ((*ALL, "Transfer-Encoding: chunked"), 400),
    "11.3.4 a subprotocol with a blank": ((*ALL, "Sec-WebSocket-Protocol: chat room"), 400),
    "11.3.4 a subprotocol with a slash": ((*ALL, "Sec-WebSocket-Protocol: chat/1"), 400),
    "11.3.4 a subprotocol in quotes": ((*ALL, 'Sec-WebSocket-Protocol: "chat"'), 400),
    "11.3.4 a subprotocol beyond ASCII": ((*ALL, "Sec-WebSocket-Protocol: ch\xe4t"), 400),
    "11.3.4 a subprotocol after a good one": ((*ALL, "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b;"), 400),
    "9.1 extensions that are no list": ((*ALL, "Sec-WebSocket-Extensions: foo bar"), 400),
    "9.1 extensions that are no list, in the second line": (
        (*ALL, "Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Extensions: ;"),
        400,
    ),
    "9.1 a quote over two lines": ((*ALL, 'Sec-WebSocket-Extensions: a; b="', 'Sec-WebSocket-Extensions: c"'), 400),
}


@pytest.mark.parametrize(("lines", "status"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("deflate", [True, False])
def test_handshake_is_refused(lines: tuple[str, ...], status: int, deflate: bool) -> None:
    """Also what is not of interest is read: whether compression is on says nothing about a malformed header."""
    with pytest.raises(HttpError) as caught:
        read_handshake(head(*lines), deflate)
    assert caught.value.status == status
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "lines",
    [
        (*ALL, "Content-Length: 0"),
        (*UPGRADE, VERSION, "Sec-WebSocket-Key:  \tdGhlIHNhbXBsZSBub25jZQ==\t "),
        ("upgrade: WEBSOCKET", "CONNECTION: upgrade", KEY.lower().split(":")[0] + KEY[17:], VERSION.upper()),
        (*ALL, "Sec-WebSocket-Accept: nonsense", "Sec-WebSocket-Unknown: x"),
    ],
    ids=["an empty body", "blanks", "case", "what is none of a client's"],
)
def test_handshake_is_read(lines: tuple[str, ...]) -> None:
    """What could be taken for a fault, and is none."""
    assert read_handshake(head(*lines), True).accept == ACCEPT


def test_spare_bits_of_a_key_are_not_looked_at() -> None:
    """RFC 4648 §3.5 lets a decoder choose; it is 16 bytes either way. The accept value is made of what was sent."""
    accepts = {read_handshake(head(*key(f"dGhlIHNhbXBsZSBub25jZ{last}==")), True).accept for last in "QRgw"}
    assert len(accepts) == 4


# ── the answers ────────────────────────────────────────────────────────────────────────────────────────────────────

PLAIN = Handshake(("chat", "mqtt"), ACCEPT, None)
STANDING = b"date: Mon, 01 Jan 2024 00:00:00 GMT\r\nserver: hybrid\r\n"


def test_switching() -> None:
    """§4.2.2: all of it."""
    handshake = Handshake(("chat",), ACCEPT, DeflateParameters(True, True, 10, 15))
    assert switching(handshake, "chat", [(b"x-a", b"1"), (b"Set-Cookie", b"a=b")], STANDING) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"upgrade: websocket\r\n"
        b"connection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"sec-websocket-protocol: chat\r\n"
        b"sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        b"; server_max_window_bits=10\r\n"
        b"x-a: 1\r\n"
        b"Set-Cookie: a=b\r\n" + STANDING + b"\r\n"
    )


def test_switching_with_nothing() -> None:
    """No subprotocol, no extension, no header: none of them is mentioned (§4.2.2, §11.3)."""
    assert switching(PLAIN, None, [], b"") == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_application_says_date_and_server_itself() -> None:
    """As in any other response."""
    answer = switching(PLAIN, None, iter([(b"Server", b"mine")]), STANDING)
    assert answer.lower().count(b"server:") == 1
    assert b"Server: mine\r\n" in answer
    assert b"date:" in answer


@pytest.mark.parametrize("subprotocol", ["other", "", "Chat", "chat, mqtt", "chat\r\nx: y"])
def test_subprotocol_that_was_not_offered(subprotocol: str) -> None:
    """§4.2.2: the client would have to fail the connection."""
    with pytest.raises(ValueError, match=r"cannot accept with subprotocol .*the client offers 'chat, mqtt'"):
        switching(PLAIN, subprotocol, [], b"")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        *(
            ([(name, b"x")], "cannot send .* in the answer to a WebSocket handshake")
            for name in (
                *(b"upgrade", b"Connection", b"content-length", b"Transfer-Encoding", b"sec-websocket-accept"),
                *(b"Sec-WebSocket-Extensions", b"sec-websocket-version", b"SEC-WEBSOCKET-ACCEPT"),
            )
        ),
        ([(b"sec-websocket-protocol", b"chat")], "name it in the key subprotocol"),
        ([(b"Sec-WebSocket-Protocol", b"chat")], "name it in the key subprotocol"),
        ([(b"x", b"a\r\nb: c")], "control byte"),
        ([(b"x", b"a\nb")], "control byte"),
        ([(b"x", b"a\0")], "control byte"),
        ([(b"x", b"\x7f")], "control byte"),
        ([(b"x y", b"a")], "a name is a token"),
        ([(b"x:", b"a")], "a name is a token"),
        ([(b"", b"a")], "a name is a token"),
        ([(b"x\r\ny", b"a")], "a name is a token"),
    ],
)
def test_header_that_cannot_be_sent(headers: Iterable[tuple[bytes, bytes]], message: str) -> None:
    """Nothing ends a line but we, nothing steers the connection but we."""
    with pytest.raises(ValueError, match=message):
        switching(PLAIN, None, headers, STANDING)


@pytest.mark.parametrize("headers", [[("x", "a")], [(b"x", "a")], [("x", b"a")], [b"x: a"], [(b"x", b"a", b"b")], [7]])
def test_header_of_another_type(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Said so: text is met most."""
    with pytest.raises(TypeError, match="it is a pair of a name and a value, both bytes"):
        switching(PLAIN, None, headers, STANDING)
