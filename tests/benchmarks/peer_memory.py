"""What two workers and all that belongs to them hold, beside the peers. ``make bench-peers-memory``.

Each server is started alone, comes to rest, and is loaded on 64 connections; what counts is the proportional set size
afterwards (smaps_rollup, proc(5)) of every process of its session. A page that several processes have counts in parts:
also those of the interpreter that other programs have mapped at the moment, this one among them.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from hybrid.shared.procfs import memory_use
from tests.benchmarks.http_load import Load, Workload, WrongAnswer
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import as_command
from tests.benchmarks.peer_choice import add_options, announce, check, subjects, write_json
from tests.benchmarks.peer_commands import HYBRID, HYBRID_COMPILED, Setup, peers
from tests.benchmarks.peer_servers import Candidate, Running

LIMIT_MIB = 45
"""The bar for hybrid's whole tree."""
AIM = "granian"
"""Less than this one holds is what we hope for."""
TWO = Setup(workers=2)
_TITLE = re.compile(r"[\w-]+: (\w+)")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a server."""

    role: str
    pss_mib: float
    private_mib: float


@dataclass(slots=True)
class Row:
    """A server: its processes after each start. ``problem``: why there are none."""

    name: str
    version: str
    problem: str = ""
    starts: list[list[Process]] = field(default_factory=list)

    def whole_mib(self) -> list[float]:
        """Return what all processes held together, after each start."""
        return [sum(each.pss_mib for each in processes) for processes in self.starts]

    def typical(self) -> list[Process]:
        """Return the processes of the start that is the median."""
        whole = self.whole_mib()
        return self.starts[whole.index(statistics.median_low(whole))]


def role(pid: int, leader: int) -> str:
    """Return what a process is to its server: as its title says it, or as its place does. Raises: OSError: it ended."""
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        command = file.read().replace("\0", " ").strip()
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        name = file.read().strip()
    if title := _TITLE.match(command) or _TITLE.match(name):
        return title[1]
    if "resource_tracker" in command:
        return "tracker"
    return "parent" if pid == leader else "worker"


def processes_of(running: Running) -> list[Process]:
    """Return all processes of a server that live, the first one first."""
    found = []
    for pid in running.members():
        with suppress(OSError):  # it ended meanwhile
            used = memory_use(pid)
            found.append(Process(role(pid, running.pid), used.pss_bytes / _MIB, used.private_bytes / _MIB))
    return found


def measure(candidate: Candidate, workload: Workload, starts: int, for_s: float) -> Row:
    """Return what a server holds after its load. Closes: it, whatever happens."""
    row = Row(candidate.name, candidate.version, candidate.problem)
    for _ in range(0 if row.problem else starts):
        running = Running(candidate, workload.app, None)
        try:
            running.wait_ready(workload)
            running.wait_quiet()
            with Load(running.port, workload) as load:
                load.run(for_s)
            row.starts.append(processes_of(running))
        except WrongAnswer as error:
            row.problem = str(error)
            break
        finally:
            running.end()
    return row


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Return the bar and the aim of each hybrid that was measured, and whether it keeps them."""
    held = {row.name: statistics.median(row.whole_mib()) for row in rows if not row.problem}
    told = []
    for name in (each for each in (HYBRID, HYBRID_COMPILED) if each in held):
        told.append(f"bar: {name} <= {LIMIT_MIB} MiB: {'kept' if held[name] <= LIMIT_MIB else 'MISSED'}")
        if AIM in held:
            reached = "reached" if held[name] < held[AIM] else "not reached"
            told.append(f"aim: {name} < {AIM}, {held[AIM]:.1f} MiB: {reached}")
    return told


def table(rows: Sequence[Row], workload: Workload, for_s: float) -> str:
    """Return what the rows hold, for the terminal."""
    starts = max((len(row.starts) for row in rows), default=0)
    load = f"{for_s:g} s of {workload.name} on {workload.connections} connections"
    lines = [
        f"\nmemory: 2 workers, after {load}; {starts} starts",
        f"  {'':24} {'PSS MiB':>8} {'private':>8}",
    ]
    for row in rows:
        if row.problem:
            lines.append(f"  {row.name:24} {row.problem}")
            continue
        whole, typical = row.whole_mib(), row.typical()
        private = sum(each.private_mib for each in typical)
        spread = f"   [{min(whole):.1f}-{max(whole):.1f}]"
        lines.append(f"  {row.name:24} {statistics.median(whole):8.1f} {private:8.1f}{spread}")
        lines += [f"    {each.role:22} {each.pss_mib:8.1f} {each.private_mib:8.1f}" for each in typical]
    return "\n".join([*lines, *(f"  {told}" for told in verdicts(rows))])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if the bar is missed or hybrid cannot be measured."""
    known = peers(TWO)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peer_memory", description="Measure what hybrid and its peers hold."
    )
    default = ["uvicorn", "granian", "gunicorn-asgi"]
    parser.add_argument("--peers", nargs="+", default=default, choices=list(known), metavar="NAME")
    add_options(parser, rounds=3, for_s=2.0)
    chosen = parser.parse_args(arguments)
    check(parser, chosen, 1)
    workload = WORKLOADS["hello"]
    candidates = [*(known[name] for name in chosen.peers), *subjects(chosen, TWO)]
    announce(candidates)
    rows = [measure(each, workload, chosen.rounds, chosen.seconds) for each in candidates]
    print(table(rows, workload, chosen.seconds))
    write_json(chosen.json, {"limit_mib": LIMIT_MIB, "servers": [asdict(row) for row in rows]})
    ours = (HYBRID, HYBRID_COMPILED)
    missed = any("MISSED" in told for told in verdicts(rows))
    return 1 if missed or any(row.problem for row in rows if row.name in ours) else 0


if __name__ == "__main__":
    as_command(main)
