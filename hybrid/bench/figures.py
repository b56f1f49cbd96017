"""Statistics of what was measured. Pure; standard library only.

A figure is compared by the ratios of the rounds, never by two medians of different moments, and comes with the
interval of the order statistics: it makes no assumption about the distribution, which on a shared machine has tails.
Source: the sign test's interval of a median (binomial, p = 1/2).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SHARES = (0.5, 0.75, 0.9, 0.99, 0.999, 0.9999)
"""The percentiles that are printed, as in an HDR histogram."""
FEW = 10
"""With fewer samples beyond a percentile it is a guess, and is marked as one."""
LEAST_ROUNDS = 6
"""With fewer, even the smallest and the largest do not enclose the median with 95 %."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of paired ratios, and its 95 % interval. With fewer than LEAST_ROUNDS: the range."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:5.2f} [{self.low:.2f}-{self.high:.2f}]"

    @property
    def tells(self) -> bool:
        """Whether the interval leaves out 1: there is a difference."""
        return not self.low <= 1 <= self.high


def ratio(values: Sequence[float]) -> Ratio:
    """Return the median of ``values`` with the order statistics that cover it with at least 95 %."""
    ordered = sorted(values)
    count = len(ordered)
    rank = 0  # the largest k with P(Binomial(n, 1/2) < k) <= 2.5 %
    tail = 0.0
    while rank < count // 2:
        tail += math.comb(count, rank) / 2**count
        if tail > 0.025:
            break
        rank += 1
    low = max(rank - 1, 0)
    return Ratio(statistics.median(ordered), ordered[low], ordered[count - 1 - low])


def paired(values: Sequence[float], against: Sequence[float]) -> Ratio | None:
    """Return the ratio of two candidates that took turns, round by round; None if either measured nothing."""
    pairs = [value / other for value, other in zip(values, against, strict=False) if other > 0]
    return ratio(pairs) if pairs else None


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile. ``beyond``: samples above it, by count; with too few of them ``seconds`` says little."""

    share: float
    seconds: float
    beyond: int

    @property
    def is_sure(self) -> bool:
        """Whether enough samples lie beyond it."""
        return self.beyond >= FEW


def percentile(ordered: Sequence[float], share: float) -> Percentile | None:
    """Return the smallest sample with at least ``share`` of all samples at or below it; None: no samples beyond.

    Exact: from all samples, by nearest rank. Args: ordered: sorted, ascending.
    """
    count = len(ordered)
    rank = math.ceil(share * count - 1e-9)
    if count == 0 or (rank >= count and share < 1 and count > 1):
        return None
    rank = min(max(rank, 1), count)
    return Percentile(share, ordered[rank - 1], count - rank)


@dataclass(frozen=True, slots=True)
class Latencies:
    """All samples of one measurement, summed up."""

    count: int
    percentiles: tuple[Percentile, ...]
    """Those of SHARES that the number of samples allows."""
    max_s: float

    def at(self, share: float) -> float | None:
        """Return a percentile in seconds, if there were samples enough to have one."""
        return next((each.seconds for each in self.percentiles if each.share == share), None)


def latencies(samples: Sequence[float]) -> Latencies:
    """Sum up ``samples``, in any order."""
    ordered = sorted(samples)
    found = (percentile(ordered, share) for share in SHARES)
    return Latencies(len(ordered), tuple(each for each in found if each), ordered[-1] if ordered else 0.0)


def variation(counts: Sequence[int]) -> float:
    """Return the coefficient of variation, standard deviation ÷ mean: 0 is perfectly even; of nothing it is 0."""
    mean = statistics.fmean(counts) if counts else 0.0
    return statistics.pstdev(counts) / mean if mean else 0.0


def median(values: Sequence[float]) -> float:
    """Return the median; of nothing, not-a-number."""
    return statistics.median(values) if values else math.nan
