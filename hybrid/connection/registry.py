"""The open connections of one worker, and the seams between a connection and what accepted it."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import Protocol

from hybrid.connection.farewell import Farewell
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell, Row

_logger = logging.getLogger("hybrid.error")
_ACTIVE = Cell.ACTIVE  # hot: connections; 250 instructions less each time than by its class (CPython 3.11)


class Served(Protocol):
    """An open connection of any kind, as the drain sees it. Every call is made in the worker's loop.

    ``start_draining`` may also come first thing after ``opened``: for what is taken while the worker drains already.
    """

    def start_draining(self) -> None:
        """The worker drains: finish what is open, start nothing new. Called once, in the connection's own turn."""
        ...

    def cancel(self) -> None:
        """The grace is over: cancel the handler, or close in an orderly way where there is no handler task."""
        ...

    def abort(self) -> None:
        """Close at once; what is still in the write buffer is lost."""
        ...


class Door(Protocol):
    """Through which a connection came: the acceptor's side of an open connection.

    Each call is made by the connection itself, once at most, and never raises; in the worker's loop, unless the door
    says that threads may use it.
    """

    def opened(self, connection: Served) -> None:
        """The connection is made; count it, and let the acceptor decide who takes the next one."""
        ...

    def closed(self, connection: Served) -> None:
        """The connection's transport is closed and its handler has ended."""
        ...

    def failed(self, connection: Served) -> None:
        """An exception in the handler cost this connection (already logged); comes before ``closed``."""
        ...


class Registry:
    """The open connections of one worker, and its counts.

    ``ACTIVE`` is stored at every change, because the other workers' acceptors look at it; the other cells wait
    for :meth:`flush`. Until :attr:`accepting` is set the slot says that it takes nothing.

    Runs in: worker, in its loop. Closes: nothing; connections leave by :meth:`remove`.
    """

    def __init__(self, row: Row) -> None:
        self.open: set[Served] = set()
        self.accepted = 0
        self.failed = 0
        """Connections lost to an exception in the handler, or in what makes its protocol."""
        self.pauses = 0
        self.limit = 0
        self.row = row
        self._cells = row.cells  # one call less than Row.__setitem__ on every connection
        self._not_accepting = NOT_ACCEPTING
        self._waiters: list[asyncio.Future[None]] = []
        self._publish()

    @property
    def active(self) -> int:
        """Connections open now."""
        return len(self.open)

    @property
    def closed(self) -> int:
        """Connections that came and went."""
        return self.accepted - len(self.open)

    @property
    def accepting(self) -> bool:
        """Whether the worker takes connections; while it does not, no other worker waits for it to take the next."""
        return not self._not_accepting

    @accepting.setter
    def accepting(self, value: bool) -> None:
        self._not_accepting = 0 if value else NOT_ACCEPTING
        self._publish()

    def add(self, connection: Served) -> int:
        """Count an opened connection; return how many are open."""
        self.open.add(connection)
        self.accepted += 1
        active = len(self.open)
        self._cells[_ACTIVE] = active | self._not_accepting
        return active

    def remove(self, connection: Served) -> None:
        """Count a closed connection. One that is not open changes nothing."""
        self.open.discard(connection)
        self._cells[_ACTIVE] = len(self.open) | self._not_accepting  # hot: connections; _publish() written out
        if self._waiters and not self.open:
            self._wake()

    def fail(self) -> None:
        """Count a connection that was lost to an exception."""
        self.failed += 1

    def start_draining(self, farewell: Farewell) -> None:
        """Tell every open connection that the worker drains, each in its turn. The farewell has begun."""
        for connection in tuple(self.open):
            farewell.in_turn(partial(self._tell, connection))

    def _tell(self, connection: Served) -> None:
        if connection in self.open:
            try:
                connection.start_draining()
            except Exception:
                _logger.exception("a connection could not be told that the worker drains")

    async def wait_empty(self) -> None:
        """Return as soon as no connection is open; at once if none is."""
        if not self.open:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def flush(self) -> None:
        """Write the counters into the scoreboard; a few times a second is enough."""
        row = self.row
        row[Cell.ACCEPTED] = self.accepted
        row[Cell.CLOSED] = self.closed
        row[Cell.HANDLER_ERRORS] = self.failed
        row[Cell.LIMIT] = self.limit
        row[Cell.PAUSES] = self.pauses

    def _publish(self) -> None:
        self._cells[_ACTIVE] = len(self.open) | self._not_accepting

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class ThreadRegistry(Registry):
    """The same for connections that come and go in threads of the worker.

    Runs in: worker, in any thread, but for what waits and flushes, which is the loop's.
    """

    def __init__(self, row: Row, loop: asyncio.AbstractEventLoop) -> None:
        self._lock = threading.Lock()
        self._loop = loop
        super().__init__(row)

    def add(self, connection: Served) -> int:
        """Count an opened connection; return how many are open."""
        with self._lock:  # hot: written out here and below, a call less for each
            self.open.add(connection)
            self.accepted += 1
            active = len(self.open)
            self._cells[_ACTIVE] = active | self._not_accepting
        return active

    def remove(self, connection: Served) -> None:
        """Count a closed connection. One that is not open changes nothing."""
        with self._lock:
            self.open.discard(connection)
            self._cells[_ACTIVE] = len(self.open) | self._not_accepting
            empty = bool(self._waiters) and not self.open
        if empty:
            self._loop.call_soon_threadsafe(self._wake)

    def fail(self) -> None:
        """Count a connection that was lost to an exception."""
        with self._lock:
            super().fail()

    async def wait_empty(self) -> None:
        """Return as soon as no connection is open; at once if none is."""
        waiter = self._loop.create_future()
        with self._lock:
            if not self.open:
                return
            self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _publish(self) -> None:
        with self._lock:
            super()._publish()
