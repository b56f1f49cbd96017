"""Threads that accept for themselves: prethreaded, with or without a lock, and the locked models.

``--accept threads``, ``threads=mutex``, ``locked=…`` and ``reuseport`` with a blocking handler: each of T threads
takes a connection and serves it, then takes the next. ``locked=…`` with a handler that runs in the loop: one thread
waits for the lock and for a connection, and hands it to the loop; it takes the next one when that is open.

One acceptor for all listeners of the worker: a thread waits on all of them at once.

Source: UNP ch. 30, "TCP Prethreaded Server, per-Thread accept"; "TCP Preforked Server, File Locking Around accept".
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

from hybrid.connection.registry import Served
from hybrid.handlers.threaded import BlockingConnection
from hybrid.shared.machine import advance
from hybrid.worker.acceptors.acceptor import STAGES, Site, Stage, StageEvent
from hybrid.worker.acceptors.crew import Crew, Job
from hybrid.worker.acceptors.guard import guarded
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.raw_accept import RawListener, any_readable
from hybrid.worker.acceptors.receptions import LoopReception
from hybrid.worker.acceptors.thread_door import ThreadDoor
from hybrid.worker.acceptors.turns import Turn

Orphans = Callable[[], frozenset[socket.socket]]
"""Listeners of other slots that nobody accepts on now, which this worker is to serve as well."""


class AcceptThreads:
    """Takes connections off all listeners of the worker, in threads. See ``Acceptor`` for what each call promises.

    Runs in: worker, in its loop; its crew in threads. Closes: the listeners, on :meth:`leave`.
    """

    def __init__(
        self, name: str, site: Site, intake: Intake, turn: Turn | None, orphans: Orphans | None = None
    ) -> None:
        self.name = name
        self.stage = Stage.NEW
        self._listeners = site.listeners
        self._foreign = [each for sockets in site.foreign.values() for each in sockets]
        self._intake = intake
        self._orphans = orphans
        self._adopted: frozenset[socket.socket] = frozenset()
        self._settling: asyncio.Task[None] | None = None
        self._reception: LoopReception | None = None
        threads = 1
        if site.endpoint_for is not None:
            threads = site.threads
            self._endpoint = site.endpoint(ThreadDoor(intake))
            admit: Callable[[socket.socket], Job | None] = self._admit
        else:
            assert site.factory_for is not None
            self._reception = LoopReception(guarded(site.factory_for(self), intake.registry))
            admit = self._hand_over
        self._loop = asyncio.get_running_loop()
        self._crew = Crew(threads, turn, admit, intake.exhausted)
        self.closed, self.failed = intake.closed, intake.failed
        """Of the door that connections in the loop report to; those in threads have one of their own."""

    @property
    def mode(self) -> str:
        """How many threads there are."""
        return self._crew.description

    def opened(self, connection: Served) -> None:
        """Count a connection in the loop."""
        self._intake.opened(connection)

    async def start(self) -> None:
        """Begin to accept. Raises: RuntimeError: the system has no thread for us."""
        for listener in self._listeners:
            listener.setblocking(False)
            self._crew.watch(listener)
        self._crew.start()
        self._crew.open()
        self._advance(StageEvent.START)

    def park(self, *, owes_nothing: bool = False) -> None:
        """Accept no more, but for what a thread was woken for."""
        if self.stage is not Stage.ACCEPTING:
            return
        self._advance(StageEvent.PARK)
        self._crew.shut()
        self._settling = self._loop.create_task(self._settle())

    def unpark(self) -> None:
        """Accept again, beginning with what waits in the queue."""
        if self.stage in (Stage.LEAVING, Stage.AWAY):
            self._advance(StageEvent.UNPARK)
            self._crew.open()

    def beat(self) -> None:
        """Heal a lost wake-up; look after the queues that nobody accepts on."""
        if self.stage is not Stage.ACCEPTING:
            return
        if self._orphans is not None:
            self._adopt(self._orphans())
        if self.waiting():
            self._crew.renew()

    def waiting(self) -> bool:
        """Return whether a connection waits in a queue."""
        return any_readable(self._queues())

    def hurry(self) -> None:
        """Take what waits, in the loop, without anybody's turn; threads serve it as they become free."""
        for listener in self._queues():
            raw = RawListener(listener)
            while (sock := raw.accept_or(self._intake.exhausted)) is not None:
                if self._reception is not None:
                    self._reception.take(sock)
                else:
                    self._crew.give(self._admit(sock))

    async def leave(self) -> None:
        """Stop for good. When it returns, every accepted connection has been counted."""
        if self.stage is Stage.GONE:
            return
        self.park()
        if self._settling is not None:
            await self._settling
        self._advance(StageEvent.LEAVE)  # two callers may stop the same worker: a second time changes nothing
        self._crew.end()
        if self._reception is not None:
            await self._reception.settle()
        for listener in (*self._listeners, *self._foreign):
            listener.close()  # foreign ones too, or newcomers would go on being queued while we drain

    # ── connections ──

    def _admit(self, sock: socket.socket) -> BlockingConnection:
        """Count a connection that this thread serves next. Runs in: a thread of the crew, or the loop."""
        connection = self._endpoint.connection(sock)
        self._endpoint.door.opened(connection)
        return connection

    def _hand_over(self, sock: socket.socket) -> None:
        """Have the loop open a connection, and wait until it has. Runs in: the thread of the crew."""
        assert self._reception is not None
        is_open = threading.Event()
        self._loop.call_soon_threadsafe(self._reception.take, sock, is_open.set)
        is_open.wait()

    def _queues(self) -> set[socket.socket]:
        orphans = self._orphans() if self._orphans is not None else ()
        return {*self._listeners, *self._adopted, *orphans}

    # ── stages ──

    def _adopt(self, orphans: frozenset[socket.socket]) -> None:
        for listener in self._adopted - orphans:
            self._crew.unwatch(listener)
        for listener in orphans - self._adopted:
            listener.setblocking(False)
            self._crew.watch(listener)
        self._adopted = orphans

    async def _settle(self) -> None:
        await self._crew.settled()
        if self.stage is Stage.LEAVING:
            self._advance(StageEvent.SETTLED)

    def _advance(self, event: StageEvent) -> None:
        self.stage = advance(STAGES, self.stage, event)
