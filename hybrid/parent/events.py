"""What can happen to the pool: the events of :mod:`hybrid.parent.core`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hybrid.ground.states import Cause
from hybrid.parent.auto_size import CpuFacts, MemoryFacts
from hybrid.parent.pool import Plan
from hybrid.shared.boot_report import Report

LINGER_S = 30.0
"""For how long a parked worker that nobody needs stays at least."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended, as waitid(2) told it: an exit code, or the signal that killed it."""

    code: int = 0
    signal: int = 0

    def __str__(self) -> str:
        if not self.signal:
            return f"exited with code {self.code}"
        import signal as signals  # only here: a name for a number

        try:
            return f"was killed by {signals.Signals(self.signal).name}"
        except ValueError:
            return f"was killed by signal {self.signal}"


@dataclass(frozen=True, slots=True)
class Started:
    """The parent has bound its sockets and can begin."""


@dataclass(frozen=True, slots=True)
class MoldImported:
    """The mold can fork."""

    generation: int
    cpus: CpuFacts
    memory: MemoryFacts


@dataclass(frozen=True, slots=True)
class MoldUnsafe:
    """The mold imported the app, and the import left something that does not survive a fork."""

    generation: int
    report: Report


@dataclass(frozen=True, slots=True)
class MoldImportFailed:
    """The mold could not import the app."""

    generation: int
    report: Report


@dataclass(frozen=True, slots=True)
class MoldExited:
    """The mold is gone."""

    generation: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class Forked:
    """The mold forked the worker that was asked for under ``ticket``."""

    slot: int
    ticket: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """The mold could not fork, or could not be asked."""

    slot: int
    ticket: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker asked for under ``ticket`` accepts."""

    slot: int
    ticket: int


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker was told by somebody else (SIGTERM to its pid) to leave, and does."""

    slot: int
    ticket: int
    grace_s: float


@dataclass(frozen=True, slots=True)
class WornOut:
    """The worker has reached a limit and is to be replaced by a fresh one. ``reason``: in words."""

    slot: int
    ticket: int
    reason: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The worker is gone and reaped."""

    slot: int
    ticket: int
    exit: Exit
    report: Report


class Intent(IntEnum):
    """What a signal, the embedding program or its death asks for."""

    STOP = 0
    """Drain; again: the next step."""
    STOP_NOW = 1
    """Cut connections and leave."""
    REOPEN_LOGS = 2
    RELOAD = 3
    """A new generation: new code, new settings."""
    MORE = 4
    """One worker more."""
    FEWER = 5
    """One worker fewer."""
    PARK = 6
    """Nobody accepts; again: everybody does."""
    UPGRADE = 7
    """A new program in the parent's place."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants something. ``grace_s``: instead of the configured one."""

    intent: Intent
    source: str
    grace_s: float | None = None
    loads: tuple[int, ...] = ()
    """Open connections of each slot: who is the emptiest."""


@dataclass(frozen=True, slots=True)
class Sized:
    """The sizing has looked, and wants ``target`` workers to serve.

    ``reason``: in words. ``inputs``: what it was decided by. ``loads``: open connections of each slot. ``linger_s``:
    for how long a parked worker that nobody needs stays. ``is_barred``: more is wanted, and something forbids it; to be
    told.
    """

    target: int
    reason: str
    inputs: tuple[tuple[str, float], ...] = ()
    loads: tuple[int, ...] = ()
    linger_s: float = LINGER_S
    is_barred: bool = False


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """Somebody wants other bounds; 0: as it is. The same twice fixes the size. ``token``: of the answer; 0: none."""

    least: int
    most: int
    source: str
    token: int = 0
    loads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StandbyAsked:
    """Somebody wants so many workers to stand by. ``token``: of the answer; 0: none."""

    standby: int
    source: str
    token: int = 0


@dataclass(frozen=True, slots=True)
class Replanned:
    """A setting that decisions depend on was changed, without a reload."""

    plan: Plan


class SlotIntent(IntEnum):
    """What somebody asks of one worker."""

    PARK = 0
    """Accept no more, until UNPARK."""
    UNPARK = 1
    DRAIN = 2
    """Finish what it holds, and leave; another starts in its place at once."""
    KILL = 3
    """SIGKILL."""


@dataclass(frozen=True, slots=True)
class SlotAsked:
    """Somebody wants something of the worker in ``slot``. ``token``: of the answer; 0: none."""

    slot: int
    intent: SlotIntent
    source: str
    token: int = 0


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings of the generation that is coming are there. ``plan``: what they say."""

    generation: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class ResolveFailed:
    """They cannot be had: the report says why."""

    generation: int
    report: Report


@dataclass(frozen=True, slots=True)
class UpgradeChecked:
    """The new program was tried; it can take over unless the report has an error."""

    report: Report


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline may have come."""


@dataclass(frozen=True, slots=True)
class HeldUp:
    """The parent comes so many seconds too late: somebody had stopped it, or the machine. Comes before the rest."""

    seconds: float


Event = (
    Started
    | MoldImported
    | MoldUnsafe
    | MoldImportFailed
    | MoldExited
    | Forked
    | ForkFailed
    | WorkerReady
    | WorkerDraining
    | WornOut
    | WorkerExited
    | Resolved
    | ResolveFailed
    | UpgradeChecked
    | Asked
    | Sized
    | ScaleAsked
    | StandbyAsked
    | SlotAsked
    | Replanned
    | TimePassed
    | HeldUp
)
