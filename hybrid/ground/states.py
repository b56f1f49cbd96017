"""Life of a worker: one enum, one table. Run by :func:`hybrid.shared.machine.advance`."""

from __future__ import annotations

from enum import IntEnum


class Life(IntEnum):
    """Where a worker is in its life. The value is what the scoreboard's ``life`` cell holds."""

    VACANT = 0
    """The slot has no worker; it may be waiting for a backoff to pass."""
    STARTING = 1
    """Asked of the mold, or forked and booting; accepts nothing yet."""
    READY = 2
    """Accepting and serving."""
    PARKED = 3
    """Accepts no more, serves what it holds, can be un-parked in milliseconds."""
    DRAINING = 4
    """Accepts no more; open connections may finish until the deadline; then it exits."""
    KILLING = 5
    """A deadline passed: SIGKILL was sent, the exit has not been seen yet."""
    EXITED = 6
    """Reaped."""


class Readiness(IntEnum):
    """Whether the server is to be sent anything. The value is what the scoreboard's ``readiness`` cell holds."""

    BOOTING = 0
    READY = 1
    LEAVING = 2
    """It was told to stop: nothing new is to be sent here, though it may still accept."""


class Cause(IntEnum):
    """Why a worker had to be replaced. The value is the place of its count in the scoreboard's ``replaced``."""

    REQUESTS = 0
    """It had served ``--max-requests``."""
    LIFETIME = 1
    """It had lived for ``--max-lifetime``."""
    MEMORY = 2
    """It had ``--max-memory`` of its own."""
    DIED = 3
    """It ended while it was to serve: it crashed, or somebody killed it, ``--worker-timeout`` included."""
    TOLD = 4
    """Somebody told it to leave, with SIGTERM or by ``hybrid-ctl drain``, and it did."""


class LifeEvent(IntEnum):
    """What moves a worker from one :class:`Life` to the next."""

    SPAWN = 0
    """The parent asked the mold for a worker in this slot."""
    BOOTED = 1
    """The worker reported that it accepts."""
    PARK = 2
    UNPARK = 3
    DRAIN = 4
    """The parent asked for an orderly exit."""
    KILL = 5
    """The parent lost patience."""
    REAPED = 6
    """The kernel reported the exit."""
    LOST = 7
    """The mold could not fork: there never was a process."""
    VACATE = 8
    """The parent took note of the exit; the slot is free."""


LIFE: dict[tuple[Life, LifeEvent], Life] = {
    (Life.VACANT, LifeEvent.SPAWN): Life.STARTING,
    (Life.STARTING, LifeEvent.BOOTED): Life.READY,
    (Life.STARTING, LifeEvent.DRAIN): Life.DRAINING,
    (Life.STARTING, LifeEvent.KILL): Life.KILLING,
    (Life.STARTING, LifeEvent.REAPED): Life.EXITED,
    (Life.STARTING, LifeEvent.LOST): Life.EXITED,
    (Life.READY, LifeEvent.PARK): Life.PARKED,
    (Life.READY, LifeEvent.DRAIN): Life.DRAINING,
    (Life.READY, LifeEvent.KILL): Life.KILLING,
    (Life.READY, LifeEvent.REAPED): Life.EXITED,
    (Life.PARKED, LifeEvent.UNPARK): Life.READY,
    (Life.PARKED, LifeEvent.DRAIN): Life.DRAINING,
    (Life.PARKED, LifeEvent.KILL): Life.KILLING,
    (Life.PARKED, LifeEvent.REAPED): Life.EXITED,
    (Life.DRAINING, LifeEvent.BOOTED): Life.DRAINING,  # READY was on its way when the drain was asked
    (Life.DRAINING, LifeEvent.DRAIN): Life.DRAINING,  # a shorter grace
    (Life.DRAINING, LifeEvent.KILL): Life.KILLING,
    (Life.DRAINING, LifeEvent.REAPED): Life.EXITED,
    (Life.DRAINING, LifeEvent.LOST): Life.EXITED,
    (Life.KILLING, LifeEvent.BOOTED): Life.KILLING,
    (Life.KILLING, LifeEvent.KILL): Life.KILLING,
    (Life.KILLING, LifeEvent.REAPED): Life.EXITED,
    (Life.KILLING, LifeEvent.LOST): Life.EXITED,
    (Life.EXITED, LifeEvent.VACATE): Life.VACANT,
}
