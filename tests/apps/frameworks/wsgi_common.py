"""What the WSGI applications do alike: :mod:`tests.apps.frameworks.common` for code that blocks."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from hybrid.handlers.lifespan import Worker
from tests.apps.frameworks import common


@asynccontextmanager
async def lifespan(worker: Worker) -> AsyncIterator[dict[str, str]]:
    """Open something; a request finds it as ``environ["hybrid.state"]``."""
    yield {"opened": "by the lifespan"}
    common.tell("lifespan: closed")


def download() -> Iterator[bytes]:
    """Yield much, without waiting."""
    for _ in range(common.PIECES):
        yield common.PIECE


def events() -> Iterator[bytes]:
    """Yield server-sent events without end; say when somebody ends it."""
    common.tell("events: begun")
    try:
        for number in itertools.count():
            yield f"data: {number}\n\n".encode()
            time.sleep(0.01)
    finally:
        common.tell("events: ended")
