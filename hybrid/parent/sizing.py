"""How many workers should serve now. Pure: the figures come from the sensors, time included.

:func:`decide` is called about ten times a second while there is work, and says how many workers should serve or be
about to (booting ones count as capacity). Everything it remembers is in the :class:`Memory` that it is given and
returns. docs/explanation/sizing.md tells why each term is there, and what the simulation says of it.

Runs in: parent.
Source: S. Halfin, W. Whitt, "Heavy-Traffic Limits for Queues with Many Exponential Servers", Operations Research 29
(1981): with N = D + β√D servers for a demand of D, how many must wait does not depend on how large the system is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

NEVER = float("-inf")
NO_LIMIT = 1 << 20
"""More workers than there can be."""


class Reason(Enum):
    """Why the size is what it is."""

    DEMAND = "demand"  # the work that is there, or about to be, needs more
    QUEUE = "queue"  # connections wait to be accepted, and CPUs are free
    LAG = "lag"  # loops are late though CPUs are free: something blocks them
    CONTENDED = "contended"  # workers wait for CPUs: more of them would wait more
    THROTTLED = "throttled"  # the cgroup's CPU quota is used up
    MEMORY = "memory"  # another worker would not fit
    CALM = "calm"  # less has been needed for a while
    HOLD = "hold"  # less is needed, but not for long enough
    STEADY = "steady"  # as many as needed
    BOUNDS = "bounds"  # the least or the most that was asked for


@dataclass(frozen=True, slots=True)
class Observation:
    """What the sensors saw in one window, since the last decision. Erlangs: loop-seconds per second.

    ``busy``: Erlangs in which the serving workers' loops ran callbacks, computing or blocked, without ``run_queue``.
    ``run_queue``: Erlangs in which their loops' threads were runnable and waited for a CPU.
    ``accepted``: arrivals per second: requests where they are counted, else connections.
    ``queue``: connections that wait to be accepted now.
    ``lag_s``: the median over the workers of the worst lateness of a loop in the window.
    ``serving``: READY and accepting. ``booting``: STARTING. ``parked``: booted, can serve within milliseconds.
    ``throttled``: the cgroup held us up in the window. ``can_grow``: False when memory is short.
    ``boot_s``: how long a boot took lately. ``on_cpu``: Erlangs in which the loops' threads had a CPU; None: unknown.
    """

    now: float
    window_s: float
    busy: float
    run_queue: float
    accepted: float
    queue: int
    lag_s: float
    serving: int
    booting: int = 0
    parked: int = 0
    throttled: bool = False
    can_grow: bool = True
    boot_s: float = 1.0
    on_cpu: float | None = None


@dataclass(frozen=True, slots=True)
class SizingSettings:
    """The bounds, and the constants of the formula.

    ``cores``: CPUs' worth of time that the process may use; may be a fraction. ``standby`` is the pool's to keep: a
    parked worker is not part of the size, but what is parked can grow sooner.
    """

    least: int
    most: int
    standby: int = 0
    cores: float = 1.0
    beta: float = 0.65
    """Headroom, in square roots of the demand. 0.5 is frugal, 1.5 buys latency."""
    tardy_s: float = 0.02
    """With loops as late as this on the average, the headroom doubles: what is waited for takes long."""
    drain_s: float = 0.25
    """How soon what is queued should have been taken."""
    came_s: float = 0.35
    """Arrivals: over which time they are averaged."""
    quick_s: float = 0.5
    """Busy loops: over which time they are averaged to see them rise …"""
    fast_s: float = 2.0
    """… to grow by …"""
    steady_s: float = 3.0
    """… and to shrink by."""
    slow_s: float = 10.0
    """What was wanted this long ago is still wanted."""
    cost_s: float = 20.0
    """Over which time is averaged what an arrival costs, how late loops are, and how much of their work computes."""
    full: float = 0.85
    """Loops that are busier than this show no more than their number."""
    piled: float = 1.0
    """A queue with more than this for each worker is one that loops do not get to."""
    wait_s: float = 0.05
    """A queue whose last waits longer than this, for …"""
    queued_for_s: float = 0.3
    """… this long, asks for one more worker, whatever the demand looks like."""
    late_s: float = 0.1
    """Loops that are later than this, for …"""
    late_for_s: float = 0.75
    """… this long, ask for one more."""
    hold_s: float = 2.0
    """Between two steps down. Longer after one that was wrong."""
    settle_s: float = 5.0
    """From a step up to the next one down: whoever has come needs time to get work."""
    hold_most_s: float = 30.0
    crowded_hold_s: float = 10.0
    """Between two steps down to the number of cores, while workers wait for CPUs."""
    crowded: float = 0.25
    """Which share of the time that loops want a CPU they may wait for one; half of it once it was more."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from one decision to the next. ``Memory()`` is the start.

    Averages forget exponentially. ``work``, ``computed``, ``arrivals`` and ``lag_s`` do so at the same pace, so that
    their ratios mean something. ``peaks``: the most that was wanted, by stretch of time, newest last. ``hold_s``: how
    long to wait between two steps down; 0: as the settings say.
    """

    target: int = 0
    watched_s: float = 0.0
    quick: float = 0.0
    demand: float = 0.0
    steady: float = 0.0
    run_queue: float = 0.0
    arriving: float = 0.0
    work: float = 0.0
    computed: float | None = None
    arrivals: float = 0.0
    lag_s: float = 0.0
    queue: int = 0
    queued_since: float | None = None
    late_since: float | None = None
    peaks: tuple[tuple[float, int], ...] = ()
    grown_at: float = NEVER
    shrunk_at: float = NEVER
    crowded_at: float = NEVER
    hold_s: float = 0.0

    @property
    def cost_s(self) -> float:
        """Loop-seconds that one arrival costs; 0: not known yet."""
        return self.work / self.arrivals if self.arrivals > 0 else 0.0

    @property
    def waiting_share(self) -> float:
        """Which share of the time that loops want a CPU they wait for one, 0 to 1."""
        wanted = self.quick + self.run_queue
        return self.run_queue / wanted if wanted > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many should serve, why in one word, why in a line for people, and the figures it was made of."""

    target: int
    reason: Reason
    words: str
    memory: Memory
    inputs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Demand:
    """The terms of the formula, in Erlangs, and the workers that they ask for.

    ``busy``: what loops do. ``hidden``: what arrives beyond that, and full loops cannot show. ``rising``: what will
    have been added when a worker has booted. ``queued``: what takes the queue away in time.
    """

    busy: float
    hidden: float
    rising: float
    queued: float
    want: int


def decide(observation: Observation, settings: SizingSettings, memory: Memory) -> Decision:
    """Return how many workers should serve, and what to remember until the next decision.

    Never outside ``least`` and ``most``. Never more than before while contended, throttled or short of memory.
    At most twice as many as before, at least one less. Raises: nothing.
    """
    before = _before(observation, settings, memory)
    seen = _absorb(observation, settings, replace(memory, target=before))
    demand = _demand(observation, settings, seen)
    target, reason = _choose(observation, settings, seen, demand)
    inputs = _inputs(observation, seen, demand)
    after = _remember(observation.now, settings, seen, target)
    return Decision(target, reason, _words(before, target, reason, inputs), after, inputs)


def _before(observation: Observation, settings: SizingSettings, memory: Memory) -> int:
    """The size that is in force: what was decided last, not what happens to live: the dead are being replaced."""
    size = memory.target or observation.serving + observation.booting
    return min(settings.most, max(settings.least, size))


def _absorb(observation: Observation, settings: SizingSettings, memory: Memory) -> Memory:
    """Return the memory with this window taken in."""
    now, window_s = observation.now, max(observation.window_s, 1e-3)
    watched_s = memory.watched_s + window_s

    def mean(old: float, new: float, over_s: float) -> float:
        # At first the plain mean of what was seen: an average that starts from nothing would grow too late.
        return old + (new - old) * max(-math.expm1(-window_s / over_s), window_s / watched_s)

    came = max(0.0, observation.accepted + (observation.queue - memory.queue) / window_s)
    computed = observation.on_cpu
    if computed is not None:
        computed = mean(memory.computed or 0.0, computed, settings.cost_s)
    queued = observation.queue > settings.wait_s * observation.accepted
    late = observation.lag_s > settings.late_s
    seen = replace(
        memory,
        watched_s=watched_s,
        quick=mean(memory.quick, observation.busy, settings.quick_s),
        demand=mean(memory.demand, observation.busy, settings.fast_s),
        steady=mean(memory.steady, observation.busy, settings.steady_s),
        run_queue=mean(memory.run_queue, observation.run_queue, settings.quick_s),
        arriving=mean(memory.arriving, came, settings.came_s),
        work=mean(memory.work, observation.busy, settings.cost_s),
        computed=computed,
        arrivals=mean(memory.arrivals, observation.accepted, settings.cost_s),
        lag_s=mean(memory.lag_s, observation.lag_s, settings.cost_s),
        queue=observation.queue,
        queued_since=_since(memory.queued_since, now, queued),
        late_since=_since(memory.late_since, now, late),
    )
    crowded_at = now if seen.waiting_share > settings.crowded else seen.crowded_at
    return replace(seen, peaks=_peaks(now, settings, seen), crowded_at=crowded_at)


def _since(since: float | None, now: float, still: bool) -> float | None:
    return (now if since is None else since) if still else None


def _peaks(now: float, settings: SizingSettings, memory: Memory) -> tuple[tuple[float, int], ...]:
    """Return the most that was wanted lately, by tenths of the slow window.

    Of the steady demand only: what it takes to catch up, once, is no reason to stay large.
    """
    want = _workers(memory.steady, settings, memory)
    kept = tuple(peak for peak in memory.peaks if now - peak[0] < settings.slow_s)
    if kept and now - kept[-1][0] < settings.slow_s / 10:
        return (*kept[:-1], (kept[-1][0], max(kept[-1][1], want)))
    return (*kept, (now, want))


# ── what is wanted ───────────────────────────────────────────────────────────────────────────────────────────────


def _demand(observation: Observation, settings: SizingSettings, memory: Memory) -> _Demand:
    """Return what is needed when a worker that is started now has booted."""
    busy, hidden = memory.demand, 0.0
    serving = observation.serving
    if observation.queue > settings.piled * serving or memory.quick > settings.full * serving:
        # One connection keeps one loop busy at most, however much it has cost by the time it ends.
        hidden = max(0.0, memory.quick - busy, memory.arriving * min(1.0, memory.cost_s) - busy)
    ahead_s = 0.0 if observation.parked else observation.boot_s
    slope = max(0.0, memory.quick - busy) / (settings.fast_s - settings.quick_s)
    rising = min(slope * ahead_s, busy + hidden)
    queued = observation.queue * min(1.0, memory.cost_s / settings.drain_s)
    return _Demand(busy, hidden, rising, queued, _workers(busy + hidden + rising + queued, settings, memory))


def _workers(demand: float, settings: SizingSettings, memory: Memory) -> int:
    """Return how many workers a demand asks for: itself and headroom, unless CPUs are the limit."""
    # Waiting costs as much as what is waited for takes: the longer loops are held, the fewer should have to wait.
    beta = settings.beta * (1.0 + min(1.0, memory.lag_s / settings.tardy_s))
    return min(max(1, math.ceil(demand + beta * math.sqrt(demand))), _useful(settings, memory))


def _useful(settings: SizingSettings, memory: Memory) -> int:
    """Return how many loops can be busy before CPUs are: one a core if they compute, more if they are blocked."""
    if memory.computed is None or memory.work <= 0.0:
        return NO_LIMIT
    computing = min(1.0, max(memory.computed / memory.work, 1.0 / NO_LIMIT))
    return math.ceil(0.9 * settings.cores / computing)  # a tenth: loops that only compute measure as 90 % and more


def _wish(observation: Observation, settings: SizingSettings, memory: Memory, demand: _Demand) -> tuple[int, Reason]:
    """Return how many are wanted, bounds aside, and what asks for them. What was wanted lately still is."""
    size = memory.target
    if demand.want > size:
        alone = _workers(demand.busy + demand.rising, settings, memory)
        return demand.want, Reason.DEMAND if alone > size or not observation.queue else Reason.QUEUE
    settled = observation.serving >= size and observation.now - memory.grown_at > settings.quick_s
    if settled and size < _useful(settings, memory):
        if _lasts(memory.queued_since, observation.now, settings.queued_for_s):
            return size + 1, Reason.QUEUE
        if _lasts(memory.late_since, observation.now, settings.late_for_s):
            return size + 1, Reason.LAG
    lately = max(want for _start, want in memory.peaks)
    return max(demand.want, min(size, lately)), Reason.STEADY


def _lasts(since: float | None, now: float, for_s: float) -> bool:
    return since is not None and now - since >= for_s


# ── what is done about it ────────────────────────────────────────────────────────────────────────────────────────


def _choose(observation: Observation, settings: SizingSettings, memory: Memory, demand: _Demand) -> tuple[int, Reason]:
    """Return the new size and the reason for it."""
    size = memory.target
    want, reason = _wish(observation, settings, memory, demand)
    if want < size:
        return _down(observation.now, settings, memory, max(want, settings.least))
    barred = _barred(observation, settings, memory)
    if barred in (Reason.CONTENDED, Reason.THROTTLED) and size > max(settings.least, math.ceil(settings.cores)):
        held = _is_held(observation.now, settings, memory, settings.crowded_hold_s)
        return (size if held else size - 1), barred
    if want == size:
        return size, Reason.STEADY
    if barred is not None:
        return size, barred
    target = min(want, 2 * size, settings.most)
    return target, reason if target > size else Reason.BOUNDS


def _barred(observation: Observation, settings: SizingSettings, memory: Memory) -> Reason | None:
    """Return why more workers would not help, or None."""
    if observation.throttled:
        return Reason.THROTTLED
    lately = observation.now - memory.crowded_at < settings.crowded_hold_s
    if memory.waiting_share > (settings.crowded / 2 if lately else settings.crowded):
        return Reason.CONTENDED
    return None if observation.can_grow else Reason.MEMORY


def _down(now: float, settings: SizingSettings, memory: Memory, floor: int) -> tuple[int, Reason]:
    """Return one less, if more than ``floor`` are left and the last step is long enough ago."""
    size = memory.target
    if size <= floor:
        return size, Reason.BOUNDS
    held = _is_held(now, settings, memory, memory.hold_s or settings.hold_s)
    return (size, Reason.HOLD) if held else (size - 1, Reason.CALM)


def _is_held(now: float, settings: SizingSettings, memory: Memory, hold_s: float) -> bool:
    """Return whether it is too early for a step down: after the last step, or before anybody knows what is needed."""
    fresh = now - memory.grown_at < max(settings.settle_s, hold_s)
    return memory.watched_s < settings.slow_s or now - memory.shrunk_at < hold_s or fresh


def _remember(now: float, settings: SizingSettings, memory: Memory, target: int) -> Memory:
    """Return the memory after a decision: when it grew and shrank, and how long to hold."""
    hold_s = memory.hold_s or settings.hold_s
    if target > memory.target:
        if now - memory.shrunk_at < max(2 * hold_s, settings.slow_s):  # it should not have shrunk
            hold_s = min(settings.hold_most_s, hold_s * 1.5)
        return replace(memory, target=target, grown_at=now, hold_s=hold_s)
    if target < memory.target:
        return replace(memory, target=target, shrunk_at=now, hold_s=max(settings.hold_s, hold_s * 0.9))
    return replace(memory, target=target)


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────


def _inputs(observation: Observation, memory: Memory, demand: _Demand) -> dict[str, float]:
    return {
        "busy": round(demand.busy, 3),
        "hidden": round(demand.hidden, 3),
        "rising": round(demand.rising, 3),
        "queued": round(demand.queued, 3),
        "want": demand.want,
        "waiting_share": round(memory.waiting_share, 3),
        "queue": observation.queue,
        "arrivals_per_s": round(memory.arriving, 1),
        "cost_s": round(memory.cost_s, 6),
        "lag_s": round(observation.lag_s, 4),
        "serving": observation.serving,
        "booting": observation.booting,
        "parked": observation.parked,
    }


def _words(before: int, target: int, reason: Reason, inputs: dict[str, float]) -> str:
    """Return one line for people: what was decided, why, and from which figures."""
    step = f"{before} → {target}" if target != before else f"{target}"
    more = inputs["hidden"] + inputs["rising"] + inputs["queued"]
    return (
        f"{step} workers ({reason.value}): {inputs['busy']:.2f} loops busy and {more:.2f} to come,"
        f" {inputs['queue']:.0f} queued, lag {inputs['lag_s'] * 1e3:.0f} ms,"
        f" {inputs['waiting_share']:.0%} of the time waiting for a CPU"
    )
