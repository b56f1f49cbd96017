"""One line of the access log: a format, compiled once into functions of an :class:`Entry`.

**Nobody forges a line.** What a peer or an application chose is written with every byte that is not visible ASCII, and
every quote and backslash, as ``\\xHH`` (nginx's way), or as JSON escapes it, in ASCII only; bytes are read as Latin-1,
which loses none. In the text forms ``-`` stands for what is empty or not known, in JSON ``null``.

Source: Apache's mod_log_config, gunicorn's access_log_format, nginx's log_format escape=default; RFC 3339; RFC 7617
(the user of ``%(u)s``).
"""

from __future__ import annotations

import binascii
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from hybrid.connection.request_id import request_id
from hybrid.http.errors import HttpError
from hybrid.http.head import Head
from hybrid.http.status import refusal_body
from hybrid.shared.access_format import JSON, Atom, Source, parse

Client = tuple[str, int | None] | str | None
"""(host, port), a unix socket's path, or None: as :mod:`hybrid.connection.addresses` and ASGI's scope have it."""
UNKNOWN = "-"


@dataclass(slots=True)
class Entry:
    """One request and its response, when that has ended; or what was refused before it was a request.

    ``head``: None: it could not be read. ``status``: 0: none was sent. ``body_bytes``: of the response's body, as sent.
    ``started``: :data:`hybrid.ground.clock.monotonic` at the request's beginning; 0: not known (not the loop's time:
    uvloop's has a resolution of a millisecond). ``request_id``: empty: it is made if the line wants it.
    ``response_headers``: as the application said them; needed only where :attr:`AccessLog.wants_response_headers`.
    ``duration_s``: negative: the log looks at the clock.
    """

    head: Head | None
    client: Client
    scheme: str
    status: int
    body_bytes: int = 0
    started: float = 0.0
    request_id: str = ""
    response_headers: Iterable[Any] | None = None
    duration_s: float = -1.0
    began_at: float = field(default=0.0, init=False)
    """Wall clock; the log sets it."""
    _headers: dict[bytes, bytes] | None = field(default=None, init=False)

    def refused(self, error: HttpError, *, to_head: bool = False) -> None:
        """Note that the response is ours, and says no more than the status. Args: to_head: it has no body."""
        self.status, self.response_headers = error.status, None
        self.body_bytes = 0 if to_head else len(refusal_body(error))

    def header(self, name: bytes) -> bytes:
        """Return a header of the request, several of one name joined; empty: there is none."""
        headers = self._headers
        if headers is None:
            headers = self._headers = {} if self.head is None else _joined(self.head.fields.pairs)
        return headers.get(name, b"")

    def identify(self) -> str:
        """Return the request's id; make one if it has none yet."""
        if not self.request_id:
            self.request_id = request_id(self.head)
        return self.request_id


Line = Callable[[Entry], bytes]
"""Makes the line of an entry, the newline included. Never raises."""
_Getter = Callable[[Entry], str]


def compile_format(text: str, slot: int) -> tuple[Line, bool]:
    """Return what makes a line of ``--access-log-format``, and whether it needs the headers of the response.

    Runs in: the process that writes; its pid and environment are looked at here. Args: slot: the worker's.
    Raises: ValueError: the format is none; the option was checked before.
    """
    if text == JSON:
        return _json_line(slot), False
    pieces = parse(text)
    template = ["" if isinstance(piece, Atom) else piece for piece in pieces] + ["\n"]
    getters = [(place, _getter(piece, slot)) for place, piece in enumerate(pieces) if isinstance(piece, Atom)]

    def line(entry: Entry) -> bytes:
        # hot: access log, combined; filling the places of a list takes 3.5 µs, of a "%s %s" 4.0 (CPython 3.11).
        parts = template.copy()
        for place, get in getters:
            parts[place] = get(entry)
        return "".join(parts).encode()

    return line, any(isinstance(piece, Atom) and piece.source is Source.RESPONSE for piece in pieces)


# ── escaping ─────────────────────────────────────────────────────────────────────────────────────────────────

_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_ESCAPES = tuple(chr(byte) if byte in _PLAIN else f"\\x{byte:02X}" for byte in range(256))


def escaped(value: bytes) -> str:
    """Return ``value`` as it stands between the quotes of a line; ``-`` if it is empty."""
    # hot: access log, combined; one call in C says that all is plain, which it nearly always is.
    if value.translate(None, _PLAIN):
        return "".join([_ESCAPES[byte] for byte in value])
    return value.decode("ascii") or UNKNOWN


def _escaped_text(text: str) -> str:
    return escaped(text.encode("utf-8", "surrogatepass"))


def _escaped_word(text: str) -> str:
    """As above, without blanks: for a place that has no quotes around it."""
    return _escaped_text(text).replace(" ", "\\x20")


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=64)  # a second's requests share it; long ones began in other seconds than short ones
def common_time(second: int) -> str:
    """Return a wall-clock second as ``[10/Oct/2000:13:55:36 -0700]``, local time, whatever the locale."""
    at = time.localtime(second)
    sign, offset = ("-", -at.tm_gmtoff) if at.tm_gmtoff < 0 else ("+", at.tm_gmtoff)
    zone = f"{sign}{offset // 3600:02}{offset // 60 % 60:02}"
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"[{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year:04}:{clock} {zone}]"


@lru_cache(maxsize=64)
def _utc_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


_FRACTIONS = tuple(f".{milliseconds:03}Z" for milliseconds in range(1000))


def utc_time(seconds: float) -> str:
    """Return a wall-clock time as RFC 3339 has it: UTC, milliseconds."""
    whole = int(seconds)
    return _utc_second(whole) + _FRACTIONS[int((seconds - whole) * 1000)]


# ── what atoms stand for ─────────────────────────────────────────────────────────────────────────────────────


def _joined(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by lower-cased name; several of one name are one list, as RFC 9110 §5.3 has it."""
    pairs = pairs if isinstance(pairs, list) else list(pairs)
    headers = dict(pairs)
    if len(headers) != len(pairs):
        headers = {}
        for name, value in pairs:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def client_host(client: Client) -> str:
    """Return the host, or ``unix:`` and the path of a client that has one; empty: not known."""
    if isinstance(client, str):
        return f"unix:{client}" if client else ""
    return client[0] if client is not None else ""


# The host of a connection's requests is one str: its escaped form is found by a hash that is known.
_escaped_host = lru_cache(maxsize=1024)(_escaped_word)


def _request_line(entry: Entry) -> str:
    head = entry.head
    if head is None:
        return UNKNOWN
    return f"{_method(head)} {escaped(head.target)} HTTP/{head.version}"


def _method(head: Head) -> str:
    method = head.method
    return method if method.isalpha() and method.isascii() else _escaped_text(method)


def _user(entry: Entry) -> str:
    """Return who the client says it is."""
    scheme, _, credentials = entry.header(b"authorization").partition(b" ")
    if scheme.lower() != b"basic":
        return UNKNOWN
    try:
        user = binascii.a2b_base64(credentials).partition(b":")[0]
    except binascii.Error:
        return UNKNOWN
    return escaped(user).replace(" ", "\\x20")  # no quotes around it, either


def _duration(form: Callable[[float], str]) -> _Getter:
    return lambda entry: form(entry.duration_s) if entry.duration_s >= 0 else UNKNOWN


_GETTERS: dict[str, _Getter] = {
    "h": lambda entry: _escaped_host(client_host(entry.client)),
    "l": lambda entry: UNKNOWN,
    "u": _user,
    "t": lambda entry: common_time(int(entry.began_at)),
    "r": _request_line,
    "m": lambda entry: _method(entry.head) if entry.head is not None else UNKNOWN,
    "U": lambda entry: escaped(entry.head.raw_path) if entry.head is not None else UNKNOWN,
    "q": lambda entry: escaped(entry.head.query_string) if entry.head is not None else UNKNOWN,
    "H": lambda entry: f"HTTP/{entry.head.version}" if entry.head is not None else UNKNOWN,
    "s": lambda entry: str(entry.status) if entry.status else UNKNOWN,
    "B": lambda entry: str(entry.body_bytes),
    "b": lambda entry: str(entry.body_bytes) if entry.body_bytes else UNKNOWN,
    "f": lambda entry: escaped(entry.header(b"referer")),
    "a": lambda entry: escaped(entry.header(b"user-agent")),
    "T": _duration(lambda seconds: str(int(seconds))),
    "D": _duration(lambda seconds: str(int(seconds * 1e6))),
    "M": _duration(lambda seconds: str(int(seconds * 1e3))),
    "L": _duration(lambda seconds: f"{seconds:.6f}"),
}
"""Plain atoms, but for ``p``, which is a constant."""

_OWN_GETTERS: dict[str, _Getter] = {
    "request_id": lambda entry: _escaped_text(entry.identify()),
    "scheme": lambda entry: _escaped_text(entry.scheme),
    "host": lambda entry: escaped(_host(entry)),
    "time": lambda entry: utc_time(entry.began_at),
}
"""Atoms of our own, but for ``worker``, which is a constant."""


def _host(entry: Entry) -> bytes:
    return (entry.head.fields.host or b"") if entry.head is not None else b""


def _getter(atom: Atom, slot: int) -> _Getter:
    """Return what gives the text of an atom. A value that never changes is made here."""
    name = atom.name.encode("utf-8", "surrogatepass")
    if atom.source is Source.REQUEST:
        return lambda entry: escaped(entry.header(name))
    if atom.source is Source.RESPONSE:
        return lambda entry: escaped(_response_header(entry, name))
    if atom.source is Source.ENVIRONMENT:
        return _constant(escaped(os.environb.get(name, b"")))
    if atom.source is Source.OWN:
        return _constant(str(slot)) if atom.name == "worker" else _OWN_GETTERS[atom.name]
    return _constant(f"<{os.getpid()}>") if atom.name == "p" else _GETTERS[atom.name]


def _constant(text: str) -> _Getter:
    return lambda entry: text


def _response_header(entry: Entry, name: bytes) -> bytes:
    try:
        return b", ".join([value for each, value in entry.response_headers or () if each.lower() == name])
    except (TypeError, ValueError, AttributeError):
        return b""  # what the application said is no list of headers, and was not sent


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _json_line(slot: int) -> Line:
    """Return what makes a line of ``--access-log-format json``."""
    fixed = f'"worker":{slot},"pid":{os.getpid()}'

    def line(entry: Entry) -> bytes:
        head = entry.head
        if head is None:
            request = '"method":null,"path":null,"version":null'
        else:
            target = quoted(head.target.decode("latin-1"))
            request = f'"method":{quoted(head.method)},"path":{target},"version":{quoted(head.version)}'
        duration = f"{entry.duration_s * 1000:.3f}" if entry.duration_s >= 0 else "null"
        return (
            f'{{"time":"{utc_time(entry.began_at)}","client":{_or_null(client_host(entry.client))},{request},'
            f'"status":{entry.status or "null"},"bytes":{entry.body_bytes},"duration_ms":{duration},'
            f'"request_id":{quoted(entry.identify())},{fixed},"referer":{_header_or_null(entry, b"referer")},'
            f'"user_agent":{_header_or_null(entry, b"user-agent")},"host":{_or_null(_host(entry).decode("latin-1"))},'
            f'"scheme":{_or_null(entry.scheme)}}}\n'
        ).encode("ascii")

    return line


def _or_null(text: str) -> str:
    return quoted(text) if text else "null"


def _header_or_null(entry: Entry, name: bytes) -> str:
    return _or_null(entry.header(name).decode("latin-1"))
