"""The opening handshake of a WebSocket: a request's head in, what it asks for or why not, and our answer out.

Sources: RFC 6455 §4.2, §4.4, §9.1, §11.3; RFC 9110 §7.8, §15.5.22; RFC 7692 §5.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from hybrid.http.deflate import DeflateParameters, negotiate
from hybrid.http.errors import HttpError
from hybrid.http.fields import TOKEN
from hybrid.http.framing import exact
from hybrid.http.head import Head
from hybrid.http.response import header_lines, standing_without
from hybrid.http.status import status_line

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
"""Base64 of 16 bytes. The four bits that its last character has too many are not looked at: RFC 4648 §3.5."""
_VERSION: Final = re.compile(rb"0|[1-9][0-9]{0,2}")
_OURS: Final = frozenset(
    b"connection content-length sec-websocket-accept sec-websocket-extensions sec-websocket-version transfer-encoding "
    b"upgrade".split()
)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client asks for, and we can do.

    ``subprotocols``: those it offers, each once, in its order; none, if it offers none. ``accept``: the value of
    Sec-WebSocket-Accept. ``deflate``: what we agree to of its permessage-deflate; None: nothing.
    """

    subprotocols: tuple[str, ...]
    accept: bytes
    deflate: DeflateParameters | None


def wants_websocket(head: Head) -> bool:
    """Whether the request asks for a WebSocket: a GET of HTTP/1.1 whose Upgrade, listed in Connection, names it.

    Whatever else asks for an upgrade is an ordinary request, and the wish ignored: RFC 9110 §7.8.
    """
    if not head.upgrade or head.method != "GET":
        return False
    return any(protocol.strip() == b"websocket" for protocol in head.upgrade.split(b","))


def read_handshake(head: Head, deflate: bool) -> Handshake:
    """Return what the request asks for. Args: deflate: compression may be agreed on.

    Raises: HttpError 400: it is no handshake; 426: of another version.
    """
    if not wants_websocket(head):
        raise HttpError(400, "no WebSocket handshake: it is a GET with Upgrade: websocket and Connection: upgrade")
    if head.fields.content_length > 0 or head.fields.chunked:
        raise HttpError(400, "a WebSocket handshake with a body")
    values: dict[bytes, list[bytes]] = {}
    for name, value in head.fields.pairs:
        if name.startswith(b"sec-websocket-"):
            values.setdefault(name, []).append(value)
    version = _only(values, b"sec-websocket-version")
    if version != b"13":
        if _VERSION.fullmatch(version) is None or int(version) > 255:
            raise HttpError(400, f"not a WebSocket version: {version[:80]!r}")
        raise HttpError(426, f"WebSocket version {int(version)}: 13 is the one supported")
    key = _only(values, b"sec-websocket-key")
    if _KEY.fullmatch(key) is None:
        raise HttpError(400, f"Sec-WebSocket-Key is not base64 of 16 bytes: {key[:80]!r}")
    accept = b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    agreed = negotiate(b",".join(values.get(b"sec-websocket-extensions", ())))
    return Handshake(
        _read_subprotocols(b",".join(values.get(b"sec-websocket-protocol", ()))), accept, agreed if deflate else None
    )


def _only(values: dict[bytes, list[bytes]], name: bytes) -> bytes:
    """Return the value of a header that must come once: RFC 6455 §11.3.1, §11.3.5."""
    found = values.get(name, [])
    if len(found) != 1:
        raise HttpError(400, f"{len(found)} headers {name.decode()} in a WebSocket handshake: there is one")
    return found[0]


def _read_subprotocols(value: bytes) -> tuple[str, ...]:
    """Return what Sec-WebSocket-Protocol offers. They must be unique (§4.1), but who says one twice says no less."""
    names: dict[str, None] = {}
    for name in value.split(b","):
        name = name.strip()
        if name.translate(None, TOKEN):
            raise HttpError(400, f"not a list of subprotocols: {value[:80]!r}")
        if name:
            names[name.decode("ascii")] = None
    return tuple(names)


def switching(handshake: Handshake, subprotocol: str | None, headers: Iterable[Any], standing: bytes) -> bytes:
    """Return the whole 101 response: after it, frames are sent.

    Args: subprotocol: the one chosen, None: none. headers: the application's. standing: lines that every response has,
    each with its CRLF; of them, those that the application says itself are left out.
    Raises: ValueError: the subprotocol was not offered, a header cannot be sent or is not the application's to say;
    TypeError: a header is no pair of bytes.
    """
    if subprotocol is not None and subprotocol not in handshake.subprotocols:
        raise ValueError(
            f"cannot accept with subprotocol {subprotocol!r}: the client offers {', '.join(handshake.subprotocols)!r}. "
            "Choose one of these, or None"
        )
    pairs = exact(headers)
    lines = header_lines(pairs, _OURS, "in the answer to a WebSocket handshake: the server says it")
    names = [name.lower() for name, _ in pairs]
    if b"sec-websocket-protocol" in names:
        raise ValueError("cannot send header b'sec-websocket-protocol': name it in the key subprotocol instead")
    parts = [status_line(101), b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: "]
    parts += (handshake.accept, b"\r\n")
    if subprotocol is not None:
        parts += (b"sec-websocket-protocol: ", subprotocol.encode("ascii"), b"\r\n")
    if handshake.deflate is not None:
        parts += (b"sec-websocket-extensions: ", handshake.deflate.response, b"\r\n")
    parts += (lines, standing_without(standing, names), b"\r\n")
    return b"".join(parts)
