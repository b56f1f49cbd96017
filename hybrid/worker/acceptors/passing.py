"""``--accept passing``: the parent accepts, and passes the descriptors to the worker with the fewest connections.

The worker has no listener, only its end of a pass channel: each message there brings connections. It says back when it
takes some (``+``) and when it does not (``-``). What it has not read yet the parent reads back, since it holds this end
of the channel too: so nothing is lost with a worker, nobody waits behind one that is stuck, and a worker that takes no
more may simply stop reading.

Source: UNP ch. 30, "TCP Preforked Server, Descriptor Passing"; unix(7) SCM_RIGHTS; recvmsg(2) MSG_CMSG_CLOEXEC.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

from hybrid.connection.registry import Served
from hybrid.shared import messages
from hybrid.shared.machine import advance
from hybrid.shared.scoreboard import Cell
from hybrid.worker.acceptors import descriptors
from hybrid.worker.acceptors.acceptor import STAGES, Stage, StageEvent
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.receptions import Reception
from hybrid.worker.acceptors.thread_door import ThreadDoor

TAKES, TAKES_NONE = b"+", b"-"
_AT_ONCE = 4
"""Messages read in one turn of the loop: then others have theirs."""


class Passing:
    """Takes connections off the pass channel. See ``Acceptor`` for what each call promises.

    Runs in: worker, in its loop. Closes: its end of the channel, on :meth:`leave`.
    """

    name = "passing"

    def __init__(
        self, channel: socket.socket, intake: Intake, make_reception: Callable[[Passing, ThreadDoor], Reception]
    ) -> None:
        self.stage = Stage.NEW
        self.closed, self.failed = intake.closed, intake.failed
        self._channel = channel
        self._intake = intake
        self._row = intake.registry.row
        self._taken = 0
        self._received = 0
        """Of those taken, how many are counted: the loop opens a connection a few turns after it was taken."""
        self._loop = asyncio.get_running_loop()
        self._reception = make_reception(self, ThreadDoor(intake, self.opened))
        self._queue = select.poll()
        self._queue.register(channel.fileno(), select.POLLIN)

    @property
    def mode(self) -> str:
        """Who serves what the parent passes."""
        return self._reception.description

    def opened(self, connection: Served) -> None:
        """Count a connection."""
        self._intake.opened(connection)

    async def start(self) -> None:
        """Begin to accept. Raises: nothing: the channel is there."""
        self._channel.setblocking(False)
        self._loop.add_reader(self._channel.fileno(), self._on_readable)
        self._advance(StageEvent.START)
        self._say(TAKES)

    def park(self, *, owes_nothing: bool = False) -> None:
        """Read no more, and say so: the parent takes back what is in the channel."""
        if self.stage is Stage.ACCEPTING:
            self._advance(StageEvent.PARK)
            self._loop.remove_reader(self._channel.fileno())
            self._say(TAKES_NONE)
            self._advance(StageEvent.SETTLED)

    def unpark(self) -> None:
        """Read, and ask for more."""
        if self.stage is Stage.AWAY:
            self._advance(StageEvent.UNPARK)
            self._loop.add_reader(self._channel.fileno(), self._on_readable)
            self._say(TAKES)

    def beat(self) -> None:
        """Do nothing: the channel forgets no wake-up."""

    def waiting(self) -> bool:
        """Return whether something is in the channel."""
        return bool(self._queue.poll(0))

    def hurry(self) -> None:
        """Take what is in the channel: there is nobody else for it."""
        while descriptors.fit(messages.MAX_DESCRIPTORS) and self._take():
            pass

    async def leave(self) -> None:
        """Stop for good. When it returns, every connection that was taken has been counted."""
        if self.stage is Stage.GONE:
            return
        self.park()
        self._advance(StageEvent.LEAVE)
        await self._reception.settle()
        self._reception.end()
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()

    def _on_readable(self) -> None:
        registry = self._intake.registry
        for _ in range(_AT_ONCE):
            if not descriptors.fit(messages.MAX_DESCRIPTORS):
                self._intake.exhausted()  # the kernel closes what it has no number for
            is_full = registry.active + self._taken - self._received >= registry.limit
            if is_full or self.stage is not Stage.ACCEPTING or not self._take():
                return

    def _take(self) -> bool:
        """Take one message; return whether there was one."""
        try:
            data, fds = messages.receive_bytes(self._channel, 16)
        except OSError:  # empty, or out of descriptors: then the kernel has closed what it had no number for
            return False
        self._taken += len(fds)
        for fd in fds:
            self._reception.take(socket.socket(fileno=fd), self._count)
        if not data:
            self._loop.remove_reader(self._channel.fileno())  # the parent is gone; the life pipe says so
        return bool(data)

    def _count(self) -> None:
        """Tell the parent that one is not on its way any more: it is in ``ACTIVE`` now, so its load stays right."""
        self._received += 1
        self._row[Cell.RECEIVED] = self._received

    def _say(self, word: bytes) -> None:
        try:
            messages.send_bytes(self._channel, word)
        except BlockingIOError:
            # The parent is behind. It must not be left with an old word: one that believes "none" sends nothing, and
            # then nothing would make us speak again.
            self._loop.add_writer(self._channel.fileno(), self._say_where_we_are)
        except OSError:
            pass  # the parent is gone; the life pipe says so

    def _say_where_we_are(self) -> None:
        self._loop.remove_writer(self._channel.fileno())
        self._say(TAKES if self.stage is Stage.ACCEPTING else TAKES_NONE)

    def _advance(self, event: StageEvent) -> None:
        self.stage = advance(STAGES, self.stage, event)
