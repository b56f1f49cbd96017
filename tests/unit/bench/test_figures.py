"""Percentiles, ratios and variation are what their definitions say."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.bench.figures import SHARES, Latencies, latencies, paired, percentile, ratio, variation

samples = st.lists(st.floats(0, 100), min_size=1, max_size=300)


@given(samples, st.sampled_from(SHARES))
def test_percentile_is_the_smallest_sample_with_enough_at_or_below(values: list[float], share: float) -> None:
    """Nearest rank, from all samples; None rather than the maximum when nothing lies beyond."""
    ordered = sorted(values)
    found = percentile(ordered, share)
    need = math.ceil(share * len(ordered) - 1e-9)
    if found is None:
        assert need >= len(ordered)
        return
    assert found.seconds == ordered[max(need, 1) - 1]
    assert sum(value <= found.seconds for value in ordered) >= share * len(ordered) - 1e-9
    assert found.beyond == len(ordered) - max(need, 1)


def test_percentile_without_samples_beyond_it_is_unknown() -> None:
    """99 samples say nothing about one in a thousand."""
    ordered = [float(number) for number in range(99)]
    assert percentile(ordered, 0.999) is None
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(("count", "is_sure"), [(900, False), (1000, True)])
def test_percentile_with_few_samples_beyond_it_is_unsure(count: int, is_sure: bool) -> None:
    """p99 needs ten samples beyond it: a thousand in all."""
    found = percentile([float(number) for number in range(count)], 0.99)
    assert found is not None and found.is_sure is is_sure


def test_latencies_sum_up_in_any_order() -> None:
    """Sorted here, not by the caller."""
    found = latencies([0.003, 0.001, 0.002, 0.004])
    assert (found.count, found.max_s, found.at(0.5), found.at(0.99)) == (4, 0.004, 0.002, None)
    assert latencies([]) == Latencies(0, (), 0.0)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=60))
def test_interval_encloses_the_median(values: list[float]) -> None:
    """The order statistics lie around it."""
    found = ratio(values)
    assert found.low <= found.median <= found.high
    assert found.median == statistics.median(values)


@pytest.mark.parametrize(("count", "rank"), [(5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5)])
def test_interval_has_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    """As tabulated for 95 %."""
    found = ratio([float(number) for number in range(count)])
    assert (found.low, found.high) == (rank, count - 1 - rank)


def test_pairs_are_formed_round_by_round() -> None:
    """A slow round of both is no difference."""
    found = paired([1.0, 10.0, 100.0], [2.0, 20.0, 200.0])
    assert found is not None and (found.low, found.median, found.high) == (0.5, 0.5, 0.5)
    assert found.tells
    assert paired([1.0], [0.0]) is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((100, 100, 100, 100), 0.0), ((252, 152, 1539, 57), 1.208), ((0, 4), 1.0), ((), 0.0), ((0, 0), 0.0)],
)
def test_variation_is_deviation_over_mean(counts: tuple[int, ...], expected: float) -> None:
    """0 when even; of nothing it is 0 too."""
    assert variation(counts) == pytest.approx(expected, abs=0.001)
