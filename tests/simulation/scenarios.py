"""Loads, and the machines they fall on."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.worker import Step

Steps = Callable[[random.Random], list[tuple[Step, float]]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load over time. ``steps``: draws what one request does, last step first. ``fast``: the bars hold for it."""

    name: str
    says: str
    cores: int
    for_s: float
    rate: Callable[[float], float]
    steps: Steps
    most: int = 12
    boot_s: float = 0.05
    fast: bool = True


def half_and_half(compute_s: float, await_s: float) -> Steps:
    """Return requests that compute, await and compute again; each length drawn from an exponential distribution."""

    def draw(source: random.Random) -> list[tuple[Step, float]]:
        half = 2 / compute_s
        return [
            (Step.COMPUTE, source.expovariate(half)),
            (Step.AWAIT, source.expovariate(1 / await_s)),
            (Step.COMPUTE, source.expovariate(half)),
        ]

    return draw


def at_once(compute_s: float) -> Steps:
    """Return requests that only compute."""
    return lambda source: [(Step.COMPUTE, source.expovariate(1 / compute_s))]


def blocking(compute_s: float, block_s: float) -> Steps:
    """Return requests that hold the loop without a CPU, each for as long as the other: a driver that blocks."""
    return lambda source: [(Step.BLOCK, block_s), (Step.COMPUTE, source.expovariate(1 / compute_s))]


def step(now: float) -> float:
    """100, then 500, then 100 a second."""
    return 500.0 if 60 <= now < 105 else 100.0


def sine(now: float) -> float:
    """Between 60 and 540 a second, once a minute."""
    return 300.0 - 240.0 * math.cos(2 * math.pi * now / 60)


def flapping(now: float) -> float:
    """100 and 400 a second, five seconds each."""
    return 400.0 if now % 10 >= 5 else 100.0


_WORK = half_and_half(0.010, 0.030)

SCENARIOS = (
    Scenario("step", "8 cores; 100, 500, 100 requests/s; 10 ms of CPU, 30 ms awaited", 8, 150.0, step, _WORK),
    Scenario(
        "I/O-bound", "8 cores; 200 requests/s; 2 ms of CPU, 1 s awaited", 8, 60.0, lambda _now: 200.0,
        half_and_half(0.002, 1.0),
    ),
    Scenario(
        "overcommitted", "3 cores; 270 requests/s; 10 ms of CPU", 3, 90.0, lambda _now: 270.0, at_once(0.010),
    ),
    Scenario("sine", "8 cores; 60 to 540 requests/s, once a minute; as step", 8, 120.0, sine, _WORK),
    Scenario("flapping", "8 cores; 100 and 400 requests/s, 5 s each; as step", 8, 90.0, flapping, _WORK),
    Scenario(
        "blocking", "2 cores; 20, then 100 requests/s; 1 ms of CPU, 49 ms in a call that blocks the loop", 2, 120.0,
        lambda now: 100.0 if now >= 30 else 20.0, blocking(0.001, 0.049), 16,
    ),
    Scenario("slow boot", "as step, but a worker takes 4 s to boot", 8, 150.0, step, _WORK, 12, 4.0, False),
)  # fmt: skip
"""In the order of the table."""
