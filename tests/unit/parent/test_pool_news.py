"""What the service manager hears as the pool changes: each news once, lines of status not too often."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from hybrid.parent import pool as p
from hybrid.parent.pool_news import BETWEEN_S, MARGIN_S, PoolNews
from hybrid.parent.systemd import Notifier
from hybrid.shared.log_line import LogWriter, Style
from tests.support.systemd import Message, NotifySocket

PLAN = p.Plan(workers=3, preload="auto", grace_s=30.0, boot_s=60.0, boot_attempts=3)


class House:
    """What is needed of the house."""

    def __init__(self, notifier: Notifier) -> None:
        self.notifier = notifier
        self.stores = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        return ("127.0.0.1:1", "unix:/run/x")

    def store_listeners(self) -> None:
        self.stores += 1


class World:
    """A pool that changes, and who hears of it."""

    def __init__(self, ear: NotifySocket, watchdog_s: float = 0.0) -> None:
        self.ear = ear
        self.log_fd = os.memfd_create("log")
        self.house = House(Notifier(ear.name, LogWriter(self.log_fd, Style.TEXT, "debug", "parent"), watchdog_s))
        self.news = PoolNews(self.house)
        self.pool = p.Pool(PLAN)

    def becomes(self, pool: p.Pool, now: float) -> list[Message]:
        """Let the pool be so; return what is heard of it."""
        self.pool = pool
        self.news.follow(pool, now)
        return self.ear.so_far()

    def passes(self, now: float) -> list[Message]:
        self.news.time_passed(now)
        return self.ear.so_far()

    def close(self) -> None:
        self.house.notifier.close()
        os.close(self.log_fd)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with NotifySocket(str(tmp_path / "notify")) as ear:
        world = World(ear)
        yield world
        world.close()


def slots(*lives: Life, deadline: float | None = None) -> tuple[p.Slot, ...]:
    return tuple(p.Slot(index, life, pid=1, deadline=deadline) for index, life in enumerate(lives))


def serving(*lives: Life) -> p.Pool:
    return p.Pool(PLAN, phase=p.Phase.RUNNING, announced=True, slots=slots(*lives), mold=p.Mold(deadline=None))


READY, DEAD = Life.READY, Life.VACANT


def test_boot_asks_for_the_time_that_it_may_take(world: World) -> None:
    """Of the mold first, of the workers then; more is asked for only when a deadline has moved."""
    importing = p.Pool(PLAN, mold=p.Mold(p.MoldLife.IMPORTING, deadline=160.0))
    said = world.becomes(importing, 100.0)
    assert said == [{"STATUS": "booting: importing the app"}, {"EXTEND_TIMEOUT_USEC": str(int((60 + MARGIN_S) * 1e6))}]
    assert world.becomes(importing, 101.0) == []
    mold = p.Mold(p.MoldLife.READY, deadline=None)
    booting = p.Pool(PLAN, mold=mold, slots=slots(Life.STARTING, READY, Life.STARTING, deadline=170.0))
    said = world.becomes(booting, 110.0)
    assert said == [
        {"STATUS": "booting: 1 of 3 workers are ready"},
        {"EXTEND_TIMEOUT_USEC": str(int((60 + MARGIN_S) * 1e6))},
    ]


def test_ready_is_told_once_and_then_the_sockets_are_kept(world: World) -> None:
    """With the first state in which the pool has been announced."""
    pool = serving(READY, READY, READY)
    (ready,) = world.becomes(pool, 1.0)
    assert ready["READY"] == "1" and ready["STATUS"] == "3 workers serve on 127.0.0.1:1, unix:/run/x"
    assert world.becomes(pool, 2.0) == [] and world.house.stores == 1


def test_changes_are_told_once_a_second(world: World) -> None:
    """The first at once, the last in any case, and those between not."""
    world.becomes(serving(READY, READY, READY), 1.0)
    (first,) = world.becomes(serving(DEAD, READY, READY), 10.0)
    assert first["STATUS"].startswith("2 of 3 workers serve on ")
    assert world.becomes(serving(DEAD, DEAD, READY), 10.1) == []
    assert world.becomes(serving(DEAD, DEAD, DEAD), 10.2) == []
    assert world.news.deadline == 10.0 + BETWEEN_S
    assert world.passes(10.5) == []
    (last,) = world.passes(10.0 + BETWEEN_S)
    assert last["STATUS"].startswith("0 of 3 workers serve on ") and world.news.deadline is None


def test_change_that_is_undone_is_no_news(world: World) -> None:
    """What was said last is true again."""
    world.becomes(serving(READY), 1.0)
    world.becomes(serving(DEAD), 10.0)
    world.becomes(serving(READY), 10.1)
    assert world.becomes(serving(DEAD), 10.2) == [] and world.news.deadline is None


def test_stop_is_told_once_with_its_time(world: World) -> None:
    """A second signal moves the deadline nearer: nothing is asked for."""
    pool = serving(READY, READY)
    world.becomes(pool, 1.0)
    draining = slots(Life.DRAINING, Life.DRAINING, deadline=45.0)
    stopping = replace(pool, phase=p.Phase.STOPPING, slots=draining)
    assert world.becomes(stopping, 10.0) == [
        {"STOPPING": "1", "STATUS": "stopping: 2 workers have yet to leave"},
        {"EXTEND_TIMEOUT_USEC": str(int((35 + MARGIN_S) * 1e6))},
    ]
    fewer = replace(stopping, slots=(replace(draining[0], life=DEAD), replace(draining[1], deadline=12.0)))
    assert world.becomes(fewer, 11.0) == [{"STATUS": "stopping: 1 worker has yet to leave"}]
    assert world.becomes(replace(fewer, phase=p.Phase.STOPPED), 11.5) == []


def test_failed_boot_keeps_its_reason(world: World) -> None:
    """Who failed has said so itself (the house); the end of the workers is not said over it."""
    failed = p.Pool(PLAN, phase=p.Phase.STOPPING, exit_code=ExitCode.BOOT_FAILED, slots=slots(Life.DRAINING))
    assert world.becomes(failed, 1.0) == [] and world.passes(9.0) == []


def test_watchdog_is_fed_by_time_alone(tmp_path: Path) -> None:
    """Whatever the pool is doing."""
    with NotifySocket(str(tmp_path / "notify")) as ear:
        world = World(ear, watchdog_s=4.0)
        assert world.passes(1.0) == [{"WATCHDOG": "1"}] and world.news.deadline == 3.0
        world.becomes(serving(READY), 1.0)
        world.becomes(serving(DEAD), 2.5)
        world.becomes(serving(READY), 2.6)
        assert world.news.deadline == 3.0
        world.close()
