"""How long a request takes when the server is not full, beside its peers. ``make bench-peers-latency``.

Each server's saturation is found first: 64 connections that ask again as soon as they are answered. Then requests come
at a rate, whether or not those before are answered: at a share of what saturates uvicorn, the same rate for all, and
at that share of what saturates each one itself. A request counts from when it was due, also where its connection was
not free yet or the load was late: a server that stands still for a moment is late for all who would have come
(Gil Tene, "How NOT to Measure Latency"). Server and load have a CPU each, as in :mod:`tests.benchmarks.peers`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hybrid.bench.figures import percentile
from hybrid.bench.jobs import Job, Mode, Outcome, Reply
from hybrid.bench.load import Clients, honesty
from hybrid.ground.errors import HybridError
from tests.benchmarks.http_load import Workload, sample
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import CLIENT_CPU, as_command, pin, scheduler
from tests.benchmarks.peer_choice import add_options, announce, check, subjects, write_json
from tests.benchmarks.peer_commands import PEERS
from tests.benchmarks.peer_servers import Candidate, Running
from tests.benchmarks.peer_turn import Turn, all_running, take_turns

SATURATING_TURNS = 3
FULL = 0.95
"""A rate that is a larger share of a server's saturation only fills its queue: how long depends on how long."""
_TIMEOUT_S = 5.0


@dataclass(slots=True)
class AtRate:
    """What a server did at one rate: a figure for each round, in µs. ``problem``: why they say nothing."""

    per_s: float
    problem: str = ""
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Note one round. What was not answered in time took all the time; what was refused leaves no figure."""
        self.outcomes.append(outcome)
        taken = sorted([*outcome.latencies_s, *[_TIMEOUT_S] * outcome.timed_out])
        median, high = percentile(taken, 0.5), percentile(taken, 0.99)
        if failed := outcome.lost - outcome.timed_out:
            self.problem = f"{failed} of {failed + len(taken)} requests were not answered"
        elif not median or not high:
            self.problem = f"{len(taken)} requests are too few: give more --seconds"
        else:
            self.p50_us.append(median.seconds * 1e6)
            self.p99_us.append(high.seconds * 1e6)

    def told(self) -> str:
        """Return the medians of the rounds, and the range of p99."""
        if self.problem or not self.p99_us:
            return f"{self.per_s:7.0f}/s  {self.problem or 'not measured'}"
        figures = f"{statistics.median(self.p50_us):7.0f} {statistics.median(self.p99_us):7.0f}"
        return f"{self.per_s:7.0f}/s {figures} [{min(self.p99_us):.0f}-{max(self.p99_us):.0f}]"


@dataclass(slots=True)
class Row:
    """One server. ``same``: at the rate that all have, ``own``: at its own."""

    name: str
    version: str
    problem: str = ""
    saturation_per_s: float = 0.0
    load_busy: float = 0.0
    """Share of the time that the load ran at saturation; near 1 it was the load that set the pace."""
    same: AtRate | None = None
    own: AtRate | None = None

    def saturate(self, turns: Sequence[Turn]) -> None:
        """Note how much it can do."""
        self.saturation_per_s = statistics.median(turn.per_s for turn in turns)
        self.load_busy = statistics.median(turn.load_busy for turn in turns)


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly it is measured."""

    rounds: int
    for_s: float
    share: float
    """Of the saturation."""
    of: str
    """Whose saturation says at which rate all are asked."""


def measure(workload: Workload, candidates: Sequence[Candidate], plan: Plan) -> list[Row]:
    """Return a row for each candidate, in their order. Closes: all servers and the load, whatever happens."""
    rows = [Row(each.name, each.version, each.problem) for each in candidates]
    with all_running(candidates, workload.app) as servers, Clients(1) as clients:
        started = [(row, running) for row, running in zip(rows, servers, strict=True) if running]
        _saturate(started, workload, plan)
        _plan_rates(rows, plan)
        for turn in range(-1, plan.rounds):
            for row, running in started if turn % 2 else reversed(started):
                for rate in (row.same, row.own):
                    if not row.problem and rate and not rate.problem:
                        _ask(row, rate, _job(running, workload, plan.for_s, rate.per_s), clients, counts=turn >= 0)
    return rows


def _saturate(started: Sequence[tuple[Row, Running]], workload: Workload, plan: Plan) -> None:
    turns: dict[str, list[Turn]] = {row.name: [] for row, _ in started}
    for number, row, turn in take_turns(started, workload, SATURATING_TURNS, plan.for_s):
        if number >= 0:
            turns[row.name].append(turn)
    for row, _ in started:
        if not row.problem:
            row.saturate(turns[row.name])


def _plan_rates(rows: Sequence[Row], plan: Plan) -> None:
    measured = [row for row in rows if not row.problem]
    base = next((row.saturation_per_s for row in measured if row.name == plan.of), 0.0)
    for row in measured:
        row.own = AtRate(plan.share * row.saturation_per_s)
        if base:
            row.same = AtRate(plan.share * base)
            if row.same.per_s > FULL * row.saturation_per_s:
                row.same.problem = f"is {row.same.per_s / row.saturation_per_s:.0%} of what it can do"


def _job(running: Running, workload: Workload, for_s: float, per_s: float) -> Job:
    """Return what the client is to do, after a look at the answer: its length is what the client waits for."""
    return Job(
        Mode.STEADY,
        running.port,
        for_s=for_s,
        connections=workload.connections,
        per_s=per_s,
        request=workload.request(0).decode("latin-1"),
        reply=Reply("bytes", len(sample(running.port, workload))),
        timeout_s=_TIMEOUT_S,
    )


def _ask(row: Row, rate: AtRate, job: Job, clients: Clients, *, counts: bool) -> None:
    try:
        outcome = clients.run(job)
    except HybridError as error:
        row.problem = str(error)
        return
    if counts:
        rate.add(outcome)


def table(rows: Sequence[Row], workload: Workload, plan: Plan) -> str:
    """Return what the rows hold, for the terminal."""
    rounds = max((len(rate.p99_us) for row in rows for rate in (row.same, row.own) if rate), default=0)
    columns = f"{'rate':>9} {'p50 µs':>7} {'p99 µs':>7} {'[rounds]':14}"
    lines = [
        f"\n{workload.name}: {workload.what}; {workload.connections} connections, {rounds} rounds, {scheduler()}",
        f"  {'':16} {'full':>9} {'load':>5}  | {plan.share:.0%} of what saturates {plan.of:18} | and of its own",
        f"  {'':16} {'':9} {'':5}  | {columns} | {columns.rstrip()}",
    ]
    for row in rows:
        if row.problem:
            lines.append(f"  {row.name:16} {row.problem}")
            continue
        told = [rate.told() if rate else f"{plan.of} was not measured" for rate in (row.same, row.own)]
        full = f"{row.saturation_per_s:7.0f}/s {row.load_busy:5.0%}"
        lines.append(f"  {row.name:16} {full}  | {told[0]:40} | {told[1]}")
    outcomes = [each for row in rows for rate in (row.same, row.own) if rate for each in rate.outcomes]
    if problem := honesty(outcomes).problem:
        lines.append(f"  the load is no good: {problem}")
    return "\n".join(lines)


def as_json(rows: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Return everything that was measured, rounds included."""
    found = []
    for row in rows:
        for rate in (row.same, row.own):
            if rate:
                rate.outcomes.clear()  # every single latency
        found.append(asdict(row))
    return {"plan": asdict(plan), "servers": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if a server was not measured that is there."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peer_latency", description="Measure how long a request takes at a fixed rate."
    )
    parser.add_argument("--peers", nargs="+", default=["uvicorn", "granian"], choices=list(PEERS), metavar="NAME")
    add_options(parser, rounds=7, for_s=1.0)
    parser.add_argument("--share", type=float, default=0.7, help="of the saturation; default: 0.7")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.share < FULL:
        parser.error(f"--share {chosen.share:g} is no rate that a server can keep up with: give 0.1 to 0.9")
    check(parser, chosen)
    workload = WORKLOADS["hello"]
    plan = Plan(chosen.rounds, chosen.seconds, chosen.share, chosen.peers[0])
    candidates = [*(PEERS[name] for name in chosen.peers), *subjects(chosen)]
    pin(CLIENT_CPU)
    announce(candidates)
    rows = measure(workload, candidates, plan)
    print(table(rows, workload, plan))
    write_json(chosen.json, as_json(rows, plan))
    installed = {each.name for each in candidates if not each.problem}
    return 1 if any(row.problem and row.name in installed for row in rows) else 0


if __name__ == "__main__":
    as_command(main)
