"""HTTP connections without a socket: a transport that keeps what is written, in the test's own loop.

For what needs many connections, or a moment that a socket does not give.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from hybrid.connection.http_connection import HttpConnection
from hybrid.handlers.asgi import asgi_factory
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from tests.component.http_room import CountingDoor

TURNS = 20
"""Of the loop, until everything that can happen has."""


class KeepingTransport(asyncio.Transport):
    """Keeps what is written; says that ``unsent`` bytes are not sent."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.unsent = 0
        self.has_ended = False
        self.is_reading_ = True
        self.lost: bool | None = None
        """Whether the connection is to be lost: False by :meth:`close`, True by :meth:`abort`."""

    def write(self, data: Any) -> None:
        """Keep it. What is written to a transport that is closed is lost, and an error of ours."""
        assert self.lost is None and not self.has_ended, "written behind the end"
        self.written += data
        self.writes += 1

    def write_eof(self) -> None:
        """Say no more."""
        self.has_ended = True

    def can_write_eof(self) -> bool:
        """Tell that it can."""
        return True

    def get_write_buffer_size(self) -> int:
        """Return what the test says."""
        return self.unsent

    def pause_reading(self) -> None:
        """Remember."""
        self.is_reading_ = False

    def resume_reading(self) -> None:
        """Remember."""
        self.is_reading_ = True

    def is_closing(self) -> bool:
        """Tell whether it is closed or aborted."""
        return self.lost is not None

    def close(self) -> None:
        """Remember."""
        self.lost = self.lost or False

    def abort(self) -> None:
        """Remember."""
        self.lost = True


class Wired:
    """One connection and its transport. Closes: the connection, on leaving the block."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self.door = CountingDoor()
        factory = asgi_factory(app, "app", self.door, None, HttpShared.of(HttpSettings(date_header=False, **settings)))
        self.connection = cast(HttpConnection, factory())
        self.transport = KeepingTransport()

    async def __aenter__(self) -> Wired:
        self.connection.connection_made(self.transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.connection.connection_lost(None)
        self.connection.cancel()
        await settle()
        sweeping = self.connection._endpoint.sweeping
        if sweeping is not None:
            sweeping.cancel()
        assert not self.door.open

    def feed(self, data: bytes) -> None:
        """Let bytes come, if anybody reads."""
        if self.transport.lost is None:
            self.connection.data_received(data)

    async def feed_all(self, pieces: list[bytes], turns: int = 0) -> None:
        """Let one piece come after the other, each when the connection reads again, with turns of the loop between."""
        for piece in pieces:
            for _ in range(turns):
                await asyncio.sleep(0)
            for _ in range(TURNS):
                if self.transport.is_reading_:
                    break
                await asyncio.sleep(0)
            self.feed(piece)
        await settle()


async def settle() -> None:
    """Let everything that can happen without time or input happen."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
