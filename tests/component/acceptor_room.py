"""One worker's acceptor in the test's own process: a listener, a scoreboard, a registry, and clients."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from hybrid.connection.registry import Door, Registry, ThreadRegistry
from hybrid.handlers.threaded import BlockingEndpoint, BlockingHandler
from hybrid.shared.models import MODELS
from hybrid.shared.scoreboard import Scoreboard
from hybrid.worker.acceptors import make_acceptors
from hybrid.worker.acceptors.acceptor import Acceptor, Factory, Site, Stage
from hybrid.worker.acceptors.intake import Intake
from tests.support.eventually import eventually, eventually_async

BACKLOG = 64
THREADS = 12
LOOPS = ("uvloop", "asyncio")
FAMILIES = ("v4", "v6", "unix")
ELSEWHERE = ("passing", "fork")
"""Models that need processes: a parent that passes, children that do not inherit the clients of this very process."""
PAIRS = [
    *((name, "loop") for name, model in MODELS.items() if model.loop and name not in ELSEWHERE),
    *((name, "threaded") for name, model in MODELS.items() if model.threaded and name not in ELSEWHERE),
]
"""Every other model, with each kind of handler that it serves. tests/process/test_models.py has all of them."""


class Echo(asyncio.Protocol):
    """A connection that sends back what it gets."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.door.opened(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.closed(self)

    def start_draining(self) -> None:
        self.transport.close()

    def cancel(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()


def echo_factory(door: Door) -> Factory:
    return lambda: Echo(door)


def blocking_echo(sock: socket.socket) -> None:
    """Send back what comes."""
    while data := sock.recv(65536):
        sock.sendall(data)


_rooms: list[Room] = []
"""Those not left yet: uvloop spins for ever when a loop is closed with a server on it and warnings are errors."""


class Room:
    """One worker's acceptor on one listener, in this process. ``outside`` is the parent's copy of the listener."""

    def __init__(self, family: str, directory: Path) -> None:
        _rooms.append(self)
        self.scoreboard = Scoreboard.create(4, 0)
        self.scoreboard.make_mutex()
        self.row = self.scoreboard.use_slot(0)
        self.path = directory / "s"
        self.outside = listen(family, self.path)
        self._stack = ExitStack()
        self._stack.callback(self.outside.close)
        self.registry = Registry(self.row)
        self.intake = Intake(self.registry, self.scoreboard, 1)

    def furnish(
        self,
        name: str = "shared",
        limit: int = 1000,
        factory_for: Callable[[Door], Factory] = echo_factory,
        handler: BlockingHandler | None = None,
    ) -> None:
        """Make the intake and its acceptor. ``handler``: a blocking one, instead of the factory."""
        self.registry = ThreadRegistry(self.row, asyncio.get_running_loop()) if handler else Registry(self.row)
        self.intake = Intake(self.registry, self.scoreboard, limit)
        self.accept_on(self.outside.dup(), name, factory_for, handler)

    def furnish_pair(self, name: str, kind: str) -> None:
        """Make an acceptor of this name that echoes, in the loop or blocking."""
        self.furnish(name, handler=blocking_echo if kind == "threaded" else None)

    def accept_on(
        self,
        listener: socket.socket,
        name: str = "shared",
        factory_for: Callable[[Door], Factory] = echo_factory,
        handler: BlockingHandler | None = None,
    ) -> None:
        """Accept on one more listener."""

        def endpoint_for(door: Door) -> BlockingEndpoint:
            assert handler is not None
            return BlockingEndpoint(handler, "echo", door)

        site = Site(
            (listener,),
            BACKLOG,
            factory_for=None if handler else factory_for,
            endpoint_for=endpoint_for if handler else None,
            threads=THREADS,
        )
        make_acceptors(name, site, self.intake)

    @property
    def acceptor(self) -> Acceptor:
        """The first one."""
        return self.intake.acceptors[0]

    @property
    def stage(self) -> Stage:
        """Where the acceptor is in its life."""
        stage: Stage = self.acceptor.stage  # type: ignore[attr-defined]  # every one has it; nobody but tests asks
        return stage

    async def away(self) -> None:
        """Return when the acceptor has stopped accepting."""
        await eventually_async(lambda: self.stage is Stage.AWAY)

    def connect(self) -> socket.socket:
        """Return a connected client; the kernel alone makes the connection, so the loop need not run."""
        client = socket.socket(self.outside.family)
        self._stack.callback(client.close)
        client.settimeout(20)
        client.connect(self.outside.getsockname())
        client.setblocking(False)
        return client

    def waiting(self) -> bool:
        """Return whether a connection is in the kernel's queue."""
        poll = select.poll()
        poll.register(self.outside, select.POLLIN)
        return bool(poll.poll(0))

    async def served(self, client: socket.socket) -> bool:
        """Return whether the client gets its bytes back."""
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        await loop.sock_sendall(client, b"hello")
        return await asyncio.wait_for(loop.sock_recv(client, 5), 20) == b"hello"

    async def holds(self, count: int) -> None:
        """Return when the worker holds ``count`` connections."""
        await eventually_async(lambda: self.registry.active == count)

    async def leave(self) -> None:
        """Stop, and cut what is open."""
        _rooms.remove(self)
        await self.intake.leave()
        for connection in tuple(self.registry.open):
            connection.abort()
        await self.registry.wait_empty()
        self._stack.close()


def listen(family: str, path: Path) -> socket.socket:
    if family == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
    elif family == "v6":
        listener = socket.socket(socket.AF_INET6)
        listener.bind(("::1", 0))
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    return listener


def run(loop: asyncio.AbstractEventLoop, main: Awaitable[None]) -> None:
    """Run ``main`` on ``loop`` and close it, and every room that a failure left open."""
    try:
        loop.run_until_complete(main)
    finally:
        while _rooms:
            loop.run_until_complete(_rooms[-1].leave())
        loop.run_until_complete(asyncio.sleep(0))  # what closes needs a turn
        loop.close()


class Thief:
    """A worker that is woken for a connection and dies: a thread that waits exclusively and accepts nothing."""

    def __init__(self, listener: socket.socket) -> None:
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._thread = threading.Thread(target=self._epoll.poll)
        self._thread.start()

    def __enter__(self) -> Thief:
        state = Path(f"/proc/self/task/{self._thread.native_id}/stat")
        eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "S")
        return self

    def join(self) -> None:
        self._thread.join()

    def __exit__(self, *exc: object) -> None:
        self._epoll.close()
