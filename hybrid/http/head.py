"""The head of a request: the request line and the header block, as bytes become whole.

Why so much is refused: two parsers that read one head differently are how requests are smuggled, so a head that anybody
could read in another way gets a 400 and the connection ends. The one liberty is an empty line before the request line
(RFC 9112 §2.2). Line ends are CR LF, never a lone LF, though §2.2 would allow it.

However the bytes are cut, the outcome is the same. A head that is not whole yet can be refused for five things only
(:func:`_early_fault`); a whole head is first asked for these, then for the rest. Sources: RFC 9112 §2, §3, §9.3; RFC
3986; RFC 9110 §7.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from hybrid.http.errors import HttpError
from hybrid.http.fields import HOST, TOKEN, Fields, parse_fields
from hybrid.http.remember import remember
from hybrid.http.request_line import RequestLine, decode_path, read_line

_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)
_AUTHORITY_FORM: Final = re.compile(rb"[^/?@]+:[0-9]{1,5}")
_BARE: Final = re.compile(rb"\r(?=[^\n])|(?<!\r)\n")
_TOKEN_BYTES: Final = frozenset(TOKEN)

_DEFAULT_PORT: Final = {b"http": b":80", b"https": b":443"}

_MEMO_BYTES: Final = 8192
"""Longer header blocks are not kept: an idle connection should not hold 64 KiB for a guess."""


@dataclass(frozen=True)
class HeadLimits:
    """How large a head may grow.

    ``line_bytes``: the request line without its CRLF; above: 414. ``head_bytes``: all of it, with both last CRLFs;
    ``count``: header field lines; above either: 431. ``known``: heads that were found to keep them.
    """

    line_bytes: int = 8190
    head_bytes: int = 65536
    count: int = 100
    known: dict[bytes | bytearray, Head] = field(default_factory=dict, compare=False, repr=False)


class Head:
    """One request as its head describes it. Not changed after it was read.

    ``method``, ``target``, ``path``, ``raw_path``, ``query_string``: of the :class:`RequestLine`; in ``path`` what is
    not UTF-8 becomes U+FFFD, ``raw_path`` has the truth. ``version``: "1.1" or "1.0". ``keep_alive``: the connection
    may serve another request. ``expect_continue``, ``upgrade``: those of ``fields``, but nothing in HTTP/1.0, where
    both are ignored (RFC 9110 §7.8, §10.1.1). ``end``: index of the first byte after the head.
    """

    __slots__ = (
        "end",
        "expect_continue",
        "fields",
        "keep_alive",
        "method",
        "path",
        "query_string",
        "raw_path",
        "target",
        "upgrade",
        "version",
    )

    def __init__(self, line: RequestLine, fields: Fields, end: int) -> None:
        self.method = line.method
        self.target = line.target
        self.path = line.path
        self.raw_path = line.raw_path
        self.query_string = line.query_string
        self.fields = fields
        self.end = end
        if line.is_1_0:
            self.version = "1.0"
            self.keep_alive = fields.keep_alive and not fields.close
            self.expect_continue = False
            self.upgrade = b""
        else:
            self.version = "1.1"
            self.keep_alive = not fields.close
            self.expect_continue = fields.expect_continue
            self.upgrade = fields.upgrade


_KNOWN_BYTES: Final = 512
_KNOWN_COUNT: Final = 256
"""A head that is known by heart is no longer than this, and there are no more of them: a full table is emptied."""
_NO_FIELDS: Final = Fields([])


class HeadReader:
    """Reads the heads of one connection, one after the other.

    It keeps the last header block and its fields: a client that repeats itself costs one comparison. A short head that
    came alone, and that many clients may send, is known by heart to all connections of the worker.
    """

    __slots__ = ("_block", "_fields", "_known", "_limits", "_searched")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._known = limits.known
        self._block: bytes = b""
        self._fields: Fields = _NO_FIELDS
        self._searched: int = 0

    def read(self, data: bytes | bytearray, start: int) -> Head | None:
        """Return the head that begins at ``start``, or None while it is not whole.

        After None come the same bytes again, and more; they may have moved, ``start`` with them. What was searched
        is not searched again: bytes that trickle in cost no more than bytes that come at once.
        Raises: HttpError 400, 414, 417, 431, 501, 505. The connection ends: what follows cannot be trusted.
        """
        # hot: ASGI hello; reading takes 3 to 6 µs, a look into the table 0.2.
        if start == 0 and len(data) <= _KNOWN_BYTES and type(data) is bytes:
            known = self._known.get(data)
            if known is not None:
                self._searched = 0
                return known
        searched = self._searched
        end = data.find(b"\r\n\r\n", start + searched - 3 if searched > 3 else start)
        if end < 0:
            fault = _early_fault(data, start, len(data), searched, self._limits)
            if fault is not None:
                raise fault
            self._searched = len(data) - start
            return None
        self._searched = 0
        try:
            head = self._parse(data, start, end)
        except HttpError as error:
            raise (_early_fault(data, start, end + 4, 0, self._limits) or error) from None
        if start == 0 and head.end == len(data) <= _KNOWN_BYTES and head.fields.is_common and not head.query_string:
            remember(self._known, bytes(data), head, _KNOWN_COUNT)
        return head

    def _parse(self, data: bytes | bytearray, start: int, end: int) -> Head:
        """Return the head between ``start`` and the last two CRLFs, which begin at ``end``."""
        limits = self._limits
        line_end = data.find(b"\r\n", start)
        if line_end == start:  # one empty line is forgiven: RFC 9112 §2.2
            start += 2
            line_end = data.find(b"\r\n", start)
        if line_end - start > limits.line_bytes:
            raise _line_too_long(limits)
        if end + 4 - start > limits.head_bytes:
            raise _head_too_long(limits)
        line = read_line(bytes(data[start:line_end]))
        block = data[line_end + 2 : end]
        if block == self._block:
            fields = self._fields
        else:
            block = bytes(block)
            fields = parse_fields(block, limits.count)
            if len(block) <= _MEMO_BYTES:
                self._block = block
                self._fields = fields
        if line.is_1_0:
            if fields.chunked:  # RFC 9112 §6.1: whoever sent or forwarded it did not know what it means
                raise HttpError(400, "Transfer-Encoding in HTTP/1.0")
        elif fields.host is None:
            raise HttpError(400, "no Host: RFC 9112 §3.2 asks for one in HTTP/1.1")
        head = Head(line, fields, end + 4)
        return head if line.is_origin else _read_other_form(head)


def _read_other_form(head: Head) -> Head:
    """Return ``head`` with the parts of a target that is no path: absolute-, authority- or asterisk-form.

    An absolute-form whose authority is not what Host says is refused. RFC 9112 §3.2.2 has a server ignore Host then,
    but §3.2 has every client send both alike: who differs is broken, or hopes that somebody else believes the other.
    """
    target = head.target
    if head.method == "CONNECT":
        if _AUTHORITY_FORM.fullmatch(target) and HOST.fullmatch(target):
            raise HttpError(501, "CONNECT is not supported: this is no proxy")
        raise HttpError(400, f"CONNECT to what is no host and port: {target[:80]!r}")
    if target == b"*":
        if head.method != "OPTIONS":
            raise HttpError(400, f"only OPTIONS is for *, not {head.method[:80]}")
        return head
    found = _ABSOLUTE.fullmatch(target)
    if found is None or HOST.fullmatch(found.group(2)) is None:
        raise HttpError(400, f"not a request target: {target[:80]!r}")
    scheme, authority, raw_path, query_string = found.groups(b"")
    host = head.fields.host
    if host is None:  # HTTP/1.0
        head.fields = head.fields.with_host(authority)
    elif _without_port(host, scheme) != _without_port(authority, scheme):
        raise HttpError(400, f"the target is at {authority[:80]!r}, Host says {host[:80]!r}")
    head.raw_path = raw_path or b"/"
    head.path = decode_path(head.raw_path)
    head.query_string = query_string
    return head


def _without_port(host: bytes, scheme: bytes) -> bytes:
    """Return ``host`` as it compares: lower case, without a port that is empty or the scheme's own."""
    return host.lower().removesuffix(_DEFAULT_PORT[scheme.lower()]).removesuffix(b":")


def _early_fault(data: bytes | bytearray, start: int, stop: int, searched: int, limits: HeadLimits) -> HttpError | None:
    """Return the first thing in ``data[start:stop]`` that no further byte can mend, or None.

    In the order in which the bytes show them, so that a cut between two faults does not choose: a first byte that
    begins no method, a bare CR or LF, a request line too long, a head too long. The first ``searched`` bytes are known
    to hold none.
    """
    begin = start + 2 if data.startswith(b"\r\n", start) else start
    if begin < stop and data[begin] not in _TOKEN_BYTES and (begin > start or data[begin] != 13):
        return HttpError(400, f"no method begins with {bytes(data[begin : begin + 1])!r}")
    line_at = begin + limits.line_bytes + 1
    head_at = begin + limits.head_bytes
    fault_at = stop
    fault: HttpError | None = None
    if head_at < fault_at:
        fault_at, fault = head_at, _head_too_long(limits)
    if line_at < fault_at and data.find(b"\r\n", begin, line_at + 1) < 0:
        fault_at, fault = line_at, _line_too_long(limits)
    bare = _BARE.search(data, start + max(searched - 1, 0), stop)
    if bare is not None and bare.start() + (data[bare.start()] == 13) <= fault_at:
        return HttpError(400, "a bare CR or a bare LF in a head")
    return fault


def _line_too_long(limits: HeadLimits) -> HttpError:
    """Return the error of a request line above its limit."""
    return HttpError(414, f"a request line above {limits.line_bytes} bytes")


def _head_too_long(limits: HeadLimits) -> HttpError:
    """Return the error of a head above its limit."""
    return HttpError(431, f"a head above {limits.head_bytes} bytes")
