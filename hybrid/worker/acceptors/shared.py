"""``--accept shared``: all workers wait on one listening socket; no lock around accept.

The kernel wakes one worker per connection (see :mod:`hybrid.worker.acceptors.exclusive`). After taking one, a
worker goes to the tail of the queue of waiters unless it holds the fewest connections: so connections that stay
are spread evenly, and a worker that was just replaced is filled first. Of a burst, which wakes nobody because nobody
sleeps, it leaves the others their part (:mod:`hybrid.worker.acceptors.courtesy`).

Where the loop's epoll cannot be reached, or with ``shared=plain``, it is the plain shared socket: everybody is
woken, somebody is first.

The models in which the main thread accepts for others (``threads=main``, ``thread``, ``fork``) wait in the same way;
only what becomes of the accepted socket differs (:mod:`hybrid.worker.acceptors.receptions`).

Source: W. R. Stevens, UNIX Network Programming, vol. 1, ch. 30, "TCP Preforked Server, No Locking Around accept".
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

from hybrid.connection.registry import Served
from hybrid.shared.machine import advance
from hybrid.worker.acceptors.acceptor import STAGES, Entrance, Stage, StageEvent
from hybrid.worker.acceptors.courtesy import PAUSE_S, Courtesy
from hybrid.worker.acceptors.exclusive import EXCLUSIVE, IN, PLAIN, Seat, loop_epoll
from hybrid.worker.acceptors.guard import guarded
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.loop_server import LoopServer
from hybrid.worker.acceptors.raw_server import RawServer
from hybrid.worker.acceptors.receptions import Reception
from hybrid.worker.acceptors.reopening import Reopening
from hybrid.worker.acceptors.thread_door import ThreadDoor


def should_rotate(mine: int, least: int) -> bool:
    """Return whether a worker with ``mine`` connections leaves the next one to others; ``least``: the fewest of all."""
    return mine > least


class Shared:
    """Takes connections off a listener that every worker accepts on. See ``Acceptor`` for what each call promises.

    Runs in: worker, in its loop. Closes: its copy of the listener, on :meth:`leave`.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        intake: Intake,
        make_server: Callable[[Shared], LoopServer | RawServer],
        *,
        plain: bool = False,
    ) -> None:
        """``make_server``: makes what accepts, given the door of its connections. ``plain``: no exclusive wake-up."""
        self.name = name
        self.closed = intake.closed  # hot: bound here, one call less per connection
        self.failed = intake.failed
        self.stage = Stage.NEW
        self._listener = listener
        self._intake = intake
        self._plain = plain
        self._server = make_server(self)
        self._seat: Seat | Reopening | None = None
        self._rotating: Seat | None = None  # the seat, if it is an exclusive one
        self._courtesy = Courtesy(intake.registry)
        self._pause: asyncio.TimerHandle | None = None
        """Runs while another worker is to take what waits."""
        self._queue = select.poll()
        self._queue.register(listener.fileno(), select.POLLIN)

    @classmethod
    def for_loop(cls, name: str, entrance: Entrance, intake: Intake, *, plain: bool = False) -> Shared:
        """Return one whose connections the loop serves: ``create_server`` accepts them."""

        def make_server(door: Shared) -> LoopServer:
            return LoopServer(entrance, guarded(entrance.factory_for(door), intake.registry), intake)

        return cls(name, entrance.listener, intake, make_server, plain=plain)

    @classmethod
    def for_reception(
        cls, name: str, listener: socket.socket, intake: Intake, make_reception: Callable[[ThreadDoor], Reception]
    ) -> Shared:
        """Return one whose accepted sockets go to a reception, which reports to the given door."""

        def make_server(door: Shared) -> RawServer:
            return RawServer(listener, make_reception(ThreadDoor(intake, door.opened)), intake)

        return cls(name, listener, intake, make_server)

    @property
    def mode(self) -> str:
        """``exclusive``: one worker is woken per connection. ``plain``: everybody who sleeps."""
        wake = "plain" if self._rotating is None else "exclusive"
        return f"{wake}, {self._server.description}" if isinstance(self._server, RawServer) else wake

    def opened(self, connection: Served) -> None:
        """Count the connection and let another worker take the next one, unless this one holds the fewest."""
        active = self._intake.opened(connection)
        seat = self._rotating
        if seat is None or seat.place is not IN:
            return  # nothing to go away from: it was the last that fits, or we look away already
        if should_rotate(active, least := self._intake.fewest()):
            if self._courtesy.waits(active, least):
                seat.exit()
                self._pause = asyncio.get_running_loop().call_later(PAUSE_S, self._end_pause)
            else:
                seat.rotate()

    async def start(self) -> None:
        """Begin to accept. Raises: ListenError: the loop does not take the listener."""
        self._seat = await self._sit(await self._server.open())
        self._advance(StageEvent.START)

    def park(self, *, owes_nothing: bool = False) -> None:
        """Accept no more, but for a connection that this worker alone was woken for."""
        if self.stage is not Stage.ACCEPTING:
            return
        self._end_pause()
        self._advance(StageEvent.PARK)
        if owes_nothing or not self.waiting():
            self._settle()
        else:
            # What this turn was woken for is accepted before the next turn's callbacks run.
            asyncio.get_running_loop().call_soon(self._settle)

    def unpark(self) -> None:
        """Accept again, beginning with what waits in the queue."""
        if self.stage in (Stage.LEAVING, Stage.AWAY):
            self._advance(StageEvent.UNPARK)
            if self._seat is not None:
                self._seat.enter()

    def beat(self) -> None:
        """Heal a wake-up that was lost with a worker that died between wake-up and accept."""
        if self._seat is None:
            return
        if self.stage is Stage.ACCEPTING:
            self._seat.renew()
        elif self.stage is Stage.AWAY:
            self._seat.exit()

    def waiting(self) -> bool:
        """Return whether a connection waits in the queue."""
        return bool(self._queue.poll(0))

    def hurry(self) -> None:
        """Take what waits, at once where that is in our hands."""
        if isinstance(self._server, RawServer):
            self._server.take_all()

    async def leave(self) -> None:
        """Stop for good. When it returns, every accepted connection has been opened."""
        if self.stage is Stage.GONE:
            return
        self.park()
        await asyncio.sleep(0)  # a park that had to wait is settled now
        self._advance(StageEvent.LEAVE)
        if self._seat is not None:
            await self._seat.close()
            self._seat = self._rotating = None
        await self._server.close()
        if isinstance(self._server, RawServer):
            self._server.end()
        self._listener.close()

    async def _sit(self, fd: int) -> Seat | Reopening:
        """Take a seat in the loop's epoll; where that is impossible, say so and share the plain socket."""
        epoll = loop_epoll(asyncio.get_running_loop())
        if epoll is not None:
            seat = Seat(epoll, fd, PLAIN if self._plain else EXCLUSIVE)
            if await seat.take():
                if seat.is_exclusive:
                    self._rotating = seat
                elif not self._plain:
                    self._announce_plain("the kernel knows no exclusive wake-up")
                return seat
            epoll.close()
        if not self._plain:
            self._announce_plain("the event loop's epoll cannot be reached")
        return Reopening(self._server)

    def _announce_plain(self, reason: str) -> None:
        self._intake.warn(
            f"accepting on the plain shared socket: {reason}, so connections may be spread unevenly. "
            "Use --loop uvloop or asyncio, or say --accept shared=plain."
        )

    def _end_pause(self) -> None:
        """Look again, if we looked away."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            if self._rotating is not None:
                self._rotating.enter()

    def _settle(self) -> None:
        """Go away, unless somebody changed their mind."""
        if self.stage is Stage.LEAVING:
            self._advance(StageEvent.SETTLED)
            if self._seat is not None:
                self._seat.exit()

    def _advance(self, event: StageEvent) -> None:
        self.stage = advance(STAGES, self.stage, event)
