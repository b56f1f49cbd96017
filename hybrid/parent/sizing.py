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

    ``cores``: CPUs' worth of time that the process may use; may be a fraction.
    ``beta``: headroom, in square roots of the demand. 0.5 is frugal, 1.5 buys latency.
    """

    least: int
    most: int
    standby: int = 0
    cores: float = 1.0
    beta: float = 0.65
    drain_s: float = 1.0
    quick_s: float = 0.5
    fast_s: float = 2.0
    steady_s: float = 3.0
    slow_s: float = 10.0
    cost_s: float = 20.0
    hold_s: float = 2.0
    tardy_s: float = 0.02
    came_s: float = 0.5
    full: float = 0.85
    piled: float = 1.0
    hold_most_s: float = 120.0
    contended_share: float = 0.25
    late_s: float = 0.1
    late_for_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from one decision to the next. ``Memory()`` is the start.

    Averages forget exponentially. ``work`` and ``arrivals`` do so at the same pace: their ratio is what an arrival
    costs. ``peaks``: the most that was wanted, by stretch of time, newest last. ``hold_s``: how long to wait between
    two steps down; 0: as the settings say.
    """

    target: int = 0
    watched_s: float = 0.0
    demand: float = 0.0
    steady: float = 0.0
    quick: float = 0.0
    run_queue: float = 0.0
    arriving: float = 0.0
    work: float = 0.0
    computed: float | None = None
    lag_s: float = 0.0
    arrivals: float = 0.0
    queue: int = 0
    queued_since: float | None = None
    late_since: float | None = None
    peaks: tuple[tuple[float, int], ...] = ()
    grown_at: float = NEVER
    shrunk_at: float = NEVER
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
    """The terms of the formula, in Erlangs, and the workers that they ask for."""

    now: float
    rising: float
    queued: float
    want: int

    @property
    def total(self) -> float:
        return self.now + self.rising + self.queued


def decide(observation: Observation, settings: SizingSettings, memory: Memory) -> Decision:
    """Return how many workers should serve, and what to remember until the next decision.

    Never outside ``least`` and ``most``. Never more than before while contended, throttled or short of memory.
    At most twice as many as before, at least one less.
    """
    before = _before(observation, settings, memory)
    seen = _absorb(observation, settings, replace(memory, target=before))
    demand = _demand(observation, settings, seen)
    calm = _workers(seen.steady, settings, seen)
    seen = replace(seen, peaks=_peaks(observation.now, settings, seen, calm))
    target, reason = _choose(observation, settings, seen, demand)
    after = _remember(observation, settings, seen, target)
    inputs = _inputs(observation, seen, demand)
    return Decision(target, reason, _words(before, target, reason, inputs), after, inputs)


def _before(observation: Observation, settings: SizingSettings, memory: Memory) -> int:
    """The size that is in force: what was decided last, not what happens to live: the dead are being replaced."""
    size = memory.target or observation.serving + observation.booting
    return min(settings.most, max(settings.least, size))


def _absorb(observation: Observation, settings: SizingSettings, memory: Memory) -> Memory:
    """Let the averages take in this window."""
    window_s = max(observation.window_s, 1e-3)
    watched_s = memory.watched_s + window_s

    def mean(old: float, new: float, over_s: float) -> float:
        # At first the plain mean of what was seen: an average that starts from nothing would grow too late.
        return old + (new - old) * max(-math.expm1(-window_s / over_s), window_s / watched_s)

    came = observation.accepted + (observation.queue - memory.queue) / window_s
    late = observation.lag_s > settings.late_s
    return replace(
        memory,
        watched_s=watched_s,
        demand=mean(memory.demand, observation.busy, settings.fast_s),
        steady=mean(memory.steady, observation.busy, settings.steady_s),
        quick=mean(memory.quick, observation.busy, settings.quick_s),
        run_queue=mean(memory.run_queue, observation.run_queue, settings.quick_s),
        arriving=mean(memory.arriving, max(0.0, came), settings.came_s),
        lag_s=mean(memory.lag_s, observation.lag_s, settings.cost_s),
        computed=None if observation.on_cpu is None else mean(memory.computed or 0.0, observation.on_cpu, settings.cost_s),
        work=mean(memory.work, observation.busy, settings.cost_s),
        arrivals=mean(memory.arrivals, observation.accepted, settings.cost_s),
        queue=observation.queue,
        queued_since=(memory.queued_since or observation.now) if observation.queue else None,
        late_since=(memory.late_since or observation.now) if late else None,
    )


def _demand(observation: Observation, settings: SizingSettings, memory: Memory) -> _Demand:
    """Return what is needed one boot from now."""
    now = memory.demand
    if observation.queue > settings.piled * observation.serving or memory.quick > settings.full * observation.serving:
        # Loops that are full show no more than their number: what arrives, times what an arrival costs, does.
        now = max(now, memory.quick, memory.arriving * memory.cost_s)
    ahead_s = 0.0 if observation.parked else observation.boot_s
    slope = max(0.0, memory.quick - memory.demand) / (settings.fast_s - settings.quick_s)
    rising = min(slope * ahead_s, now)
    queued = observation.queue * memory.cost_s / settings.drain_s
    return _Demand(now, rising, queued, _workers(now + rising + queued, settings, memory))


def _workers(demand: float, settings: SizingSettings, memory: Memory) -> int:
    """Return how many workers a demand asks for: itself and headroom, unless CPUs are the limit."""
    # Waiting costs as much as what is waited for takes: the longer loops are held, the fewer should have to wait.
    beta = settings.beta * (1.0 + min(1.0, memory.lag_s / settings.tardy_s))
    return min(math.ceil(demand + beta * math.sqrt(demand)), _useful(settings, memory))


def _useful(settings: SizingSettings, memory: Memory) -> int:
    """Return how many loops can be busy before CPUs are: one a core if they compute, more if they are blocked."""
    if memory.computed is None or memory.computed <= 0.0 or memory.work <= 0.0:
        return settings.most
    return math.ceil(settings.cores / min(1.0, memory.computed / memory.work) - 0.05)


def _peaks(now: float, settings: SizingSettings, memory: Memory, want: int) -> tuple[tuple[float, int], ...]:
    """Return the highest wishes of the slow window, in tenths of it."""
    tenth_s = settings.slow_s / 10
    kept = tuple(peak for peak in memory.peaks if now - peak[0] < settings.slow_s)
    if kept and now - kept[-1][0] < tenth_s:
        return (*kept[:-1], (kept[-1][0], max(kept[-1][1], want)))
    return (*kept, (now, want))


def _choose(observation: Observation, settings: SizingSettings, memory: Memory, demand: _Demand) -> tuple[int, Reason]:
    """Return the new size and the reason for it."""
    before = memory.target
    crowded = memory.waiting_share > settings.contended_share
    if crowded or observation.throttled:
        reason = Reason.THROTTLED if observation.throttled else Reason.CONTENDED
        return _down(observation, settings, memory, max(math.ceil(settings.cores), settings.least), reason)
    want, reason = _wish(observation, settings, memory, demand)
    if want > before and not observation.can_grow:
        return before, Reason.MEMORY
    if want > before:
        target = min(want, 2 * before, settings.most)
        return target, reason if target > before else Reason.BOUNDS
    if want < before:
        return _down(observation, settings, memory, max(want, settings.least), Reason.CALM)
    return before, Reason.STEADY


def _wish(observation: Observation, settings: SizingSettings, memory: Memory, demand: _Demand) -> tuple[int, Reason]:
    """Return how many are wanted, bounds aside, and what asks for them. What has been wanted lately still is."""
    lately = max(want for _start, want in memory.peaks)
    calm = max(min(lately, memory.target), demand.want)
    if demand.want > memory.target:
        queued = demand.queued > demand.now - memory.demand + demand.rising
        return demand.want, Reason.QUEUE if queued else Reason.DEMAND
    settled = observation.serving >= memory.target and observation.now - memory.grown_at > settings.quick_s
    settled = settled and memory.target < _useful(settings, memory)
    for since, reason in ((memory.queued_since, Reason.QUEUE), (memory.late_since, Reason.LAG)):
        if settled and since is not None and observation.now - since >= settings.late_for_s:
            return memory.target + 1, reason
    return calm, Reason.STEADY


def _down(
    observation: Observation, settings: SizingSettings, memory: Memory, floor: int, reason: Reason
) -> tuple[int, Reason]:
    """Return one less, if more than ``floor`` are left and the last step is long enough ago."""
    if memory.target <= floor:
        return memory.target, reason if reason is not Reason.CALM else Reason.BOUNDS
    hold_s = memory.hold_s or settings.hold_s
    if observation.now - max(memory.shrunk_at, memory.grown_at) < hold_s:
        return memory.target, reason if reason is not Reason.CALM else Reason.HOLD
    return memory.target - 1, reason


def _remember(observation: Observation, settings: SizingSettings, memory: Memory, target: int) -> Memory:
    """Return the memory after a decision: when it grew and shrank, and how long to hold."""
    now, hold_s = observation.now, memory.hold_s or settings.hold_s
    if target > memory.target:
        flapped = now - memory.shrunk_at < 2 * hold_s
        hold_s = min(settings.hold_most_s, hold_s * 1.5) if flapped else hold_s
        return replace(memory, target=target, grown_at=now, hold_s=hold_s)
    if target < memory.target:
        return replace(memory, target=target, shrunk_at=now, hold_s=max(settings.hold_s, hold_s * 0.9))
    return memory


def _inputs(observation: Observation, memory: Memory, demand: _Demand) -> dict[str, float]:
    return {
        "demand": round(demand.now, 3),
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
    return (
        f"{step} workers ({reason.value}): {inputs['demand']:.2f} loops busy, {inputs['rising']:.2f} more by the time"
        f" one has booted, {inputs['queued']:.2f} for {inputs['queue']:.0f} queued; {inputs['waiting_share']:.0%} of"
        f" the time spent waiting for a CPU; lag {inputs['lag_s'] * 1e3:.0f} ms"
    )
