"""How evenly two workers share 64 connections that are kept alive: who holds them, and the CPU that they cost.

Run: ``python -m tests.benchmarks.balance [--rounds 7] [--seconds 0.7] [--saturate]``. In each round all connections are
opened anew, as fast as one client can. Beside the peers: :mod:`tests.benchmarks.peer_balance`.

All connections ask once, and again when the last of them was answered: so each costs its worker the same, the workers
have time to spare, and the split says how connections are spread. With ``--saturate`` each asks again at once. Then all
are runnable all the time, three processes on two CPUs, and the scheduler says who runs: *wait* is how long a worker
could have run and was not let.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid.bench.server import BenchServer, plain_environment
from hybrid.ground.states import Life
from tests.benchmarks.http_load import Load
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.measure import as_command
from tests.benchmarks.memory import APP
from tests.benchmarks.peer_servers import ROOT

LIMIT = 0.52
"""The bar for the larger share, the median of the rounds."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker had of a round."""

    held: int
    ran_ns: int
    waited_ns: int
    """Runnable, and not running."""


def larger(parts: Sequence[int]) -> float:
    """Return the largest part's share of the whole; of nothing, all."""
    return max(parts) / (sum(parts) or 1) if any(parts) else 1.0


def measure(server: BenchServer, for_s: float, *, saturate: bool) -> list[Share]:
    """Return the shares of both workers in one round."""
    with Load(server.port, WORKLOADS["hello"]) as load:
        workers = [worker for worker in server.workers() if worker.life is Life.READY]
        before = [_schedule(worker.pid) for worker in workers]
        if saturate:
            load.run(for_s)
        else:
            ends_s = time.monotonic() + for_s
            while time.monotonic() < ends_s:
                load.run(0.0)
        after = [_schedule(worker.pid) for worker in workers]
    pairs = zip(workers, before, after, strict=True)
    return [Share(worker.active, new[0] - old[0], new[1] - old[1]) for worker, old, new in pairs]


def _schedule(pid: int) -> tuple[int, int]:
    """Return how long the main thread of a process has run, and how long it waited for a CPU, in ns."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        ran, waited, _ = file.read().split()
    return int(ran), int(waited)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.balance", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.7, help="of each round")
    parser.add_argument("--saturate", action="store_true", help="ask as fast as possible; there is no bar then")
    chosen = parser.parse_args(arguments)
    environ = {**plain_environment(os.environ), "PYTHONPATH": str(ROOT)}
    splits = []
    with BenchServer((*APP, "--workers", "2"), environ, str(ROOT)).wait_ready() as server:
        for _ in range(chosen.rounds):
            shares = measure(server, chosen.seconds, saturate=chosen.saturate)
            splits.append(larger([share.ran_ns for share in shares]))
            each = ", ".join(
                f"{share.held} held, ran {share.ran_ns / 1e6:.0f} ms, wait {share.waited_ns / 1e6:.0f} ms"
                for share in shares
            )
            print(f"  larger share {splits[-1]:.1%}   {each}", flush=True)
            if not server.eventually(lambda workers: not sum(worker.active for worker in workers)):
                raise SystemExit("the connections of the last round do not end")
    median = statistics.median(splits)
    if chosen.saturate:
        print(f"  median {median:.1%}")
        return 0
    print(f"  bar: {median:.1%} <= {LIMIT:.0%}: {'held' if median <= LIMIT else 'MISSED'}")
    return 0 if median <= LIMIT else 1


if __name__ == "__main__":
    as_command(main)
