"""A plain WSGI application without a framework: it greets, counts what it is sent, and streams.

    hybrid-serve examples/wsgi_app.py:application --bind 127.0.0.1:8083

Try it: ``curl http://127.0.0.1:8083/Ada``, or ``curl --data-binary @FILE http://127.0.0.1:8083/``, or
``curl -N http://127.0.0.1:8083/countdown``
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/countdown":
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return countdown()
    if environ["REQUEST_METHOD"] == "POST":
        size = 0
        while piece := environ["wsgi.input"].read(65536):  # waits for the client; what comes meanwhile is bounded
            size += len(piece)
        body = f"{size} bytes\n".encode()
    else:
        who = environ["PATH_INFO"][1:].encode("latin-1").decode(errors="replace") or "stranger"
        body = f"hello, {who}: thread {threading.current_thread().name} of process {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


def countdown() -> Iterator[bytes]:
    """Each line is sent before the next one is asked for. When the client leaves, the generator is closed."""
    for number in (3, 2, 1):
        yield f"{number}\n".encode()
        time.sleep(0.2)
    yield b"lift-off\n"
