"""What the service manager hears of the pool: each change of it, in words, and how long the present step may take.

The pool decides nothing by this, so it is no action of the core: it is read off the state after each step.
"""

from __future__ import annotations

from typing import Protocol

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent import pool as p
from hybrid.parent.draft import LIVING
from hybrid.parent.systemd import Notifier
from hybrid.parent.watch import sooner

BETWEEN_S = 1.0
"""Between two lines of status: workers that come and go by the dozen are no news one by one."""
MARGIN_S = 5.0
"""More than a step is given, is asked for it: what follows at its deadline takes a moment."""


class Premises(Protocol):
    """What is needed of the :class:`~hybrid.parent.house.House`."""

    notifier: Notifier

    @property
    def addresses(self) -> tuple[str, ...]: ...

    def store_listeners(self) -> None:
        """Have the service manager keep the listening sockets."""


class PoolNews:
    """Follows the pool. Runs in: parent; nothing here waits. Closes: nothing."""

    def __init__(self, house: Premises) -> None:
        self._house = house
        self._notifier = house.notifier
        self._is_ready = False
        self._phase = p.Phase.BOOTING
        self._text = ""
        """What there is to say, and was not said yet; empty: nothing."""
        self._said = ""
        self._next_at = 0.0
        self._until = 0.0
        """The time that was asked for last. Monotonic seconds."""

    def follow(self, pool: p.Pool, now: float) -> None:
        """Tell what is new in ``pool``."""
        if pool.phase >= p.Phase.STOPPING:
            self._follow_stop(pool, now)
        elif not pool.announced:
            self._say(_booting(pool), now)
        elif self._is_ready:
            self._say(self._serving(pool), now)
        else:
            self._is_ready = True
            self._house.store_listeners()
            self._said, self._text, self._next_at = self._serving(pool), "", 0.0
            self._notifier.ready(self._said)
        if pool.phase >= p.Phase.STOPPING or not pool.announced:
            self._extend(pool, now)

    @property
    def deadline(self) -> float | None:
        """When :meth:`time_passed` is due. Monotonic seconds."""
        return sooner(self._next_at if self._text else None, self._notifier.deadline)

    def time_passed(self, now: float) -> None:
        """Say what is due, and that the loop turns."""
        self._say(self._text, now)
        self._notifier.time_passed(now)

    def _follow_stop(self, pool: p.Pool, now: float) -> None:
        if pool.exit_code is not ExitCode.OK:
            self._text = ""  # why it failed has been said, and is to stay
        elif self._phase < p.Phase.STOPPING:
            self._said, self._text = _leaving(pool), ""
            self._notifier.stopping(self._said)
        elif pool.phase is p.Phase.STOPPING:
            self._say(_leaving(pool), now)
        self._phase = pool.phase

    def _serving(self, pool: p.Pool) -> str:
        ready, size = sum(slot.life is Life.READY for slot in pool.slots), len(pool.slots)
        count = f"{ready} of {size} workers serve" if ready != size else _workers(ready, "serves", "serve")
        return f"{count} on {', '.join(self._house.addresses)}"

    def _say(self, text: str, now: float) -> None:
        """Say it now, or at the end of the pause since the last line."""
        self._text = text if text != self._said else ""
        if self._text and self._next_at <= now:
            self._notifier.status(text)
            self._said, self._text, self._next_at = text, "", now + BETWEEN_S

    def _extend(self, pool: p.Pool, now: float) -> None:
        """Ask for time up to the last deadline there is, when it has moved."""
        deadlines = [slot.deadline for slot in pool.slots] + [pool.mold.deadline]
        until = max((each for each in deadlines if each is not None and each > now), default=0.0) + MARGIN_S
        if until > now + MARGIN_S and until > self._until + BETWEEN_S:
            self._until = until
            self._notifier.extend(until - now)


def _booting(pool: p.Pool) -> str:
    if not pool.slots:
        return "booting: importing the app" if pool.mold.preload else "booting"
    ready = sum(slot.life is Life.READY for slot in pool.slots)
    return f"booting: {ready} of {_workers(len(pool.slots), 'is ready', 'are ready')}"


def _leaving(pool: p.Pool) -> str:
    left = sum(slot.life in LIVING for slot in pool.slots)
    return f"stopping: {_workers(left, 'has', 'have')} yet to leave"


def _workers(count: int, one: str, many: str) -> str:
    return f"{count} worker {one}" if count == 1 else f"{count} workers {many}"
