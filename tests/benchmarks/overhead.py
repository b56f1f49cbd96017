"""What counters, limits, deadlines and the scoreboard cost a request together: ``python -m tests.benchmarks.overhead``.

A copy of the source lacks them (:data:`CUTS`); the same requests are answered by both. In process: both in one process,
by turns of half a millisecond, the median of the differences as a share of a request, and the least that a request took
in ns of CPU; the median of several starts, because where memory comes to lie makes as much as what is measured. Under
valgrind: in instructions, through real sockets, where *connections* has in addition what a connection pays once. What
is done by the clock, whatever the number of requests, is told for 10,000 requests a second.

What of a connection is cut: its deadlines, its place in the sets that the sweep and a drain go through, its cell of the
scoreboard, the limit of connections. Not cut: whose turn it is to accept, the phase, flow control, what a pipelined
request waits for. ``--cut DIR`` writes the copy there and measures nothing: to compile it, and to count it by
:mod:`tests.benchmarks.instructions`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import instructions
from tests.benchmarks.measure import as_command

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BAR_NS = 500
STARTS = 9
PER_SECOND = 10_000
TICKS = {"flush": 4, "meters": 4, "sweep": 1}
"""What a worker does by the clock, so often in a second."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What is taken out of a file, once; ``after``: what is there then."""

    file: str
    before: str
    after: str = ""


_CONNECTION = "hybrid/connection/http_connection.py"
_ENDING = "hybrid/connection/http_ending.py"
_ENDPOINT = "hybrid/connection/http_endpoint.py"
_REGISTRY = "hybrid/connection/registry.py"
CUTS = (
    # the time for the head of the first request, for a request, and between two
    Cut(
        _CONNECTION,
        "        self.deadline = endpoint.head_until  # who connects and says nothing is no better than who is slow\n",
    ),
    Cut(
        _CONNECTION,
        "        self._answer_by = self.deadline = endpoint.answer_until\n"
        "        if self._waiters is not None:\n            self._set_deadline()\n",
    ),
    Cut(_CONNECTION, "        self._answer_by = self.deadline = NEVER\n"),
    Cut(
        _CONNECTION,
        "            if self._waiters is None:\n                self.deadline = self._endpoint.idle_until\n"
        "            else:\n                self._set_deadline()\n",
    ),
    Cut(
        _CONNECTION, "        self.deadline = self._answer_by  # the application has its time also without its client\n"
    ),
    Cut(
        _ENDING,
        "        if self._unsent:\n            self._wait(self._endpoint.times.write_s or _LINGER_S)\n"
        "        else:\n            self.deadline = self._endpoint.horizon + _LINGER_S\n",
    ),
    # how many requests there were, and how many may run
    Cut(
        _CONNECTION,
        "        load = endpoint.load\n        load.begun += 1\n"
        "        if load.begun >= load.timed_at:  # hot: timed requests; no more than this where none is\n"
        "            self._begun_ns = load.start_clock()\n"
        "        begin = endpoint.begin if load.begun <= load.ceiling else endpoint.overload\n"
        "        if head.upgrade and load.begun <= load.ceiling and endpoint",
        "        begin = endpoint.begin\n        if head.upgrade and endpoint",
    ),
    Cut(_ENDING, "        self._endpoint.load.ceiling += 1\n"),
    # whether anybody wants to know how long it took
    Cut(
        _CONNECTION,
        "        if self._upgraded is None:\n            load = self._endpoint.load\n            load.answered += 1\n"
        "            if self._begun_ns:\n                load.stop_clock(self._begun_ns)\n"
        "                self._begun_ns = 0\n",
    ),
    # how large a head may be
    Cut(
        "hybrid/http/head.py",
        "        if line_end - start > limits.line_bytes:",
        "        if False:",
    ),
    Cut("hybrid/http/head.py", "        if end + 4 - start > limits.head_bytes:", "        if False:"),
    Cut("hybrid/http/fields.py", "    if count > limit_count:", "    if False:"),
    # the sweep, the registry, the scoreboard and the limit of connections
    Cut(
        _ENDPOINT,
        "        self.open.add(connection)\n"
        "        if self.sweeping is None:\n            self._look_ahead(self.loop.time())\n"
        "            self.sweeping = self.loop.call_later(_SWEEP_S, self._sweep)\n",
    ),
    Cut(_ENDPOINT, "        self.open.discard(connection)\n"),
    Cut(
        _REGISTRY,
        "        self.open.add(connection)\n        self.accepted += 1\n        active = len(self.open)\n"
        "        self._cells[_ACTIVE] = active | self._not_accepting\n        return active\n",
        "        return 0\n",
    ),
    Cut(
        _REGISTRY,
        "        self.open.discard(connection)\n"
        "        self._cells[_ACTIVE] = len(self.open) | self._not_accepting"
        "  # hot: connections; _publish() written out\n"
        "        if self._waiters and not self.open:\n            self._wake()\n",
        "        return\n",
    ),
    Cut(
        "hybrid/worker/acceptors/intake.py",
        "        if active >= self._limit or registry.accepted >= self._recheck_at:\n            self._took(active)\n",
    ),
)


def cut(folder: Path, cuts: Sequence[Cut] = CUTS) -> None:
    """Copy the package into ``folder`` without them. Raises: ValueError: something is not there as it was."""
    shutil.copytree(ROOT / "hybrid", folder / "hybrid", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for each in cuts:
        path = folder / each.file
        text = path.read_text()
        if text.count(each.before) != 1:
            raise ValueError(f"{each.file} has changed: it has not once {each.before!r}. Change CUTS with it.")
        path.write_text(text.replace(each.before, each.after))


def timed(trees: tuple[Path, Path]) -> list[dict[str, Any]]:
    """Return what :mod:`tests.benchmarks.overhead_loop` says, of each start."""
    command = [sys.executable, str(HERE / "overhead_loop.py"), *map(str, trees)]
    environ = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    runs = [subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True) for _ in range(STARTS)]
    return [json.loads(run.stdout) for run in runs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if it is more than BAR_NS."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead", description=__doc__.split(":")[0])
    parser.add_argument("--cut", type=Path, metavar="DIR", help="write the copy without them there, and stop")
    chosen = parser.parse_args(arguments)
    if chosen.cut is not None:
        cut(chosen.cut)
        return 0
    with tempfile.TemporaryDirectory(prefix="hybrid-overhead-") as name:
        without = Path(name)
        cut(without)
        runs = timed((ROOT, without))
        clocked = runs[0]["clocked"]
        clock_ns = sum(cost * TICKS[what] for what, cost in clocked.items()) / PER_SECOND
        shares = sorted(run["share"] for run in runs)
        share, request_ns = statistics.median(shares), min(run["request"] for run in runs)
        total_ns = share * request_ns + clock_ns
        print(
            f"in process: {share:.1%} of {request_ns:,.0f} ns a request ({STARTS} starts: {shares[0]:.1%} to "
            f"{shares[-1]:.1%}): {share * request_ns:,.0f} ns"
        )
        told = ", ".join(f"{what} {cost / 1000:.1f} µs" for what, cost in clocked.items())
        print(f"by the clock: {told}: {clock_ns:,.0f} ns a request, at {PER_SECOND:,} a second")
        print(f"together {total_ns:,.0f} ns; bar {BAR_NS} ns: {'kept' if total_ns <= BAR_NS else 'MISSED'}", flush=True)
        if shutil.which("valgrind") is None:
            print("instructions are not counted: there is no valgrind on the PATH")
        else:
            workloads = ("hello", "headers", "connections")
            both = [instructions.measure(("hybrid",), workloads, tree)[0]["hybrid"] for tree in (ROOT, without)]
            for each in workloads:
                whole, less = (counts[each] for counts in both)
                print(f"{each}: {whole:,.0f} instructions, {less:,.0f} without: {whole - less:,.0f}")
    return 0 if total_ns <= BAR_NS else 1


if __name__ == "__main__":
    as_command(main)
