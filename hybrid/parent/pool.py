"""What the parent knows, what can happen to it, and what it can do: the words of :mod:`hybrid.parent.core`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent.sizing import CpuFacts, MemoryFacts
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op

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


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────


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


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants something. ``grace_s``: instead of the configured one."""

    intent: Intent
    source: str
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline may have come."""


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
    | WorkerExited
    | Asked
    | TimePassed
)

# ── actions ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StartMold:
    """Start an interpreter that becomes the mold."""

    generation: int
    preload: bool


@dataclass(frozen=True, slots=True)
class EndMold:
    """Tell the mold to leave; with ``kill``, by SIGKILL."""

    kill: bool = False


@dataclass(frozen=True, slots=True)
class Spawn:
    """Ask the mold for a worker."""

    slot: int
    ticket: int
    generation: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send the worker a record."""

    slot: int
    op: Op
    a: int = 0
    b: int = 0
    c: int = 0


@dataclass(frozen=True, slots=True)
class Signal:
    """Send the worker a signal, through its pidfd."""

    slot: int
    number: int


@dataclass(frozen=True, slots=True)
class Vacate:
    """Forget the worker that was in the slot: close its channel, reset its row."""

    slot: int


@dataclass(frozen=True, slots=True)
class Write:
    """Write a log line."""

    level: str
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell whoever waits (``--ready-fd``, the embedding program) that the server is ready."""

    workers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell whoever waits that the server could not boot, and why."""

    code: ExitCode
    message: str
    detail: str


@dataclass(frozen=True, slots=True)
class StopListening:
    """Close the parent's own listening sockets: who comes from now on is refused, once the workers have left too."""


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """Open the log file anew, here and in every child."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave: no child is left."""

    code: ExitCode


Action = (
    StartMold | EndMold | Spawn | Tell | Signal | Vacate | Write | Announce | Fail | StopListening | ReopenLogs | Quit
)
