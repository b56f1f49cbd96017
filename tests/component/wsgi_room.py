"""One worker's endpoint for a WSGI application in the test's own loop: real sockets, real threads."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hybrid.handlers.http_shared import HttpShared
from hybrid.handlers.wsgi import wsgi_factory
from hybrid.handlers.wsgi_threads import Threads
from hybrid.shared.http_settings import HttpSettings
from tests.component.http_room import CountingDoor, HttpRoom, listening
from tests.support.eventually import eventually_async

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]
PATIENCE_S = 5.0


@dataclass
class Gate:
    """Where an application waits until the test lets it go on."""

    _opened: threading.Event = field(default_factory=threading.Event)
    reached: int = 0

    def pass_through(self) -> None:
        """Wait. Runs in: the application's thread."""
        self.reached += 1
        assert self._opened.wait(PATIENCE_S), "nobody has opened the gate"

    def open(self) -> None:
        """Let everybody go on, now and later."""
        self._opened.set()

    async def wait_reached(self, count: int = 1) -> None:
        """Wait until so many have come."""
        await eventually_async(lambda: self.reached >= count)


class Blocks:
    """An iterable that remembers how far it came, and whether it was closed."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self.taken = 0
        self.closed = 0

    def __iter__(self) -> Blocks:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        self.taken += 1
        return block

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def answer(
    start_response: StartResponse, body: bytes, *headers: tuple[str, str], status: str = "200 OK"
) -> list[bytes]:
    """Return a whole response."""
    start_response(status, [("Content-Length", str(len(body))), *headers])
    return [body]


@asynccontextmanager
async def serving(
    app: Any, threads: int = 4, shared: HttpShared | None = None, state: object = None, **settings: Any
) -> AsyncIterator[HttpRoom]:
    """Serve ``app`` on a port of its own; ``settings`` are the options of HTTP. Closes: everything it made."""
    door = CountingDoor()
    shared = shared or HttpShared.of(HttpSettings(**settings))
    before = set(threading.enumerate())
    pool = shared.threads = Threads(threads)
    pool.start()
    ours = set(threading.enumerate()) - before
    try:
        async with listening(wsgi_factory(app, "app", door, state, shared), door) as room:
            yield room
    finally:
        pool.end()
        await eventually_async(lambda: not any(thread.is_alive() for thread in ours))
