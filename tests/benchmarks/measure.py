"""Shared pieces of the benchmarks: servers as pinned processes, their CPU from schedstat, ratios with an interval.

A figure is *server* CPU (user and system, whole process tree) per unit of work. A wall-clock figure on a machine that
does other things too says little; the kernel's run-time accounting (``/proc/PID/task/*/schedstat``, ns) says what the
work cost. Candidates are measured in turn within every round, so that a slow minute of the machine hits all of them,
and are compared by the ratios of the rounds, never by two medians of different moments.
Source: proc(5); the interval is the order statistics' of a median (binomial, p = 1/2).
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SERVER_CPU = 0
CLIENT_CPU = 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def pin(cpu: int) -> None:
    """Run this process on one CPU only, where the machine has that many."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[min(cpu, len(allowed) - 1)]})


def tree_cpu_ns(pid: int) -> int:
    """Return the CPU time that a process, its threads and its children have used so far, in ns.

    Living ones count by schedstat; ended and reaped children by the parent's cutime + cstime (10 ms steps).
    """
    total = sum(_ns(path) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total += (int(fields[13]) + int(fields[14])) * 1_000_000_000 // _TICKS_PER_S
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            total += sum(tree_cpu_ns(int(child)) for child in listing.read_text().split())
        except OSError:  # it ended meanwhile, and is in cutime now or soon
            continue
    return total


def _ns(path: Path) -> int:
    try:
        return int(path.read_text().split()[0])
    except OSError:  # the thread ended
        return 0


class Server:
    """A benchmark server as a process of its own, pinned; it prints its port when it listens."""

    def __init__(self, module: str, *arguments: str) -> None:
        """Start ``python -m MODULE ARGUMENTS`` and wait for its port. Closes: see :meth:`stop`."""
        self._process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmark server {' '.join(arguments)} did not start: see above")
        self.port = int(line)

    def __enter__(self) -> Server:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def cpu_ns(self) -> int:
        """Return the CPU time used so far by the whole tree."""
        return tree_cpu_ns(self._process.pid)

    def stop(self) -> None:
        """End the process and wait for it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of paired ratios, and its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:5.2f} [{self.low:.2f}-{self.high:.2f}]"


def ratio(values: Sequence[float]) -> Ratio:
    """Return the median of ``values`` with the order statistics that cover it with at least 95 %."""
    ordered = sorted(values)
    count = len(ordered)
    rank = 0  # the largest k with P(Binomial(n, 1/2) < k) <= 2.5 %
    tail = 0.0
    while rank < count // 2:
        tail += math.comb(count, rank) / 2**count
        if tail > 0.025:
            break
        rank += 1
    low = max(rank - 1, 0)
    return Ratio(statistics.median(ordered), ordered[low], ordered[count - 1 - low])


@dataclass(frozen=True, slots=True)
class Bar:
    """What a candidate must not exceed, against another one."""

    candidate: str
    against: str
    limit: float


def compare(candidates: Mapping[str, Server], work: Callable[[int], int], rounds: int) -> dict[str, list[float]]:
    """Run ``work(port) -> units done`` on every candidate in every round; return µs of server CPU per unit, by name."""
    costs: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for turn in range(-1, rounds):
        # Rotate: no candidate is always measured after the same neighbour.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            server = candidates[name]
            before = server.cpu_ns()
            units = work(server.port)
            if turn >= 0:  # the first round warms up
                costs[name].append((server.cpu_ns() - before) / 1000 / units)
    return costs


def report(title: str, costs: Mapping[str, Sequence[float]], base: str, bars: Sequence[Bar]) -> bool:
    """Print a table of medians and ratios, then the bars; return whether every bar holds."""
    python = f"CPython {sys.version_info[0]}.{sys.version_info[1]}"
    print(f"\n{title}: server CPU, {len(costs[base])} paired rounds, {python}")
    print(f"  {'':28} {'median µs':>10}   x {base} [95 % of the median]")
    for name, values in costs.items():
        paired = ratio([value / bare for value, bare in zip(values, costs[base], strict=True)])
        print(f"  {name:28} {statistics.median(values):10.2f}   {paired}")
    held = True
    for bar in bars:
        paired = ratio([value / other for value, other in zip(costs[bar.candidate], costs[bar.against], strict=True)])
        good = paired.median <= bar.limit
        held = held and good
        verdict = "held" if good else "MISSED"
        print(f"  bar: {bar.candidate} <= {bar.limit:g} x {bar.against}: {paired} {verdict}")
    return held
