"""How evenly held connections are spread: 400 on 4 workers, and again after one worker was killed and replaced.

Run: ``python -m tests.benchmarks.accept_fairness [LOOP]``. Prints, per way of accepting, the connections that each
worker holds and their coefficient of variation (standard deviation ÷ mean). Bar: ≤ 0.02 with ``shared`` at 1000
connections a second. As fast as one client can is shown beside it and has no bar: while everybody is busy, who is
free takes the next one, and nobody is to wait for long for the sake of evenness.
"""

from __future__ import annotations

import math
import socket
import statistics
import sys
import time

from tests.process.test_accept_fairness import Pool
from tests.support.eventually import eventually

HELD = 400
WORKERS = 4
PER_S = 1000


def spread(counts: list[int]) -> str:
    """Return the counts and their coefficient of variation."""
    return f"{counts!s:<24} CV {statistics.pstdev(counts) / statistics.mean(counts):.3f}"


def hold(pool: Pool, per_s: float) -> str:
    """Open ``HELD`` connections at a rate; return how they and those before are spread."""
    wanted = sum(pool.counts()) + HELD
    started = time.monotonic()
    for number in range(HELD):
        time.sleep(max(0.0, started + number / per_s - time.monotonic()))
        pool.clients.append(socket.create_connection(pool.listener.getsockname()))
    eventually(lambda: sum(pool.counts()) == wanted)
    return spread(pool.counts())


def measure(loop: str, accept: str, per_s: float) -> None:
    """Print one row."""
    pool = Pool(loop, WORKERS, accept)
    try:
        first = hold(pool, per_s)
        pool.kill(0)
        pool.spawn(0)
        print(f"{loop:8} {accept:13} {per_s:>6.0f}/s  held {first}   one replaced {hold(pool, per_s)}")
    finally:
        pool.close()


if __name__ == "__main__":
    for loop in sys.argv[1:] or ("uvloop", "asyncio"):
        for accept in ("shared", "shared=plain"):
            measure(loop, accept, PER_S)
            measure(loop, accept, math.inf)
