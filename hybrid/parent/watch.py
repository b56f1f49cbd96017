"""Descriptors, and what is called when one of them has news: the parent's one poll(2).

Source: poll(2). Not select(2), which knows descriptors below 1024 only.
"""

from __future__ import annotations

import select
from collections.abc import Callable

LONGEST_POLL_MS = 2**31 - 1
"""What poll(2) takes: a C int."""


class Watch:
    """Calls back when a descriptor is ready. Whoever added one drops it before he closes it."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: dict[int, Callable[[], None]] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._calls

    def add(self, fd: int, call: Callable[[], None], events: int = select.POLLIN) -> None:
        """Call ``call`` whenever ``fd`` is readable (or what ``events`` say), until it is dropped."""
        self._poll.register(fd, events)
        self._calls[fd] = call

    def change(self, fd: int, events: int) -> None:
        """Look for ``events`` on a descriptor that is watched."""
        self._poll.modify(fd, events)

    def drop(self, fd: int) -> None:
        """Forget ``fd``. One that is not watched is no error."""
        if self._calls.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def wait(self, patience_ms: float | None) -> None:
        """Wait until something is ready, for ``patience_ms`` at most (None: for ever), and call whom it concerns."""
        for fd, _mask in self._poll.poll(patience_ms):
            if fd in self._calls:  # an earlier call of this round may have closed it
                self._calls[fd]()

    def hear_out(self, fd: int, most: int) -> None:
        """Call back for ``fd`` until it has no news or is dropped, ``most`` times at most."""
        for _ in range(most):
            if fd not in self._calls or not has_news(fd):
                return
            self._calls[fd]()


def has_news(fd: int) -> bool:
    """Return whether there is something to read."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def patience_ms(deadline: float | None, now: float) -> float | None:
    """Return how long poll(2) may wait for ``deadline``: a little longer, or a part of it if it is far away."""
    return None if deadline is None else min(max(0.0, (deadline - now) * 1000 + 1), LONGEST_POLL_MS)


def sooner(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two deadlines, of which either may be none."""
    return other if one is None else one if other is None else min(one, other)
