"""The workers as the scoreboard shows them."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.states import Cause, Life
from hybrid.shared.scoreboard import CELLS_PER_ROW, UNKNOWN, Cell, Scoreboard

_LIVES = frozenset(Life)


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What a worker measured of itself at its last tick, up to a quarter of a second ago; None: unknown.

    ``measured_ns``: monotonic clock of that tick. ``loop_busy_ns``: how long its loop had something to do.
    ``on_cpu_ns``: how long the loop's thread ran; ``run_queue_ns``: how long it was ready to run and had no CPU.
    ``lag_ns``: how late its ticks came, added up. These only grow while the worker lives: take the difference of two
    readings, or :meth:`WorkerStatus.since`.

    ``lag_max_ns``: how late the latest tick of the last 10 to 20 s came. ``accept_queue``: connections that wait to be
    accepted, ``accept_queue_limit``: how many may; of all its listeners together.
    """

    measured_ns: int | None = None
    loop_busy_ns: int | None = None
    on_cpu_ns: int | None = None
    run_queue_ns: int | None = None
    lag_ns: int | None = None
    lag_max_ns: int | None = None
    accept_queue: int | None = None
    accept_queue_limit: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerUse:
    """What a worker did between two readings: shares of that time, 0 to 1. None: unknown.

    ``loop``: its loop had something to do. ``cpu``: its loop's thread ran. ``run_queue``: that thread was ready to run
    and had no CPU. ``lag_s``: how late its ticks came, added up: no tick was later than that, and one was at least
    ``lag_s`` divided by the number of ticks.
    """

    elapsed_s: float
    loop: float | None
    cpu: float | None
    run_queue: float | None
    lag_s: float | None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker. ``state``: a name of :class:`~hybrid.ground.states.Life`, lower case, or ``unknown``.

    ``active``: open connections. ``accepted``: connections ever accepted by this worker; the count may be a quarter
    of a second old. ``load``: what it measured of itself. ``requests``: HTTP requests ever given to the application, as
    old; 0 for other kinds of handlers.
    """

    slot: int
    pid: int
    state: str
    active: int
    accepted: int
    load: WorkerLoad = WorkerLoad()
    requests: int = 0

    def since(self, before: WorkerStatus) -> WorkerUse | None:
        """Return what the worker did since an earlier reading.

        None: that was another worker, or this one has measured nothing since.
        """
        now, then = self.load, before.load
        if (self.slot, self.pid) != (before.slot, before.pid) or now.measured_ns is None or then.measured_ns is None:
            return None
        elapsed_ns = now.measured_ns - then.measured_ns
        if elapsed_ns <= 0:
            return None
        lag_ns = _growth(now.lag_ns, then.lag_ns)
        return WorkerUse(
            elapsed_s=elapsed_ns / 1e9,
            loop=_share(_growth(now.loop_busy_ns, then.loop_busy_ns), elapsed_ns),
            cpu=_share(_growth(now.on_cpu_ns, then.on_cpu_ns), elapsed_ns),
            run_queue=_share(_growth(now.run_queue_ns, then.run_queue_ns), elapsed_ns),
            lag_s=None if lag_ns is None else lag_ns / 1e9,
        )


def statuses(scoreboard: Scoreboard) -> tuple[WorkerStatus, ...]:
    """Return every slot that ever held a worker.

    Raises: nothing, whatever a worker's code has written into the memory that it shares with everybody.
    """
    found = []
    for slot in range(scoreboard.slots_used):
        row = scoreboard.row(slot)
        if len(row.cells) < CELLS_PER_ROW:
            break  # the number of slots is garbage: here the memory ends
        load = WorkerLoad(*(None if value == UNKNOWN else value for value in row.line(Cell.MEASURED_NS)))
        state = _name_of(row[Cell.LIFE])
        requests = row[Cell.REQUESTS]
        found.append(WorkerStatus(slot, row[Cell.PID], state, row.active, row[Cell.ACCEPTED], load, requests))
    return tuple(found)


def replacements(scoreboard: Scoreboard) -> dict[str, int]:
    """Return how many workers were replaced, by the name of the cause in lower case."""
    return {cause.name.lower(): count for cause, count in zip(Cause, scoreboard.replaced, strict=True)}


def _name_of(life: int) -> str:
    return Life(life).name.lower() if life in _LIVES else "unknown"


def _growth(now: int | None, then: int | None) -> int | None:
    """Return by how much a figure has grown; None where it is unknown, or is none that only grows."""
    return now - then if now is not None and then is not None and now >= then else None


def _share(part_ns: int | None, of_ns: int) -> float | None:
    # The scheduler brings its accounts up to date with its own tick, so a part may be some ms too large.
    return None if part_ns is None else min(1.0, part_ns / of_ns)
