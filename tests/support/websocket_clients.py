"""Real clients of WebSockets, by the package ``websockets``: they come again when they are sent away, and count."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.eventually import eventually_async
from tests.support.server import Server

PATIENCE_S = 20.0


async def dial(server: Server, path: str = "/echo", **options: Any) -> ClientConnection:
    """Return an open WebSocket; through no proxy."""
    return await connect(f"ws://{server.address}{path}", proxy=None, **options)


@dataclass
class Regulars:
    """Clients that send numbered messages, each until its echo has come, on one WebSocket after another."""

    server: Server
    acknowledged: Counter[int] = field(default_factory=Counter)
    """Messages for each client."""
    codes: Counter[int] = field(default_factory=Counter)
    """With which they were sent away."""
    pids: list[str] = field(default_factory=list)
    """Of the worker, for each connection, in their order."""
    refused: int = 0
    """Connections that did not come about: nobody listened, or it ended before it was answered."""
    wrong: list[str] = field(default_factory=list)
    """What came that is no echo."""

    async def one(self, number: int) -> None:
        """Be one client, until cancelled."""
        message = 0
        while True:
            try:
                async with await dial(self.server) as socket:
                    assert socket.response is not None
                    self.pids.append(socket.response.headers["x-pid"])
                    while True:
                        await socket.send(f"{number}:{message}")
                        answer = await socket.recv()
                        if answer != f"{number}:{message}":
                            self.wrong.append(str(answer))
                        self.acknowledged[number] += 1
                        message += 1
                        await asyncio.sleep(0.002)
            except ConnectionClosed as closed:
                self.codes[closed.rcvd.code if closed.rcvd else 1006] += 1
            except (OSError, EOFError, InvalidHandshake):
                self.refused += 1
                await asyncio.sleep(0.05)

    async def wait_more(self, count: int) -> None:
        """Wait until each has so many more acknowledged."""
        before = self.acknowledged.copy()
        await eventually_async(lambda: all(self.acknowledged[each] >= before[each] + count for each in before))


@asynccontextmanager
async def regulars(server: Server, count: int) -> AsyncIterator[Regulars]:
    """Have so many clients for the length of a block; all of them are served when it begins."""
    people = Regulars(server)
    people.acknowledged.update(dict.fromkeys(range(count), 0))
    tasks = [asyncio.ensure_future(people.one(number)) for number in range(count)]
    try:
        await people.wait_more(1)
        yield people
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
