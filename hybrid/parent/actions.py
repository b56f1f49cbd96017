"""What the parent can do: the actions of :mod:`hybrid.parent.core`, carried out by :mod:`hybrid.parent.main`."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.errors import ExitCode
from hybrid.shared.messages import Op


@dataclass(frozen=True, slots=True)
class StartMold:
    """Start an interpreter that becomes the mold."""

    generation: int
    preload: bool


@dataclass(frozen=True, slots=True)
class EndMold:
    """Tell the mold to leave; with ``kill``, by SIGKILL."""

    generation: int
    kill: bool = False


@dataclass(frozen=True, slots=True)
class Spawn:
    """Ask the mold for a worker."""

    slot: int
    ticket: int
    generation: int
    seat: int


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
class Resized:
    """Take note that another number of workers is to serve; the same: more would, but something forbids it.

    ``reason``: in words; ``inputs``: what it was decided by. Nothing is left to be done: for those who tell of it.
    """

    before: int
    target: int
    reason: str
    inputs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell whoever asked under ``token`` what came of it."""

    token: int
    ok: bool
    text: str


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
class Resolve:
    """Have the command line, the environment and the files read anew, for the generation that is coming."""

    generation: int


@dataclass(frozen=True, slots=True)
class EndResolver:
    """Nobody waits for the new settings any more."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """The settings of ``generation`` are in force; those of the one before it are not needed any more."""

    generation: int


@dataclass(frozen=True, slots=True)
class Discard:
    """The settings of ``generation``, which never came to serve, are not needed any more."""

    generation: int


@dataclass(frozen=True, slots=True)
class CheckUpgrade:
    """Have a child try whether the program that is installed now can take over."""


@dataclass(frozen=True, slots=True)
class CarryOutUpgrade:
    """Become that program, when nothing is left to be decided."""


@dataclass(frozen=True, slots=True)
class Unready:
    """Tell whoever asks that this server is not to be sent anything new, though it still accepts."""


@dataclass(frozen=True, slots=True)
class StopListening:
    """Close the parent's own listening sockets: who comes from now on is refused, once the workers have left too."""


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """Open the log file anew, here and in every child. ``source``: who asked, for the log."""

    source: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave: no child is left."""

    code: ExitCode


Action = (
    StartMold
    | EndMold
    | Spawn
    | Tell
    | Signal
    | Vacate
    | Write
    | Resized
    | Answer
    | Announce
    | Fail
    | Resolve
    | EndResolver
    | Adopt
    | Discard
    | CheckUpgrade
    | CarryOutUpgrade
    | Unready
    | StopListening
    | ReopenLogs
    | Quit
)
