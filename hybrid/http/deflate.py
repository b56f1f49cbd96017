"""permessage-deflate: what is agreed on, and how a message gets smaller and larger again.

What a connection costs, CPython 3.11, zlib 1.2.13, bytes as tracemalloc counts them; ratio and µs for a JSON message of
120 bytes among others of its kind:

====================================  ========  ========  ==================  ================
window bits, memory level             deflater  inflater  with takeover       without
====================================  ========  ========  ==================  ================
15, 8 (zlib's own)                    268 296   40 128    0.25,  6 µs         0.83, 25 µs
12, 5                                  38 920   11 456    0.26, 12 µs         0.83, 19 µs
10, 3                                  14 344    8 384    0.28,  6 µs         0.83, 17 µs
====================================  ========  ========  ==================  ================

So :data:`OURS` gives up context takeover, in both directions: the zlib objects live from the first to the last byte of
a message, and a connection between messages holds none, 0 bytes instead of 50 000. Ten thousand sockets that once said
something would else hold 500 MB. The price is the table's last column: short messages hardly shrink; those of 4 KiB do
(0.12 without, 0.10 with takeover). Window 12 and level 5 keep what lives during a message below malloc's threshold for
a mapping of its own. A client's window stays as large as it likes: of it, nothing remains.

Sources: RFC 7692; RFC 6455 §9.1; RFC 1951.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from hybrid.http.errors import HttpError, MessageTooBig, WebSocketError
from hybrid.http.opcodes import CloseCode

EXTENSION: Final = b"permessage-deflate"
_TAIL: Final = b"\x00\x00\xff\xff"
"""How a sync flush ends; never on the wire: RFC 7692 §7.2.1."""
_LARGEST_WINDOW: Final = 15
_SMALLEST_DEFLATE: Final = 9
"""zlib makes no raw stream of 8 bits. That of 9 never looks back further than 512 - 262 = 250 bytes, so it is one."""
_MEMORY_LEVEL: Final = 5
_MOST_ENDS: Final = 256
"""Final blocks in one message, each of which costs a new inflater and a copy of what follows."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_GAP: Final = re.compile(rb"[ \t,]*")
_NAME: Final = re.compile(rb"(%b)[ \t]*(;|,|\Z)" % _TOKEN)
_PARAMETER: Final = re.compile(
    rb'[ \t]*(%b)[ \t]*(?:=[ \t]*(?:(%b)|"((?:[^"\\]|\\.)*)")[ \t]*)?(;|,|\Z)' % (_TOKEN, _TOKEN), re.DOTALL
)
_WHOLE_TOKEN: Final = re.compile(_TOKEN)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_BITS: Final = {str(bits).encode(): bits for bits in range(8, _LARGEST_WINDOW + 1)}

Parameters = list[tuple[bytes, bytes | None]]


@dataclass(frozen=True, slots=True)
class DeflateParameters:
    """What client and server agreed on, RFC 7692 §7.1. Window bits: 8 to 15."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = _LARGEST_WINDOW
    client_max_window_bits: int = _LARGEST_WINDOW

    @property
    def response(self) -> bytes:
        """The value of Sec-WebSocket-Extensions that accepts the offer."""
        text = EXTENSION
        if self.server_no_context_takeover:
            text += b"; server_no_context_takeover"
        if self.client_no_context_takeover:
            text += b"; client_no_context_takeover"
        if self.server_max_window_bits < _LARGEST_WINDOW:
            text += b"; server_max_window_bits=%d" % self.server_max_window_bits
        if self.client_max_window_bits < _LARGEST_WINDOW:
            text += b"; client_max_window_bits=%d" % self.client_max_window_bits
        return text


OURS: Final = DeflateParameters(True, True, 12, _LARGEST_WINDOW)
"""What we would like to agree on; the head of this file says why."""


def parse_extensions(value: bytes) -> list[tuple[bytes, Parameters]]:
    """Return the extensions that Sec-WebSocket-Extensions offers, in order, each with its parameters.

    Args: value: of all such lines, joined by commas. Empty elements are nothing (RFC 9110 §5.6.1).
    Raises: HttpError 400: it is not such a list (RFC 6455 §9.1).
    """
    offers: list[tuple[bytes, Parameters]] = []
    at = _skip_gap(value, 0)
    while at < len(value):
        found = _NAME.match(value, at)
        if found is None:
            raise _malformed(value)
        name, after = found.groups()
        parameters: Parameters = []
        while after == b";":
            found = _PARAMETER.match(value, found.end())
            if found is None:
                raise _malformed(value)
            parameter, token, quoted, after = found.groups()
            if quoted is not None:
                token = _ESCAPED.sub(rb"\1", quoted)
                if _WHOLE_TOKEN.fullmatch(token) is None:  # RFC 6455 §9.1: a token it must be, quoted or not
                    raise _malformed(value)
            parameters.append((parameter, token))
        offers.append((name, parameters))
        at = _skip_gap(value, found.end())
    return offers


def _skip_gap(value: bytes, at: int) -> int:
    """Return where the next element begins."""
    found = _GAP.match(value, at)
    return found.end() if found is not None else at


def _malformed(value: bytes) -> HttpError:
    return HttpError(400, f"not a list of WebSocket extensions: {value[:80]!r}")


def negotiate(value: bytes, ours: DeflateParameters = OURS) -> DeflateParameters | None:
    """Return what we agree to of the first offer that we can accept, or None: there is none.

    An offer is declined, and the next one looked at, for a parameter that is unknown, comes twice or has a value that
    it cannot have (RFC 7692 §7.1). Extensions that we do not know are ignored (RFC 6455 §9.1).
    Args: value: Sec-WebSocket-Extensions, all its lines joined. Raises: HttpError 400, as :func:`parse_extensions`.
    """
    agreed: DeflateParameters | None = None
    for name, parameters in parse_extensions(value):
        if agreed is None and name == EXTENSION:
            agreed = _accept(parameters, ours)
    return agreed


def _accept(parameters: Parameters, ours: DeflateParameters) -> DeflateParameters | None:
    """Return what comes of one offer, or None: it is declined."""
    offer = dict(parameters)
    if len(offer) != len(parameters):
        return None
    server_alone = client_alone = False
    server_bits = client_bits = _LARGEST_WINDOW
    for name, value in offer.items():
        bits = _BITS.get(value) if value is not None else None
        if name == b"server_no_context_takeover" and value is None:
            server_alone = True
        elif name == b"client_no_context_takeover" and value is None:
            client_alone = True
        elif name == b"server_max_window_bits" and bits is not None:
            # Who asks for it must be told (§7.1.2.1); others might not expect it, and need not know.
            server_bits = min(ours.server_max_window_bits, bits)
        elif name == b"client_max_window_bits" and (value is None or bits is not None):
            # Only who offers it understands it in the response: §7.1.2.2.
            client_bits = min(ours.client_max_window_bits, bits or _LARGEST_WINDOW)
        else:
            return None
    return DeflateParameters(
        server_alone or ours.server_no_context_takeover,
        client_alone or ours.client_no_context_takeover,
        server_bits,
        client_bits,
    )


class Inflater:
    """Inflates a client's messages, piece by piece. Holds no zlib object before the first byte of a message, nor, where
    the client takes no context over, after the last one.
    """

    __slots__ = ("_bits", "_ends", "_is_alone", "_zlib")

    def __init__(self, parameters: DeflateParameters) -> None:
        self._bits = -parameters.client_max_window_bits
        self._is_alone = parameters.client_no_context_takeover
        self._zlib: zlib._Decompress | None = None
        self._ends = 0

    def inflate(self, data: bytes, limit_bytes: int, is_last: bool = True) -> bytes:
        """Return what the next piece of a message inflates to; no more than ``limit_bytes``.

        However small ``data`` is, no more than ``limit_bytes + 1`` bytes are made of it.
        A block with BFINAL set ends a stream (RFC 7692 §7.2.3.4); the next one begins without what came before, as
        zlib itself would send it. Who sends one and refers to what came before it gets a 1007.
        Args: is_last: the message ends with this piece.
        Raises: MessageTooBig: there is more; WebSocketError 1007: this is no deflated data. Then never call it again.
        """
        if is_last:
            data += _TAIL
        inflated: list[bytes] = []
        left_bytes = limit_bytes + 1
        while data:
            stream = self._zlib
            if stream is None:
                if is_last and data == _TAIL:  # of nothing, or of what has ended: the tail belongs to no block
                    break
                stream = self._zlib = zlib.decompressobj(self._bits)
            try:
                piece = stream.decompress(data, left_bytes)
            except zlib.error as error:
                raise WebSocketError(CloseCode.INVALID_DATA, "the message is not deflated as agreed") from error
            inflated.append(piece)
            left_bytes -= len(piece)
            if left_bytes == 0:
                raise MessageTooBig("the message inflates to more than is allowed", b"".join(inflated))
            if not stream.eof:
                break
            data = stream.unused_data
            self._zlib = None
            self._ends += 1
            if self._ends > _MOST_ENDS:
                raise WebSocketError(CloseCode.POLICY_VIOLATION, "too many final deflate blocks in a message")
        if is_last:
            self._ends = 0
            if self._is_alone:
                self._zlib = None
        return b"".join(inflated)


class Deflater:
    """Deflates a server's messages. Holds a zlib object between messages only if the server takes context over."""

    __slots__ = ("_bits", "_is_alone", "_zlib")

    def __init__(self, parameters: DeflateParameters) -> None:
        self._bits = -max(min(parameters.server_max_window_bits, OURS.server_max_window_bits), _SMALLEST_DEFLATE)
        self._is_alone = parameters.server_no_context_takeover
        self._zlib: zlib._Compress | None = None

    def deflate(self, data: bytes) -> bytes:
        """Return the payload of a whole message, to be sent in a frame with RSV1 set. RFC 7692 §7.2.1."""
        stream = self._zlib
        if stream is None:
            stream = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, self._bits, _MEMORY_LEVEL)
            if not self._is_alone:
                self._zlib = stream
        deflated = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
        return deflated[:-4]
