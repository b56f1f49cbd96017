"""What is asked of the servers of :mod:`tests.benchmarks.peers`, and which share of a peer's CPU we may use."""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.apps_http import HELLO, PIECE, PIECES
from tests.benchmarks.http_load import Workload, read_frame
from tests.benchmarks.measure import Bar

__all__ = ["BARS", "WORKLOADS"]

_HOST = b"Host: 127.0.0.1:8000\r\n"
_BROWSER = (
    b"GET /shelf/books?page=2 HTTP/1.1\r\nHost: www.example.org\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://www.example.org/shelf\r\nCookie: theme=dark; session=%08x\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n"
)
_WORDS = b"what is said in sixty-four bytes comes back in sixty-four bytes."
_UPLOAD = bytes(range(256)) * 64


def _same(request: bytes) -> Callable[[int], bytes]:
    return lambda number: request


def _get(path: bytes, more: bytes = b"") -> Callable[[int], bytes]:
    return _same(b"GET " + path + b" HTTP/1.1\r\n" + _HOST + more + b"\r\n")


def _frame(payload: bytes) -> bytes:
    mask = b"\x12\x34\x56\x78"
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([0x81, 0x80 | len(payload)]) + mask + masked


def _browser(number: int) -> bytes:
    return _BROWSER % number


def _both(against: str, limit: float, *, is_aim: bool = False) -> tuple[Bar, ...]:
    return (Bar("hybrid compiled", against, limit, is_aim), Bar("hybrid", against, limit, is_aim))


_ALL = (
    Workload("hello", "12 bytes, keep-alive", "apps_http:hello", _get(b"/"), HELLO),
    Workload("headers", "12 headers, one of them always new", "apps_http:hello", _browser, HELLO),
    Workload("memo", "the same 12 headers each time", "apps_http:hello", _same(_BROWSER % 0), HELLO),
    Workload("suspends", "the application waits once", "apps_http:suspends", _get(b"/"), HELLO),
    Workload("pipelined", "16 requests at a time", "apps_http:hello", _get(b"/"), HELLO, depth=16),
    Workload(
        "starlette",
        "Starlette: route, JSON, one middleware",
        "app_starlette:app",
        _get(b"/items/17"),
        b'{"id":17,"name":"a thing","tags":["one","two"]}',
    ),
    Workload(
        "connections",
        "one request per connection",
        "apps_http:hello",
        _get(b"/", b"Connection: close\r\n"),
        HELLO,
        keeps_alive=False,
    ),
    Workload(
        "upload",
        "POST of 16 KiB, echoed",
        "apps_http:echo",
        _same(b"POST / HTTP/1.1\r\n" + _HOST + b"Content-Length: %d\r\n\r\n" % len(_UPLOAD) + _UPLOAD),
        _UPLOAD,
    ),
    Workload(
        "download",
        "1 MiB streamed in pieces of 64 KiB",
        "apps_http:stream",
        _get(b"/"),
        PIECE * PIECES,
        connections=8,
    ),
    Workload(
        "websocket",
        "WebSocket, 64 bytes of text, echoed",
        "apps_http:websocket_echo",
        _same(_frame(_WORDS)),
        _WORDS,
        opening=b"GET / HTTP/1.1\r\n" + _HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        begins=b"\x81\x40",
        read=read_frame,
    ),
    Workload("wsgi", "WSGI: 12 bytes, keep-alive", "apps_wsgi:hello", _get(b"/"), HELLO, interface="wsgi"),
    Workload(
        "wsgi-alone",
        "WSGI: one client, one request at a time",
        "apps_wsgi:hello",
        _get(b"/"),
        HELLO,
        connections=1,
        interface="wsgi",
    ),
)
WORKLOADS = {each.name: each for each in _ALL}
"""By name, in the order in which they are measured."""

BARS: dict[str, tuple[Bar, ...]] = {
    "hello": (
        Bar("hybrid compiled", "uvicorn", 0.55),
        Bar("hybrid compiled", "granian", 1.0),
        Bar("hybrid", "uvicorn", 0.68),
    ),
    "headers": (Bar("hybrid compiled", "uvicorn", 0.68), Bar("hybrid", "uvicorn", 0.80)),
    "memo": (Bar("hybrid compiled", "uvicorn", 0.46),),
    "suspends": (Bar("hybrid compiled", "uvicorn", 0.57),),
    "pipelined": _both("uvicorn", 0.55),
    "starlette": (*_both("uvicorn", 0.80), *_both("granian", 1.0)),
    "connections": (*_both("uvicorn", 0.50), *_both("granian", 1.0, is_aim=True)),
    "upload": _both("uvicorn", 0.80),
    "download": _both("granian", 1.0),
    "websocket": (*_both("uvicorn", 0.60), *_both("aiohttp", 1.0, is_aim=True)),
    "wsgi": (Bar("hybrid", "gunicorn", 0.50),),
}
"""By workload. An aim is no bar: it is told beside them whether it is reached."""
