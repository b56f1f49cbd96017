"""Who hears when that the worker drains: all at once at a stop, else each at a moment of its own, within the window."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from hybrid.connection.farewell import EACH_S, KEPT_CALL_S, LAST_CALL_S, SPREAD_S, Farewell

MANY = 100_000
"""Connections: enough for the longest spread."""


class Ear:
    """Counts how often it was told."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self) -> None:
        self.told += 1


def listen(farewell: Farewell, count: int) -> Callable[[], int]:
    """Let so many be told, each in its turn; return what counts those that were, and fails if one was twice."""
    ears = [Ear() for _ in range(count)]
    for ear in ears:
        farewell.in_turn(ear)

    def told() -> int:
        assert all(ear.told < 2 for ear in ears)
        return sum(ear.told for ear in ears)

    return told


@pytest.mark.parametrize(
    ("connections", "grace_s", "spread_s", "last_call_s"),
    [
        (3, 30.0, 3 * EACH_S, KEPT_CALL_S),
        (MANY, 30.0, SPREAD_S, KEPT_CALL_S),
        (MANY, 4.0, 2.0, 1.0),
        (MANY, 0.0, 0.0, 0.0),
        (0, 30.0, 0.0, KEPT_CALL_S),
    ],
)
async def test_window_fits_into_the_grace(
    connections: int, grace_s: float, spread_s: float, last_call_s: float
) -> None:
    """As long as so many connections need, half of the grace at most; with the last call three quarters of it."""
    farewell = Farewell()
    farewell.begin(connections, grace_s, last=False)
    assert (farewell.spread_s, farewell.last_call_s) == (spread_s, last_call_s)
    assert farewell.spread_s + farewell.last_call_s <= 0.75 * grace_s


async def test_at_a_stop_everybody_is_told_at_once() -> None:
    """Nobody else accepts: there is nobody to spread the newcomers for."""
    farewell = Farewell()
    farewell.begin(MANY, 30.0, last=True)
    assert listen(farewell, 100)() == 100
    assert farewell.last_call_s == LAST_CALL_S


async def test_each_is_told_once_and_not_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments are spread: after half of the time some have been told, and some not; at the end all."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    farewell = Farewell()
    farewell.begin(MANY, 30.0, last=False)
    told = listen(farewell, 500)
    seen = [told()]
    for _ in range(10):
        now += farewell.spread_s / 10
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append(told())
    assert (seen[0], seen[-1]) == (0, 500)
    assert all(before < after for before, after in itertools.pairwise(seen))
    assert 150 < seen[5] < 350


@pytest.mark.parametrize(("grace_s", "last"), [(30.0, True), (0.0, False)], ids=["a stop", "no time"])
async def test_later_wish_ends_the_spread(grace_s: float, last: bool) -> None:
    """A stop in the middle of a reload, or less time: whoever has not been told is told now."""
    farewell = Farewell()
    farewell.begin(MANY, 30.0, last=False)
    told = listen(farewell, 100)
    assert told() == 0
    farewell.begin(MANY, grace_s, last=last)
    assert told() == 100
    assert farewell.last_call_s <= LAST_CALL_S
    assert listen(farewell, 1)() == 1


async def test_later_wish_never_gives_more_time() -> None:
    """A stop that is followed by a wish with more patience is still a stop."""
    farewell = Farewell()
    farewell.begin(MANY, 30.0, last=True)
    farewell.begin(MANY, 300.0, last=False)
    assert listen(farewell, 10)() == 10
    assert farewell.last_call_s == LAST_CALL_S


async def test_application_may_wait_for_it() -> None:
    """Whoever waits before the drain, in it or behind it is woken; a wait that is given up leaves nothing behind."""
    farewell = Farewell()
    notice = farewell.notice()
    waits = [asyncio.ensure_future(notice["wait"]()) for _ in range(20)]
    given_up = asyncio.ensure_future(notice["wait"]())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert len(farewell._waiters) == 20
    assert not notice["draining"]()
    farewell.begin(MANY, 0.2, last=False)
    assert notice["draining"]()
    waits += [asyncio.ensure_future(notice["wait"]()) for _ in range(20)]
    await asyncio.sleep(0)
    assert not all(wait.done() for wait in waits)
    await asyncio.wait_for(asyncio.gather(*waits), 20)
    await asyncio.wait_for(notice["wait"](), 20)
    assert not farewell._waiters
