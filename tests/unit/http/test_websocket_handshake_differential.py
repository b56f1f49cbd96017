"""Our reading of a handshake against that of the package ``websockets``: the same answer, or a class of the table."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http.errors import HttpError
from hybrid.http.head import Head, HeadLimits, HeadReader
from hybrid.http.websocket import read_handshake
from tests.unit.http.cuts import CHANGES, changed
from tests.unit.http.disagreements import Disagreement, classes
from tests.unit.http.test_websocket_deflate import MALFORMED, OFFERS
from tests.unit.http.test_websocket_handshake import ALL, PROTOCOLS, REFUSED

pytest.importorskip("websockets")
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.headers import parse_subprotocol
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.version import version


@dataclass(frozen=True)
class Seen:
    """What a handshake asks for, and gets. ``deflate``: takeover given up, window; the server's and the client's."""

    refused: str = ""
    accept: str = ""
    subprotocols: tuple[str, ...] = ()
    deflate: tuple[bool, bool, int, int] | None = None


def read(block: bytes) -> Head | None:
    """Return the head of a request with these fields, or None: it is refused as HTTP."""
    try:
        return HeadReader(HeadLimits()).read(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + block + b"\r\n", 0)
    except HttpError:
        return None


def ours(head: Head) -> Seen:
    """Return what we read."""
    try:
        found = read_handshake(head, True)
    except HttpError as error:
        return Seen(f"{error.status} {error}")
    agreed = found.deflate
    deflate = (
        None
        if agreed is None
        else (
            agreed.server_no_context_takeover,
            agreed.client_no_context_takeover,
            min(agreed.server_max_window_bits, 12),  # what is used, whether it was told or not
            agreed.client_max_window_bits,
        )
    )
    return Seen("", found.accept.decode(), found.subprotocols, deflate)


def theirs(head: Head) -> Seen:
    """Return what ``websockets`` reads."""
    factory = ServerPerMessageDeflateFactory(True, True, 12, 15)
    protocol = ServerProtocol(extensions=[factory])
    headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.fields.pairs])
    try:
        accept, _, _ = protocol.process_request(Request("/", headers))
        offered = [
            str(name) for value in headers.get_all("Sec-WebSocket-Protocol") for name in parse_subprotocol(value)
        ]
    except InvalidHandshake as error:
        return Seen(f"{type(error).__name__} {error}")
    deflate = None
    for extension in protocol.extensions:
        assert isinstance(extension, PerMessageDeflate)
        deflate = (
            extension.local_no_context_takeover,
            extension.remote_no_context_takeover,
            extension.local_max_window_bits,
            extension.remote_max_window_bits,
        )
    return Seen("", accept, tuple(dict.fromkeys(offered)), deflate)


DISAGREEMENTS: dict[str, Disagreement] = {
    "other protocols in Upgrade": Disagreement(
        "they refuse: InvalidUpgrade invalid Upgrade",
        "RFC 9110 §7.8: a list, of which the server chooses",
        rb"(?i)upgrade:.*,",
    ),
    "Upgrade or Connection that is no list": Disagreement(
        "they refuse: InvalidHeaderFormat invalid (Upgrade|Connection) header",
        "RFC 9110 §7.6.1: options that we do not know mean nothing to us, whatever they are",
    ),
    "empty list": Disagreement(
        r"they refuse: InvalidHeaderFormat invalid Sec-WebSocket-\w+ header: expected token at \d+ in (,|\t| |$)",
        "RFC 9110 §5.6.1: a recipient accepts empty elements; who offers none offers none",
    ),
    "window of 8 bits": Disagreement(
        "differs: deflate",
        "RFC 7692 §7.1.2.1: a window of 9 bits of zlib's is one of 8",
        rb"server_max_window_bits *= *\"?8",
    ),
    "body": Disagreement("we refuse: 400 a WebSocket handshake with a body", "RFC 6455 §4.1: a GET; frames follow it"),
}
"""Every way in which we differ on purpose."""


def disagreement(block: bytes) -> str:
    """Return how we differ over these fields; empty: not at all."""
    head = read(block)
    if head is None:
        return ""
    us, them = ours(head), theirs(head)
    if us.refused or them.refused:
        if us.refused and them.refused:
            return ""
        return f"we refuse: {us.refused}" if us.refused else f"they refuse: {them.refused}"
    for name in ("accept", "subprotocols", "deflate"):
        if getattr(us, name) != getattr(them, name):
            return f"differs: {name}: {getattr(us, name)} != {getattr(them, name)}"
    return ""


def unexplained(block: bytes) -> str:
    """Return the disagreement over these fields, unless a class of the table covers it."""
    text = disagreement(block)
    return "" if text and classes(DISAGREEMENTS, text, block) else text


def fields(*lines: str) -> bytes:
    """Return lines as they are sent."""
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


CORPUS: dict[str, bytes] = {
    "as the RFC has it": fields(*ALL),
    **{f"refused: {name}": fields(*lines) for name, (lines, _) in REFUSED.items()},
    **{
        f"subprotocols: {name}": fields(*ALL, *(f"Sec-WebSocket-Protocol: {line}" for line in lines))
        for name, (lines, _) in PROTOCOLS.items()
    },
    **{
        f"extensions: {name}": fields(*ALL) + b"Sec-WebSocket-Extensions: " + value + b"\r\n"
        for name, value in (*((name, value) for name, (value, _) in OFFERS.items()), *MALFORMED.items())
    },
    "several protocols": fields("Upgrade: h2c, websocket", *ALL[1:]),
    "Connection is no list": fields(ALL[0], "Connection: upgrade, a b", *ALL[2:]),
    "Upgrade is no list": fields("Upgrade: websocket, a b", *ALL[1:]),
}


def test_corpus_is_read_alike() -> None:
    """Every handshake: the same, or a class of the table."""
    found = {name: text for name, block in CORPUS.items() if (text := unexplained(block))}
    assert found == {}


def test_every_class_of_disagreement_is_met() -> None:
    """A class that no handshake shows is one too many."""
    met = {name for block in CORPUS.values() for name in classes(DISAGREEMENTS, disagreement(block), block)}
    if int(version.split(".")[0]) < 17:  # the last one for Python 3.10: it agreed to 8 bits, and could not keep to it
        met.add("window of 8 bits")
    assert DISAGREEMENTS.keys() - met == set()


BITS = [
    *(bytes([byte]) for byte in b'\t !",;=\\/-_8109aZ\x80\xff'),
    *(b", ", b'"10"', b"upgrade", b"websocket", b"permessage-deflate", b"; client_max_window_bits", b"=8", b"=15"),
]


@settings(max_examples=300, deadline=None, derandomize=True)  # a new class is found on purpose, not on somebody's CI
@given(st.sampled_from([block for block in CORPUS.values() if len(block) < 1000]), CHANGES)
def test_changed_handshake_is_read_alike(block: bytes, changes: list[bytes]) -> None:
    """A few of their bytes changed: the same, or a class of the table."""
    assert unexplained(changed(block, changes, BITS)) == ""
