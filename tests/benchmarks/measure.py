"""Shared pieces of the benchmarks: servers as pinned processes, their CPU, ratios with an interval.

A figure is *server* CPU (user and system, whole process tree) per unit of work. A wall-clock figure on a machine that
does other things too says little; the kernel's run-time accounting says what the work cost
(:mod:`hybrid.bench.measure`). Candidates are measured in turn within every round, so that a slow minute of the machine
hits all of them, and are compared by the ratios of the rounds, never by two medians of different moments.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hybrid.bench.figures import Ratio, ratio
from hybrid.bench.measure import pin, tree_cpu_ns

__all__ = [
    "CLIENT_CPU",
    "ROOT",
    "SERVER_CPU",
    "Bar",
    "Ratio",
    "Server",
    "as_command",
    "compare",
    "go_first",
    "pin",
    "ratio",
    "report",
    "scheduler",
    "tree_cpu_ns",
]

ROOT = Path(__file__).resolve().parents[2]
SERVER_CPU = 0
CLIENT_CPU = 1


def as_command(main: Callable[[], int]) -> NoReturn:
    """Leave with what ``main`` returns. Told to end, it ends its servers, by the blocks that started them."""
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT is ignored in what a shell starts in the background
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


def go_first() -> None:
    """Run this process, and what it starts from now on, before all other work: SCHED_FIFO. Raises: PermissionError.

    Source: sched(7); the kernel keeps 5 % of each CPU for the others.
    """
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def scheduler() -> str:
    """Return under which scheduler this process runs, and so all that it starts."""
    names = {os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR", os.SCHED_OTHER: "the normal scheduler"}
    policy = os.sched_getscheduler(0)
    return names.get(policy, f"scheduling policy {policy}")


class Server:
    """A benchmark server as a process of its own, pinned; it prints its port when it listens."""

    def __init__(self, module: str, *arguments: str, tree: Path = ROOT) -> None:
        """Start ``python -m MODULE ARGUMENTS`` and wait for its port. Closes: see :meth:`stop`.

        ``tree``: where hybrid is taken from; what this source tree lacks, tests for one, comes from ours.
        """
        environ = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"}
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tree, env=environ)
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
class Bar:
    """What a candidate must not exceed, against another one."""

    candidate: str
    against: str
    limit: float
    is_aim: bool = False
    """Whether it is only hoped for: it is told, and not missed."""


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
    print(f"\n{title}: server CPU, {len(costs[base])} paired rounds, {python}, {scheduler()}")
    print(f"  {'':28} {'median µs':>10}   x {base} [95 % of the median]")
    for name, values in costs.items():
        paired = ratio([value / bare for value, bare in zip(values, costs[base], strict=True)])
        print(f"  {name:28} {statistics.median(values):10.2f}   {paired}")
    held = True
    for bar in (each for each in bars if each.candidate in costs):
        paired = ratio([value / other for value, other in zip(costs[bar.candidate], costs[bar.against], strict=True)])
        good = paired.median <= bar.limit
        held = held and good
        verdict = "held" if good else "MISSED"
        print(f"  bar: {bar.candidate} <= {bar.limit:g} x {bar.against}: {paired} {verdict}")
    return held
