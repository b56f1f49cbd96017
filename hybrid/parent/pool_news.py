"""What the world hears of the pool: the service manager, each change of it, in words, and how long the present step
may take; probes, whether it is ready.

The pool decides nothing by this, so it is no action of the core: it is read off the state after each step.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent import pool as p
from hybrid.parent.ready_file import ReadyFile
from hybrid.parent.reload_stages import Stage
from hybrid.parent.systemd import Notifier
from hybrid.parent.watch import sooner

BETWEEN_S = 1.0
"""Between two lines of status: workers that come and go by the dozen are no news one by one."""
MARGIN_S = 5.0
"""More than a step is given, is asked for it: what follows at its deadline takes a moment."""


class Premises(Protocol):
    """What is needed of the :class:`~hybrid.parent.house.House`."""

    notifier: Notifier
    ready_file: ReadyFile

    @property
    def addresses(self) -> tuple[str, ...]: ...

    def store_listeners(self) -> None:
        """Have the service manager keep the listening sockets."""


class Course(IntEnum):
    """What the manager believes that we are at."""

    BOOTING = 0
    SERVING = 1
    RELOADING = 2
    STOPPING = 3


def course_of(pool: p.Pool) -> Course:
    """Return what the pool is at, as the manager sees it."""
    if pool.phase >= p.Phase.STOPPING or pool.stop_step is not p.StopStep.NONE:
        return Course.STOPPING
    if not pool.announced:
        return Course.BOOTING
    return Course.RELOADING if pool.reload.stage is not Stage.IDLE or pool.reload.again else Course.SERVING


def is_ready(pool: p.Pool) -> bool:
    """Return whether new clients are to be sent here: it has been ready, nobody has asked it to leave, one accepts."""
    is_serving = pool.announced and course_of(pool) is not Course.STOPPING
    return is_serving and any(slot.life is Life.READY for slot in pool.slots)


class PoolNews:
    """Follows the pool. Runs in: parent; nothing here waits. Closes: nothing."""

    def __init__(self, house: Premises) -> None:
        self._house = house
        self._notifier = house.notifier
        self._course = Course.BOOTING
        self._asked = ""
        """Who had asked for one more reload when the pool was last looked at."""
        self._text = ""
        """What there is to say, and was not said yet; empty: nothing."""
        self._said = ""
        self._next_at = 0.0
        self._until = 0.0
        """The time that was asked for last. Monotonic seconds."""

    def follow(self, pool: p.Pool, now: float) -> None:
        """Tell what is new in ``pool``."""
        self._house.ready_file.show(is_ready(pool), now)
        before, self._course = self._course, course_of(pool)
        if before is Course.BOOTING and self._course in (Course.SERVING, Course.RELOADING):
            self._house.store_listeners()
            self._notifier.ready(self._say_with(_serving(pool, self._house.addresses)))
        if self._course is Course.STOPPING:
            self._follow_stop(pool, before, now)
        elif self._course is Course.RELOADING:
            if before is not Course.RELOADING or (pool.reload.again and not self._asked):
                self._notifier.reloading()  # again: whoever asks wants an answer that is newer than his question
        elif self._course is Course.BOOTING:
            self._say(_booting(pool), now)
        elif before is Course.RELOADING:
            text = self._say_with(_serving(pool, self._house.addresses))
            self._notifier.reloaded(text, pool.reload.failure)
        else:
            self._say(_serving(pool, self._house.addresses), now)
        self._asked = pool.reload.again
        if self._course is not before:
            self._until = 0.0  # what was asked for was for what is over
        if self._course is not Course.SERVING:
            self._extend(pool, now)  # last, so that it is heard as for what we are at now

    @property
    def deadline(self) -> float | None:
        """When :meth:`time_passed` is due. Monotonic seconds."""
        due = sooner(self._next_at if self._text else None, self._notifier.deadline)
        return sooner(due, self._house.ready_file.deadline)

    def time_passed(self, now: float) -> None:
        """Say what is due, and that the loop turns."""
        self._house.ready_file.time_passed(now)
        self._say(self._text, now)
        self._notifier.time_passed(now)

    def _follow_stop(self, pool: p.Pool, before: Course, now: float) -> None:
        if pool.exit_code is not ExitCode.OK:
            self._text = ""  # why it failed has been said, and is to stay
        elif before is not Course.STOPPING:
            self._notifier.stopping(self._say_with(_leaving(pool)))
        elif pool.phase is not p.Phase.STOPPED:
            self._say(_leaving(pool), now)

    def _say_with(self, text: str) -> str:
        """Return ``text``, which is said with something else and at once; what was waiting is no news any more."""
        self._said, self._text, self._next_at = text, "", 0.0
        return text

    def _say(self, text: str, now: float) -> None:
        """Say it now, or at the end of the pause since the last line."""
        self._text = text if text != self._said else ""
        if self._text and self._next_at <= now:
            self._notifier.status(text)
            self._said, self._text, self._next_at = text, "", now + BETWEEN_S

    def _extend(self, pool: p.Pool, now: float) -> None:
        """Ask for time up to the last deadline there is, when it has moved."""
        deadlines = [slot.deadline for slot in pool.slots] + [mold.deadline for mold in pool.molds]
        deadlines += [pool.stop_due, pool.reload.deadline]
        until = max((each for each in deadlines if each is not None and each > now), default=0.0) + MARGIN_S
        if until > now + MARGIN_S and until > self._until + BETWEEN_S:
            self._until = until
            self._notifier.extend(until - now)


def _ready(pool: p.Pool) -> int:
    return sum(slot.life is Life.READY and slot.wanted for slot in pool.slots)


def _booting(pool: p.Pool) -> str:
    if not pool.target:
        return "booting: importing the app" if pool.mold.preload else "booting"
    return f"booting: {_ready(pool)} of {_workers(pool.target, 'is ready', 'are ready')}"


def _serving(pool: p.Pool, addresses: tuple[str, ...]) -> str:
    where = ", ".join(addresses)
    if pool.stance is p.Stance.PARKED:
        return f"parked: who connects to {where} waits"
    ready = _ready(pool)
    if ready < pool.target:
        return f"{ready} of {pool.target} workers serve on {where}"
    return f"{_workers(ready, 'serves', 'serve')} on {where}"


def _leaving(pool: p.Pool) -> str:
    if pool.phase < p.Phase.STOPPING:
        return "stopping soon; until then everything is served (--drain-delay)"
    left = sum(slot.life in p.LIVING for slot in pool.slots)
    return f"stopping: {_workers(left, 'has', 'have')} yet to leave"


def _workers(count: int, one: str, many: str) -> str:
    return f"{count} worker {one}" if count == 1 else f"{count} workers {many}"
