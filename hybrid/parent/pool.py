"""What the parent knows: the state of :mod:`hybrid.parent.core`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Cause, Life
from hybrid.parent.reload_stages import Stage
from hybrid.shared.pool_size import PoolSize

# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────


class Phase(IntEnum):
    """Where the pool is in its life. Moves only to the right."""

    BOOTING = 0
    """No worker was ever ready: failures may end the server."""
    RUNNING = 1
    """At least one worker was ready once: the pool never gives up by itself."""
    STOPPING = 2
    """Somebody asked, or the boot failed: workers leave."""
    STOPPED = 3
    """No child is left; the parent exits."""


class StopStep(IntEnum):
    """How hard the pool is being stopped. Each signal moves one to the right."""

    NONE = 0
    DELAY = 1
    """Not ready any more, so that a load balancer looks elsewhere, but everybody still accepts."""
    DRAIN = 2
    """Workers are parked; open connections may finish within the grace."""
    CANCEL = 3
    """Handlers are cancelled."""
    ABORT = 4
    """Connections are cut."""
    KILL = 5
    """SIGKILL."""


class Stance(IntEnum):
    """What workers that are ready do."""

    ACCEPTING = 0
    PARKED = 1
    """Somebody asked for it (SIGWINCH): they serve what they hold, and newcomers wait in the queue."""


class Duty(IntEnum):
    """What a worker is there for."""

    SERVE = 0
    """It accepts, unless nobody does (:class:`Stance`), or its successor in a reload does."""
    SPARE = 1
    """Booted and parked: one more than are needed now, or one that stands by. It accepts again in milliseconds."""
    HELD = 2
    """Parked by hand, until that is taken back."""


class UpgradeStage(IntEnum):
    """How far the exec of a new parent has come. Moves to the right, or back to NONE."""

    NONE = 0
    ASKED = 1
    CHECKING = 2
    """A child tries whether the new program can take over."""
    CHECKED = 3
    """It can."""
    DUE = 4
    """The exec comes next. Never handed over: a program that takes over begins with NONE."""


class MoldLife(IntEnum):
    """Where the mold of the current generation is."""

    ABSENT = 0
    """None runs; one is started when its backoff has passed."""
    IMPORTING = 1
    """Started; forks nothing yet."""
    READY = 2
    """Forks on request."""
    LEAVING = 3
    """Told to leave, or killed; the exit has not been seen yet."""


@dataclass(frozen=True, slots=True)
class Mold:
    """The process that imported the app of one generation."""

    life: MoldLife = MoldLife.ABSENT
    generation: int = 0
    preload: bool = True
    """False: it imports only hybrid, and workers import the app after the fork."""
    failures: int = 0
    """Quick deaths in a row: before it could fork, or soon after; and imports that failed."""
    since: float = 0.0
    """When the present life began. Monotonic seconds."""
    deadline: float | None = 0.0
    """ABSENT: when to start one. IMPORTING, LEAVING: when to kill it. Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A worker's numbered place, and the worker in it."""

    index: int
    life: Life = Life.VACANT
    wanted: bool = False
    """Whether a worker is to be here: one that dies is replaced. A slot that is vacant and not wanted is free."""
    generation: int = 0
    seat: int = 0
    """Which of the pool's workers this is, 0 to n-1. Whoever replaces it in another slot takes over its seat."""
    duty: Duty = Duty.SERVE
    worn: str = ""
    """Why the worker is to be replaced by a fresh one, in words; empty: it is not."""
    cause: Cause = Cause.DIED
    """The same, to be counted when it is replaced; also where it was told to leave, by SIGTERM."""
    ticket: int = 0
    """Which spawn this is: a late answer about an earlier one is told apart by it."""
    spawns: int = 0
    """Workers ever asked for in this place."""
    pid: int = 0
    """0 until the mold has reported the fork."""
    failures: int = 0
    """Quick deaths in a row: before READY, or within STABLE_S of it."""
    since: float = 0.0
    """When the present life began. Monotonic seconds."""
    deadline: float | None = 0.0
    """VACANT: when to spawn. STARTING, DRAINING: when to kill. Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings that decisions depend on."""

    workers: int | None
    """None: as many as the machine allows (``auto``)."""
    preload: str
    grace_s: float
    boot_s: float
    boot_attempts: int
    max_surge: int | None = None
    """Workers that a reload starts at once; None: a quarter of them (``auto``)."""
    waits_for_change: bool = False
    """Whether a boot that fails is tried again until the app's files change (``--reload``), instead of given up."""
    drain_delay_s: float = 0.0
    """How long the pool goes on accepting when it was told to stop."""
    size: PoolSize | None = None
    """The range within which the pool sizes itself; None: there are always so many as ``workers`` says."""
    standby: int = 0
    """Workers more that are booted and parked."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The change from one generation to the next, if one is under way."""

    stage: Stage = Stage.IDLE
    generation: int = 0
    """The one that is coming."""
    source: str = ""
    """Who asked for it."""
    plan: Plan | None = None
    """What the new settings say; None: they are not known yet."""
    count: int = 0
    """Workers that the new generation is to have; 0: not known yet."""
    least: int = 0
    most: int = 0
    reason: str = ""
    """Why so many."""
    since: float = 0.0
    """When it was begun. Monotonic seconds."""
    deadline: float | None = None
    """When the settings have to be there. Monotonic seconds."""
    again: str = ""
    """Who asked for another meanwhile; empty: nobody."""
    failure: str = ""
    """Why the last one failed; empty: it did not, or another has begun."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Everything the parent knows. A value: ``core.step`` returns a new one."""

    plan: Plan
    phase: Phase = Phase.BOOTING
    stance: Stance = Stance.ACCEPTING
    stop_step: StopStep = StopStep.NONE
    stopped_at: float = 0.0
    """When the last stop step was taken."""
    stop_due: float | None = None
    """When :attr:`StopStep.DELAY` ends. Monotonic seconds."""
    exit_code: ExitCode = ExitCode.OK
    generation: int = 1
    """The one that serves. A later one is coming, an earlier one leaves."""
    generations: int = 1
    """Generations ever begun."""
    molds: tuple[Mold, ...] = (Mold(generation=1),)
    """Of the generation that serves, first; of one that is coming; of those that leave, until they are gone."""
    target: int = 0
    """Workers that are to serve; 0: not known yet."""
    least: int = 0
    most: int = 0
    """Between these the pool sizes itself. The same: it has a fixed size."""
    standby: int = 0
    """Workers more that are to be booted and parked."""
    slots: tuple[Slot, ...] = ()
    reload: Reload = Reload()
    upgrade: UpgradeStage = UpgradeStage.NONE
    size_reason: str = ""
    announced: bool = False
    started_at: float = 0.0
    last_failure: str = ""
    """Fingerprint of the boot failure that was shown last: the same one again is one line."""
    waits_after: str = ""
    """Fingerprint of the failure behind which it was said that a change is waited for; empty: it was not."""
    tickets: int = 0
    replaced: tuple[int, ...] = (0,) * len(Cause)
    """Workers ever replaced, by why."""

    @property
    def is_sized(self) -> bool:
        """Whether the pool sizes itself."""
        return self.least < self.most

    @property
    def most_seats(self) -> int:
        """How many workers there may be at once, without those that leave."""
        return max(self.target, self.most) + self.standby

    @property
    def mold(self) -> Mold:
        """The mold of the generation that serves."""
        return next(mold for mold in self.molds if mold.generation == self.generation)

    def mold_of(self, generation: int) -> Mold | None:
        """Return the mold of ``generation``; None: it has none any more."""
        return next((mold for mold in self.molds if mold.generation == generation), None)

    def is_replaced(self, slot: Slot) -> bool:
        """Return whether a worker of the generation that is coming serves already in the seat of ``slot``."""
        coming = self.reload.generation
        return slot.generation < coming and any(
            each.seat == slot.seat and each.generation == coming and each.wanted and each.life in SERVING
            for each in self.slots
        )


SERVING = (Life.READY, Life.PARKED)
LIVING = (Life.STARTING, Life.READY, Life.PARKED, Life.DRAINING, Life.KILLING)
"""Lives with a process behind them, or one that is being forked."""
