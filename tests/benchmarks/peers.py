"""HTTP, beside its peers: what a request costs each server. ``make bench-peers``, which sets up its environment.

Every server has one worker, on a CPU that the load does not use. They take turns in every round, forth in one and back
in the next; a figure is the CPU of all of a server's processes per request, and servers are compared by the ratios of
the rounds (:mod:`hybrid.bench.figures`). Which answers count, and what is asked: :mod:`tests.benchmarks.http_load`,
:mod:`tests.benchmarks.http_workloads`.

For tuning, ``--self --tree BEFORE --tree AFTER`` compares nothing but hybrid as it is in several source trees.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hybrid.bench.measure import own_schedule_ns
from tests.benchmarks.http_load import Load, Workload, WrongAnswer
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import CLIENT_CPU, as_command, pin
from tests.benchmarks.peer_report import Row, Turn, as_json, machine, markdown, missed, table
from tests.benchmarks.peer_servers import PEERS, ROOT, Candidate, Running, hybrid

WARM_UP_S = 0.4


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly each workload is measured."""

    rounds: int
    for_s: float
    """Of load on each server in each round."""
    starts: int = 1
    """So many times all servers are started afresh, for ``rounds`` each: where the memory of a process lies is luck."""


def measure(workload: Workload, candidates: Sequence[Candidate], plan: Plan) -> list[Row]:
    """Return a row for each candidate, in their order; one that cannot be measured says why.

    Closes: all servers, whatever happens.
    """
    rows = [Row(candidate.name, candidate.version) for candidate in candidates]
    for row, candidate in zip(rows, candidates, strict=True):
        if candidate.only_app and candidate.only_app != workload.app:
            row.problem = f"serves no application but {candidate.only_app}"
        elif candidate.interface not in ("", workload.interface):
            row.problem = f"is measured with {candidate.interface.upper()} only"
        row.problem = candidate.problem or row.problem
    for _ in range(plan.starts):
        with ExitStack() as stack:
            started: list[tuple[Row, Running]] = []
            for row, candidate in zip(rows, candidates, strict=True):
                if not row.problem:
                    running = Running(candidate, workload.app)
                    stack.callback(running.end)
                    started.append((row, running))
            _rounds(started, workload, plan)
    return rows


def _rounds(started: Sequence[tuple[Row, Running]], workload: Workload, plan: Plan) -> None:
    """Let the servers take turns. Whoever answers wrongly is left out from then on, and its row says why."""
    for turn in range(-1, plan.rounds):
        for row, running in started if turn % 2 else reversed(started):
            if row.problem:
                continue
            try:
                if turn < 0:
                    running.wait_ready(workload)
                    _turn(running, workload, WARM_UP_S)
                else:
                    row.add(_turn(running, workload, plan.for_s))
            except WrongAnswer as error:
                row.problem = str(error)


def _turn(running: Running, workload: Workload, for_s: float) -> Turn:
    """Load one server once, and return what came of it. Raises: WrongAnswer."""
    with Load(running.port, workload) as load:
        begun = (time.monotonic_ns(), running.cpu_ns(), *own_schedule_ns())
        count = load.run(for_s)
        ended = (time.monotonic_ns(), running.cpu_ns(), *own_schedule_ns())
    return Turn(count, *(after - before for before, after in zip(begun, ended, strict=True)))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peers", description="Measure what a request costs hybrid and its peers."
    )
    parser.add_argument("--workload", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS), metavar="NAME")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="at least 5; from 6 on there is an interval")
    parser.add_argument("--seconds", type=float, default=0.7, help="of load on each server in each round")
    parser.add_argument("--starts", type=int, default=1, metavar="N", help="start all servers so often")
    parser.add_argument("--self", action="store_true", dest="alone", help="no peers: compare the trees")
    parser.add_argument("--tree", type=Path, action="append", help="a source tree of hybrid; default: this one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of the documentation there")
    parser.epilog = "workloads: " + ", ".join(WORKLOADS) + "; peers: " + ", ".join(PEERS)
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 5:
        parser.error(f"--rounds {chosen.rounds} is too few to say anything: give 5 or more")
    if chosen.starts < 1:
        parser.error(f"--starts {chosen.starts} measures nothing: give 1 or more")
    if chosen.seconds <= 0:
        parser.error(f"--seconds {chosen.seconds:g} is no load: give more than 0")
    trees = [tree.resolve() for tree in chosen.tree or [ROOT]]
    if wrong := [tree for tree in trees if not (tree / "hybrid" / "__main__.py").is_file()]:
        parser.error(f"--tree {wrong[0]} holds no hybrid/: give the directory that it is in")
    if not chosen.alone and len(trees) > 1:
        parser.error("several --tree are compared with each other: add --self")
    chosen.trees = trees
    return chosen


def _candidates(chosen: argparse.Namespace) -> list[Candidate]:
    """Return who takes turns; the last one is compared with all others."""
    if len(chosen.trees) == 1:
        peers = [] if chosen.alone else [PEERS[name] for name in chosen.peers]
        return [*peers, hybrid("hybrid", chosen.trees[0])]
    return [hybrid(f"{chr(ord('A') + at)} {tree.name}", tree) for at, tree in enumerate(chosen.trees)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if a bar is missed or a server answers wrongly."""
    chosen = _parse(arguments)
    candidates = _candidates(chosen)
    plan = Plan(chosen.rounds, chosen.seconds, chosen.starts)
    pin(CLIENT_CPU)
    print(", ".join(machine().values()), flush=True)
    print(", ".join(f"{each.name} {each.version or '(not installed)'}" for each in candidates), flush=True)
    results: dict[str, list[Row]] = {}
    good = True
    for name in chosen.workload:
        rows = measure(WORKLOADS[name], candidates, plan)
        results[name] = rows
        print(table(name, rows, rows[-1]), flush=True)
        good = good and not missed(name, rows) and not rows[-1].problem
    if chosen.json:
        chosen.json.write_text(json.dumps(as_json(results, candidates[-1].name), indent=1) + "\n")
    if chosen.markdown:
        chosen.markdown.write_text(markdown(results, candidates[-1].name) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    as_command(main)
