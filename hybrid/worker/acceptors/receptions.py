"""Where an accepted socket goes when it is not the event loop that accepted it.

===========================  =================================================================
:class:`LoopReception`       into the loop: a protocol, as ``create_server`` would have made it
:class:`CrewReception`       to one of a fixed number of threads, when one is free
:class:`ThreadReception`     to a thread of its own
:class:`ForkReception`       to a process of its own (:mod:`hybrid.worker.acceptors.forking`)
===========================  =================================================================
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hybrid.handlers.threaded import BlockingConnection, BlockingEndpoint
from hybrid.worker.acceptors.acceptor import Factory
from hybrid.worker.acceptors.crew import Crew, serve
from hybrid.worker.acceptors.intake import Intake

_logger = logging.getLogger("hybrid.error")
AGAIN_S = 0.5
"""Until a thread or a process is tried for again, if none has ended before."""


def nothing() -> None:
    """Do nothing."""


class Reception(Protocol):
    """Takes accepted sockets. Runs in: worker, in its loop. Closes: every socket that it is given. Never raises."""

    description: str
    """Who serves them, for the boot line."""

    def take(self, sock: socket.socket, counted: Callable[[], None] = nothing) -> None:
        """Have the connection served, and call ``counted`` when it is counted, or lost: now or a few turns later."""
        ...

    async def settle(self) -> None:
        """Return when every connection that was taken has been counted."""
        ...

    def end(self) -> None:
        """Nothing more comes."""
        ...


class LoopReception:
    """Makes a transport and a protocol of each socket, in the running loop."""

    description = "in the loop"

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()

    def take(self, sock: socket.socket, counted: Callable[[], None] = nothing) -> None:
        """Begin to open it."""
        sock.setblocking(False)
        task: asyncio.Task[object] = self._loop.create_task(self._open(sock, counted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket, counted: Callable[[], None]) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, sock)
        except OSError as error:
            sock.close()  # it was reset before it was served: nobody is there to be told
            _logger.debug("a connection ended before it was served: %s", error)
        finally:
            counted()

    async def settle(self) -> None:
        """Return when every connection that was taken has been counted."""
        while self._opening:
            await asyncio.wait(self._opening)

    def end(self) -> None:
        """Do nothing."""


class CrewReception:
    """Gives each connection to the crew."""

    def __init__(self, endpoint: BlockingEndpoint, crew: Crew) -> None:
        self._endpoint = endpoint
        self._crew = crew
        self.description = crew.description
        crew.join()

    def take(self, sock: socket.socket, counted: Callable[[], None] = nothing) -> None:
        """Count it, and have a thread serve it when one is free."""
        sock.setblocking(True)
        connection = self._endpoint.connection(sock)
        self._endpoint.door.opened(connection)
        counted()
        self._crew.give(connection)

    async def settle(self) -> None:
        """Return at once: it is counted when it is taken."""

    def end(self) -> None:
        """Let the crew leave when it has served what it was given."""
        self._crew.end()


class ThreadReception:
    """Starts a thread for each connection: the traditional concurrent server.

    The bound is the worker's connection limit. Connections over it (at a stop, all that wait are taken), or for which
    the system has no thread left, wait here until one of the others has ended.
    """

    description = "one thread each"

    def __init__(self, endpoint: BlockingEndpoint, intake: Intake) -> None:
        self._endpoint = endpoint
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[BlockingConnection] = deque()

    def take(self, sock: socket.socket, counted: Callable[[], None] = nothing) -> None:
        """Count it, and start its thread."""
        sock.setblocking(True)
        connection = self._endpoint.connection(sock)
        self._endpoint.door.opened(connection)
        counted()
        self._waiting.append(connection)
        self._start()

    async def settle(self) -> None:
        """Return at once: it is counted when it is taken."""

    def end(self) -> None:
        """Do nothing: threads end with their connections."""

    def _start(self) -> None:
        registry = self._intake.registry
        while self._waiting and registry.active - len(self._waiting) < registry.limit:
            try:
                threading.Thread(target=self._serve, args=(self._waiting[0],), name="hybrid-one", daemon=True).start()
            except RuntimeError as error:
                self._intake.warn(
                    f"cannot start a thread: {error}; {len(self._waiting)} connections wait for one to end"
                )
                self._loop.call_later(AGAIN_S, self._start)
                return
            self._waiting.popleft()

    def _serve(self, connection: BlockingConnection) -> None:
        serve(connection)
        if self._waiting:
            try:
                self._loop.call_soon_threadsafe(self._start)
            except RuntimeError:
                pass  # the loop is closed: the worker leaves without them
