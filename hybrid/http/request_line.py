"""The request line: method, target and version.

Lines that were read before are known by heart, those of a table that all connections of the worker share: an
application has few paths that most of its requests are for. What it costs is bounded: short lines only, and a full
table is emptied. A line with a query is not kept: there are too many, and secrets in some.

Sources: RFC 9112 §2.3, §3.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from hybrid.http.errors import HttpError
from hybrid.http.remember import remember

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-\"$-~]+) HTTP/1\.([0-9])")
"""Method, target, minor version. The target: visible ASCII; a fragment is not part of it (RFC 9112 §3.2)."""
_ANY_VERSION: Final = re.compile(rb"[^ ]+ [^ ]+ HTTP/[0-9]\.[0-9]")

_METHODS: Final[dict[bytes, str]] = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}
_KNOWN_BYTES: Final = 128
_KNOWN_COUNT: Final = 512
"""A line that is known is shorter than this, and there are no more of them."""


class RequestLine:
    """A request line. Not changed after it was read: requests share it.

    ``method``: as received, methods are case-sensitive. ``target``: as received. ``raw_path``, ``query_string``: the
    target's two parts, without the ``?``. ``path``: :func:`decode_path`. ``is_1_0``: else 1.1, or higher, which is
    answered as 1.1 (RFC 9110 §2.5). ``is_origin``: the target is a path, and not CONNECT's.
    """

    __slots__ = ("is_1_0", "is_origin", "method", "path", "query_string", "raw_path", "target")

    def __init__(self, method: str, target: bytes, minor: bytes) -> None:
        self.method = method
        self.target = target
        self.is_1_0 = minor == b"0"
        self.is_origin = target.startswith(b"/") and method != "CONNECT"
        self.raw_path, _, self.query_string = target.partition(b"?")
        self.path = decode_path(self.raw_path)


_known: Final[dict[bytes, RequestLine]] = {}


def read_line(line: bytes) -> RequestLine:
    """Return what a line says, without its CRLF. Raises: HttpError 400, 505."""
    known = _known.get(line)
    # hot: ASGI hello with another header each time; reading costs 2 µs, a look into the table 0.1 (CPython 3.11).
    if known is not None:
        return known
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        if _ANY_VERSION.fullmatch(line) and not line.endswith(b"HTTP/1.", 0, -1):
            raise HttpError(505, f"not HTTP/1.x: {line[-8:]!r}")
        raise HttpError(400, f"not a request line: {line[:80]!r}")
    name, target, minor = found.groups()
    read = RequestLine(_METHODS.get(name) or name.decode("ascii"), target, minor)
    if len(line) <= _KNOWN_BYTES and read.is_origin and not read.query_string:
        remember(_known, line, read, _KNOWN_COUNT)
    return read


def decode_path(raw_path: bytes) -> str:
    """Return the path that ASGI asks for: percent-decoded, then read as UTF-8. A lone ``%`` stands for itself.

    Not surrogateescape: a str that cannot be encoded makes whoever logs it fail, at the wish of the peer.
    """
    return unquote_to_bytes(raw_path).decode("utf-8", "replace") if b"%" in raw_path else raw_path.decode()
