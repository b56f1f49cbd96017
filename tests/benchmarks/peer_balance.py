"""How evenly two workers share the work of 64 connections, beside the peers. ``make bench-peers-balance``.

Nothing is pinned. In each round all connections are opened anew, one after the other, and kept alive under load: who
took them decides who works. A figure is the larger worker's share of the CPU that the two used, so that 50 % is even.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from hybrid.bench.measure import process_cpu_ns
from tests.benchmarks.http_load import Load, Workload, WrongAnswer
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import as_command, scheduler
from tests.benchmarks.peer_choice import add_options, announce, check, subjects, write_json
from tests.benchmarks.peer_commands import HYBRID, HYBRID_COMPILED, Setup, peers
from tests.benchmarks.peer_servers import Candidate, Running

LIMIT = 0.52
"""The bar for hybrid's larger share."""
TWO = Setup(workers=2)


@dataclass(slots=True)
class Row:
    """A server: the larger worker's share in each round. ``problem``: why there is none, or no more."""

    name: str
    version: str
    problem: str = ""
    shares: list[float] = field(default_factory=list)


def larger_share(used_ns: Mapping[int, int]) -> float:
    """Return the larger worker's part of what the two used, from what each process used: they are the busiest ones."""
    first, second = sorted([0, 0, *used_ns.values()], reverse=True)[:2]
    if not first:
        raise WrongAnswer("none of its processes used any CPU")
    return first / (first + second)


def measure(candidate: Candidate, workload: Workload, rounds: int, for_s: float) -> Row:
    """Return how a server shares its work, round by round. Closes: it, whatever happens."""
    row = Row(candidate.name, candidate.version, candidate.problem)
    if row.problem:
        return row
    running = Running(candidate, workload.app, None)
    try:
        running.wait_ready(workload)
        running.wait_quiet()  # both workers are there
        for turn in range(-1, rounds):
            share = _round(running, workload, for_s)
            if turn >= 0:  # the first round warms up
                row.shares.append(share)
    except WrongAnswer as error:
        row.problem = str(error)
    finally:
        running.end()
    return row


def _round(running: Running, workload: Workload, for_s: float) -> float:
    with Load(running.port, workload) as load:
        before = _used_ns(running)
        load.run(for_s)
        after = _used_ns(running)
    return larger_share({pid: used - before.get(pid, 0) for pid, used in after.items()})


def _used_ns(running: Running) -> dict[int, int]:
    found = {}
    for pid in running.members():
        with suppress(OSError):  # it ended meanwhile
            found[pid] = process_cpu_ns(pid)
    return found


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Return the bar of each hybrid that was measured, and whether it keeps it."""
    return [
        f"bar: {row.name} <= {LIMIT:.0%}: {'kept' if statistics.median(row.shares) <= LIMIT else 'MISSED'}"
        for row in rows
        if row.name in (HYBRID, HYBRID_COMPILED) and not row.problem
    ]


def table(rows: Sequence[Row], workload: Workload) -> str:
    """Return what the rows hold, for the terminal."""
    rounds = max((len(row.shares) for row in rows), default=0)
    lines = [
        f"\nbalance: 2 workers, {workload.connections} connections kept alive, {rounds} rounds, {scheduler()}",
        f"  {'':24} larger worker's share of the CPU: median, and each round",
    ]
    for row in rows:
        each = " ".join(f"{share:.1%}" for share in row.shares)
        lines.append(f"  {row.name:24} {row.problem or f'{statistics.median(row.shares):.1%}   {each}'}")
    return "\n".join([*lines, *(f"  {told}" for told in verdicts(rows))])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if the bar is missed or hybrid cannot be measured."""
    known = peers(TWO)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peer_balance", description="Measure how evenly two workers share the work."
    )
    parser.add_argument("--peers", nargs="+", default=["uvicorn", "granian"], choices=list(known), metavar="NAME")
    add_options(parser, rounds=7, for_s=0.7)
    chosen = parser.parse_args(arguments)
    check(parser, chosen)
    workload = WORKLOADS["hello"]
    candidates = [*(known[name] for name in chosen.peers), *subjects(chosen, TWO)]
    announce(candidates)
    rows = [measure(each, workload, chosen.rounds, chosen.seconds) for each in candidates]
    print(table(rows, workload))
    write_json(chosen.json, {"limit": LIMIT, "servers": [asdict(row) for row in rows]})
    ours = (HYBRID, HYBRID_COMPILED)
    missed = any("MISSED" in told for told in verdicts(rows))
    return 1 if missed or any(row.problem for row in rows if row.name in ours) else 0


if __name__ == "__main__":
    as_command(main)
