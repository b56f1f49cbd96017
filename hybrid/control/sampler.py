"""Rates out of the scoreboard's counters: what each worker does now.

A worker writes its counters and the time they are true for in one tick, four times a second. So a rate is a growth
divided by the time between two *ticks*, not between two looks: a look may come right before a tick or right after it,
and the number of ticks between two looks a second apart is three, four or five.

Who looks is not one alone: the page, ``watch``, the agent and ``status`` share one :class:`Sampler`, each with a
period of its own. It keeps the readings of the last seconds, and compares with one that is about a second old.

Everything a worker has written is material to judge: its code can write any number anywhere in the scoreboard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life
from hybrid.shared.procfs import memory_private_bytes
from hybrid.shared.scoreboard import CELLS_PER_ROW, MOST, Cell, Row, Scoreboard, counted
from hybrid.shared.status import WorkerLoad, WorkerStatus, WorkerUse, statuses

SECOND = 1_000_000_000
SPAN_NS = 3 * SECOND // 4
"""A reading at least so old is preferred to compare with: three ticks of a worker."""
SHORTEST_NS = SECOND // 4
"""Between two readings that are kept, and the least to compare over."""
LONGEST_NS = 15 * SECOND
"""An older reading tells nothing about now: nobody has looked for a while."""
MEMORY_EVERY_NS = 5 * SECOND
"""Between two looks at a worker's memory: the kernel walks its page tables, and holds a lock of it meanwhile."""
MEMORY_SHARE = 200
"""A look at memory takes at most one part in so many of the time, however large the worker."""
STUCK_NS = SECOND
"""A loop that has not turned for so long is in the middle of something: its use is 1."""
TURNING = frozenset({"ready", "parked", "draining"})
"""States in which a loop is to turn."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one row said at one moment. ``status``: what everybody is shown of it; the rest is for this room."""

    status: WorkerStatus
    seat: int
    generation: int
    spawned_ns: int
    heartbeat_ns: int
    limit: int
    errors: int
    pauses: int
    in_flight: int
    threads: int

    @property
    def identity(self) -> tuple[int, int, int]:
        """Equal for two readings of the same worker; a pid alone comes back."""
        return self.status.slot, self.status.pid, self.spawned_ns


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """One worker now. ``None`` is unknown, never zero.

    Rates and shares are those since the reading compared with, about a second ago; unknown for a worker that was not
    there then. ``limit``: connections at which it stops accepting; None: it has none. ``lag_s``: how late its ticks
    came since then, added up; ``lag_max_s``: the latest tick of the last 10 to 20 s. ``memory_bytes``: private, up to
    five seconds old. ``heartbeat_age_s``: since its loop last turned. ``accept_queue``, ``accept_queue_limit``: of its
    listeners, as it saw them ``measured_ns`` (monotonic). ``in_flight``: requests whose application has not returned.
    ``threads``: of its own, for blocking code; 0: none.
    """

    slot: int
    seat: int
    pid: int
    life: str
    generation: int
    age_s: float | None
    connections: int
    limit: int | None
    accepted: int
    requests: int
    errors: int
    pauses: int
    accepted_per_s: float | None = None
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    loop_use: float | None = None
    run_queue: float | None = None
    lag_s: float | None = None
    lag_max_s: float | None = None
    memory_bytes: int | None = None
    heartbeat_age_s: float | None = None
    measured_ns: int | None = None
    accept_queue: int | None = None
    accept_queue_limit: int | None = None
    in_flight: int = 0
    threads: int = 0


@dataclass(slots=True)
class _Memory:
    """What is known of one worker's memory."""

    identity: tuple[int, int, int]
    due_ns: int
    private_bytes: int | None = None


class Sampler:
    """Takes samples of the workers.

    Runs in: control, in its loop's thread; a sample of 64 workers takes about a millisecond, and the memory of a few
    workers is read with it. Closes: nothing.

    Args: memory: returns the private bytes of a pid.
    """

    def __init__(
        self,
        scoreboard: Scoreboard,
        clock_ns: Callable[[], int] = monotonic_ns,
        memory: Callable[[int], int] = memory_private_bytes,
    ) -> None:
        self._scoreboard = scoreboard
        self._clock_ns = clock_ns
        self._read_memory = memory
        self._kept: deque[tuple[int, dict[int, Reading]]] = deque()
        self._memories: dict[int, _Memory] = {}
        self._keep(clock_ns(), self._read())

    def sample(self, *, with_memory: bool = True) -> tuple[WorkerSample, ...]:
        """Return what every worker does now: one for each slot that has one.

        Raises: nothing, whatever stands in the scoreboard. ``with_memory``: False reads no memory anew.
        """
        now_ns = self._clock_ns()
        readings = self._read()
        before = {slot: self._before(reading, now_ns) for slot, reading in readings.items()}
        self._keep(now_ns, readings)
        if with_memory:
            self._look_at_memory(readings, now_ns)
        return tuple(self._sampled(each, before[each.status.slot], now_ns) for each in readings.values())

    # ── readings ──

    def _read(self) -> dict[int, Reading]:
        found: dict[int, Reading] = {}
        for status in statuses(self._scoreboard):
            row = self._scoreboard.row(status.slot)
            if status.pid and status.state not in ("vacant", "exited") and len(row.cells) == CELLS_PER_ROW:
                found[status.slot] = _reading(status, row)
        return found

    def _keep(self, now_ns: int, readings: dict[int, Reading]) -> None:
        if not self._kept or now_ns - self._kept[-1][0] >= SHORTEST_NS:
            self._kept.append((now_ns, readings))
        while len(self._kept) > 1 and now_ns - self._kept[1][0] >= 2 * SPAN_NS:
            self._kept.popleft()

    def _before(self, now: Reading, now_ns: int) -> tuple[int, Reading] | None:
        """Return when and what to compare with: the youngest reading that is old enough, else the oldest there is.

        None: this worker was not seen before, or not lately.
        """
        found = None
        for at_ns, readings in reversed(self._kept):
            then = readings.get(now.status.slot)
            if then is None or then.identity != now.identity or now_ns - at_ns > LONGEST_NS:
                break
            if now_ns - at_ns >= SHORTEST_NS:
                found = at_ns, then
            if now_ns - at_ns >= SPAN_NS:
                break
        return found

    # ── figures ──

    def _sampled(self, now: Reading, before: tuple[int, Reading] | None, now_ns: int) -> WorkerSample:
        status, load = now.status, now.status.load
        memory = self._memories.get(status.slot)
        sample = WorkerSample(
            slot=status.slot,
            seat=now.seat,
            pid=status.pid,
            life=status.state,
            generation=now.generation,
            age_s=_age_s(now_ns, now.spawned_ns),
            connections=counted(status.active),
            limit=now.limit if 0 < now.limit < MOST else None,
            accepted=counted(status.accepted),
            requests=counted(status.requests),
            errors=now.errors,
            pauses=now.pauses,
            lag_max_s=_seconds(load.lag_max_ns),
            memory_bytes=memory.private_bytes if memory and memory.identity == now.identity else None,
            heartbeat_age_s=_age_s(now_ns, now.heartbeat_ns),
            measured_ns=_true(load.measured_ns),
            accept_queue=_true(load.accept_queue),
            accept_queue_limit=_true(load.accept_queue_limit),
            in_flight=now.in_flight,
            threads=now.threads,
        )
        if before is None:
            return sample
        return _with_rates(sample, now, before[1], (now_ns - before[0]) / SECOND)

    # ── memory ──

    def _look_at_memory(self, readings: dict[int, Reading], now_ns: int) -> None:
        """Read the memory of the workers that are due, longest overdue first, for as long as one tick may take."""
        for slot in self._memories.keys() - readings.keys():
            del self._memories[slot]
        for slot, reading in readings.items():
            known = self._memories.get(slot)
            if known is None or known.identity != reading.identity:
                self._memories[slot] = _Memory(reading.identity, now_ns)
        until_ns = now_ns + SECOND // 50
        for memory in sorted(self._memories.values(), key=lambda each: each.due_ns):
            began_ns = self._clock_ns()
            if memory.due_ns > now_ns or began_ns >= until_ns:
                break
            memory.private_bytes = self._private_bytes(memory.identity[1])
            took_ns = self._clock_ns() - began_ns
            memory.due_ns = now_ns + max(MEMORY_EVERY_NS, MEMORY_SHARE * took_ns)

    def _private_bytes(self, pid: int) -> int | None:
        try:
            return self._read_memory(pid)
        except (OSError, ValueError, OverflowError):  # it ended; it is not ours; the pid is garbage
            return None


def _reading(status: WorkerStatus, row: Row) -> Reading:
    return Reading(
        status=status,
        seat=counted(row[Cell.SEAT]),
        generation=counted(row[Cell.GENERATION]),
        spawned_ns=row[Cell.SPAWNED_NS],
        heartbeat_ns=row[Cell.HEARTBEAT_NS],
        limit=row[Cell.LIMIT],
        # An exception of an HTTP application is both: a response of 500, and a connection that failed.
        errors=max(counted(row[Cell.HANDLER_ERRORS]), counted(row[Cell.SERVER_ERRORS])),
        pauses=counted(row[Cell.PAUSES]),
        in_flight=counted(row[Cell.IN_FLIGHT]),
        threads=counted(row[Cell.THREADS]),
    )


def _with_rates(sample: WorkerSample, now: Reading, then: Reading, looked_s: float) -> WorkerSample:
    use = now.status.since(then.status)
    elapsed_s = use.elapsed_s if use is not None else looked_s
    if use is None and sample.life in TURNING and (sample.heartbeat_age_s or 0) * SECOND >= STUCK_NS:
        use = _stuck(now.status.load, looked_s)
    return replace(
        sample,
        accepted_per_s=_rate(now.status.accepted, then.status.accepted, elapsed_s),
        requests_per_s=_rate(now.status.requests, then.status.requests, elapsed_s),
        errors_per_s=_rate(now.errors, then.errors, elapsed_s),
        loop_use=use.loop if use else None,
        run_queue=use.run_queue if use else None,
        lag_s=use.lag_s if use else None,
    )


def _stuck(load: WorkerLoad, looked_s: float) -> WorkerUse:
    """Return what a loop does that has not turned since: it is in the middle of something all the time."""
    return WorkerUse(looked_s, loop=None if load.loop_busy_ns is None else 1.0, cpu=None, run_queue=None, lag_s=None)


def _rate(now: int, then: int, elapsed_s: float) -> float | None:
    return (now - then) / elapsed_s if MOST > now >= then and elapsed_s > 0 else None


def _true(value: int | None) -> int | None:
    return value if value is not None and value < MOST else None


def _seconds(value_ns: int | None) -> float | None:
    return value_ns / SECOND if value_ns is not None and value_ns < MOST else None


def _age_s(now_ns: int, since_ns: int) -> float | None:
    """Return how long ago that was; None: never, or not yet."""
    return (now_ns - since_ns) / SECOND if 0 < since_ns <= now_ns else None


def is_ready(sample: WorkerSample) -> bool:
    """Return whether the worker serves and takes what comes."""
    return sample.life == Life.READY.name.lower()
