"""On whose behalf a proxy asks: X-Forwarded-For with its kin, or Forwarded (RFC 7239).

Every hop adds at the right whom it was asked by, so the right end was written by our peer, and each element by the
hop to the right of it. The walk goes from right to left and ends at the first hop that is no trusted proxy: that is the
client, and what is left of it is hearsay, S38. What is no hop ends the walk, too; the client is then the last one that
was. Only one of the two headers is believed: docs/decisions/0010-forwarded-headers.md.

Costs: at most 32 hops are looked at, of 1 KiB each; a field of X-Forwarded-For is split once, at C's speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, NamedTuple

from hybrid.http.remember import remember

_HOPS: Final = 32
_HOP_BYTES: Final = 1024
_MEMO: Final = 256
"""Peers whose answer is kept. A server behind a proxy has one or a few."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an IPv4 address in IPv6's clothes begins with: RFC 4291 §2.5.5.2."""
_NODE: Final = re.compile(
    rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._~-]{1,32})?\])(?::([0-9]{1,5}|_[0-9A-Za-z._-]+))?"
    rb"|([0-9A-Fa-f:.]{2,45})"
)
"""An address with a port, or without one; IPv6 in brackets, or bare and without a port."""
_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}

_PARAMETER: Final = re.compile(
    rb"[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    rb"(?:([!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+)|\"((?:[^\"\\]|\\.)*)\"))?[ \t]*(?:;|\Z)",
    re.DOTALL,
)
"""RFC 7239 §4, and what is meant when an address stands without its quotes."""
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_QUOTE, _COMMA, _BACKSLASH = b'",\\'

Pairs = Iterable[tuple[bytes, bytes]]
Hop = tuple[str, int, bytes]
"""(host, port, address as its bytes); port 0: not said."""


class Origin(NamedTuple):
    """What trusted proxies say of a request.

    ``client``: (host, port); the port is 0 where it was not said; None: nobody better than the peer itself is known.
    ``scheme``: ``http`` or ``https``, which the client spoke to the first of them (``ws`` and ``wss`` are read as
    these); None: not said. ``port``: which it connected to, the server's; None: not said.
    """

    client: tuple[str, int] | None
    scheme: str | None
    port: int | None


class Trust:
    """Who is believed. Made once, from ``--forwarded-allow-ips`` and ``--forwarded-header``.

    ``header``: the one that is believed. ``unix``: peers on unix sockets are.
    """

    __slots__ = ("_all_peers", "_exact", "_memo", "_networks", "header", "unix")

    def __init__(self, allow: Iterable[str], header: str = "x-forwarded-for") -> None:
        """``allow``: addresses, networks, ``unix``, ``*``. Raises: ValueError: an entry is none of these."""
        entries = frozenset(allow)
        self.header = header.encode("ascii")
        self.unix = not entries.isdisjoint(("unix", "*"))
        self._all_peers = "*" in entries
        spans = [_span(entry) for entry in sorted(entries - {"unix", "*"})]
        self._exact = frozenset(address for address, host_bits in spans if host_bits == 0)
        self._networks = [
            (len(address), host_bits, int.from_bytes(address, "big") >> host_bits)
            for address, host_bits in spans
            if host_bits
        ]
        self._memo: dict[str, bool] = {}

    def trusts(self, host: str | None) -> bool:
        """Return whether this peer may say on whose behalf it asks. None or empty: a unix socket's peer."""
        if not host:
            return self.unix
        known = self._memo.get(host)
        if known is None:
            packed = _packed(host.partition("%")[0])
            known = self._all_peers or (packed is not None and self.trusts_hop(packed))
            remember(self._memo, host, known, _MEMO)
        return known

    def trusts_hop(self, packed: bytes) -> bool:
        """Return whether an address, as its bytes, is a proxy's that was named. ``*`` names peers only.

        With ``*`` for hops, all would be trusted, and the client would be what the client says.
        """
        if packed in self._exact:
            return True
        number, size = int.from_bytes(packed, "big"), len(packed)
        for length, host_bits, network in self._networks:  # noqa: SIM110  (any() with a generator: three times as long)
            if size == length and number >> host_bits == network:
                return True
        return False


def forwarded(pairs: Pairs, peer: str | None, trust: Trust) -> Origin | None:
    """Return what ``peer`` says of a request, or None: it is not trusted, or says nothing.

    Args: pairs: header fields, their names lower-cased; ``Fields.forwarded`` has all that are looked at. peer: the
    other end's host; None or empty: a unix socket. Raises: nothing.
    """
    if not trust.trusts(peer):
        return None
    if trust.header == b"forwarded":
        client, scheme = _from_forwarded([value for name, value in pairs if name == b"forwarded"], trust)
        port: int | None = None
    else:
        chains: list[bytes] = []
        proto = number = b""
        for name, value in pairs:
            if name == b"x-forwarded-for":
                chains.append(value)
            elif name == b"x-forwarded-proto":
                proto = value
            elif name == b"x-forwarded-port":
                number = value
        client = _from_chains(chains, trust) if chains else None
        # The last field, and of it the right-most: what our peer has written, if it writes any.
        scheme = _SCHEMES.get(proto.rpartition(b",")[2].strip().lower()) if proto else None
        port = _port(number.rpartition(b",")[2].strip()) if number else None
    if client is None and scheme is None and port is None:
        return None
    return Origin(client, scheme, port)


def _from_chains(chains: list[bytes], trust: Trust) -> tuple[str, int] | None:
    """Return the client that the fields of X-Forwarded-For, which are one list, lead to."""
    client: tuple[str, int] | None = None
    left = _HOPS
    for value in reversed(chains):
        end = len(value)
        while end >= 0:
            begin = value.rfind(b",", 0, end)
            entry = value[begin + 1 : end].strip()
            end = begin
            # An empty element means nothing (RFC 9110 §5.6.1). "unix:" is what nginx writes for a unix socket's peer.
            if entry and not (entry == b"unix:" and trust.unix):
                hop = _hop(entry)
                if hop is None:
                    return client
                host, port, packed = hop
                client = host, port
                if not trust.trusts_hop(packed):
                    return client
            left -= 1
            if not left:
                return client
    return client


def _from_forwarded(values: list[bytes], trust: Trust) -> tuple[tuple[str, int] | None, str | None]:
    """Return the client, and the scheme that it used according to the hop which named it."""
    client: tuple[str, int] | None = None
    scheme: str | None = None
    for element in _elements(values):
        if not element.strip():
            continue
        said = _parameters(element)
        if said is None:
            break
        scheme = _SCHEMES.get(said.get(b"proto", b"").lower())
        hop = _hop(said.get(b"for", b""))
        if hop is None:  # unknown, or obfuscated: RFC 7239 §6.2, §6.3
            break
        host, port, packed = hop
        client = host, port
        if not trust.trusts_hop(packed):
            break
    return client, scheme


def _elements(values: list[bytes]) -> Iterator[bytes]:
    """Yield the elements of a list from its right end, where the hops that can be trusted are.

    From the right, so that a quotation mark that a client leaves open cannot swallow what proxies have added behind it.
    """
    left = _HOPS
    for value in reversed(values):
        end, quoted = len(value), False
        for at in range(end - 1, -1, -1):
            byte = value[at]
            if end - at > _HOP_BYTES:
                return
            if byte == _QUOTE:
                # Inside, one behind a backslash is escaped; were the backslash itself, the string would end here.
                if not quoted or not at or value[at - 1] != _BACKSLASH:
                    quoted = not quoted
            elif byte == _COMMA and not quoted:
                yield value[at + 1 : end]
                end = at
                left -= 1
                if not left:
                    return
        yield value[:end]
        left -= 1
        if not left:
            return


def _parameters(element: bytes) -> dict[bytes, bytes] | None:
    """Return what an element says, names lower-cased; None: it is none, or says something twice (RFC 7239 §4)."""
    said: dict[bytes, bytes] = {}
    at = 0
    while at < len(element):
        found = _PARAMETER.match(element, at)
        if found is None:
            return None
        at = found.end()
        if found[1] is None:  # two semicolons, or one at the end
            continue
        name = found[1].lower()
        if name in said:
            return None
        said[name] = found[2] if found[3] is None else _ESCAPED.sub(rb"\1", found[3])
    return said


def _hop(text: bytes) -> Hop | None:
    """Return the address in ``text``, as everybody writes it; None: there is none."""
    if len(text) < 16 and b":" not in text:  # hot: the usual hop, IPv4 alone; 0.8 µs instead of 1.3 (CPython 3.11)
        host = text.decode("latin-1")
        packed = _packed(host)
        return None if packed is None else (host, 0, packed)
    found = _NODE.fullmatch(text)
    if found is None:
        return None
    four, bracketed, port, bare = found.groups()
    packed = _packed((four or bracketed or bare).decode("ascii"))
    if packed is None:
        return None
    number = int(port) if port and port.isdigit() else 0
    if number > 65535:
        return None
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed), number, packed


def _packed(host: str) -> bytes | None:
    """Return an address as its 4 or 16 bytes; IPv4 in IPv6 as 4. None: it is none."""
    # hot: a request behind a proxy; ipaddress takes 5.1 µs where this takes 0.2 (CPython 3.11).
    try:
        if ":" not in host:
            return inet_pton(AF_INET, host)
        packed = inet_pton(AF_INET6, host)
    except (OSError, ValueError):  # ValueError: it holds a NUL, or what is not ASCII
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def _span(entry: str) -> tuple[bytes, int]:
    """Return the first address of a network, and how many bits tell its hosts apart; IPv4 in IPv6 as IPv4."""
    network = ip_network(entry)
    packed: bytes = network.network_address.packed
    host_bits = network.max_prefixlen - network.prefixlen
    return (packed[12:] if packed.startswith(_MAPPED) and host_bits <= 32 else packed), host_bits


def _port(text: bytes) -> int | None:
    number = int(text) if text.isdigit() and len(text) <= 5 else 0
    return number if 0 < number <= 65535 else None
