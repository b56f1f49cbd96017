"""When a worker has served enough: after so many requests, so long, or with so much memory of its own.

It only says so. The parent starts another worker, and drains this one when that is ready; until then it serves as
before. That hides leaks; it mends none.

Each worker draws its own limits, up to ``--recycle-jitter`` percent above what was asked for, so that workers which
were started together do not wear out together.

**What memory costs to read.** The exact figure, smaps_rollup, is a walk over all pages, 1 to 12 ms per 100 MB, in
which the loop stands still. But private memory is a part of resident memory, which is to be had at once: the walk is
only made when that is near the limit, and takes one part in ``READ_SHARE`` of the time at most.

**Before memory wears a worker out** it gives back what nobody holds: what malloc(3) keeps, and garbage in cycles that
the interpreter has not met yet. A collection takes 0.1 to 0.4 µs for each container, with the loop standing still: more
than a second in a worker with 500 MB of dicts. A replacement holds up nobody, so a large worker is not collected.

Source: proc(5); gc.collect(); malloc_trim(3), glibc only.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hybrid.ground.clock import monotonic
from hybrid.ground.states import Cause
from hybrid.shared.procfs import MemoryUse, memory_estimate, memory_use
from hybrid.shared.recycling_settings import RecyclingSettings

_log = logging.getLogger("hybrid.error")

READ_EVERY_S = 2.0
"""Between two looks at the memory, at least."""
READ_SHARE = 200
"""Looking at the memory takes at most one part in so many of the time."""
NEAR = 7 / 8
"""Of the limit: below this much resident memory, the private part of it need not be known."""
RELIEF_EVERY_S = 60.0
"""Between two attempts to give memory back, at least."""
COLLECT_MOST_BYTES = 128 << 20
"""Private memory up to which garbage is collected for it: 0.3 s at worst, when all of it is small containers."""


@dataclass(frozen=True, slots=True)
class Worn:
    """Which limit was reached: requests, whole seconds, or bytes."""

    reason: Cause
    value: int
    limit: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one worker, drawn; 0: none."""

    uses: int = 0
    lifetime_s: float = 0.0
    memory_bytes: int = 0

    @classmethod
    def drawn(cls, settings: RecyclingSettings, uniform: Callable[[float, float], float]) -> Limits:
        """Raise each limit by a part of the jitter. Args: uniform: returns a number between two."""
        most = settings.jitter_percent / 100
        if settings.max_requests_jitter < 0:
            more = settings.max_requests * uniform(0.0, most)
        else:
            more = uniform(0.0, settings.max_requests_jitter)
        return cls(
            settings.max_requests and settings.max_requests + round(more),
            settings.max_lifetime_s * (1 + uniform(0.0, most)),
            round(settings.max_memory_bytes * (1 + uniform(0.0, most))),
        )


def own_draw(low: float, high: float) -> float:
    """Return a number between two. From the system: an app may have seeded Python's generator for its own ends."""
    return random.SystemRandom().uniform(low, high)


def relieve(*, collect: bool) -> None:
    """Give back what nobody holds. Args: collect: also look for garbage in cycles, which takes its time."""
    if collect:
        gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another C library, which has no such call


@dataclass(frozen=True, slots=True)
class Memory:
    """How a worker looks at its own memory, and what it can do about it. Tests bring their own."""

    estimate: Callable[[], MemoryUse] = lambda: memory_estimate(os.getpid())
    measure: Callable[[], MemoryUse] = lambda: memory_use(os.getpid())
    relieve: Callable[..., None] = relieve


@dataclass(slots=True)
class Wear:
    """Asked four times a second whether the worker has served enough.

    Runs in: worker, in its loop. Raises: nothing; memory that cannot be read is no reason. Counts the time from when
    it is made.
    """

    limits: Limits
    clock: Callable[[], float] = monotonic
    memory: Memory = field(default_factory=Memory)
    _born: float = field(init=False)
    _read_at: float = field(init=False)
    _relief_at: float = field(init=False)
    _is_new: bool = field(default=True, init=False)
    """Whether its memory was never looked at."""
    _worn: Worn | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._born = self._read_at = self._relief_at = self.clock()

    @classmethod
    def of(cls, settings: RecyclingSettings) -> Wear | None:
        """Return this worker's; None: it serves for ever. The limits are drawn here, after the fork."""
        return cls(Limits.drawn(settings, own_draw)) if settings.has_limits else None

    def look(self, uses: int) -> Worn | None:
        """Return the first limit that was reached, from then on always the same; None: go on.

        Args: uses: requests, or connections, so far.
        """
        if self._worn is None:
            self._worn = self._look(uses, self.clock())
        return self._worn

    def _look(self, uses: int, now: float) -> Worn | None:
        limits, age_s = self.limits, now - self._born
        if limits.uses and uses >= limits.uses:
            return Worn(Cause.REQUESTS, uses, limits.uses)
        if limits.lifetime_s and age_s >= limits.lifetime_s:
            return Worn(Cause.LIFETIME, int(age_s), int(limits.lifetime_s))
        if limits.memory_bytes and now >= self._read_at:
            return self._look_at_memory(now)
        return None

    def _look_at_memory(self, now: float) -> Worn | None:
        limit, was_new, self._is_new = self.limits.memory_bytes, self._is_new, False
        try:
            private_bytes = self._private_bytes(now)
        except OSError as error:
            self._forget_memory(f"cannot read the worker's private memory: {error}. Mount /proc")
            return None
        if private_bytes < limit:
            return None
        if was_new:  # its replacement would be born so, too
            has = f"a worker that has served nothing has {private_bytes >> 20} MB of its own"
            self._forget_memory(f"{has}, more than its limit of {limit >> 20} MB. Raise it")
            return None
        return Worn(Cause.MEMORY, private_bytes, limit)

    def _forget_memory(self, why: str) -> None:
        _log.warning("%s; until then --max-memory has no effect here", why)
        self.limits = replace(self.limits, memory_bytes=0)

    def _private_bytes(self, now: float) -> int:
        """Return the private memory, or anything less than the limit where it is. Raises: OSError."""
        limit = self.limits.memory_bytes
        try:
            if self.memory.estimate().resident_bytes < limit * NEAR:
                return 0
            private_bytes = self.memory.measure().private_bytes
        finally:
            self._read_at = now + max(READ_EVERY_S, READ_SHARE * (self.clock() - now))
        if private_bytes < limit or now < self._relief_at:
            return private_bytes
        self._relief_at = now + RELIEF_EVERY_S
        self.memory.relieve(collect=gc.isenabled() and private_bytes <= COLLECT_MOST_BYTES)
        left_bytes = self.memory.measure().private_bytes
        if left_bytes < limit:
            what = (
                "private memory was %d MB, above --max-memory; %d MB are left now that what nobody held is given back"
            )
            _log.info(what, private_bytes >> 20, left_bytes >> 20)
        return left_bytes
