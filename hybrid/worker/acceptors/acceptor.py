"""What every way of accepting offers, and what it is given.

One acceptor takes connections off one listener, in one worker. ``Intake`` holds all acceptors of a worker and
tells them when to pause.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from hybrid.connection.registry import Door
from hybrid.handlers.threaded import BlockingEndpoint

Factory = Callable[[], asyncio.BaseProtocol]
"""Makes the protocol of one connection."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A listener, and what serves the connections that come in by it.

    ``listener``: this process's copy, already listening; the acceptor closes it. ``backlog``: what it listens
    with: asyncio and libuv call listen(2) again, and whatever number they give then counts for every worker.
    ``factory_for``: makes the protocol factory of this listener; its connections report to the given door.
    """

    listener: socket.socket
    backlog: int
    factory_for: Callable[[Door], Factory]


@dataclass(frozen=True, slots=True)
class Site:
    """What a worker accepts on, and what serves the connections: one of the two kinds.

    ``listeners``: this worker's, or its pass channel (``passing``). ``foreign``: with ``reuseport``, those of the
    other slots, by slot. ``factory_for``: as for an :class:`Entrance`; None for a blocking handler, for which
    ``endpoint_for`` makes the endpoint that reports to the given door. ``threads``: how many serve blocking handlers.
    """

    listeners: tuple[socket.socket, ...]
    backlog: int
    factory_for: Callable[[Door], Factory] | None = None
    endpoint_for: Callable[[Door], BlockingEndpoint] | None = None
    threads: int = 1
    foreign: dict[int, tuple[socket.socket, ...]] = field(default_factory=dict)

    def entrance(self, listener: socket.socket) -> Entrance:
        """Return one listener, with what serves it in the loop."""
        assert self.factory_for is not None, "this handler is no loop's"
        return Entrance(listener, self.backlog, self.factory_for)

    def endpoint(self, door: Door) -> BlockingEndpoint:
        """Return what serves blocking connections that report to ``door``."""
        assert self.endpoint_for is not None, "this handler does not block"
        return self.endpoint_for(door)


class Stage(Enum):
    """Where an acceptor is in its life."""

    NEW = "new"
    """Made; the listener is untouched."""
    ACCEPTING = "accepting"
    """Takes connections."""
    LEAVING = "leaving"
    """Told to stop while a connection waited: takes that one first, so that no wake-up is dropped."""
    AWAY = "away"
    """Takes nothing; what comes in waits in the queue for other workers."""
    GONE = "gone"
    """Stopped for good; the listener's copy is closed."""


class StageEvent(Enum):
    """What moves an acceptor from one :class:`Stage` to the next."""

    START = "start"
    PARK = "park"
    SETTLED = "settled"
    """No connection waits that this worker was woken for."""
    UNPARK = "unpark"
    LEAVE = "leave"


STAGES: dict[tuple[Stage, StageEvent], Stage] = {
    (Stage.NEW, StageEvent.START): Stage.ACCEPTING,
    (Stage.NEW, StageEvent.LEAVE): Stage.GONE,
    (Stage.ACCEPTING, StageEvent.PARK): Stage.LEAVING,
    (Stage.LEAVING, StageEvent.PARK): Stage.LEAVING,
    (Stage.LEAVING, StageEvent.UNPARK): Stage.ACCEPTING,
    (Stage.LEAVING, StageEvent.SETTLED): Stage.AWAY,
    (Stage.AWAY, StageEvent.PARK): Stage.AWAY,
    (Stage.AWAY, StageEvent.UNPARK): Stage.ACCEPTING,
    (Stage.ACCEPTING, StageEvent.UNPARK): Stage.ACCEPTING,
    (Stage.AWAY, StageEvent.LEAVE): Stage.GONE,
    (Stage.GONE, StageEvent.LEAVE): Stage.GONE,  # two callers stop the same worker
}


class Acceptor(Door, Protocol):
    """Takes connections off the worker's listeners, or one of them.

    Runs in: worker, in its loop. Closes: its copy of the listener, on :meth:`leave`. None but :meth:`start` raises.
    """

    @property
    def name(self) -> str:
        """The name that ``--accept`` knows it by."""
        ...

    @property
    def mode(self) -> str:
        """How it accepts here, which may be less than its name promises: ``exclusive``, ``plain``."""
        ...

    async def start(self) -> None:
        """Begin to accept. Raises: ListenError: the loop does not take the listener."""
        ...

    def park(self, *, owes_nothing: bool = False) -> None:
        """Accept no more, but for a connection that this worker alone was woken for.

        ``owes_nothing``: the caller knows that there is none, because it runs in a connection's opening.
        """
        ...

    def unpark(self) -> None:
        """Accept again, beginning with what waits in the queue."""
        ...

    def beat(self) -> None:
        """Once a second: look whether something waits that nobody was woken for."""
        ...

    def waiting(self) -> bool:
        """Return whether a connection waits in the queue."""
        ...

    def hurry(self) -> None:
        """Take what waits in the queue as fast as possible: nobody else will, and soon it is closed."""
        ...

    async def leave(self) -> None:
        """Stop for good. When it returns, every accepted connection has been opened."""
        ...
