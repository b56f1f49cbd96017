"""The rules of others for the number of workers, as we read their documentation and source; ours, not their code.

Where a rule leaves something open, it is set in the rule's favour, and the docstring says so.
"""

from __future__ import annotations

import math
from collections import deque

from tests.simulation.pool import Pool
from tests.simulation.scenarios import Scenario
from tests.simulation.worker import Stand, Worker


class Static:
    """As many as were asked for."""

    every_s = 1.0
    standby = 0
    parks = False

    def __init__(self, size: int) -> None:
        self.size = size

    def first(self, scenario: Scenario) -> int:
        """Begin, and stay."""
        return self.size

    def target(self, pool: Pool) -> int:
        """Return the one size."""
        return self.size


class Rival:
    """What the rules below share: they begin with two, stay within the bounds, and end what they do not need."""

    every_s = 1.0
    standby = 0
    parks = False

    def __init__(self) -> None:
        self.size = 2
        self.most = 2

    def first(self, scenario: Scenario) -> int:
        """Begin with two."""
        self.most = scenario.most
        return self.size

    def target(self, pool: Pool) -> int:
        """Return the next size, within the bounds."""
        self.size = min(self.most, max(1, self.next(pool)))
        return self.size

    def next(self, pool: Pool) -> int:
        """Return the next size."""
        raise NotImplementedError


class Spare(Rival):
    """httpd's prefork: between MinSpareServers and MaxSpareServers without a request. Ours: 2 and 4.

    Once a second: too few, and 1, 2, 4 … 32 are started; too many, and one is ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._starts = 1

    def next(self, pool: Pool) -> int:
        """Keep two to four without a request."""
        idle = sum(not worker.held for worker in pool.serving()) + pool.number(Stand.BOOTING)
        if idle < 2:
            starts, self._starts = self._starts, min(32, 2 * self._starts)
            return self.size + starts
        self._starts = 1
        return self.size - 1 if idle > 4 else self.size


class Busyness(Rival):
    """uWSGI's cheaper busyness: the share of time that workers have a request, on the average over 3 s.

    Above 50 % one is started, below 25 % for ten cycles one is ended; a queue above 33 starts one at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._used: dict[Worker, float] = {}
        self._looked_at = 0.0
        self._calm = 0

    def next(self, pool: Pool) -> int:
        """Keep workers busy for a quarter to a half of the time."""
        if len(pool.line.waiting) > 33:
            return self.size + 1
        passed = pool.clock.now - self._looked_at
        if passed < 3:
            return self.size
        self._looked_at = pool.clock.now
        used = {worker: worker.in_use_s() for worker in pool.serving()}
        shares = [(now - self._used.get(worker, 0.0)) / passed for worker, now in used.items() if worker in self._used]
        self._used = used
        share = sum(shares) / len(shares) if shares else 1.0
        self._calm = self._calm + 1 if share < 0.25 else 0
        if share > 0.5:
            return self.size + 1
        if self._calm >= 10:
            self._calm = 0
            return self.size - 1
        return self.size


class Backlog(Rival):
    """uWSGI's cheaper backlog: each second one more while more than 3 wait, one less while fewer do."""

    def next(self, pool: Pool) -> int:
        """Follow the queue."""
        waiting = len(pool.line.waiting)
        return self.size + 1 if waiting > 3 else self.size - 1 if waiting < 3 else self.size


class _Usage:
    """The mean share of time that the serving workers' loops look busy: the wait for a CPU counts, too."""

    def __init__(self) -> None:
        self._busy: dict[Worker, float] = {}
        self._at = 0.0

    def read(self, pool: Pool) -> float:
        """Return the share since the last reading."""
        busy = {worker: worker.busy_s() for worker in pool.serving()}
        passed = pool.clock.now - self._at
        shares = [(now - self._busy[worker]) / passed for worker, now in busy.items() if worker in self._busy]
        self._busy, self._at = busy, pool.clock.now
        return sum(shares) / len(shares) if shares else 0.0


class Autoscaler(Rival):
    """Kubernetes' horizontal autoscaler, on raw loop use: size × use ÷ 65 %, unless within a tenth of that.

    In its favour: it looks each second at the last second's figure (not every 15 s at a minute's), and takes the
    highest wish of the last 30 s (not of five minutes) before it shrinks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._usage = _Usage()
        self._wishes: deque[int] = deque(maxlen=30)

    def next(self, pool: Pool) -> int:
        """Aim at a use of 65 %."""
        ratio = self._usage.read(pool) / 0.65
        wish = self.size if abs(ratio - 1) <= 0.1 else math.ceil(self.size * ratio)
        self._wishes.append(wish)
        return max(self._wishes) if wish < self.size else wish


class Regulator(Rival):
    """A PID regulator on raw loop use, aimed at 65 %, each second; the sum of errors is bounded (no wind-up)."""

    def __init__(self) -> None:
        super().__init__()
        self._usage = _Usage()
        self._sum = 0.0
        self._last = 0.0

    def next(self, pool: Pool) -> int:
        """Correct by the error, its sum and its change."""
        error = self._usage.read(pool) - 0.65
        self._sum = min(self.most / 2, max(-self.most / 2, self._sum + error))
        change, self._last = error - self._last, error
        return round(2 + 4 * error + 2 * self._sum + 1 * change)
