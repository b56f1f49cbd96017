"""What it costs a request that its time is counted (``--metrics-bind``): ``python -m tests.benchmarks.timed_requests``.

In process, by the loop of :mod:`tests.benchmarks.overhead_loop`: the same requests, by turns, on connections whose
requests are timed and on such whose are not; and what the flush of the histogram takes, four times a second. ``--tree
DIR``: of another tree, a compiled one; ``--before DIR``: compare with a tree that does not know how to time, instead.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks.measure import as_command
from tests.benchmarks.overhead_loop import Room, best_ns

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 2000
STARTS = 5
BAR_NS = 250
"""Two looks at the clock are 90 of it, of Python's own 45 ns each; in the compiled build the rest is half as much."""
FLUSHES = 4
PER_SECOND = 10_000


async def measure(trees: tuple[str, str], is_timed: bool) -> tuple[float, float, float]:
    """Return what the first tree costs a request more than the second, and a request; and what a flush takes. All ns.

    ``is_timed``: the first one's requests are timed.
    """
    first = Room(trees[0])
    load: Any = first.connections[0]._endpoint.load
    if is_timed:
        load.latencies = import_module("hybrid.connection.http_endpoint").Latencies()
    second = Room(trees[1])
    gc.collect()
    gc.freeze()
    costs = [(await first.answer(), await second.answer()) for _ in range(ROUNDS)]
    flush_ns = best_ns(lambda: _flush(load, first.registry.row)) if is_timed else 0.0
    least, other = min(one for one, _ in costs), min(other for _, other in costs)
    return least - other, other, flush_ns


def _flush(load: Any, row: Any) -> None:
    load.latencies.total_ns += 1  # or there is nothing new to be flushed
    load.flush(row)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if it is more than BAR_NS."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.timed_requests", description=__doc__)
    parser.add_argument("--tree", default=str(ROOT), metavar="DIR")
    parser.add_argument("--before", default="", metavar="DIR")
    chosen = parser.parse_args(arguments)
    trees = chosen.tree, chosen.before or chosen.tree
    began, runs = time.monotonic(), []
    for _ in range(STARTS):
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        runs.append(loop.run_until_complete(measure(trees, not chosen.before)))
        loop.close()
    more = sorted(run[0] for run in runs)
    flush_ns = min(run[2] for run in runs)
    total_ns = statistics.median(more) + FLUSHES * flush_ns / PER_SECOND
    what = "as it is, untimed, against before" if chosen.before else "timed, against not timed"
    print(
        f"{what}: {statistics.median(more):.0f} ns more ({more[0]:.0f} to {more[-1]:.0f}), "
        f"of {min(run[1] for run in runs):,.0f} ns"
    )
    print(
        f"flush: {flush_ns / 1000:.1f} µs, {FLUSHES} times a second: {FLUSHES * flush_ns / PER_SECOND:.1f} ns a request"
    )
    print(f"together {total_ns:.0f} ns; bar {BAR_NS} ns: {'kept' if total_ns <= BAR_NS else 'MISSED'}")
    print(f"({time.monotonic() - began:.0f} s)")
    return 0 if total_ns <= BAR_NS else 1


if __name__ == "__main__":
    as_command(main)
