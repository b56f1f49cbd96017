"""When a worker is worn out: the first limit it reaches, drawn with jitter, and memory that is looked at with care."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.ground.states import Cause
from hybrid.shared.procfs import MemoryUse, memory_private_bytes
from hybrid.shared.recycling_settings import RecyclingSettings
from hybrid.worker.wear import (
    COLLECT_MOST_BYTES,
    READ_EVERY_S,
    READ_SHARE,
    RELIEF_EVERY_S,
    Limits,
    Memory,
    Wear,
    Worn,
    own_draw,
    relieve,
)
from tests.support.connections import logged
from tests.support.forked import forked

MB = 1 << 20
LIMIT = 100 * MB


@dataclass
class World:
    """A clock and a process's memory, both moved by the test."""

    now: float = 1000.0
    private: int = 10 * MB
    shared: int = 0
    walk_s: float = 0.0
    walks: int = 0
    relieved_to: int | None = None
    reliefs: list[bool] = field(default_factory=list)
    """Of each, whether garbage was collected."""
    error: OSError | None = None

    def wear(self, **limits: float) -> Wear:
        """Return the wear of a worker that is ready now."""
        memory = Memory(self._estimate, self._measure, self._relieve)
        return Wear(Limits(**limits), lambda: self.now, memory)  # type: ignore[arg-type]  # the numbers fit

    def _estimate(self) -> MemoryUse:
        if self.error is not None:
            raise self.error
        resident = self.private + self.shared
        return MemoryUse(resident, resident, resident)

    def _measure(self) -> MemoryUse:
        self.walks += 1
        self.now += self.walk_s
        return MemoryUse(self.private, self.private + self.shared, self.private)

    def _relieve(self, *, collect: bool) -> None:
        self.reliefs.append(collect)
        if self.relieved_to is not None:
            self.private = self.relieved_to


@pytest.fixture
def world() -> World:
    return World()


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.integers(0, 10**9), st.floats(0, 10**6), st.integers(0, 2**50), st.integers(0, 100), st.floats(0, 1), st.data()
)
def test_jitter_raises_each_limit_within_its_bounds(
    requests: int, lifetime_s: float, memory: int, percent: int, share: float, data: st.DataObject
) -> None:
    """Never below what was asked for, never above it by more than the percentage; no limit stays none."""
    settings = RecyclingSettings(requests, -1, lifetime_s, memory, percent)
    limits = Limits.drawn(settings, lambda low, high: low + (high - low) * share)
    most = 1 + percent / 100
    assert requests <= limits.uses <= round(requests * most) + 1
    assert lifetime_s <= limits.lifetime_s <= lifetime_s * most * (1 + 1e-9)
    assert memory <= limits.memory_bytes <= round(memory * most) + 1
    assert (limits.uses == 0) == (requests == 0) and (limits.memory_bytes == 0) == (memory == 0)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0, 1))
def test_jitter_of_requests_is_gunicorns_where_it_is_given(requests: int, jitter: int, share: float) -> None:
    """So many requests more, whatever the percentage; 0 is none at all."""
    settings = RecyclingSettings(requests, jitter, jitter_percent=100)
    limits = Limits.drawn(settings, lambda low, high: low + (high - low) * share)
    assert requests <= limits.uses <= requests + jitter


def test_jitter_without_a_limit_makes_none() -> None:
    """--max-requests-jitter alone replaces nobody."""
    assert Limits.drawn(RecyclingSettings(max_requests_jitter=50), lambda low, high: high) == Limits()


def test_workers_of_one_mold_draw_differently() -> None:
    """Also when the app seeds the generator in each of them."""

    def draw() -> float:
        random.seed(7)
        return own_draw(0.0, 1.0)

    assert forked(draw) != forked(draw)


def test_worker_without_limits_has_no_wear() -> None:
    """The tick has nothing to ask."""
    assert Wear.of(RecyclingSettings(max_requests_jitter=5, jitter_percent=50)) is None
    assert Wear.of(RecyclingSettings(max_lifetime_s=1.0)) is not None


# ── what is reached first ────────────────────────────────────────────────────────────────────────────────────


def test_requests(world: World) -> None:
    """At the limit, not before."""
    wear = world.wear(uses=10)
    assert wear.look(9) is None
    assert wear.look(12) == Worn(Cause.REQUESTS, 12, 10)


def test_lifetime_counts_from_when_it_was_made(world: World) -> None:
    """In whole seconds on the wire."""
    wear = world.wear(lifetime_s=60.0)
    world.now += 59.9
    assert wear.look(10**9) is None
    world.now += 0.6
    assert wear.look(0) == Worn(Cause.LIFETIME, 60, 60)


def test_memory(world: World) -> None:
    """Private memory, not what is shared with others."""
    wear = world.wear(memory_bytes=LIMIT)
    assert wear.look(0) is None
    world.now += READ_EVERY_S
    world.private, world.shared = LIMIT - 1, LIMIT
    assert wear.look(0) is None
    world.now += READ_EVERY_S
    world.private = LIMIT + 5
    assert wear.look(0) == Worn(Cause.MEMORY, LIMIT + 5, LIMIT)


def test_limits_are_looked_at_in_the_order_of_their_cost(world: World) -> None:
    """All at once: the first of the table; the memory is not even read."""
    wear = world.wear(uses=1, lifetime_s=1.0, memory_bytes=LIMIT)
    world.now += 5
    world.private = 2 * LIMIT
    assert [found.reason for found in [wear.look(1)] if found] == [Cause.REQUESTS]
    wear = world.wear(lifetime_s=1.0, memory_bytes=LIMIT)
    world.now += 5
    assert [found.reason for found in [wear.look(1)] if found] == [Cause.LIFETIME]
    assert world.walks == 0


def test_what_was_reached_stays(world: World) -> None:
    """Asked again it says the same, though another limit is reached meanwhile."""
    wear = world.wear(uses=10, lifetime_s=60.0)
    first = wear.look(10)
    world.now += 100
    assert wear.look(99) is first is not None


# ── looking at memory ────────────────────────────────────────────────────────────────────────────────────────


def test_pages_are_not_walked_while_little_is_resident(world: World) -> None:
    """What is private is resident, too."""
    wear = world.wear(memory_bytes=LIMIT)
    for _ in range(10):
        world.now += READ_EVERY_S
        assert wear.look(0) is None
    assert world.walks == 0
    world.shared = LIMIT
    world.now += READ_EVERY_S
    wear.look(0)
    assert world.walks == 1


def test_memory_is_looked_at_every_two_seconds(world: World) -> None:
    """However often the tick comes."""
    wear = world.wear(memory_bytes=LIMIT)
    world.shared = LIMIT
    for _ in range(8 * int(READ_EVERY_S)):
        wear.look(0)
        world.now += 0.125
    assert world.walks == 1
    wear.look(0)
    assert world.walks == 2


def test_long_walk_is_made_less_often(world: World) -> None:
    """Half a percent of the time at most."""
    world.shared, world.walk_s = LIMIT, 0.05
    wear = world.wear(memory_bytes=LIMIT)
    wear.look(0)
    world.now += READ_SHARE * 0.05 - 0.06
    wear.look(0)
    assert world.walks == 1
    world.now += 0.02
    wear.look(0)
    assert world.walks == 2


def test_memory_that_cannot_be_read_is_no_reason(world: World) -> None:
    """It is said once; the other limits stay."""
    wear = world.wear(uses=10, memory_bytes=LIMIT)
    world.error = PermissionError(13, "Permission denied")
    with logged(logging.WARNING) as records:
        for _ in range(3):
            assert wear.look(0) is None
            world.now += READ_EVERY_S
    assert [record.getMessage() for record in records] == [
        "cannot read the worker's private memory: [Errno 13] Permission denied. Mount /proc; "
        "until then --max-memory has no effect here"
    ]
    assert wear.look(10) == Worn(Cause.REQUESTS, 10, 10)


def test_worker_that_is_born_above_the_limit_is_not_replaced_for_it(world: World) -> None:
    """The next one would be born so, too: a warning, and it serves."""
    world.private = 3 * LIMIT
    wear = world.wear(memory_bytes=LIMIT)
    with logged(logging.WARNING) as records:
        assert wear.look(0) is None
    assert "a worker that has served nothing has 300 MB of its own, more than its limit of 100 MB. Raise it" in (
        records[0].getMessage()
    )
    world.now += 100
    assert wear.look(0) is None


# ── giving back first ────────────────────────────────────────────────────────────────────────────────────────


def grown(world: World, to: int = LIMIT + 1) -> Wear:
    """Return the wear of a worker that has grown since it was ready."""
    wear = world.wear(memory_bytes=LIMIT)
    assert wear.look(0) is None
    world.now += READ_EVERY_S
    world.private = to
    return wear


def test_worker_that_can_give_back_enough_is_not_worn(world: World) -> None:
    """The log says so."""
    world.relieved_to = 40 * MB
    wear = grown(world)
    with logged(logging.INFO) as records:
        assert wear.look(0) is None
    assert world.reliefs == [True]
    assert records[0].getMessage().startswith("private memory was 100 MB, above --max-memory; 40 MB are left")


def test_worker_that_cannot_is_worn(world: World) -> None:
    """By what is left."""
    world.relieved_to = LIMIT + 7
    wear = grown(world, 2 * LIMIT)
    assert wear.look(0) == Worn(Cause.MEMORY, LIMIT + 7, LIMIT)


def test_giving_back_is_tried_once_a_minute(world: World) -> None:
    """Who grows again at once is worn; who needs its time gets another attempt."""
    world.relieved_to = 40 * MB
    wear = grown(world)
    assert wear.look(0) is None
    world.now += RELIEF_EVERY_S
    world.private = LIMIT + 1
    assert wear.look(0) is None
    world.now += READ_EVERY_S
    world.private = LIMIT + 2
    assert wear.look(0) == Worn(Cause.MEMORY, LIMIT + 2, LIMIT)
    assert world.reliefs == [True, True]


@pytest.mark.parametrize(("private", "enabled"), [(COLLECT_MOST_BYTES + 1, True), (LIMIT, False)])
def test_garbage_is_left_alone_where_that_takes_long_or_is_not_wanted(
    world: World, private: int, enabled: bool
) -> None:
    """A large heap, or an app that has switched the collector off; free memory is given back all the same."""
    wear = grown(world, private)
    if not enabled:
        gc.disable()
    try:
        wear.look(0)
    finally:
        gc.enable()
    assert world.reliefs == [False]


def test_cycles_are_given_back_for_real() -> None:
    """Of this process: 30 MB that only a cycle holds."""

    class Loop:
        def __init__(self) -> None:
            self.me, self.data = self, bytearray(b"x") * (30 * MB)

    relieve(collect=True)  # what earlier tests have left is not what is looked at
    gc.disable()
    try:
        Loop()
        before = memory_private_bytes(os.getpid())
        relieve(collect=False)
        assert memory_private_bytes(os.getpid()) > before - 15 * MB
        relieve(collect=True)
        assert memory_private_bytes(os.getpid()) < before - 15 * MB
    finally:
        gc.enable()


@pytest.mark.parametrize("broken", [lambda name: object(), lambda name: os.open("/nonexistent", 0)])
def test_c_library_without_the_call_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[object], object]
) -> None:
    """musl has none."""
    monkeypatch.setattr(ctypes, "CDLL", broken)
    relieve(collect=False)
