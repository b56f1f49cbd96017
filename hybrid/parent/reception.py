"""What the parent itself does about connections, which depends on ``--accept``. For most ways of accepting: nothing.

==============  =====================================================================================================
``Reception``   workers inherit the listening sockets and accept; the parent keeps its copies, so that no queue is
                lost with a worker
``PerSlot``     ``reuseport``: the same, with one socket for each slot
``Passing``     the parent accepts, and passes each connection on: :mod:`hybrid.parent.passing`
==============  =====================================================================================================
"""

from __future__ import annotations

import socket

from hybrid.parent.house import House


class Reception:
    """The parent's part in accepting.

    Runs in: parent; nothing here waits. Closes: the listening sockets, on :meth:`stop_listening`.
    """

    deadline: float | None = None
    """When :meth:`time_passed` is due. Monotonic seconds."""

    def __init__(self, house: House) -> None:
        self._house = house

    # ── before a worker is there ──

    def for_new_mold(self) -> list[socket.socket]:
        """Return the listening sockets that a mold gets as soon as it is started."""
        return [listener.socket for listener in self._house.listeners]

    def before_spawn(self, slots: int) -> list[socket.socket]:
        """Make ready for ``slots`` workers; return the listening sockets that the mold has not been given yet.

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

    def time_passed(self) -> None:
        """Do what was due at :attr:`deadline`."""

    # ── at the end ──

    def stop_listening(self) -> None:
        """Close the listening sockets: who comes from now on is refused, once the workers have left, too."""
        self._house.close_listeners()
