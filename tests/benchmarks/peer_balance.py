"""How evenly two workers share the work of 64 connections, beside the peers. ``make bench-peers-balance``.

Nothing is pinned. In each round all connections are opened anew, one after the other and as fast as they are taken, and
kept alive under load: who took them decides who works. A figure is the larger worker's share of the CPU that the two
used, so that 50 % is even; with it comes how many connections each had.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from hybrid.bench.measure import process_cpu_ns
from hybrid.shared.procfs import open_descriptors
from tests.benchmarks.http_load import Load, Workload, WrongAnswer
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import as_command, scheduler
from tests.benchmarks.peer_choice import add_options, announce, check, subjects, write_json
from tests.benchmarks.peer_commands import HYBRID, HYBRID_COMPILED, Setup, peers
from tests.benchmarks.peer_servers import Candidate, Running

LIMIT = 0.52
"""The bar for hybrid's larger share."""
TWO = Setup(workers=2)
BOTH_S = 10.0
"""The second worker has so long to take part; then it is measured as it is."""
LEAVE_S = 2.0
_ALONE = 0.99
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Round:
    """How two workers shared the work. ``held``: connections of the one that worked more, and of the other."""

    share: float
    held: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Row:
    """A server, round by round. ``problem``: why there is nothing, or no more."""

    name: str
    version: str
    problem: str = ""
    rounds: list[Round] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The median of the larger shares."""
        return statistics.median(each.share for each in self.rounds)


def judge(used_ns: Mapping[int, int], connections: Mapping[int, int]) -> Round:
    """Return how the work was shared, from what each process used and held: the two busiest ones are the workers."""
    first, second = [*sorted(used_ns, key=lambda pid: -used_ns[pid]), -1, -1][:2]
    used = used_ns.get(first, 0) + used_ns.get(second, 0)
    if not used:
        raise WrongAnswer("none of its processes used any CPU")
    return Round(used_ns[first] / used, (connections.get(first, 0), connections.get(second, 0)))


def measure(candidate: Candidate, workload: Workload, rounds: int, for_s: float) -> Row:
    """Return how a server shares its work, round by round. Closes: it, whatever happens."""
    row = Row(candidate.name, candidate.version, candidate.problem)
    if row.problem:
        return row
    running = Running(candidate, workload.app, None)
    try:
        running.wait_ready(workload)
        running.wait_quiet()
        alone = sum(_each(running, _sockets).values())
        deadline_s = time.monotonic() + BOTH_S
        while _round(running, workload, for_s, alone).share > _ALONE and time.monotonic() < deadline_s:
            pass  # quiet because the other worker is still starved of the CPU that it boots with
        row.rounds += [_round(running, workload, for_s, alone) for _ in range(rounds)]
    except WrongAnswer as error:
        row.problem = str(error)
    finally:
        running.end()
    return row


def _round(running: Running, workload: Workload, for_s: float, alone: int) -> Round:
    deadline_s = time.monotonic() + LEAVE_S
    while sum((idle := _each(running, _sockets)).values()) > alone and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)  # the connections of the round before are not closed yet
    with Load(running.port, workload) as load:
        before = _each(running, process_cpu_ns)
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            load.run(0.0)  # once on each: three processes that never wait are shared out to two CPUs by the scheduler
        after = _each(running, process_cpu_ns)
        held = _each(running, _sockets)
    return judge(_more(after, before), _more(held, idle))


def _sockets(pid: int) -> int:
    return sum(target.startswith("socket:") for _, target in open_descriptors(pid))


def _each(running: Running, count: Callable[[int], int]) -> dict[int, int]:
    found = {}
    for pid in running.members():
        with suppress(OSError):  # it ended meanwhile
            found[pid] = count(pid)
    return found


def _more(after: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int]:
    return {pid: count - before.get(pid, 0) for pid, count in after.items()}


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Return the bar of each hybrid that was measured, and whether it keeps it."""
    return [
        f"bar: {row.name} <= {LIMIT:.0%}: {'kept' if row.share <= LIMIT else 'MISSED'}"
        for row in rows
        if row.name in (HYBRID, HYBRID_COMPILED) and not row.problem
    ]


def table(rows: Sequence[Row], workload: Workload) -> str:
    """Return what the rows hold, for the terminal."""
    rounds = max((len(row.rounds) for row in rows), default=0)
    lines = [
        f"\nbalance: 2 workers, {workload.connections} connections kept alive, {rounds} rounds, {scheduler()}",
        f"  {'':24} larger worker's share of the CPU: median, and each round with both's connections",
    ]
    for row in rows:
        each = "  ".join(f"{one.share:.0%} {one.held[0]}:{one.held[1]}" for one in row.rounds)
        lines.append(f"  {row.name:24} {row.problem or f'{row.share:.1%}   {each}'}")
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
