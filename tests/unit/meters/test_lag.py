"""How late a tick was: every peak is seen, however seldom one looks."""

from __future__ import annotations

import random

from hybrid.meters.lag import HALF_NS, Lag

TICK_NS = 250_000_000


def run(lag: Lag, now_ns: int, late_ns: int) -> int:
    """Set the timer and let it come late; return the time then."""
    lag.expect(now_ns + TICK_NS)
    now_ns += TICK_NS + late_ns
    lag.tick(now_ns)
    return now_ns


def test_lateness_is_what_the_clock_says() -> None:
    """Total and highest, of several ticks."""
    lag = Lag()
    now_ns = 1_000
    for late_ns in (5, 80, 20):
        now_ns = run(lag, now_ns, late_ns)
    assert (lag.total_ns, lag.max_ns) == (105, 80)


def test_timer_that_comes_early_is_not_late() -> None:
    """Clocks of loops have steps: a millisecond too early is no lag, and makes no other tick's lag smaller."""
    lag = Lag()
    now_ns = run(lag, 0, 90)
    run(lag, now_ns, -1_000_000)
    assert (lag.total_ns, lag.max_ns) == (90, 90)


def test_first_tick_is_not_late() -> None:
    """Nobody expected it."""
    lag = Lag()
    lag.tick(10**15)
    assert (lag.total_ns, lag.max_ns) == (0, 0)


def test_reader_with_any_period_misses_no_peak() -> None:
    """One that looks every 10 s or more often sees it exactly; a rarer one sees that the total grew by as much."""
    for seed in range(20):
        dice = random.Random(seed)
        lag, now_ns = Lag(), dice.randrange(10**12)
        looked_ns, total_ns, highest_ns = now_ns, 0, 0
        for _ in range(400):
            late_ns = dice.choice((0, 0, 0, dice.randrange(3 * 10**9)))
            now_ns = run(lag, now_ns, late_ns)
            highest_ns = max(highest_ns, late_ns)
            if now_ns - looked_ns >= HALF_NS - 4 * 10**9 and dice.random() < 0.5:
                assert lag.total_ns - total_ns >= highest_ns
                if now_ns - looked_ns <= HALF_NS:
                    assert lag.max_ns >= highest_ns
                looked_ns, total_ns, highest_ns = now_ns, lag.total_ns, 0


def test_peak_is_forgotten_after_two_halves() -> None:
    """What was long ago does not look like now."""
    lag = Lag()
    now_ns = run(lag, 0, 10**9)
    while now_ns < 2 * HALF_NS:
        now_ns = run(lag, now_ns, 0)
    assert lag.max_ns == 0
    now_ns = run(lag, now_ns, 7)
    assert lag.max_ns == 7
    now_ns += 5 * HALF_NS
    lag.tick(now_ns)
    assert lag.max_ns == 0
    run(lag, now_ns, 50 * HALF_NS)
    assert lag.max_ns == 50 * HALF_NS
