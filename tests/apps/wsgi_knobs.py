"""A plain WSGI application that does what the path says: what clients and a stop meet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.apps.http_knobs import PIECE, PIECES

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by the path."""
    return ROUTES.get(environ["PATH_INFO"], nowhere)(environ, start_response)


def respond(start_response: StartResponse, body: bytes, status: str = "200 OK") -> Iterable[bytes]:
    """Return a whole response."""
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def nowhere(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Know no such path."""
    return respond(start_response, b"no such path", "404 Not Found")


def pid(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Say which worker this is."""
    return respond(start_response, b"%d" % os.getpid())


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Send the body back when all of it is there."""
    return respond(start_response, environ["wsgi.input"].read())


def count(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Say how long the body was."""
    size = 0
    while piece := environ["wsgi.input"].read(100_000):
        size += len(piece)
    return respond(start_response, b"%d" % size)


def slow(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Take a while."""
    time.sleep(float(environ["QUERY_STRING"]))
    return respond(start_response, b"slow")


def sleeps(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Never return."""
    print("sleeps: begun", flush=True)
    time.sleep(3600)
    return []


def download(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Send much."""
    start_response("200 OK", [("Content-Length", str(len(PIECE) * PIECES))])
    for _ in range(PIECES):
        yield PIECE


def scheme(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Say what is known of the connection."""
    keys = (
        "wsgi.url_scheme",
        "HTTPS",
        "SERVER_NAME",
        "SERVER_PORT",
        "REMOTE_ADDR",
        "wsgi.multiprocess",
        "SSL_PROTOCOL",
    )
    return respond(start_response, "|".join(str(environ.get(key)) for key in keys).encode())


ROUTES: dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]] = {
    "/pid": pid,
    "/echo": echo,
    "/count": count,
    "/slow": slow,
    "/sleeps": sleeps,
    "/download": download,
    "/scheme": scheme,
}
