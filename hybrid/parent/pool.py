"""What the parent knows, what can happen to it, and what it can do: the words of :mod:`hybrid.parent.core`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life

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
    DRAIN = 1
    """Workers are parked; open connections may finish within the grace."""
    CANCEL = 2
    """Handlers are cancelled."""
    ABORT = 3
    """Connections are cut."""
    KILL = 4
    """SIGKILL."""


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
    """The process that imported the app."""

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


@dataclass(frozen=True, slots=True)
class Pool:
    """Everything the parent knows. A value: ``core.step`` returns a new one."""

    plan: Plan
    phase: Phase = Phase.BOOTING
    stop_step: StopStep = StopStep.NONE
    stopped_at: float = 0.0
    """When the last stop step was taken."""
    exit_code: ExitCode = ExitCode.OK
    mold: Mold = Mold()
    slots: tuple[Slot, ...] = ()
    size_reason: str = ""
    announced: bool = False
    started_at: float = 0.0
    last_failure: str = ""
    """Fingerprint of the boot failure that was shown last: the same one again is one line."""
    tickets: int = 0
