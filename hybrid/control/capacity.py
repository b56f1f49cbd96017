"""Spare capacity: what part of the pool nobody uses, and the weight that a balancer is to give to it.

One formula for everybody who asks: the agent that HAProxy checks, the metric ``hybrid_spare_ratio``, the page.

::

    use of a worker   the largest of loop use, connections / limit, and what its threads have to do / threads
                      (0 to 1)
    load              mean use of the workers that accept, plus the seconds that who comes now waits for them
                      (1: they are full; above: clients wait, and another machine would serve them sooner)
    present           workers that accept / workers that there are to be, at most 1
    spare             present × (1 − load), at least 0
    weight            present × (1 − load)        while load ≤ ½
                      present × 1 / (4 × load)    above; never below 1 %

Below one half, weight and spare are the same. Above it they are not, because a balancer closes a loop: weight decides
load, and load decides weight. Where a load is higher by one per cent, 1 − load is lower by load / (1 − load) per cent:
at a load of 80 %, by four. The other machine is then sent four per cent too much, and answers with sixteen: it swings.
1 / (4 × load) answers one per cent with one per cent, however high the load is and however old the figures are; it
joins 1 − load at one half, in value and in slope. What comes and goes within seconds is taken out by an average before
(:data:`SMOOTH_S`).

The part that is missing (``present``) is not averaged: it does not depend on the load, and a pool that has lost most
of its workers is to be spared at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hybrid.control.queues import accept_queue
from hybrid.control.sampler import WorkerSample, is_ready

SMOOTH_S = 5.0
"""Time constant of the average: after a step, two thirds of it are seen after so long."""
WAIT_S = 1.0
"""Waiting so long to be accepted counts as much as a pool that is full."""
MOST_LOAD = 25.0
"""Above it everything is the same: a weight of 1 %."""
LEAST_WEIGHT = 0.01
"""A pool that serves gets something: without any clients it would not be seen that it recovers. 0 % is DRAIN."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a pool can take. ``load``: of the workers that accept, 1 is full. ``present``: their part of all, 0 to 1."""

    load: float
    present: float

    @property
    def spare(self) -> float:
        """What part of the whole pool nobody uses, 0 to 1."""
        return self.present * max(0.0, 1.0 - self.load)

    @property
    def weight(self) -> float:
        """What part of its full share of the clients the pool is to get, 0.01 to 1; see the top of the file."""
        rest = 1.0 - self.load if self.load <= 0.5 else 1.0 / (4.0 * self.load)
        return max(LEAST_WEIGHT, self.present * rest)


def capacity(workers: Iterable[WorkerSample], wanted: int, *, own_queues: bool = False) -> Capacity:
    """Return what the pool can take at this moment.

    Args: workers: all of them, in whatever state; those that are ready count. wanted: how many are to be ready.
    own_queues: each has an accept queue of its own (``--accept reuseport``); else all see the same.
    """
    serving = [each for each in workers if is_ready(each)]
    if not serving:
        return Capacity(load=MOST_LOAD, present=0.0)
    use = sum(_use(each) for each in serving) / len(serving)
    load = min(MOST_LOAD, use + _waiting_s(serving, own_queues=own_queues) / WAIT_S)
    return Capacity(load, min(1.0, len(serving) / max(1, wanted)))


class Smoothed:
    """The average of what a pool can take, over the last seconds; the same whoever asks, and however often.

    Runs in: control.
    """

    def __init__(self) -> None:
        self._load = 0.0
        self._at_s = -math.inf

    def __call__(self, now: Capacity, at_s: float) -> Capacity:
        """Take in what is now, at ``at_s`` (monotonic); return the average. The first one is taken as it is."""
        if now.present > 0.0:  # who accepts nothing has no load to remember
            old = math.exp(-max(0.0, at_s - self._at_s) / SMOOTH_S)
            self._load = old * self._load + (1.0 - old) * now.load
            self._at_s = at_s
        return Capacity(self._load if now.present > 0.0 else now.load, now.present)


def _use(worker: WorkerSample) -> float:
    held = worker.connections / worker.limit if worker.limit else 0.0
    taken = (worker.in_flight if worker.requests else worker.connections) / worker.threads if worker.threads else 0.0
    return min(1.0, max(worker.loop_use or 0.0, held, taken))


def _waiting_s(serving: Sequence[WorkerSample], *, own_queues: bool) -> float:
    """Return how long a newcomer waits to be accepted: the queue, divided by how fast it is emptied (Little's law).

    A pool that accepts less than one a second is taken for one that accepts one: a single newcomer in the queue of a
    pool that had nothing to do is no sign of anything.
    """
    queue, _limit = accept_queue(serving, own_queues=own_queues)
    rate = sum(each.accepted_per_s or 0.0 for each in serving)
    return (queue or 0) / max(1.0, rate)
