"""Who is called late, whose stacks are asked for, and who is killed: time lines, without a process or a clock."""

from __future__ import annotations

import itertools
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.ground.errors import IllegalTransition
from hybrid.parent import health
from hybrid.parent.health import HEALTH, SECOND, Health, Sign, Unusable, Verdict, classify
from hybrid.shared.machine import advance
from hybrid.shared.procfs import ThreadState
from tests.unit.parent.ward import Does, Ward

ABRT, KILL = signal.SIGABRT, signal.SIGKILL


def blocked(does: Does = Does.SLEEPS, **settings: float) -> Ward:
    """Return a ward whose one patient stands still from second 1 on."""
    ward = Ward(**settings)  # type: ignore[arg-type]  # its settings are floats, all but the count
    ward.patients[0].does = does
    return ward


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("state", "sign"), list(itertools.product(Health, Sign)))
def test_every_pair_is_listed_or_refused(state: Health, sign: Sign) -> None:
    """A state takes what its table lists, and nothing else."""
    if (state, sign) in HEALTH:
        assert advance(HEALTH, state, sign) in Health
    else:
        with pytest.raises(IllegalTransition):
            advance(HEALTH, state, sign)


def test_nobody_is_pardoned_after_sigabrt() -> None:
    """Once the signal is sent there is one way on."""
    assert [sign for state, sign in HEALTH if state is Health.ABORTED] == [Sign.KILL]
    assert not [sign for state, sign in HEALTH if state is Health.KILLED]


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("does", "verdict", "uncounted"),
    [
        (Does.SLEEPS, Verdict.BLOCKED, 0.0),
        (Does.COMPUTES, Verdict.RUNNING, 0.0),
        (Does.SHARES, Verdict.STARVED, 0.75),
        (Does.STARVES, Verdict.STARVED, 0.98),
        (Does.UNCOUNTED, Verdict.STARVED, 1.0),
        (Does.STOPPED, Verdict.STOPPED, 1.0),
        (Does.TRACED, Verdict.STOPPED, 1.0),
        (Does.DISK, Verdict.DISK, 0.0),
    ],
)
def test_verdict_is_what_the_kernel_says(does: Does, verdict: Verdict, uncounted: float) -> None:
    """What the thread did between two looks, and which part of that time it could not have used."""
    letter, runs, waits = does.value
    before = ThreadState(letter, 7 * SECOND, 8 * SECOND)
    after = ThreadState(letter, 7 * SECOND + int(runs * SECOND), 8 * SECOND + int(waits * SECOND))
    assert classify(before, after, SECOND) is verdict
    unusable = Unusable()
    unusable.add(before, after, SECOND)
    assert unusable.total_ns == pytest.approx(uncounted * SECOND)


@pytest.mark.parametrize("pair", [(None, None), (None, ThreadState("R", 1, 1)), (ThreadState("R", 1, 1), None)])
def test_verdict_without_facts_is_that_nobody_knows(pair: tuple[ThreadState | None, ThreadState | None]) -> None:
    """No /proc, or a thread that is gone."""
    assert classify(*pair, SECOND) is Verdict.UNKNOWN
    unusable = Unusable()
    unusable.add(*pair, SECOND)
    assert unusable.total_ns == 0


def test_wait_is_credited_when_the_kernel_accounts_for_it() -> None:
    """It does so when the wait is over: what was seen before is not counted twice, the rest not lost."""
    unusable, states = Unusable(), [ThreadState("R", 0, 0)] * 5
    for before, after in itertools.pairwise(states):
        unusable.add(before, after, SECOND)
    assert unusable.total_ns == 4 * SECOND
    unusable.add(states[-1], ThreadState("S", 0, 4 * SECOND + 7), SECOND // 4)
    assert unusable.total_ns == 4 * SECOND + 7
    late = Unusable()
    late.add(ThreadState("S", 0, 0), ThreadState("R", 1, 3 * SECOND), SECOND)
    assert late.total_ns == 3 * SECOND


# ── time lines ───────────────────────────────────────────────────────────────────────────────────────────────


def test_worker_that_turns_is_left_alone() -> None:
    """Nothing is said, and the kernel is not even asked."""
    ward = Ward(count=3).passes(600)
    assert not ward.notes and not ward.asked_for_facts


@pytest.mark.parametrize("does", [Does.SLEEPS, Does.COMPUTES])
def test_blocked_worker_is_dumped_aborted_and_killed(does: Does) -> None:
    """Said at once, stacks at 5 s and at 30 s, SIGABRT, and SIGKILL 2 s later."""
    ward = blocked(does).passes(40)
    assert ward.dumps == pytest.approx([6.0, 31.0], abs=0.3)
    (abort_at, *abort), (kill_at, *kill) = ward.signals
    assert (abort, kill) == ([0, ABRT], [0, KILL])
    assert abort_at == pytest.approx(31.25, abs=0.3) and kill_at - abort_at == pytest.approx(2.0, abs=0.3)
    word = "blocked" if does is Does.SLEEPS else "busy"
    stalled, aborted, killed = ward.lines
    assert stalled.startswith("worker 0 (pid 100): its loop has not turned for") and f"it is {word} (" in stalled
    assert f"its loop has been {word} for 30." in aborted and "(--worker-timeout 30): SIGABRT" in aborted
    assert killed == "worker 0 (pid 100) did not leave within 2 s of SIGABRT: SIGKILL"


def test_stall_is_told_once_and_so_is_its_end() -> None:
    """One line when it is seen, one with how long it took."""
    ward = blocked().passes(3)
    ward.patients[0].does = Does.TURNS
    ward.passes(60)
    assert len(ward.lines) == 2 and not ward.dumps
    assert ward.lines[1] == "worker 0 (pid 100): its loop turns again after 3.2 s"


def test_short_stall_is_one_line() -> None:
    """One that ends before the kernel was asked twice is told when it is over."""
    ward = blocked().passes(0.7)
    ward.patients[0].does = Does.TURNS
    ward.passes(5)
    assert len(ward.lines) == 1 and "its loop did not turn for" in ward.lines[0]


def test_short_stalls_are_counted_while_the_log_is_spared() -> None:
    """An app that stalls all the time writes a line in ten seconds, with how many there were."""
    ward = Ward()
    for _ in range(20):
        ward.patients[0].does = Does.SLEEPS
        ward.passes(1.0)
        ward.patients[0].does = Does.TURNS
        ward.passes(1.0)
    assert 4 <= len(ward.lines) <= 10
    assert any("more stalls since the last that was told" in line for line in ward.lines)


def test_long_stall_is_told_though_short_ones_were() -> None:
    """Sparing the log is for short ones only."""
    ward = blocked().passes(0.7)
    ward.patients[0].does = Does.TURNS
    ward.passes(1)
    ward.patients[0].does = Does.SLEEPS
    ward.passes(3)
    assert "it is blocked" in ward.lines[-1]


def test_starved_worker_is_never_killed() -> None:
    """Time in which it waits for a CPU does not count: for a minute, and for a good deal more."""
    ward = blocked(Does.STARVES).passes(60)
    assert not ward.signals and not ward.dumps
    assert len(ward.lines) == 1 and "short of CPU" in ward.lines[0] and "not killed for that" in ward.lines[0]
    ward.patients[0].does = Does.TURNS
    ward.passes(5)
    assert "turns again after 60" in ward.lines[-1]


def test_worker_on_no_run_queue_is_not_killed() -> None:
    """Its cgroup has used up its quota, and the kernel counts that nowhere."""
    assert not blocked(Does.UNCOUNTED).passes(300).signals


def test_hog_that_shares_its_cpu_is_killed_by_its_own_time() -> None:
    """Four that compute for ever on one CPU each wait three quarters of the time; that must not protect them."""
    ward = blocked(Does.SHARES).passes(110)
    assert not ward.signals
    ward.passes(30)
    assert [number for _at, _slot, number in ward.signals] == [ABRT, KILL]
    assert "by the clock)" in ward.lines[-2]


@pytest.mark.parametrize("does", [Does.STOPPED, Does.TRACED])
def test_stopped_worker_is_left_alone(does: Does) -> None:
    """Somebody debugs it. It is told once, and its time begins again when it goes on."""
    ward = blocked(does).passes(3600)
    assert not ward.signals and not ward.dumps
    assert len(ward.lines) == 1 and "it is stopped (SIGSTOP, or a debugger)" in ward.lines[0]
    ward.patients[0].does = Does.SLEEPS
    ward.passes(4)
    assert not ward.dumps
    ward.passes(30)
    assert len(ward.dumps) == 2 and ward.signals


def test_worker_that_waits_for_a_disk_is_dumped_and_killed_only_afterwards() -> None:
    """Nothing ends a process in that state; as soon as it leaves it, its time is up."""
    ward = blocked(Does.DISK).passes(120)
    assert len(ward.dumps) == 1 and not ward.signals
    ward.patients[0].does = Does.SLEEPS
    ward.passes(5)
    assert [number for _at, _slot, number in ward.signals] == [ABRT, KILL]


def test_why_nothing_happens_is_told_when_it_changes() -> None:
    """Blocked, then stopped: the second is told, too; once."""
    ward = blocked().passes(4)
    ward.patients[0].does = Does.STOPPED
    ward.passes(60)
    assert [("blocked" in line, "stopped" in line) for line in ward.lines] == [(True, False), (False, True)]


def test_worker_of_which_the_kernel_tells_nothing_is_dumped_and_not_killed() -> None:
    """Without /proc nobody knows whether it starves."""
    ward = blocked()
    ward.patients[0].has_facts = False
    ward.passes(120)
    assert len(ward.dumps) == 1 and not ward.signals
    assert "the system does not say why" in ward.lines[0]


@pytest.mark.parametrize("gap_s", [2.0, 100.0])
def test_frozen_machine_kills_nobody(gap_s: float) -> None:
    """The parent and all workers stood still: nobody is late when they wake."""
    ward = Ward(count=4, kill_s=1.0, dump_s=0.5)
    ward.freezes(gap_s)
    ward.look()
    ward.passes(60)
    assert not ward.notes


def test_gap_in_the_parents_time_is_credited_to_a_blocked_worker() -> None:
    """A worker 29 s late when the machine is paused has 30 s from its end, not one."""
    ward = blocked().passes(29)
    ward.freezes(100)
    ward.passes(28)
    assert not ward.signals
    ward.passes(5)
    assert [number for _at, _slot, number in ward.signals] == [ABRT, KILL]


def test_gap_after_the_last_dump_is_credited() -> None:
    """The parent is stopped after it has asked for the last stacks: the worker gets the whole time again."""
    ward = blocked()
    ward.patients[0].dumping = True
    ward.passes(31)
    assert len(ward.dumps) == 2
    ward.patients[0].dumping = False
    ward.freezes(100)
    ward.passes(29)
    assert not ward.signals


def test_paused_parent_finds_its_workers_well() -> None:
    """Only the parent was stopped: the heartbeats went on."""
    ward = Ward(count=3)
    ward.sleeps(100)
    ward.passes(10)
    assert not ward.notes


def test_worker_that_recovers_in_its_last_moment_lives() -> None:
    """Between the last stacks and SIGABRT the loop turns."""
    ward = blocked()
    ward.patients[0].dumping = True
    ward.passes(31)
    assert len(ward.dumps) == 2 and not ward.signals
    ward.patients[0].does, ward.patients[0].dumping = Does.TURNS, False
    ward.passes(60)
    assert not ward.signals and "turns again after 3" in ward.lines[-1]


def test_sigabrt_waits_for_the_stacks() -> None:
    """The line that says why comes with the reason below it."""
    ward = blocked()
    ward.patients[0].dumping = True
    ward.passes(60)
    assert not ward.signals
    ward.patients[0].dumping = False
    ward.passes(1)
    assert len(ward.signals) == 1


def test_worker_that_survives_sigabrt_is_killed_though_it_turns() -> None:
    """It caught the signal and went on: its state is anything."""
    ward = blocked().passes(31.5)
    assert len(ward.signals) == 1
    ward.patients[0].does = Does.TURNS
    ward.passes(5)
    assert [number for _at, _slot, number in ward.signals] == [ABRT, KILL]


def test_worker_in_a_debugger_that_caught_sigabrt_is_not_killed() -> None:
    """Whoever attached to it wants to look."""
    ward = blocked().passes(31.5)
    ward.patients[0].does = Does.TRACED
    ward.passes(600)
    assert len(ward.signals) == 1


def test_replaced_worker_inherits_nothing() -> None:
    """Another ticket in the same slot is another worker, with time of its own."""
    ward = blocked().passes(29)
    ward.patients[0].ticket, ward.patients[0].pid = 2, 200
    ward.patients[0].heartbeat_ns = ward.now_ns
    ward.passes(4)
    assert not ward.signals and "(pid 200)" in ward.lines[-1]
    ward.passes(40)
    assert [at for at, _slot, _number in ward.signals] == pytest.approx([60.5, 62.5], abs=0.8)


def test_worker_that_is_gone_is_forgotten() -> None:
    """It left between the dump and the signal: nobody is signalled in its place."""
    ward = blocked(kill_s=6.0).passes(5.5)
    del ward.patients[0]
    ward.passes(60)
    assert not ward.signals


def test_worker_without_a_heartbeat_is_not_watched() -> None:
    """It boots, or has left its loop: other deadlines stand."""
    ward = blocked()
    ward.patients[0].heartbeat_ns = 0
    assert not ward.passes(600).notes


def test_zero_switches_off() -> None:
    """No dump, no end; the stall is told all the same."""
    ward = blocked(dump_s=0.0, kill_s=0.0).passes(600)
    assert not ward.dumps and not ward.signals and len(ward.lines) == 1
    assert len(blocked(dump_s=0.0).passes(60).dumps) == 1, "who is killed tells why in any case"
    assert not blocked(kill_s=0.0).passes(600).signals


def test_equal_limits_ask_once() -> None:
    """Stacks that are asked for at the end are not asked for twice."""
    ward = blocked(dump_s=3.0, kill_s=3.0).passes(10)
    assert len(ward.dumps) == 1 and len(ward.signals) == 2


# ── lies ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_heartbeat_from_long_ago_counts_from_the_last_look() -> None:
    """A row with nonsense in it costs nobody his life at once."""
    ward = Ward()
    ward.patients[0].does, ward.patients[0].heartbeat_ns = Does.SLEEPS, 1
    ward.passes(4)
    assert not ward.dumps


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(Does), st.floats(0.0, 40.0), st.booleans()), max_size=12
    )
)
def test_no_heartbeat_breaks_the_rounds(story: list[tuple[int, Does, float, bool]]) -> None:
    """Whatever a row says, and whatever the machine does meanwhile, every look ends with decisions."""
    ward = Ward(count=2)
    for heartbeat_ns, does, for_s, freezes in story:
        ward.patients[0].does, ward.patients[0].heartbeat_ns = does, heartbeat_ns
        if freezes:
            ward.freezes(for_s)
            ward.look()
        else:
            ward.passes(for_s)
    assert all(note.slot == 0 for _at, note in ward.notes if not isinstance(note, health.Say))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Does.STARVES, Does.UNCOUNTED, Does.STOPPED, Does.TRACED, Does.TURNS]),
            st.floats(0.1, 100.0),
        ),
        max_size=10,
    )
)
def test_nobody_is_killed_for_what_is_not_his_fault(story: list[tuple[Does, float]]) -> None:
    """Starved, stopped and well, in any order, for up to a quarter of an hour."""
    ward = Ward()
    for does, for_s in story:
        ward.patients[0].does = does
        ward.passes(for_s)
    assert not ward.signals
