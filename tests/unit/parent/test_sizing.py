"""How many workers are decided on: each reason, and what holds whatever the sensors say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hybrid.parent.sizing import Decision, Memory, Observation, Reason, SizingSettings, decide

SETTINGS = SizingSettings(least=1, most=12, cores=8.0)
QUIET = Observation(now=100.0, window_s=0.1, busy=0.0, run_queue=0.0, accepted=0.0, queue=0, lag_s=0.001, serving=2)
FAST = hypothesis_settings(deadline=None, max_examples=40)
SLOW = hypothesis_settings(
    deadline=None, max_examples=10, phases=[Phase.explicit, Phase.generate]
)  # shrinking takes minutes


class Played:
    """A pool that does at once what is decided, unless told otherwise."""

    def __init__(self, size: int = 2, settings: SizingSettings = SETTINGS) -> None:
        self.settings = settings
        self.now = 100.0
        self.size = size
        self.memory = Memory()
        self.decisions: list[Decision] = []

    def see(self, like: Observation, for_s: float = 0.1, every_s: float = 0.1) -> Decision:
        """Show the same for some time, ten times a second; return the last decision."""
        for _ in range(max(1, round(for_s / every_s))):
            self.now += every_s
            seen = replace(like, now=self.now, window_s=every_s, serving=self.size)
            decision = decide(seen, self.settings, self.memory)
            self.memory, self.size = decision.memory, decision.target
            self.decisions.append(decision)
        return self.decisions[-1]

    @property
    def steps(self) -> list[int]:
        """By how much each decision changed the size."""
        sizes = [decision.target for decision in self.decisions]
        return [after - before for before, after in pairwise(sizes) if after != before]


def load(busy: float, **more: float) -> Observation:
    """Return what is seen of a load that keeps ``busy`` loops busy with 10 ms each."""
    return replace(QUIET, busy=busy, accepted=busy / 0.010, **more)  # type: ignore[arg-type]  # of the field's type


# ── reasons ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_to_do_shrinks_to_the_least_one_by_one() -> None:
    """What is not needed goes, but never in a leap, and not before anything is known."""
    played = Played(size=5)
    assert played.see(QUIET).reason is Reason.HOLD
    last = played.see(QUIET, for_s=60)
    assert (last.target, last.reason) == (1, Reason.STEADY)
    assert set(played.steps) == {-1}


def test_demand_gets_square_root_headroom() -> None:
    """A demand of 4 loops gets 4 and some more workers, not 8."""
    played = Played(size=4)
    last = played.see(load(4.0), for_s=30)
    assert 5 <= last.target <= 6
    assert any(decision.reason is Reason.DEMAND for decision in played.decisions)


def test_loops_that_are_held_for_long_get_twice_the_headroom() -> None:
    """To wait for one of them takes long, so fewer should have to; not so long that one more is asked for at once."""
    prompt, tardy = (Played(size=4).see(load(4.0, lag_s=lag_s), for_s=30).target for lag_s in (0.001, 0.05))
    assert (prompt, tardy) == (6, 7)


def test_full_loops_and_a_queue_ask_for_what_arrives() -> None:
    """Two full loops cannot look busier than 2; what arrives says 5, and is believed within half a second."""
    played = Played(size=2, settings=replace(SETTINGS, drain_s=60.0))  # not for the queue's own sake
    played.see(load(1.0), for_s=20)
    queue = 0
    for _ in range(5):
        queue += 30  # 500 a second arrive, 200 are taken
        last = played.see(replace(QUIET, busy=min(2.0, played.size), accepted=200.0, queue=queue))
    assert last.target >= 6
    assert Reason.QUEUE in {decision.reason for decision in played.decisions}


def test_connection_that_lives_long_is_no_reason_to_leap() -> None:
    """Each connection has cost 20 loop-seconds in its life; a few more cost a few loops now at most."""
    played = Played(size=2, settings=replace(SETTINGS, most=64, cores=64.0))
    played.see(replace(QUIET, busy=1.0, accepted=0.05), for_s=30)
    last = played.see(replace(QUIET, busy=1.0, accepted=0.05, queue=3))
    assert last.inputs["cost_s"] == pytest.approx(20.0)
    assert last.inputs["hidden"] + last.inputs["queued"] <= 10
    assert played.see(replace(QUIET, busy=1.0, accepted=0.05, queue=3), for_s=0.5).target <= 8


def test_queue_that_stays_asks_for_one_more() -> None:
    """Loops look idle, and yet nobody accepts: the queue is believed."""
    played = Played(size=2)
    played.see(load(0.2), for_s=12)
    size = played.size
    played.see(replace(load(0.2), accepted=10.0, queue=2), for_s=0.6)
    assert [step for step in played.steps if step > 0] == [1]
    assert Reason.QUEUE in {decision.reason for decision in played.decisions}
    assert played.size == size + 1


def test_loops_that_are_late_ask_for_one_more() -> None:
    """Something blocks the loops, though they look idle on the average."""
    played = Played(size=2)
    played.see(load(0.2), for_s=12)
    size = played.size
    played.see(load(0.2, lag_s=0.4), for_s=1.0)
    assert Reason.LAG in {decision.reason for decision in played.decisions}
    assert played.size == size + 1


def test_one_hiccup_asks_for_nothing() -> None:
    """One late tick of all loops (a snapshot of the machine, a collection) does not start a worker."""
    played = Played(size=2)
    before = played.see(load(0.8), for_s=12).target
    assert played.see(load(0.8, lag_s=0.4), for_s=0.3).target == before


def test_blocked_loops_make_it_grow_past_the_cores() -> None:
    """Loops that are held without a CPU are as full as ones that compute, and another loop helps."""
    played = Played(size=2, settings=replace(SETTINGS, most=16, cores=2.0))
    for _ in range(20):
        last = played.see(load(min(5.0, played.size), on_cpu=0.1, lag_s=0.02), for_s=0.5)
    assert last.target >= 6


def test_loops_that_compute_get_no_more_than_cores() -> None:
    """Three cores are full of computing: a fourth loop would only wait for a CPU."""
    played = Played(size=3, settings=replace(SETTINGS, cores=3.0))
    assert played.see(load(2.9, on_cpu=2.85, queue=40), for_s=20).target == 3


def test_more_than_cores_shrink_to_the_cores_while_they_wait_for_cpus() -> None:
    """Too many workers for the CPUs: slowly fewer, though all are busy; never fewer than cores."""
    played = Played(size=8, settings=replace(SETTINGS, cores=3.0))
    last = played.see(load(7.0, run_queue=4.0, queue=50), for_s=9)
    assert (last.target, last.reason) == (8, Reason.CONTENDED)
    assert played.see(load(7.0, run_queue=4.0, queue=50), for_s=120).target == 3


def test_contention_at_the_border_is_no_swing() -> None:
    """A step down for it is not taken back when it has become a little less; only when it is over, or after a while."""
    played = Played(size=9)
    played.see(load(7.5, run_queue=0.1), for_s=12.0)
    size = played.size
    while played.size == size:
        last = played.see(load(7.0, run_queue=3.0))
    assert (last.target, last.reason) == (size - 1, Reason.CONTENDED)
    fewer = played.see(load(7.5, run_queue=1.6), for_s=8.0)  # 18 % of the time, and more are wanted
    assert (fewer.target, fewer.reason) == (size - 1, Reason.CONTENDED) and fewer.inputs["want"] >= size
    assert played.see(load(7.5, run_queue=0.4), for_s=2.0).target >= size


@pytest.mark.parametrize(
    ("like", "reason"),
    [
        (load(4.0, run_queue=2.0, queue=50), Reason.CONTENDED),
        (load(4.0, queue=50, throttled=True), Reason.THROTTLED),
        (load(4.0, queue=50, can_grow=False), Reason.MEMORY),
    ],
)
def test_no_growth_where_it_would_harm(like: Observation, reason: Reason) -> None:
    """Demand and queue ask for more; CPUs, quota or memory say no, and the decision says which."""
    played = Played(size=4)
    last = played.see(like, for_s=3)
    assert (last.target, last.reason) == (4, reason)


def test_most_is_said_to_be_the_limit() -> None:
    """Whoever wonders why it does not grow reads that the bound is reached."""
    assert Played(size=3, settings=replace(SETTINGS, most=3)).see(load(3.0, queue=90), for_s=2).reason is Reason.BOUNDS


def test_growth_at_most_doubles() -> None:
    """A reading that is wrong once costs a doubling, not everything."""
    played = Played(size=2, settings=replace(SETTINGS, most=64, cores=64.0))
    played.see(load(1.0), for_s=5)
    assert played.see(load(1.9, queue=5000)).target == 4


def test_what_has_been_decided_survives_a_death() -> None:
    """A worker that dies makes nobody think that less is needed."""
    played = Played(size=4)
    played.see(load(3.0), for_s=20)
    size = played.size
    decision = decide(replace(load(2.9), now=played.now + 0.1, serving=size - 1), SETTINGS, played.memory)
    assert decision.target == size


def test_parked_workers_spare_looking_ahead() -> None:
    """With a standby, what will be needed once a worker has booted is not asked for yet."""

    def climb(parked: int) -> int:
        played = Played(size=4)
        played.see(load(2.0), for_s=20)
        for tenth in range(10):
            last = played.see(load(2.0 + tenth / 10, parked=parked, boot_s=4.0))
        return last.target

    assert climb(parked=0) > climb(parked=2)


def test_standby_is_no_part_of_the_size() -> None:
    """Keeping some in the park is the pool's affair: the same load gets the same number."""
    for standby in (0, 3):
        assert Played(size=3, settings=replace(SETTINGS, standby=standby)).see(load(1.0), for_s=60).target == 2


def test_step_down_that_was_wrong_is_followed_by_a_longer_hold() -> None:
    """A load that comes back as soon as workers have gone makes them stay longer, each time, to a limit."""
    played = Played(size=4)
    for _ in range(10):
        played.see(load(3.0), for_s=15)
        played.see(load(0.1), for_s=13)
    assert SETTINGS.hold_s < played.memory.hold_s <= SETTINGS.hold_most_s


def test_decision_is_one_line_with_its_figures() -> None:
    """People read why; programs read the figures."""
    decision = Played().see(load(1.9, queue=9))
    assert "\n" not in decision.words
    assert decision.words.startswith(f"2 → {decision.target} workers ({decision.reason.value}): 1.90 loops busy")
    assert decision.inputs["queue"] == 9


# ── whatever the sensors say ─────────────────────────────────────────────────────────────────────────────────────


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Draw what sensors can say, also what makes no sense together."""
    return Observation(
        now=0.0,
        window_s=draw(st.sampled_from([0.0, 0.05, 0.1, 0.5, 5.0])),
        busy=draw(st.floats(0, 64)),
        run_queue=draw(st.floats(0, 64)),
        accepted=draw(st.floats(0, 1e5)),
        queue=draw(st.integers(0, 5000)),
        lag_s=draw(st.floats(0, 30)),
        serving=draw(st.integers(0, 70)),
        booting=draw(st.integers(0, 8)),
        parked=draw(st.integers(0, 8)),
        throttled=draw(st.booleans()),
        can_grow=draw(st.booleans()),
        boot_s=draw(st.floats(0, 60)),
        on_cpu=draw(st.none() | st.floats(0, 64)),
    )


@st.composite
def bounds(draw: st.DrawFn) -> SizingSettings:
    """Draw least, most and cores."""
    least = draw(st.integers(1, 8))
    return SizingSettings(least, least + draw(st.integers(0, 56)), cores=draw(st.floats(0.1, 64)))


def remember(seen: list[Observation], settings: SizingSettings) -> tuple[Memory, float]:
    """Return the memory after some windows, and the time."""
    memory, now = Memory(), 50.0
    for each in seen:
        now += each.window_s
        memory = decide(replace(each, now=now), settings, memory).memory
    return memory, now


@FAST
@given(st.lists(observations(), max_size=20), bounds())
def test_never_outside_the_bounds(seen: list[Observation], settings: SizingSettings) -> None:
    """Least and most hold, whatever is seen; up at most twofold, down by one."""
    memory, now = Memory(), 50.0
    for each in seen:
        now += each.window_s
        decision = decide(replace(each, now=now), settings, memory)
        assert settings.least <= decision.target <= settings.most
        if memory.target:
            assert memory.target - 1 <= decision.target <= 2 * memory.target
        memory = decision.memory


@FAST
@given(st.lists(observations(), max_size=10), observations(), st.integers(0, 5000), bounds())
def test_longer_queue_never_means_fewer(
    seen: list[Observation], last: Observation, more: int, settings: SizingSettings
) -> None:
    """Of two moments that differ in the queue only, the longer one gets at least as many workers."""
    memory, now = remember(seen, settings)
    short = decide(replace(last, now=now + last.window_s), settings, memory)
    long = decide(replace(last, now=now + last.window_s, queue=last.queue + more), settings, memory)
    assert long.target >= short.target


@FAST
@given(st.lists(observations(), max_size=10), observations(), bounds(), st.sampled_from(["crowd", "quota", "memory"]))
def test_never_more_while_barred(
    seen: list[Observation], last: Observation, settings: SizingSettings, what: str
) -> None:
    """Contended, throttled or short of memory: it does not grow, whatever asks for it."""
    memory, now = remember(seen, settings)
    if what == "crowd":
        last = replace(last, window_s=5.0, run_queue=last.busy + memory.quick + 1.0)
    last = replace(last, now=now + last.window_s, throttled=what == "quota", can_grow=what != "memory")
    decision = decide(last, settings, memory)
    assert decision.target <= max(settings.least, memory.target or last.serving + last.booting)


@SLOW
@given(st.lists(st.tuples(observations(), st.floats(0.1, 15.0)), min_size=1, max_size=12), bounds())
def test_bounded_steps_a_minute(seen: list[tuple[Observation, float]], settings: SizingSettings) -> None:
    """Whatever is seen, in a minute it shrinks at most once a hold, and grows no more than that and the range."""
    played = Played(settings.least, settings)
    for each, for_s in seen:
        played.see(each, for_s)
    downs = [step for step in played.steps if step < 0]
    assert len(downs) <= len(played.decisions) / 10 / settings.hold_s + 1
    assert len(played.steps) <= 2 * len(downs) + settings.most - settings.least


@SLOW
@given(st.floats(0.2, 6.0), st.lists(st.floats(-0.3, 0.3), min_size=50, max_size=50), st.integers(1, 8))
def test_noise_does_not_make_it_restless(busy: float, noise: list[float], size: int) -> None:
    """A steady load, seen through noise of a third either way: after two minutes, at most six steps a minute."""
    played = Played(size)
    for _ in range(12):
        for each in noise:
            played.see(load(min(played.size, busy * (1 + each))), 0.2, 0.2)
    settled = len(played.steps)
    for _ in range(6):
        for each in noise:
            played.see(load(min(played.size, busy * (1 + each))), 0.2, 0.2)
    assert len(played.steps) - settled <= 6


@SLOW
@given(st.floats(0.1, 1.5), st.floats(2.0, 8.0), st.sampled_from([0.05, 1.0, 4.0]))
def test_converges_within_few_boots_after_a_step(low: float, high: float, boot_s: float) -> None:
    """After a step up there are enough within five boots (and two seconds), and after one down again as few."""
    played = Played(4)
    before = played.see(load(low, boot_s=boot_s), for_s=90, every_s=0.5).target
    live, due = float(played.size), [0.0] * 0
    for _ in range(round((2 + 5 * boot_s) * 10)):
        size = played.size
        shown = min(high, live)
        played.see(replace(load(shown, boot_s=boot_s), queue=max(0, round((high - live) * 10))))
        due += [played.now + boot_s] * max(0, played.size - size)
        ready = [when for when in due if when <= played.now]
        due = [when for when in due if when > played.now]
        live = min(played.size, live + len(ready))
    assert played.size >= high
    assert played.see(load(low, boot_s=boot_s), for_s=180, every_s=0.5).target <= before + 1
