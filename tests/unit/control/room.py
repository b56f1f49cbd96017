"""Control without a server: the parent is this test, at the other end of the channel."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hybrid.control.sampler import Sampler
from hybrid.control.server import LINE_BYTES, Server, peer_of
from hybrid.control.state import State
from hybrid.shared import messages
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.messages import Op, Record
from hybrid.shared.notices import Answered, Notice, PoolState, to_json
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings


class Parent:
    """The other end. Closes: everything, on :meth:`close`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.channel, theirs = messages.socketpair()
        theirs.setblocking(False)
        self.channel.setblocking(False)
        self.theirs = theirs
        self.scoreboard = Scoreboard.create(8, 0)
        log = LogWriter(2, Style.make("text", "never", 2), "critical", "control")
        self.state = State(settings or Settings(), self.scoreboard, theirs, log)

    def tell(self, notice: Notice, fd: int = -1) -> None:
        """Tell control something."""
        messages.send_bytes(self.channel, to_json(notice).encode(), (fd,) if fd >= 0 else ())

    async def hears(self) -> Record:
        """Wait for a wish."""
        loop = asyncio.get_running_loop()
        record = messages.unpack(await loop.sock_recv(self.channel, 65536))
        assert record is not None
        return record

    async def grants(self, text: str = "done", *, ok: bool = True, detail: str = "") -> Record:
        """Wait for a wish, and answer it."""
        record = await self.hears()
        self.tell(Answered(record.a, ok, text, detail))
        return record

    def leave(self) -> None:
        """End the channel."""
        self.channel.close()

    def close(self) -> None:
        """Leave nothing open."""
        self.channel.close()
        self.theirs.close()
        self.scoreboard.close()


@asynccontextmanager
async def parent(settings: Settings | None = None) -> AsyncIterator[Parent]:
    """Be the parent of a state that listens, for the length of a block."""
    found = Parent(settings)
    found.state.listen()
    found.tell(PoolState(phase="running", target=2))
    await found.state.is_known.wait()
    try:
        yield found
    finally:
        asyncio.get_running_loop().remove_reader(found.theirs.fileno())
        found.close()


class Client:
    """Somebody at the control socket. Closes: his connection, on :meth:`close`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, op: str, number: object = 1, **args: Any) -> None:
        """Ask."""
        self.writer.write(json.dumps({"id": number, "op": op, "args": args}).encode() + b"\n")

    async def hear(self) -> dict[str, Any] | None:
        """Return the next line; None: the end."""
        line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, op: str, number: object = 1, **args: Any) -> dict[str, Any]:
        """Ask, and return the answer."""
        self.send(op, number, **args)
        while (said := await self.hear()) is not None:
            if "ok" in said and said["id"] == number:
                return said
        raise AssertionError("no answer")

    def close(self) -> None:
        """Leave."""
        self.writer.close()


@asynccontextmanager
async def door(state: State, uid: int | None = None, idle_s: float | None = None) -> AsyncIterator[Door]:
    """Open a control socket for the length of a block. ``uid``: whom everybody seems to be."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # an abstract name that the kernel picks
    listener.listen()
    listener.setblocking(False)
    where = listener.getsockname()
    peer = peer_of if uid is None else lambda _sock: (1, uid)
    task = asyncio.create_task(Server(state, Sampler(state.scoreboard), peer).run(listener, idle_s))
    opened = Door(where, task)
    try:
        yield opened
    finally:
        for client in opened.clients:
            client.close()
        task.cancel()
        await asyncio.wait({task})


class Door:
    """Where clients come in."""

    def __init__(self, where: str, serving: asyncio.Task[None]) -> None:
        self.where = where
        self.serving = serving
        self.clients: list[Client] = []

    async def client(self) -> Client:
        """Return somebody who has connected."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.where)
        client = Client(*await asyncio.open_connection(sock=sock, limit=1 << 22))
        self.clients.append(client)
        return client


__all__ = ["LINE_BYTES", "Client", "Door", "Op", "Parent", "door", "parent"]
