"""The ladder of a drain, on connections that only remember what they were told; and SIGTERM to a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hybrid.connection.farewell import Farewell
from hybrid.connection.registry import Registry
from hybrid.shared.scoreboard import Scoreboard
from hybrid.worker.drain import REPEAT_S, Drain, DrainReport, Step, next_step
from tests.support.eventually import eventually_async


@pytest.mark.parametrize(
    ("step", "since_s", "expected"),
    [
        (Step.SERVE, 0.0, Step.DRAIN),
        (Step.DRAIN, REPEAT_S / 2, Step.DRAIN),
        (Step.DRAIN, REPEAT_S, Step.CANCEL),
        (Step.CANCEL, REPEAT_S / 2, Step.CANCEL),
        (Step.CANCEL, REPEAT_S, Step.CUT),
        (Step.CUT, REPEAT_S, Step.CUT),
    ],
)
def test_each_signal_skips_a_step(step: Step, since_s: float, expected: Step) -> None:
    """The first SIGTERM drains, the second cancels, the third cuts; two in one moment are one."""
    assert next_step(step, since_s) is expected


class Guest:
    """A connection that leaves when it is told ``leaves_at``."""

    def __init__(self, registry: Registry, leaves_at: str = "") -> None:
        self._registry = registry
        self._leaves_at = leaves_at
        self.told: list[str] = []
        registry.add(self)

    def start_draining(self) -> None:
        self._hear("drain")

    def cancel(self) -> None:
        self._hear("cancel")

    def abort(self) -> None:
        self._hear("abort")

    def _hear(self, what: str) -> None:
        self.told.append(what)
        if what == self._leaves_at:
            self._registry.remove(self)


@pytest.fixture
def registry() -> Iterator[Registry]:
    scoreboard = Scoreboard.create(1, 0)
    row = scoreboard.use_slot(0)
    yield Registry(row)
    row.cells.release()
    scoreboard.close()


def draining(registry: Registry, grace_s: float, *, last: bool = False) -> tuple[Drain, asyncio.Task[DrainReport]]:
    """Begin a drain."""
    drain = Drain(registry, Farewell())
    drain.shorten(grace_s, abort=False, last=last)
    return drain, asyncio.get_running_loop().create_task(drain.run())


async def test_connections_that_leave_when_told_are_told_one_after_another(registry: Registry) -> None:
    """While others accept: the first is told well before the last, and nobody is cancelled."""
    guests = [Guest(registry, "drain") for _ in range(100)]
    _, task = draining(registry, 300.0)
    await eventually_async(lambda: 0 < registry.active < 100)
    assert await asyncio.wait_for(task, 10) == DrainReport(100, 0, 0, 0)
    assert all(guest.told == ["drain"] for guest in guests)


async def test_stop_in_the_middle_tells_the_rest_at_once(registry: Registry) -> None:
    """A reload drains; then everybody leaves: nothing is spread any more."""
    guests = [Guest(registry, "drain") for _ in range(10_000)]
    drain, task = draining(registry, 300.0)
    await eventually_async(lambda: registry.active < 10_000)
    assert registry.active > 1000
    drain.shorten(300.0, abort=False, last=True)
    assert registry.active == 0
    await asyncio.wait_for(task, 20)
    assert all(guest.told == ["drain"] for guest in guests)


async def test_nobody_is_cancelled_before_it_was_told(registry: Registry) -> None:
    """The wish to cancel in the middle of the spread: who was not told yet is told first."""
    guests = [Guest(registry, "cancel") for _ in range(1000)]
    drain, task = draining(registry, 300.0)
    await eventually_async(lambda: any(guest.told for guest in guests))
    drain.shorten(0.0, abort=False, last=False)
    assert await asyncio.wait_for(task, 20) == DrainReport(1000, 1000, 0, 0)
    assert all(guest.told == ["drain", "cancel"] for guest in guests)


async def test_connection_that_has_left_is_not_told(registry: Registry) -> None:
    """One that ends by itself before its moment hears nothing more."""
    guests = [Guest(registry) for _ in range(100)]
    _, task = draining(registry, 300.0)
    await asyncio.sleep(0)
    for guest in guests:
        registry.remove(guest)
    told = [list(guest.told) for guest in guests]
    await asyncio.wait_for(task, 20)
    assert [guest.told for guest in guests] == told


async def test_no_grace_goes_straight_to_the_end(registry: Registry) -> None:
    """Grace 0: told, cancelled; a second later cut; half a second later left behind."""
    guest = Guest(registry)
    _, task = draining(registry, 0.0)
    assert await asyncio.wait_for(task, 10) == DrainReport(1, 1, 1, 1)
    assert guest.told == ["drain", "cancel", "abort", "cancel"]
