"""Services that show what a drain does to them: of every kind, and lifespans that take their time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hybrid
from hybrid import Worker
from tests.apps.http_knobs import respond


class Told(asyncio.Protocol):
    """Says its pid; says goodbye when it is told of the drain."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the pid."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport: Any = transport
        self._transport.write(b"%d\n" % os.getpid())

    def data_received(self, data: bytes) -> None:
        """Echo."""
        self._transport.write(data)

    def finish(self) -> None:
        """Say goodbye."""
        self._transport.write(b"goodbye\n")
        self._transport.close()


told = hybrid.protocol(Told, on_drain=Told.finish)
untold = hybrid.protocol(Told)


async def waits(scope: Any, receive: Any, send: Any) -> None:
    """Answer any request with the pid; one for /drain when the worker drains; one for /busy late."""
    if scope["path"] == "/drain":
        await scope["extensions"]["hybrid.drain"]["wait"]()
    elif scope["path"] == "/busy":
        _hold_up_the_loop()
    await respond(send, b"%d" % os.getpid())


def _hold_up_the_loop() -> None:
    time.sleep(0.03)


@asynccontextmanager
async def slow(worker: Worker) -> AsyncIterator[None]:
    """Take a second to shut down, with the loop free."""
    yield
    print("shutting down", flush=True)
    await asyncio.sleep(1.0)
    print("shut down", flush=True)


@asynccontextmanager
async def endless(worker: Worker) -> AsyncIterator[None]:
    """Never come to an end."""
    yield
    print("shutting down", flush=True)
    await asyncio.Event().wait()
