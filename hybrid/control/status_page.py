"""The status page: one HTML page, its few files, and the events that keep it up to date.

The page and all that it loads are files of the package: no other host is asked, nothing is built. ``/events`` is a
stream of server-sent events: first ``past``, the last minutes as a table; then ``snapshot`` once a second, and
``notices`` whenever there are some that were not sent yet.

Whatever names an app has are text to the page, never markup: it is a worker's, and hostile for all we know. The
policy that goes with the page lets no script run that is not a file of ours.

Source: HTML Living Standard §9.2 (server-sent events); W3C CSP Level 3; RFC 9110 §13.1.2 (If-None-Match).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from hybrid.control.broadcast import Broadcast
from hybrid.control.past import Past
from hybrid.control.snapshot import StateView, finite
from hybrid.control.web import Answer, Handler, Request, Routes
from hybrid.shared.notices import Answered, Notice, PoolState, Resized, to_plain

FOLDER = Path(__file__).parent / "page"
FILES = {
    "/": "index.html",
    "/page/page.css": "page.css",
    "/page/page.js": "page.js",
    "/page/charts.js": "charts.js",
    "/page/words.js": "words.js",
    "/page/icon.svg": "icon.svg",
    "/page/uPlot.min.css": "uplot/uPlot.min.css",
    "/page/uPlot.iife.min.js": "uplot/uPlot.iife.min.js",
}
"""Every file that is served, by path."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may load and do. No inline script, no inline style, no other host, no frame around it."""
HEADERS = (
    ("content-security-policy", POLICY),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
EVENT_HEADERS = (
    ("x-accel-buffering", "no"),  # nginx would hold back what it has not got a buffer full of
    ("cross-origin-resource-policy", "same-origin"),
)
FIRST_NOTICES = 100
"""Of the past, for a page that is opened."""
RETRY_MS = 1000
"""For a browser to wait before it asks again, when the server has gone."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is served. ``tag``: changes with its content."""

    content: bytes
    packed: bytes
    content_type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> _File:
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        return cls(content, gzip.compress(content, 9, mtime=0), TYPES[path.suffix], tag)

    async def __call__(self, request: Request) -> Answer:
        headers = (*HEADERS, ("cache-control", "no-cache"), ("vary", "accept-encoding"), ("etag", self.tag))
        if self.tag in request.headers.get("if-none-match", ""):
            return Answer(b"", 304, self.content_type, headers)
        if takes_gzip(request.headers.get("accept-encoding", "")):
            return Answer(self.packed, 200, self.content_type, (*headers, ("content-encoding", "gzip")))
        return Answer(self.content, 200, self.content_type, headers)


def takes_gzip(accepted: str) -> bool:
    """Return whether an ``Accept-Encoding`` allows gzip: by name or by ``*``, and not with a weight of 0.

    Source: RFC 9110 §12.5.3.
    """
    weights: dict[str, str] = {}
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        weights[coding.strip()] = weight.strip().removeprefix("q=") or "1"
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", "0")))
    return weight.strip("0.") != ""


def routes(state: StateView, broadcast: Broadcast, past: Past) -> Routes:
    """Return the page, its files and its events, by path. Runs in: control. Closes: nothing.

    The events of a page end with its connection; ``broadcast`` and ``past`` belong to the caller.
    Raises: OSError: a file of the package is missing.
    """

    async def events(_request: Request) -> Answer:
        return Answer(stream(state, broadcast, past), 200, "text/event-stream", EVENT_HEADERS)

    found: dict[str, Handler] = {path: _File.read(FOLDER / name) for path, name in FILES.items()}
    return {**found, "/events": events}


async def stream(state: StateView, broadcast: Broadcast, past: Past) -> AsyncIterator[bytes]:
    """Yield the events for one page, for ever. Closes: its reader of ``broadcast``, when it is closed itself."""
    yield f"retry: {RETRY_MS}\n\n".encode() + event("past", json.dumps(past.table(), separators=(",", ":")))
    reader, last = broadcast.read(), 0
    try:
        async for frame in reader:
            if state.history and state.history[-1].number < last:
                last = 0  # another parent counts anew
            news = newer(state.history, last)
            piece = event("snapshot", frame.json)
            if news:
                last = news[-1].number
                piece = event("notices", json.dumps([plain(each) for each in news], separators=(",", ":"))) + piece
            yield piece
    finally:
        reader.close()


def newer(history: Iterable[Notice], last: int) -> list[Notice]:
    """Return what a page shows of the notices after number ``last``, oldest first, at most ``FIRST_NOTICES``."""
    after = list(takewhile(lambda each: each.number > last, reversed(list(history))))
    shown = [each for each in after if not isinstance(each, (PoolState, Answered))]
    return shown[:FIRST_NOTICES][::-1]


def plain(notice: Notice) -> dict[str, object]:
    """Return a notice as any JSON parser reads it."""
    shown = to_plain(notice)
    return {**shown, "inputs": finite(notice.inputs)} if isinstance(notice, Resized) else shown


def event(name: str, data: str) -> bytes:
    """Return one server-sent event; ``data`` has no line ends."""
    return f"event: {name}\ndata: {data}\n\n".encode()
