"""``--accept reuseport``: a listening socket for each worker; the kernel spreads connections over the sockets.

The parent made the sockets and keeps them, so a queue outlives its worker. But a queue is its worker's alone, and the
kernel goes on filling it while the worker is parked, full, or gone. So the workers look after each other: who finds,
once a second or when the parent says that somebody left, a seat in which nobody accepts, accepts on its sockets too, in
the way of ``shared``, until somebody does again. Two workers in one seat, one of which takes over from the other,
accept on the same sockets.

Source: socket(7) SO_REUSEPORT; the kernel's choice is a hash of the connection's addresses.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable

from hybrid.connection.registry import Served
from hybrid.ground.errors import ListenError
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell
from hybrid.worker.acceptors.acceptor import Site, Stage
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.raw_accept import any_readable
from hybrid.worker.acceptors.shared import Shared

_logger = logging.getLogger("hybrid.error")


class Orphans:
    """Which seats' sockets nobody accepts on now. Runs in: worker. Raises: nothing."""

    def __init__(self, site: Site, intake: Intake) -> None:
        self._foreign = site.foreign
        self._scoreboard = intake.scoreboard

    def seats(self) -> frozenset[int]:
        """Return the seats in which nobody says that he accepts."""
        taken = {row[Cell.SEAT] for row in self._scoreboard.rows() if not row[Cell.ACTIVE] & NOT_ACCEPTING}
        return frozenset(self._foreign.keys() - taken)

    def sockets(self) -> frozenset[socket.socket]:
        """Return their sockets."""
        return frozenset(each for seat in self.seats() for each in self._foreign[seat])


class Reuseport:
    """Takes connections off the worker's own listeners, and off those that nobody else accepts on.

    Made of one :class:`~hybrid.worker.acceptors.shared.Shared` for each. See ``Acceptor`` for what each call promises.
    Runs in: worker, in its loop. Closes: its own listeners, on :meth:`leave`.
    """

    name = "reuseport"

    def __init__(self, site: Site, intake: Intake) -> None:
        self._site = site
        self._intake = intake
        self._orphans = Orphans(site, intake)
        self._own = [self._acceptor(listener, plain=True) for listener in site.listeners]
        self._adopted: dict[int, list[Shared]] = {}
        self._following: asyncio.Task[None] | None = None
        self._wanted: frozenset[int] = frozenset()
        self.closed, self.failed = intake.closed, intake.failed

    @property
    def mode(self) -> str:
        """``own``, as long as it serves no other seat's sockets."""
        return "own" if not self._adopted else f"own and {len(self._adopted)} more"

    @property
    def stage(self) -> Stage:
        """Where it is in its life."""
        return self._own[0].stage

    def opened(self, connection: Served) -> None:
        """Count a connection."""
        self._intake.opened(connection)

    async def start(self) -> None:
        """Begin to accept. Raises: ListenError: the loop does not take a listener."""
        for acceptor in self._own:
            await acceptor.start()

    def park(self, *, owes_nothing: bool = False) -> None:
        """Accept no more."""
        for acceptor in self._everywhere():
            acceptor.park(owes_nothing=owes_nothing)

    def unpark(self) -> None:
        """Accept again."""
        for acceptor in self._everywhere():
            acceptor.unpark()

    def beat(self) -> None:
        """Look after lost wake-ups, and after the sockets that nobody accepts on."""
        for acceptor in self._everywhere():
            acceptor.beat()
        if self.stage is Stage.ACCEPTING:
            self._want(self._orphans.seats())

    def waiting(self) -> bool:
        """Return whether a connection waits in a queue, of any seat."""
        sockets = [*self._site.listeners, *(each for some in self._site.foreign.values() for each in some)]
        return any_readable(sockets)

    def hurry(self) -> None:
        """Accept wherever nobody else will, now that everybody leaves."""
        self._want(frozenset(self._site.foreign))

    async def leave(self) -> None:
        """Stop for good. When it returns, every accepted connection has been opened."""
        for acceptor in self._own:
            await acceptor.leave()
        while self._adopted or self._following is not None:
            self._want(frozenset())
            if self._following is not None:
                await self._following
        for sockets in self._site.foreign.values():
            for each in sockets:
                each.close()  # or newcomers would go on being queued while we drain

    # ── other seats' sockets ──

    def _acceptor(self, listener: socket.socket, *, plain: bool) -> Shared:
        return Shared.for_loop(self.name, self._site.entrance(listener), self._intake, plain=plain)

    def _everywhere(self) -> Iterable[Shared]:
        return [*self._own, *(each for acceptors in self._adopted.values() for each in acceptors)]

    def _want(self, seats: frozenset[int]) -> None:
        self._wanted = seats
        if self._following is None and self._wanted != self._adopted.keys():
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        """Adopt what is wanted, leave what is not, until that is one."""
        try:
            while self._wanted != self._adopted.keys():
                for seat in self._adopted.keys() - self._wanted:
                    for acceptor in self._adopted.pop(seat):
                        await acceptor.leave()
                for seat in self._wanted - self._adopted.keys():
                    await self._adopt(seat)
        except (ListenError, OSError) as error:
            _logger.error("%s The next heartbeat tries again.", error)
        finally:
            self._following = None

    async def _adopt(self, seat: int) -> None:
        adopted = self._adopted[seat] = list[Shared]()
        for each in self._site.foreign[seat]:
            acceptor = self._acceptor(each.dup(), plain=False)
            await acceptor.start()
            adopted.append(acceptor)
            if self.stage is not Stage.ACCEPTING:
                acceptor.park()  # told to while this one was being opened
