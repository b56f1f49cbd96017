"""Beside peers: the latency counts from when a request was due, memory knows its processes, balance its workers."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.bench.jobs import Outcome
from tests.benchmarks import measure, peer_balance, peer_choice, peer_latency, peer_memory, peer_turn
from tests.benchmarks.http_load import WrongAnswer
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.peer_balance import Round
from tests.benchmarks.peer_commands import HYBRID, HYBRID_COMPILED, LOGGED, PEERS, Setup, hybrid, peers
from tests.benchmarks.peer_latency import AtRate
from tests.benchmarks.peer_memory import Process
from tests.benchmarks.peer_servers import ROOT, Running

HELLO = WORKLOADS["hello"]
PARSER = argparse.ArgumentParser()

# ── latency ──────────────────────────────────────────────────────────────────────────────────────────────────


def outcome(taken_ms: list[float], timed_out: int = 0, reset: int = 0) -> Outcome:
    """Return what a client would have told."""
    return Outcome(array("d", [each / 1000 for each in taken_ms]), timed_out=timed_out, reset=reset)


def test_what_was_not_answered_in_time_took_all_the_time() -> None:
    """Leaving it out would make a server that stands still look fast."""
    rate = AtRate(100)
    rate.add(outcome([1.0] * 400, timed_out=4))
    assert (rate.p50_us, rate.p99_us) == ([1000], [1000])
    rate.add(outcome([1.0] * 400, timed_out=5))
    assert rate.p99_us == [1000, 5_000_000]
    assert "1000 2500500 [1000-5000000]" in rate.told()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (outcome([1.0] * 200, reset=1, timed_out=1), "1 of 202 requests were not answered"),
        (outcome([1.0] * 99), "99 requests are too few: give more --seconds"),
        (outcome([]), "0 requests are too few"),
    ],
)
def test_a_rate_without_a_figure_says_why(given: Outcome, said: str) -> None:
    """And has none."""
    rate = AtRate(100)
    rate.add(given)
    assert said in rate.told()
    assert not rate.p99_us


def test_all_are_asked_at_one_rate_that_each_can_keep_up_with() -> None:
    """Who cannot is not asked at that rate; at its own everybody is."""
    rows = [peer_latency.Row(name, "1") for name in ("uvicorn", "slow", "gone")]
    rows[0].saturation_per_s, rows[1].saturation_per_s, rows[2].problem = 1000, 600, "ended"
    peer_latency._plan_rates(rows, peer_latency.Plan(5, 1.0, 0.7, "uvicorn"))
    same = [row.same for row in rows if row.same]
    assert [(round(rate.per_s), rate.problem) for rate in same] == [(700, ""), (700, "is 117% of what it can do")]
    assert [round(row.own.per_s) for row in rows if row.own] == [700, 420]


def test_latency_is_measured_at_a_share_of_the_saturation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server, at both rates; a peer that is missing has a row that says so."""
    monkeypatch.setattr(peer_turn, "WARM_UP_S", 0.02)
    monkeypatch.setattr(peer_latency, "SATURATING_TURNS", 1)
    missing = replace(hybrid("missing", ROOT), problem="is not installed")
    plan = peer_latency.Plan(1, 0.2, 0.3, HYBRID)
    rows = peer_latency.measure(HELLO, [missing, hybrid(HYBRID, ROOT)], plan)
    mine = rows[1]
    assert mine.same is not None
    assert mine.own is not None
    assert not mine.problem
    assert mine.same.per_s == mine.own.per_s == 0.3 * mine.saturation_per_s
    assert all(rate.problem or 0 < rate.p50_us[0] <= rate.p99_us[0] for rate in (mine.same, mine.own))
    told = peer_latency.table(rows, HELLO, plan)
    assert "is not installed" in told
    assert f"30% of what saturates {HYBRID}" in told
    assert [each["problem"] for each in peer_latency.as_json(rows, plan)["servers"]] == ["is not installed", ""]


@pytest.mark.parametrize("share", ["0", "0.95", "1.2"])
def test_a_share_that_fills_the_queue_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its latency would be the length of the round."""
    with pytest.raises(SystemExit, match="2"):
        peer_latency.main(["--share", share])
    assert f"--share {share} is no rate" in capsys.readouterr().err


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_memory_is_told_for_each_process_with_its_role() -> None:
    """Everything that hybrid starts for two workers."""
    row = peer_memory.measure(hybrid(HYBRID, ROOT, peer_memory.TWO), HELLO, 1, 0.02)
    assert not row.problem
    assert [each.role for each in row.typical()] == ["parent", "mold", "worker", "worker"]
    assert all(0 < each.private_mib <= each.pss_mib for each in row.typical())
    told = peer_memory.table([row], HELLO, 0.02)
    assert f"bar: {HYBRID} <= 45 MiB: " in told
    assert "tracker" not in told


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("gunicorn: master [apps_http:hello]", "master"),
        ("nginx: worker process", "worker"),
        ("hybrid: mold [hello]", "mold"),
        ("python -c from multiprocessing.resource_tracker import main", "tracker"),
        ("python -c from multiprocessing.spawn import spawn_main", "worker"),
    ],
)
def test_a_role_is_what_the_title_says(title: str, role: str) -> None:
    """Or, without one, whether it came first."""
    command = [title, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, executable=sys.executable, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()  # its arguments are there
            assert peer_memory.role(process.pid, os.getpid()) == role
            assert peer_memory.role(process.pid, process.pid) == role.replace("worker", "parent") or ": " in title
        finally:
            process.kill()


def test_memory_has_a_bar_and_an_aim() -> None:
    """The median of the starts decides; the processes shown are those of that start."""

    def row(name: str, *whole: float, problem: str = "") -> peer_memory.Row:
        return peer_memory.Row(name, "1", problem, [[Process("worker", each, each / 2)] for each in whole])

    rows = [row("granian", 41.0), row(HYBRID, 46.0, 44.0, 45.0), row(HYBRID_COMPILED, 40.0, 46.0, 45.1)]
    assert peer_memory.verdicts(rows) == [
        "bar: hybrid <= 45 MiB: kept",
        "aim: hybrid < granian, 41.0 MiB: not reached",
        "bar: hybrid compiled <= 45 MiB: MISSED",
        "aim: hybrid compiled < granian, 41.0 MiB: not reached",
    ]
    assert rows[1].typical() == [Process("worker", 45.0, 22.5)]
    assert "is not there" in peer_memory.table([row("uvicorn", problem="is not there")], HELLO, 1.0)


# ── balance ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ({1: 5, 2: 50, 3: 50}, Round(0.5, (40, 24))),
        ({1: 0, 2: 25, 3: 75}, Round(0.75, (24, 40))),
        ({2: 8}, Round(1.0, (40, 0))),
    ],
)
def test_the_two_busiest_processes_are_the_workers(used: dict[int, int], expected: Round) -> None:
    """Who is alone has it all; a parent that counts heartbeats is no worker."""
    assert peer_balance.judge(used, {1: 1, 2: 40, 3: 24}) == expected


@pytest.mark.parametrize("used", [{1: 0, 2: 0}, {}])
def test_a_server_that_did_nothing_has_no_balance(used: dict[int, int]) -> None:
    """It is not even."""
    with pytest.raises(WrongAnswer, match="used any CPU"):
        peer_balance.judge(used, {})


def test_balance_is_measured_round_by_round() -> None:
    """With a real server: each connection is somebody's."""
    row = peer_balance.measure(hybrid(HYBRID, ROOT, peer_balance.TWO), HELLO, 2, 0.03)
    assert not row.problem
    assert [sum(each.held) for each in row.rounds] == [HELLO.connections] * 2
    assert all(0.5 <= each.share <= 1 for each in row.rounds)
    assert f" {row.rounds[1].held[0]}:{row.rounds[1].held[1]}" in peer_balance.table([row], HELLO)


def test_balance_is_held_against_its_bar_by_the_median() -> None:
    """One bad round is luck."""
    rows = [
        peer_balance.Row(HYBRID, "1", "", [Round(share) for share in (0.5, 0.52, 0.9)]),
        peer_balance.Row(HYBRID_COMPILED, "1", "", [Round(0.53)]),
        peer_balance.Row("uvicorn", "1", "", [Round(0.6)]),
    ]
    assert peer_balance.verdicts(rows) == ["bar: hybrid <= 52%: kept", "bar: hybrid compiled <= 52%: MISSED"]


# ── what all have in common ──────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_never_rests_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers may still be booting: nobody could say how many there are."""
    monkeypatch.setattr("tests.benchmarks.peer_servers.BOOT_S", 0.1)
    monkeypatch.setattr("tests.benchmarks.peer_servers._QUIET", -1.0)
    running = Running(hybrid(HYBRID, ROOT), HELLO.app)
    try:
        with pytest.raises(WrongAnswer, match="still busy after"):
            running.wait_quiet()
    finally:
        running.end()


def chosen(*arguments: str) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser()
    peer_choice.add_options(parser, rounds=5, for_s=1.0)
    parsed = parser.parse_args(arguments)
    peer_choice.check(parser, parsed)
    return parsed


@pytest.fixture
def trees(tmp_path: Path) -> tuple[str, str]:
    """Return a source tree and one that looks compiled."""
    for name in ("pure", "fast"):
        http = tmp_path / name / "hybrid" / "http"
        http.mkdir(parents=True)
        for file in ("__init__.py", "__main__.py"):
            http.parent.joinpath(file).touch()
    (tmp_path / "fast" / "hybrid" / "http" / "head.cpython-311.so").touch()
    return str(tmp_path / "pure"), str(tmp_path / "fast")


def test_a_tree_is_measured_only_as_what_it_is(trees: tuple[str, str]) -> None:
    """What is called compiled and is not has no figure, nor has what is called pure and is not."""
    pure, fast = trees
    right = peer_choice.subjects(chosen("--tree", pure, "--compiled", fast))
    assert [(each.name, each.problem) for each in right] == [(HYBRID, ""), (HYBRID_COMPILED, "")]
    assert [each.version.partition(" (")[2] for each in right] == ["pure)", "compiled)"]
    wrong = peer_choice.subjects(chosen("--tree", fast, "--compiled", pure))
    assert [each.problem.partition(" is ")[2] for each in wrong] == [
        "compiled: give a tree that is pure",
        "pure: give a tree that is compiled",
    ]


def test_compiled_is_measured_if_it_is_where_make_puts_it(
    trees: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an option; and a tree that is compiled, alone, is called so."""
    pure, fast = trees
    monkeypatch.setattr(peer_choice, "COMPILED", Path(pure, "no", "such", "place"))
    assert [each.name for each in peer_choice.subjects(chosen("--tree", pure))] == [HYBRID]
    assert [each.name for each in peer_choice.subjects(chosen("--tree", fast))] == [HYBRID_COMPILED]
    monkeypatch.setattr(peer_choice, "COMPILED", Path(fast))
    assert [each.name for each in peer_choice.subjects(chosen("--tree", pure))] == [HYBRID, HYBRID_COMPILED]


def test_a_scheduler_that_is_not_ours_to_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the remedy."""

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with pytest.raises(SystemExit, match="2"):
        chosen("--fifo")
    assert "--fifo is not permitted here: run as root" in capsys.readouterr().err


def test_who_goes_first_takes_its_servers_along() -> None:
    """The scheduler is inherited."""
    code = "from tests.benchmarks.measure import *; go_first(); import subprocess, sys; "
    code += "subprocess.run([sys.executable, '-c', 'from tests.benchmarks.measure import *; print(scheduler())'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if "PermissionError" in done.stderr:
        pytest.skip("needs a user who may use SCHED_FIFO")
    assert done.stdout.strip() == "SCHED_FIFO"
    assert measure.scheduler() != "SCHED_FIFO" or os.sched_getscheduler(0) == os.SCHED_FIFO


def test_only_who_can_is_asked_for_more_workers_or_a_log() -> None:
    """The others are not in the table at all."""
    two = peers(Setup(workers=2))
    assert "bare" in PEERS
    assert "bare" not in two
    assert {"uvicorn", "granian", "gunicorn-asgi"} <= two.keys()
    logged = peers(Setup(logged=True))
    assert [each.name for each in logged.values()] == ["uvicorn" + LOGGED, "granian" + LOGGED]
    assert logged.keys() <= PEERS.keys()
