"""What the parent itself does about connections, which depends on ``--accept``. For most ways of accepting: nothing.

==============  =====================================================================================================
``Porter``      workers inherit the listening sockets and accept; the parent keeps its copies, so that no queue is
                lost with a worker
``PerSlot``     ``reuseport``: the same, with one socket for each seat
``Passing``     the parent accepts, and passes each connection on: :mod:`hybrid.parent.passing`
==============  =====================================================================================================
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

from hybrid.ground.errors import HybridError
from hybrid.parent.handover import HeldQueues
from hybrid.shared.listeners import Listener, another_listener
from hybrid.shared.log_line import LogWriter
from hybrid.shared.scoreboard import Scoreboard


class Premises(Protocol):
    """What a porter needs of the :class:`~hybrid.parent.house.House`."""

    log: LogWriter
    listeners: list[Listener]
    scoreboard: Scoreboard

    def close_listeners(self) -> None:
        """Close them, and remove their socket files."""


class Porter:
    """The parent's part in accepting.

    Runs in: parent; nothing here waits. Closes: the listening sockets, on :meth:`stop_listening`.
    """

    def __init__(self, house: Premises) -> None:
        self._house = house

    # ── before a worker is there ──

    def for_new_mold(self) -> list[socket.socket]:
        """Return the listening sockets that a mold gets as soon as it is started."""
        return [listener.socket for listener in self._house.listeners]

    def before_spawn(self, workers: int) -> list[socket.socket]:
        """Make ready for ``workers``; return the listening sockets that the mold has not been given yet.

        Raises: HybridError: that cannot be; nobody is spawned then.
        """
        return []

    def ends_for(self, slot: int) -> tuple[int, ...]:
        """Return the descriptors that the worker of ``slot`` is to have besides its channel. Raises: OSError."""
        return ()

    # ── while there are workers ──

    def adopted(self, slot: int) -> None:
        """Take note that the worker in ``slot`` exists."""

    def gone(self, slot: int) -> None:
        """Take note that it is gone, or never came to be; nobody has been asked for in its place. May come twice."""

    def queues(self) -> list[socket.socket]:
        """Return the listening sockets in whose queues newcomers wait."""
        return [listener.socket for listener in self._house.listeners]

    def on_the_way(self) -> int:
        """Return how many connections wait for a worker behind those queues: accepted, and taken by none yet."""
        return 0

    @property
    def deadline(self) -> float | None:
        """When :meth:`time_passed` is due. Monotonic seconds."""
        return None

    def time_passed(self) -> None:
        """Do what was due at :attr:`deadline`."""

    # ── from one program to the next ──

    def held(self) -> HeldQueues:
        """Return what a successor has to take over."""
        return HeldQueues()

    def take_over(self, held: HeldQueues) -> None:
        """Go on with what the program before us held. Before :meth:`adopted`; :meth:`time_passed` comes after it."""

    # ── at the end ──

    def stop_listening(self) -> None:
        """Close the listening sockets: who comes from now on is refused, once the workers have left, too."""
        self._house.close_listeners()

    def close(self) -> None:
        """Close what is left. Nobody takes any more: every child is gone."""


class PerSlot(Porter):
    """One listening socket for each seat and address, all of them kept: a worker's death loses no queue.

    The house has those of seat 0. Closes: the others, on :meth:`stop_listening`.
    """

    def __init__(self, house: Premises, backlog: int) -> None:
        super().__init__(house)
        self._backlog = backlog
        self._more: list[socket.socket] = []
        """Of seat 1, all addresses in order; then of seat 2 …"""
        self._is_complete = False

    def for_new_mold(self) -> list[socket.socket]:
        """Return all that are open: a mold that replaces another forks for every seat."""
        return [*super().for_new_mold(), *self._more]

    def before_spawn(self, workers: int) -> list[socket.socket]:
        """Open the sockets of all seats, as soon as their number is known, before any of them has a worker."""
        if self._is_complete:
            return []  # a worker that was added later shares a queue: the others do not know a new one
        opened: list[socket.socket] = []
        try:
            for _seat in range(1, workers):
                for first in self._house.listeners:
                    opened.append(another_listener(first, self._backlog))
        except HybridError:
            _close(opened)
            raise
        self._more, self._is_complete = opened, True
        return opened

    def queues(self) -> list[socket.socket]:
        """Return those of all seats."""
        return [*super().queues(), *self._more]

    def held(self) -> HeldQueues:
        """Return the sockets of the seats after the first."""
        return HeldQueues(more=tuple(each.fileno() for each in self._more), is_complete=self._is_complete)

    def take_over(self, held: HeldQueues) -> None:
        """Take them over."""
        self._more = [socket.socket(fileno=fd) for fd in held.more]
        self._is_complete = held.is_complete

    def stop_listening(self) -> None:
        """Close all of them."""
        super().stop_listening()
        _close(self._more)


def _close(opened: Sequence[socket.socket]) -> None:
    for each in opened:
        each.close()
