"""The shell around the sizing: when it looks, when it holds still, and what it tells the core."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from hybrid.ground.states import Life
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent import sizer as sizers
from hybrid.parent.guards import Guards, Verdict
from hybrid.parent.reload_stages import Stage
from hybrid.parent.sensors import SECOND
from hybrid.parent.sizer import LOOK_NS, QUIET_LOOK_NS, Sizer, fit_cores, fit_memory, has_surplus, pace, taken_over
from hybrid.parent.sizing import Memory, Observation, SizingSettings
from hybrid.shared.plain import from_plain, to_plain
from hybrid.shared.scoreboard import Cell, Scoreboard
from tests.unit.parent.world import PLAN


class Premises:
    """Of a house, what a sizer needs."""

    def __init__(self) -> None:
        self.scoreboard = Scoreboard.create(8, 0)


class Entrance:
    """Nobody waits, unless the test says so."""

    waiting = 0

    def queues(self) -> list[socket.socket]:
        return []

    def on_the_way(self) -> int:
        return self.waiting


class Watched:
    """A sizer with one worker, and a clock of the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, memory: Memory | None = None) -> None:
        self.now_ns = 100 * SECOND
        monkeypatch.setattr(sizers, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(sizers, "cores", lambda: 1.0)
        monkeypatch.delenv(sizers.PACE_VARIABLE, raising=False)
        self.house = Premises()
        self.events: deque[ev.Event] = deque()
        slots = (p.Slot(0, Life.READY, wanted=True, generation=1, ticket=1, pid=1),)
        self.pool = p.Pool(PLAN, phase=p.Phase.RUNNING, target=1, least=1, most=4, slots=slots)
        self.house.scoreboard.use_slot(0)
        self.busy_ns = 0
        self.entrance = Entrance()
        self.starves = False
        self.sizer = Sizer(self.house, lambda: self.pool, self.entrance, self.events, memory)

    def passes(self, busy: float, looks: int = 1) -> list[ev.Event]:
        """Let time pass in which the loop is ``busy``; return what the core was told meanwhile."""
        self.events.clear()
        for _ in range(looks):
            self.now_ns += LOOK_NS
            self.busy_ns += round(busy * LOOK_NS)
            self.house.scoreboard.row(0)[Cell.ACCEPTED] += 4
            waiting_ns = self.busy_ns // 2 if self.starves else 0
            line = (self.now_ns, self.busy_ns, 0, waiting_ns, 0, 0, 0, 0)
            self.house.scoreboard.row(0).store_line(Cell.MEASURED_NS, line)
            self.sizer.time_passed()
        return list(self.events)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """One worker, one to four allowed."""
    made = Watched(monkeypatch)
    yield made
    made.sizer.close()
    made.house.scoreboard.close()


def test_load_becomes_a_wish_with_its_figures(watched: Watched) -> None:
    """The core is told how many, why, by which figures, and who is the emptiest."""
    watched.house.scoreboard.row(0)[Cell.ACTIVE] = 7
    (told, *_) = watched.passes(1.0, looks=20)
    assert isinstance(told, ev.Sized)
    assert told.target == 2 and "1 → 2 workers" in told.reason and told.loads == (7,)
    assert dict(told.inputs)["busy"] == pytest.approx(1.0) and told.linger_s == ev.LINGER_S


def test_nothing_is_told_while_the_size_is_right(watched: Watched) -> None:
    """Ten looks a second are no news."""
    assert watched.passes(0.1, looks=30) == []


def test_what_forbids_to_grow_is_told_once(watched: Watched) -> None:
    """With the reason; again only when it was over for a while."""
    watched.starves, watched.entrance.waiting = True, 20
    told = watched.passes(0.9, looks=50)
    assert len(told) == 1 and isinstance(told[0], ev.Sized)
    assert told[0].is_barred and told[0].target == 1 and "contended" in told[0].reason


def test_surplus_is_looked_at_even_so(watched: Watched) -> None:
    """Whoever is parked may leave by now."""
    spare = p.Slot(1, Life.PARKED, wanted=True, generation=1, seat=1, duty=p.Duty.SPARE, pid=2)
    watched.pool = replace(watched.pool, slots=(*watched.pool.slots, spare))
    watched.house.scoreboard.use_slot(1)
    assert has_surplus(watched.pool) and len(watched.passes(0.1)) == 1
    watched.pool = replace(watched.pool, standby=1)
    assert not has_surplus(watched.pool) and watched.passes(0.1) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"stance": p.Stance.PARKED},
        {"phase": p.Phase.BOOTING},
        {"stop_step": p.StopStep.DELAY},
        {"reload": p.Reload(Stage.IMPORT, generation=2)},
    ],
)
def test_nothing_is_decided_about_a_pool_in_change(watched: Watched, changes: dict[str, object]) -> None:
    """It will be another one than was measured."""
    watched.pool = replace(watched.pool, **changes)  # type: ignore[arg-type]  # fields of Pool
    assert watched.passes(1.0, looks=20) == []


def test_pool_of_fixed_size_costs_no_look(watched: Watched) -> None:
    """Nobody wakes the parent for it."""
    watched.pool = replace(watched.pool, most=1)
    assert watched.sizer.deadline is None and watched.passes(1.0, looks=20) == []


def test_quiet_pool_is_looked_at_less_often(watched: Watched) -> None:
    """The fewest there may be, and nothing to do: twice a second will do."""

    def pause_ns() -> int:
        """Look when that is due; return how long it is to the next look."""
        deadline = watched.sizer.deadline
        assert deadline is not None
        watched.now_ns = max(watched.now_ns, round(deadline * SECOND))
        watched.sizer.time_passed()
        again = watched.sizer.deadline
        assert again is not None
        return round(again * SECOND) - watched.now_ns

    watched.passes(0.0, looks=5)
    assert pause_ns() == pytest.approx(QUIET_LOOK_NS)
    watched.passes(1.0, looks=20)
    assert pause_ns() == pytest.approx(LOOK_NS)


def test_size_that_was_moved_by_hand_is_where_it_goes_on(watched: Watched) -> None:
    """What the sizing remembers of its own last decision is out of date then."""
    watched.passes(0.1, looks=10)
    assert watched.sizer.memory.target == 1
    watched.pool = replace(watched.pool, target=3)
    assert watched.passes(0.1) == [] and watched.sizer.memory.target == 3


@pytest.mark.parametrize(
    ("verdict", "why"), [(Verdict(throttled=True), "throttled"), (Verdict(can_boot=False, free_bytes=7), "memory")]
)
def test_what_the_guards_forbid_is_not_done(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, verdict: Verdict, why: str
) -> None:
    """However much is wanted; and it is said, with the memory that is free."""
    monkeypatch.setattr(Guards, "look", lambda *_args: verdict)
    (told,) = watched.passes(1.0, looks=20)
    assert isinstance(told, ev.Sized) and told.is_barred and told.target == 1 and f"({why})" in told.reason
    assert dict(told.inputs)["memory_free"] == verdict.free_bytes


def test_threads_are_guarded_by_what_they_use_of_the_cpus(monkeypatch: pytest.MonkeyPatch, watched: Watched) -> None:
    """Their loops compute nothing, and so tell nothing of whether CPUs are the limit."""
    asked: list[tuple[list[int], float]] = []

    def look(_guards: Guards, pids: Iterable[int], cores: float) -> Verdict:
        asked.append((list(pids), cores))
        return Verdict()

    monkeypatch.setattr(Guards, "look", look)
    watched.passes(0.5, looks=10)
    assert asked[-1] == ([1], 0.0) and watched.sizer.memory.computed is not None
    watched.house.scoreboard.row(0)[Cell.THREADS] = 4
    watched.passes(0.5)
    assert asked[-1] == ([1], 1.0) and watched.sizer.memory.computed is None


@pytest.mark.parametrize(
    ("target", "cores", "busy", "run_queue"),
    [(1, 2.0, 1.5, 0.0), (2, 2.0, 1.5, 1.0), (3, 2.0, 0.5, 1.0), (2, 2.5, 1.5, 0.0)],
)
def test_fewer_than_the_cores_do_not_crowd_each_other(target: int, cores: float, busy: float, run_queue: float) -> None:
    """If they wait for CPUs, others have them: another worker gets another share. So many as CPUs are not too many."""
    observation = Observation(0.0, 0.2, 0.5, 1.0, 1.0, 0, 0.0, serving=target, on_cpu=0.25)
    seen = fit_cores(observation, target, cores)
    assert (seen.busy, seen.run_queue) == (busy, run_queue)
    assert seen.on_cpu == (0.25 if target > cores else 1.25)
    assert fit_cores(replace(observation, on_cpu=None), target, cores).on_cpu is None


@pytest.mark.parametrize(
    ("parked", "can_boot", "can_grow", "most"), [(0, True, True, 8), (0, False, False, 3), (2, False, True, 5)]
)
def test_memory_forbids_boots_and_not_unparking(parked: int, can_boot: bool, can_grow: bool, most: int) -> None:
    """Whoever is parked has its memory already."""
    observation = Observation(0.0, 0.2, 1.0, 0.0, 1.0, 0, 0.0, serving=3, parked=parked)
    seen, settings = fit_memory(observation, SizingSettings(1, 8), 3, Verdict(can_boot=can_boot))
    assert (seen.can_grow, settings.most) == (can_grow, most)


@pytest.mark.parametrize(
    ("text", "value"), [("0.1", 0.1), ("2", 2.0), ("0", 1.0), ("-1", 1.0), ("nan", 1.0), ("inf", 1.0), ("x", 1.0)]
)
def test_pace_is_a_number_or_nothing(text: str, value: float) -> None:
    """For tests only; what makes no sense changes nothing."""
    assert pace({sizers.PACE_VARIABLE: text}) == value
    assert pace({}) == 1.0


def test_pace_scales_what_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the time for which a parked worker stays."""
    watched = Watched(monkeypatch)
    monkeypatch.setenv(sizers.PACE_VARIABLE, "0.1")
    watched.sizer = Sizer(watched.house, lambda: watched.pool, watched.entrance, watched.events)
    (told, *_) = watched.passes(1.0, looks=20)
    assert isinstance(told, ev.Sized) and told.linger_s == pytest.approx(ev.LINGER_S / 10)


def test_memory_survives_an_upgrade(watched: Watched) -> None:
    """It travels as JSON, with the times that never were, and the program that takes over goes on with it."""
    watched.passes(1.0, looks=20)
    memory = watched.sizer.memory
    assert memory.peaks and memory.shrunk_at == float("-inf")
    plain = json.loads(json.dumps(to_plain(memory)))
    again = taken_over(from_plain(Memory, plain))
    assert again == memory and all(isinstance(want, int) for _start, want in again.peaks)
