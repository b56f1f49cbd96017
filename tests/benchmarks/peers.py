"""HTTP, beside its peers: what a request costs each server. ``make bench-peers``, which sets up its environment.

Every server has one worker, on a CPU that the load does not use. They take turns in every round, forth in one and back
in the next; a figure is the CPU of all of a server's processes per request, and servers are compared by the ratios of
the rounds (:mod:`hybrid.bench.figures`). Which answers count, and what is asked: :mod:`tests.benchmarks.http_load`,
:mod:`tests.benchmarks.http_workloads`. hybrid is there as it is in this tree and, if there is such a tree, compiled.

``--access-log`` measures what it costs to log each request, to a file. For tuning, ``--self --tree BEFORE --tree
AFTER`` compares nothing but hybrid as it is in several source trees.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.http_load import Workload
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import CLIENT_CPU, as_command, pin
from tests.benchmarks.peer_choice import add_options, announce, check, subjects, write_json
from tests.benchmarks.peer_commands import PEERS, Setup, hybrid, peers
from tests.benchmarks.peer_report import Row, as_json, markdown, missed, table
from tests.benchmarks.peer_servers import Candidate
from tests.benchmarks.peer_turn import all_running, take_turns

_LOGGING = Setup(logged=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly each workload is measured."""

    rounds: int
    for_s: float
    """Of load on each server in each round."""
    starts: int = 1
    """So many times all servers are started afresh, for ``rounds`` each: where the memory of a process lies is luck."""


def measure(workload: Workload, candidates: Sequence[Candidate], plan: Plan) -> list[Row]:
    """Return a row for each candidate that serves such a thing, in their order; if it cannot be measured it says why.

    Closes: all servers, whatever happens.
    """
    candidates = [each for each in candidates if each.serves(workload.app, workload.interface)]
    rows = [Row(each.name, each.version, each.problem) for each in candidates]
    for _ in range(plan.starts):
        with all_running(candidates, workload.app) as servers:
            started = [(row, running) for row, running in zip(rows, servers, strict=True) if running]
            answers: Counter[str] = Counter()
            for turn, row, done in take_turns(started, workload, plan.rounds, plan.for_s):
                answers[row.name] += done.requests
                if turn >= 0:
                    row.add(done)
            for row, candidate, running in zip(rows, candidates, servers, strict=True):
                if running and candidate.access_log and not row.problem:
                    row.problem = _unlogged(running.folder / candidate.access_log, answers[row.name])
    return rows


def _unlogged(log: Path, answers: int) -> str:
    """Return what is wrong with an access log: it must have a line for each answer, or nearly so, now."""
    lines = log.read_bytes().count(b"\n") if log.exists() else 0
    return "" if lines > answers // 2 else f"its access log has {lines} lines for {answers} answers"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peers", description="Measure what a request costs hybrid and its peers."
    )
    parser.add_argument("--workload", nargs="+", choices=list(WORKLOADS), metavar="NAME", help="default: all")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), metavar="NAME", help="default: all")
    add_options(parser, rounds=7, for_s=0.7)
    parser.add_argument("--starts", type=int, default=1, metavar="N", help="start all servers so often")
    parser.add_argument("--self", action="store_true", dest="alone", help="no peers: compare the trees")
    parser.add_argument("--access-log", action="store_true", help="those that log each request, beside themselves")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of the documentation there")
    parser.epilog = "workloads: " + ", ".join(WORKLOADS) + "; peers: " + ", ".join(PEERS)
    chosen = parser.parse_args(arguments)
    if chosen.starts < 1:
        parser.error(f"--starts {chosen.starts} measures nothing: give 1 or more")
    if not chosen.alone and len(chosen.tree or ()) > 1:
        parser.error("several --tree are compared with each other: add --self")
    check(parser, chosen)
    chosen.workload = chosen.workload or (["hello"] if chosen.access_log else list(WORKLOADS))
    return chosen


def _candidates(chosen: argparse.Namespace) -> tuple[list[Candidate], list[str]]:
    """Return who takes turns, and the names of those who are compared with all others."""
    if len(chosen.trees) > 1:
        trees = [hybrid(f"{chr(ord('A') + at)} {tree.name}", tree) for at, tree in enumerate(chosen.trees)]
        return trees, [trees[-1].name]
    ours = subjects(chosen)
    others = [] if chosen.alone else [PEERS[name] for name in chosen.peers or PEERS]
    if chosen.access_log:
        logging = peers(_LOGGING)
        logged = subjects(chosen, _LOGGING)
        others = [one for each in others if each.name in logging for one in (each, logging[each.name])]
        return [*others, *ours, *logged], [each.name for each in logged]
    return [*others, *ours], [each.name for each in ours]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if a bar is missed or a server answers wrongly."""
    chosen = _parse(arguments)
    candidates, ours = _candidates(chosen)
    plan = Plan(chosen.rounds, chosen.seconds, chosen.starts)
    pin(CLIENT_CPU)
    announce(candidates)
    results: dict[str, list[Row]] = {}
    good = True
    for name in chosen.workload:
        rows = measure(WORKLOADS[name], candidates, plan)
        results[name] = rows
        subject_rows = [row for row in rows if row.name in ours]
        print(table(name, rows, subject_rows), flush=True)
        good = good and not missed(name, rows) and not any(row.problem for row in subject_rows)
    write_json(chosen.json, as_json(results, ours))
    if chosen.markdown:
        chosen.markdown.write_text(markdown(results, ours) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    as_command(main)
