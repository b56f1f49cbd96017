"""What the parent tells of the pool: typed events, which the log, the control process and through it everybody follow.

The parent derives them (:mod:`hybrid.parent.noticing`) and sends them to control as JSON, one in a message; control
hands them on to whoever asked for ``events``. Each has ``at``, when it happened (Unix time in seconds), and ``number``,
which counts from 1 in the life of the server: a gap is what was lost.

Two are no news but answers: :class:`PoolState`, the whole small state, which is sent at the start and whenever it has
changed, and :class:`Answered`, about one wish.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened. ``at``: Unix time in seconds. ``number``: counts from 1."""

    at: float = field(default=0.0, kw_only=True)
    number: int = field(default=0, kw_only=True)


@dataclass(frozen=True, slots=True)
class Logged(Notice):
    """The parent wrote a line into the log."""

    level: str = "info"
    who: str = "parent"
    text: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerStarted(Notice):
    """The mold was asked for a worker."""

    slot: int = 0
    seat: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class OfWorker(Notice):
    """Something that a worker does, the one with this pid in this slot."""

    slot: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True)
class WorkerReady(OfWorker):
    """A worker accepts for the first time."""


@dataclass(frozen=True, slots=True)
class WorkerParked(OfWorker):
    """A worker accepts no more, and serves what it holds."""


@dataclass(frozen=True, slots=True)
class WorkerUnparked(OfWorker):
    """A worker that was parked accepts again."""


@dataclass(frozen=True, slots=True)
class WorkerDraining(OfWorker):
    """A worker accepts no more, and leaves when it has finished what it holds."""


@dataclass(frozen=True, slots=True)
class WorkerExited(OfWorker):
    """A worker is gone. ``cause``: why it had to be replaced; empty: it was to leave. ``text``: how it ended."""

    cause: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Resized(Notice):
    """The pool is to have another number of workers. ``inputs``: what the decision was made from, by name."""

    before: int = 0
    target: int = 0
    reason: str = ""
    inputs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReloadStep(Notice):
    """A reload has come one step further. ``stage``: a name of :class:`~hybrid.parent.reload_stages.Stage`."""

    stage: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ReloadEnded(Notice):
    """A reload is through, or has failed and changed nothing. ``detail``: the boot log of what failed."""

    ok: bool = True
    text: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PhaseChanged(Notice):
    """The pool has entered another phase: ``booting``, ``running``, ``stopping``, ``stopped``."""

    phase: str = ""


@dataclass(frozen=True, slots=True)
class PoolState(Notice):
    """What the parent knows of the pool that the scoreboard does not hold."""

    phase: str = "booting"
    readiness: str = "booting"
    stance: str = "accepting"
    generation: int = 1
    target: int = 0
    least: int = 0
    most: int = 0
    standby: int = 0
    size_reason: str = ""
    app: str = ""
    kind: str = ""
    addresses: tuple[str, ...] = ()
    reload_stage: str = "idle"
    reload_source: str = ""
    reload_failure: str = ""
    upgrade: str = "none"
    pid: int = 0
    """The parent's."""
    started_at: float = 0.0
    """When the server was started. Unix time in seconds."""
    version: str = ""
    """Of the program that the parent runs."""


@dataclass(frozen=True, slots=True)
class Answered(Notice):
    """What came of the wish that was sent under ``token``. ``detail``: may span lines: a boot log, or stacks."""

    token: int = 0
    ok: bool = True
    text: str = ""
    detail: str = ""


KINDS: dict[str, type[Notice]] = {
    "logged": Logged,
    "worker_started": WorkerStarted,
    "worker_ready": WorkerReady,
    "worker_parked": WorkerParked,
    "worker_unparked": WorkerUnparked,
    "worker_draining": WorkerDraining,
    "worker_exited": WorkerExited,
    "resized": Resized,
    "reload_step": ReloadStep,
    "reload_ended": ReloadEnded,
    "phase_changed": PhaseChanged,
    "pool_state": PoolState,
    "answered": Answered,
}
"""Every kind, by its name in JSON."""

_NAMES = {kind: name for name, kind in KINDS.items()}


def name_of(notice: Notice) -> str:
    """Return the name of its kind."""
    return _NAMES[type(notice)]


def to_plain(notice: Notice) -> dict[str, Any]:
    """Return the notice as what JSON has: its kind as ``notice``, then its fields."""
    return {"notice": name_of(notice), **asdict(notice)}


def to_json(notice: Notice) -> str:
    """Return the notice as one JSON object."""
    return json.dumps(to_plain(notice))


def from_json(data: str | bytes) -> Notice | None:
    """Return the notice that :func:`to_json` wrote, perhaps in another version; None: of a kind that is not known.

    A field that is not known is passed over, one that is missing has its default. Raises: ValueError: no JSON object.
    """
    plain = json.loads(data)
    if not isinstance(plain, dict):
        raise ValueError(f"no object but {plain!r}")
    kind: Any = KINDS.get(plain.get("notice", ""))
    if kind is None:
        return None
    given = {each.name: plain[each.name] for each in fields(kind) if each.name in plain}
    made: Notice = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
    return made
