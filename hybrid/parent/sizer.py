"""Sizes the pool: looks some times a second, has :func:`~hybrid.parent.sizing.decide` decide, and tells the core.

It decides nothing while the pool is something else than it will be: while it boots, reloads, is parked as a whole, or
leaves. It goes on looking, so that the next decision is about the time since then.

Runs in: parent. Nothing here waits.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life
from hybrid.parent import events as ev
from hybrid.parent.guards import Guards, Verdict
from hybrid.parent.pool import Duty, Pool
from hybrid.parent.resizing import is_held_up
from hybrid.parent.sensors import Entrance, Sensors, measured
from hybrid.parent.sizing import Memory, Observation, Reason, SizingSettings, decide
from hybrid.shared import cgroup, procfs
from hybrid.shared.scoreboard import Scoreboard

SECOND = 1_000_000_000
LOOK_NS = SECOND // 10
"""Between two looks. The workers store what they measure four times a second, but the queue is as it is now."""
QUIET_LOOK_NS = SECOND // 2
"""The same while there are no more workers than must be, and none has anything to do."""
BARRED = (Reason.CONTENDED, Reason.THROTTLED, Reason.MEMORY)
"""What forbids to grow, though more is wanted."""
BARRED_NS = 30 * SECOND
"""It is said when it begins; and once more if it was over for so long."""
PACE_VARIABLE = "HYBRID_SIZING_PACE"
"""For tests only: what the times in which the pool shrinks are multiplied with. 0.1: ten times as fast."""


class Premises(Protocol):
    """What a sizer needs of the :class:`~hybrid.parent.house.House`."""

    scoreboard: Scoreboard


class Sizer:
    """The pool's own judgement of its size.

    Runs in: parent. Closes: what its sensors opened, on :meth:`close`.
    """

    def __init__(
        self,
        house: Premises,
        pool: Callable[[], Pool],
        entrance: Entrance,
        events: deque[ev.Event],
        memory: Memory | None = None,
    ) -> None:
        """``events``: where decisions go. ``memory``: of the program before us."""
        self.memory = taken_over(memory or Memory())
        self._pool = pool
        self._events = events
        self._sensors = Sensors(house.scoreboard, entrance)
        self._guards = Guards(monotonic_ns)
        self._pace = pace(os.environ)
        self._cores = cores()
        self._due_ns = monotonic_ns() + LOOK_NS
        self._barred_due_ns = 0

    @property
    def deadline(self) -> float | None:
        """When :meth:`time_passed` is due. Monotonic seconds; None: the pool does not size itself."""
        return self._due_ns / SECOND if self._pool().is_sized else None

    def time_passed(self) -> None:
        """Look, if it is time to, and tell what follows."""
        now_ns, pool = monotonic_ns(), self._pool()
        if now_ns < self._due_ns or not pool.is_sized:
            return
        observation = self._sensors.observe(pool, now_ns)
        is_quiet = pool.target == pool.least and observation.busy < 0.01 and not observation.queue
        self._due_ns = now_ns + (QUIET_LOOK_NS if is_quiet else LOOK_NS)
        if is_held_up(pool):
            return
        has_threads = self._sensors.has_threads(pool)
        cores_to_fill = self._cores if has_threads else 0.0
        guarded = self._guards.look((slot.pid for slot in measured(pool)), cores_to_fill)
        on_cpu = None if has_threads else observation.on_cpu  # of the loops: what threads compute is not in it
        observation = replace(observation, throttled=guarded.throttled, on_cpu=on_cpu)
        observation = fit_cores(observation, pool.target, self._cores)
        observation, settings = fit_memory(observation, self._settings(pool), pool.target, guarded)
        if self.memory.target != pool.target:  # moved by hand, by a reload, or at the start
            self.memory = replace(self.memory, target=pool.target)
        decision = decide(observation, settings, self.memory)
        self.memory = decision.memory
        barred = decision.reason in BARRED and decision.inputs["want"] > pool.target
        is_news = barred and self._said_barred(now_ns)
        if decision.target != pool.target or has_surplus(pool) or is_news:
            inputs = {**decision.inputs, "busy": observation.busy, "memory_free": float(guarded.free_bytes)}
            self._events.append(
                ev.Sized(
                    decision.target,
                    decision.words,
                    tuple(sorted(inputs.items())),
                    self._sensors.loads(pool),
                    ev.LINGER_S * self._pace,
                    is_news,
                )
            )

    def _said_barred(self, now_ns: int) -> bool:
        """Return whether it is time to say that something forbids to grow."""
        is_due = now_ns >= self._barred_due_ns
        self._barred_due_ns = now_ns + BARRED_NS  # counted from the last time that it was so, said or not
        return is_due

    def loads(self) -> tuple[int, ...]:
        """Return the open connections of each slot."""
        return self._sensors.loads(self._pool())

    def close(self) -> None:
        """Close what was opened. May be called twice."""
        self._sensors.close()

    def _settings(self, pool: Pool) -> SizingSettings:
        plain = SizingSettings(pool.least, pool.most, pool.standby, self._cores)
        return replace(
            plain,
            slow_s=plain.slow_s * self._pace,
            settle_s=plain.settle_s * self._pace,
            hold_s=plain.hold_s * self._pace,
            hold_most_s=plain.hold_most_s * self._pace,
            crowded_hold_s=plain.crowded_hold_s * self._pace,
        )


def taken_over(memory: Memory) -> Memory:
    """Return the memory as it was before it travelled as JSON, which does not tell the kinds of numbers apart."""
    return replace(memory, peaks=tuple((start, int(want)) for start, want in memory.peaks))


def fit_cores(observation: Observation, target: int, cores: float) -> Observation:
    """Return what is seen as it counts for a pool of no more workers than there are CPUs.

    What they wait for CPUs is not each other's doing then: others use the machine. So to wait is to be busy, and with
    fewer workers than CPUs it does not even forbid to grow: one more gets one more share. Above that it is what it
    looks like: workers that hold each other up.
    """
    if target > math.ceil(cores):
        return observation
    waiting = observation.run_queue
    on_cpu = None if observation.on_cpu is None else observation.on_cpu + waiting  # what it would do if it could
    forbids = waiting if target == math.ceil(cores) else 0.0
    return replace(observation, busy=observation.busy + waiting, run_queue=forbids, on_cpu=on_cpu)


def fit_memory(
    observation: Observation, settings: SizingSettings, target: int, guarded: Verdict
) -> tuple[Observation, SizingSettings]:
    """Return both as memory allows: where it is short nobody is booted, but whoever is parked may serve again."""
    if guarded.can_boot:
        return observation, settings
    most = max(settings.least, min(settings.most, target + observation.parked))
    return replace(observation, can_grow=observation.parked > 0), replace(settings, most=most)


def has_surplus(pool: Pool) -> bool:
    """Return whether somebody is parked whom nobody needs to stand by."""
    spares = sum(slot.wanted and slot.duty is Duty.SPARE and slot.life is Life.PARKED for slot in pool.slots)
    return spares > pool.standby


def cores() -> float:
    """Return how many CPUs' worth of time we may use."""
    quota = cgroup.cgroup_cpu_quota()
    affinity = float(procfs.cpu_affinity())
    return affinity if quota is None else min(affinity, quota)


def pace(environ: Mapping[str, str]) -> float:
    """Return what ``HYBRID_SIZING_PACE`` says; 1 where it says nothing that makes sense."""
    try:
        value = float(environ.get(PACE_VARIABLE, "1"))
    except ValueError:
        return 1.0
    return value if math.isfinite(value) and value > 0 else 1.0
