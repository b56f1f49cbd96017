"""Real loops under known loads: what the meter says against two clocks of the test's own.

Guaranteed by what the words mean, on however busy a machine: a loop cannot have waited while a callback held it, nor
while the test's own coroutine was running. So the clocks around the two parts of a cycle are hard bounds; only how
close the meter comes to them may suffer from noise.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from hybrid.meters.loop_use import IdleClock
from hybrid.worker.loops import new_loop, new_measured_loop

PERIOD_NS = 8_000_000
CYCLES = 25
STRETCHES = 20
"""Looked at, until one is not disturbed by others that want the CPU."""

Measured = tuple[asyncio.AbstractEventLoop, IdleClock]


@pytest.fixture(params=["uvloop", "asyncio"])
def measured(request: pytest.FixtureRequest) -> Iterator[Measured]:
    """A new loop of each kind, and its clock."""
    loop, idle = new_measured_loop(request.param)
    assert idle is not None
    yield loop, idle
    loop.close()


@dataclass
class Run:
    """What the test's clocks and the meter say about a stretch of time."""

    wall_ns: int = 0
    held_ns: int = 0
    """How long the loop was held by the load: it cannot have waited."""
    away_ns: int = 0
    """How long the load was away: the loop cannot have waited any longer than that."""
    idle_ns: int = 0
    """What the meter says."""

    @property
    def busy(self) -> float:
        """The meter's share of busy time."""
        return 1 - self.idle_ns / self.wall_ns


def spin(until_ns: int) -> None:
    """Compute until then."""
    while time.monotonic_ns() < until_ns:
        pass


def block(until_ns: int) -> None:
    """Wait until then without computing, and without letting the loop go on: what a blocking driver does."""
    threading.Event().wait(max(0, until_ns - time.monotonic_ns()) / 1e9)


def load(measured: Measured, share: float, hold: Callable[[int], None] = spin) -> Run:
    """Hold the loop for a share of each period, wait for the rest of it; return what the clocks say."""
    loop, idle = measured
    run = Run()

    async def cycles() -> None:
        began_ns, idle_ns = time.monotonic_ns(), idle.idle_ns()
        assert idle_ns is not None
        for _ in range(CYCLES):
            came_ns = time.monotonic_ns()
            if share:
                hold(came_ns + round(share * PERIOD_NS))
            left_ns = time.monotonic_ns()
            run.held_ns += left_ns - came_ns
            rest_s = (1 - share) * PERIOD_NS / 1e9
            if rest_s:
                due = asyncio.Event()
                loop.call_later(rest_s, due.set)
                await due.wait()
            run.away_ns += time.monotonic_ns() - left_ns
        run.idle_ns = (idle.idle_ns() or 0) - idle_ns
        run.wall_ns = time.monotonic_ns() - began_ns

    loop.run_until_complete(cycles())
    return run


@pytest.mark.parametrize("hold", [spin, block])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_meter_says_what_share_was_busy(measured: Measured, share: float, hold: Callable[[int], None]) -> None:
    """Computing or blocked, the loop is busy; the rest it waits. How close the meter comes, a quiet stretch tells."""

    def is_close() -> bool:
        run = load(measured, share, hold)
        assert run.held_ns <= run.wall_ns - run.idle_ns, "time that the load held the loop counted as waiting"
        assert run.idle_ns <= run.away_ns, "more waiting than there was time for"
        return run.busy == pytest.approx(1 - run.away_ns / run.wall_ns, abs=0.15)

    assert any(is_close() for _ in range(STRETCHES)), "the meter counts waiting as busy"


def test_meter_tells_loads_apart(measured: Measured) -> None:
    """More load, more use; the same clocks say by how much."""

    def are_told_apart() -> bool:
        light, heavy = load(measured, 0.25), load(measured, 0.9)
        wanted = light.away_ns / light.wall_ns - heavy.away_ns / heavy.wall_ns
        return heavy.busy > light.busy and heavy.busy - light.busy == pytest.approx(wanted, abs=0.2)

    assert any(are_told_apart() for _ in range(STRETCHES))


def test_loop_with_callbacks_to_run_does_not_wait(measured: Measured) -> None:
    """Turn after turn without a pause: no waiting is counted, though each turn asks the kernel what is ready."""
    loop, idle = measured

    async def turns() -> tuple[int, int]:
        before, began_ns = idle.idle_ns() or 0, time.monotonic_ns()
        for _ in range(500):
            await asyncio.sleep(0)
        return (idle.idle_ns() or 0) - before, time.monotonic_ns() - began_ns

    waited_ns, wall_ns = loop.run_until_complete(turns())
    assert waited_ns <= wall_ns / 100


def test_loop_that_always_finds_something_does_not_wait(measured: Measured) -> None:
    """A descriptor that is always ready: the loop asks with leave to wait, but need not."""
    loop, idle = measured
    done = asyncio.Event()
    turns = 0

    def read() -> None:
        nonlocal turns
        turns += 1
        if turns == 500:
            loop.remove_reader(left)
            done.set()

    async def serve() -> tuple[int, int]:
        loop.add_reader(left, read)
        before, began_ns = idle.idle_ns() or 0, time.monotonic_ns()
        await done.wait()
        return (idle.idle_ns() or 0) - before, time.monotonic_ns() - began_ns

    left, right = socket.socketpair()
    with left, right:
        right.send(b"!")
        waited_ns, wall_ns = loop.run_until_complete(serve())
    assert waited_ns <= wall_ns / 50


def test_clock_runs_from_the_first_turn(measured: Measured) -> None:
    """It begins with the loop, at zero."""
    loop, idle = measured
    assert idle.idle_ns() == 0
    load((loop, idle), 0.0)
    assert (idle.idle_ns() or 0) > 0


@pytest.mark.parametrize("name", ["uvloop", "asyncio"])
def test_new_loop_is_not_measured(name: str) -> None:
    """Who does not ask for a clock does not pay for it: the loops of ``workers=0`` are plain."""
    plain, (loop, _) = new_loop(name), new_measured_loop(name)
    try:
        assert type(plain) is type(loop)
        assert type(getattr(plain, "_selector", None)).__name__ != "TimedSelector"
    finally:
        plain.close()
        loop.close()
