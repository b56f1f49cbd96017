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
from hybrid.parent.pool_news import BETWEEN_S, MARGIN_S, PoolNews, is_ready
from hybrid.parent.ready_file import BEAT_S, ReadyFile
from hybrid.parent.reload_stages import Stage
from hybrid.parent.systemd import Notifier
from hybrid.shared.log_line import LogWriter, Style
from tests.support.systemd import Message, NotifySocket

PLAN = p.Plan(workers=3, preload="auto", grace_s=30.0, boot_s=60.0, boot_attempts=3)


class House:
    """What is needed of the house."""

    def __init__(self, notifier: Notifier, ready_file: ReadyFile) -> None:
        self.notifier = notifier
        self.ready_file = ready_file
        self.stores = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        return ("127.0.0.1:1", "unix:/run/x")

    def store_listeners(self) -> None:
        self.stores += 1


class World:
    """A pool that changes, and who hears of it."""

    def __init__(self, ear: NotifySocket, watchdog_s: float = 0.0, ready_path: str = "") -> None:
        self.ear = ear
        self.log_fd = os.memfd_create("log")
        log = LogWriter(self.log_fd, Style.TEXT, "debug", "parent")
        self.house = House(Notifier(ear.name, log, watchdog_s), ReadyFile(ready_path, log))
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
        self.house.ready_file.close()
        os.close(self.log_fd)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with NotifySocket(str(tmp_path / "notify")) as ear:
        world = World(ear)
        yield world
        world.close()


def slots(*lives: Life, deadline: float | None = None) -> tuple[p.Slot, ...]:
    return tuple(p.Slot(index, life, wanted=True, pid=1, deadline=deadline) for index, life in enumerate(lives))


def molds(life: p.MoldLife = p.MoldLife.READY, deadline: float | None = None) -> tuple[p.Mold, ...]:
    return (p.Mold(life, generation=1, deadline=deadline),)


def serving(*lives: Life) -> p.Pool:
    return p.Pool(PLAN, phase=p.Phase.RUNNING, announced=True, slots=slots(*lives), target=len(lives), molds=molds())


READY, DEAD = Life.READY, Life.VACANT


def test_boot_asks_for_the_time_that_it_may_take(world: World) -> None:
    """Of the mold first, of the workers then; more is asked for only when a deadline has moved."""
    importing = p.Pool(PLAN, molds=molds(p.MoldLife.IMPORTING, 160.0))
    said = world.becomes(importing, 100.0)
    assert said == [{"STATUS": "booting: importing the app"}, {"EXTEND_TIMEOUT_USEC": str(int((60 + MARGIN_S) * 1e6))}]
    assert world.becomes(importing, 101.0) == []
    starting = slots(Life.STARTING, READY, Life.STARTING, deadline=170.0)
    booting = p.Pool(PLAN, molds=molds(), slots=starting, target=3)
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


def test_parked_pool_says_so(world: World) -> None:
    """SIGWINCH: nothing is wrong, and nobody is served."""
    world.becomes(serving(READY), 1.0)
    parked = replace(serving(Life.PARKED), stance=p.Stance.PARKED)
    assert world.becomes(parked, 9.0) == [{"STATUS": "parked: who connects to 127.0.0.1:1, unix:/run/x waits"}]


def reloading(stage: Stage = Stage.RESOLVE, again: str = "", deadline: float | None = None) -> p.Pool:
    return replace(serving(READY), reload=p.Reload(stage, generation=2, again=again, deadline=deadline))


def test_reload_begins_and_ends(world: World) -> None:
    """With the time that it may take; the number of workers in between is no news."""
    world.becomes(serving(READY), 1.0)
    first, extend = world.becomes(reloading(deadline=70.0), 10.0)
    assert first["RELOADING"] == "1" and int(first["MONOTONIC_USEC"]) > 0
    assert extend == {"EXTEND_TIMEOUT_USEC": str(int((60 + MARGIN_S) * 1e6))}
    rolling = replace(reloading(Stage.ROLL), slots=slots(READY, DEAD), target=2)
    assert world.becomes(rolling, 20.0) == [] and world.passes(30.0) == []
    (ready,) = world.becomes(replace(serving(READY, READY), generation=2), 31.0)
    assert ready == {"READY": "1", "STATUS": "2 workers serve on 127.0.0.1:1, unix:/run/x"}


def test_reload_that_failed_is_over_too(world: World) -> None:
    """systemctl reload waits for READY, whatever came of it; the status has the reason until another succeeds."""
    world.becomes(serving(READY), 1.0)
    world.becomes(reloading(), 2.0)
    (ready,) = world.becomes(replace(serving(READY), reload=p.Reload(failure="no such file")), 3.0)
    assert ready["READY"] == "1" and ready["STATUS"].endswith("unix:/run/x; the last reload failed: no such file")
    (lost,) = world.becomes(serving(DEAD), 9.0)
    assert lost["STATUS"].endswith("; the last reload failed: no such file")


def test_who_asks_during_a_reload_is_answered(world: World) -> None:
    """A question needs an answer that is newer: RELOADING comes again, READY when all is done."""
    world.becomes(serving(READY), 1.0)
    assert "RELOADING" in world.becomes(reloading(), 2.0)[0]
    (again,) = world.becomes(reloading(Stage.ROLL, again="SIGHUP"), 3.0)
    assert again["RELOADING"] == "1"
    assert world.becomes(reloading(Stage.ROLL, again="SIGHUP"), 4.0) == []
    assert world.becomes(reloading(Stage.RESOLVE), 5.0) == []
    (ready,) = world.becomes(serving(READY), 6.0)
    assert ready["READY"] == "1"


def test_reload_that_has_to_wait_has_begun_for_whoever_asked(world: World) -> None:
    """Until the generations before have left."""
    world.becomes(serving(READY), 1.0)
    (begun,) = world.becomes(replace(serving(READY), reload=p.Reload(again="SIGHUP")), 2.0)
    assert begun["RELOADING"] == "1"


def test_delay_is_part_of_the_stop(world: World) -> None:
    """STOPPING comes with the delay, and time for each step as it begins."""
    world.becomes(serving(READY), 1.0)
    delayed = replace(serving(READY), stop_step=p.StopStep.DELAY, stop_due=20.0)
    stopping, extend = world.becomes(delayed, 10.0)
    assert stopping["STOPPING"] == "1" and "--drain-delay" in stopping["STATUS"]
    assert extend == {"EXTEND_TIMEOUT_USEC": str(int((10 + MARGIN_S) * 1e6))}
    draining = replace(delayed, phase=p.Phase.STOPPING, stop_step=p.StopStep.DRAIN, stop_due=None)
    said = world.becomes(replace(draining, slots=slots(Life.DRAINING, deadline=55.0)), 20.0)
    assert said == [
        {"STATUS": "stopping: 1 worker has yet to leave"},
        {"EXTEND_TIMEOUT_USEC": str(int((35 + MARGIN_S) * 1e6))},
    ]


def test_time_is_asked_for_anew_for_a_new_step(world: World) -> None:
    """What the boot may take is of no use to a stop."""
    world.becomes(p.Pool(PLAN, molds=molds(p.MoldLife.IMPORTING, 1000.0)), 1.0)
    world.becomes(serving(READY), 2.0)
    stopping = replace(serving(), phase=p.Phase.STOPPING, slots=slots(Life.DRAINING, deadline=40.0))
    assert world.becomes(stopping, 3.0)[1] == {"EXTEND_TIMEOUT_USEC": str(int((37 + MARGIN_S) * 1e6))}


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


# ── probes ──


DELAYED = replace(serving(READY), stop_step=p.StopStep.DELAY, stop_due=20.0)
DRAINING = replace(serving(READY), phase=p.Phase.STOPPING, stop_step=p.StopStep.DRAIN)
ROLLING = replace(reloading(Stage.ROLL), slots=slots(Life.PARKED, READY))


@pytest.mark.parametrize(
    ("pool", "ready"),
    [
        (p.Pool(PLAN, slots=slots(READY, Life.STARTING), target=2), False),  # not announced: the others still boot
        (serving(READY, READY), True),
        (serving(DEAD, READY), True),
        (serving(DEAD, Life.STARTING), False),
        (serving(Life.DRAINING, Life.KILLING), False),
        (replace(serving(Life.PARKED), stance=p.Stance.PARKED), False),
        (reloading(), True),
        (ROLLING, True),
        (DELAYED, False),
        (DRAINING, False),
    ],
)
def test_ready_is_who_accepts_and_stays(pool: p.Pool, ready: bool) -> None:
    """Whether new clients are to be sent here."""
    assert is_ready(pool) is ready


def test_ready_file_follows_the_pool(tmp_path: Path) -> None:
    """With each state of it; while it is there its time is kept, whatever else is due."""
    path = tmp_path / "run" / "ready"
    path.parent.mkdir()
    with NotifySocket(str(tmp_path / "notify")) as ear:
        world = World(ear, ready_path=str(path))
        world.becomes(serving(DEAD), 1.0)
        assert os.listdir(tmp_path / "run") == [] and not world.news.deadline
        world.becomes(serving(READY), 2.0)
        assert os.listdir(tmp_path / "run") == ["ready"] and world.news.deadline == 2.0 + BEAT_S
        os.utime(path, (0, 0))
        world.passes(2.0 + BEAT_S)
        assert path.stat().st_mtime > 0
        world.becomes(DELAYED, 9.0)
        assert os.listdir(tmp_path / "run") == [] and not world.news.deadline
        world.close()
