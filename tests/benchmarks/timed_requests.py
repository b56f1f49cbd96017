"""What it costs a request that its time is counted (``--metrics-bind``): ``python -m tests.benchmarks.timed_requests``.

In process, in the build that this interpreter imports: the same requests on the same connection by turns of half a
millisecond: none timed, all timed (up to 1,000 a second in a worker), and as many timed as at 10,000 a second. The
fastest twentieth of the turns counts, which is what quiet moments show. Nothing of a socket is in it: a transport that
forgets what it is given, one turn of the loop for each request, an ASGI application that answers at once.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Sequence
from typing import Any

import uvloop

from hybrid.connection.load import TIMED_PER_FLUSH, UNLIMITED
from hybrid.connection.registry import Served
from hybrid.ground.build import kind
from hybrid.handlers.asgi import asgi_factory
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.scoreboard import Scoreboard
from tests.benchmarks.apps_http import hello
from tests.benchmarks.measure import as_command
from tests.benchmarks.overhead_loop import Forgetful, best_ns

REQUESTS = 100
"""Of a turn: some strides."""
ROUNDS = 2500
STARTS = 5
BAR_NS = 100
"""At 10,000 requests a second."""
FLUSHES = 4
PER_SECOND = 10_000
STRIDES = {"not timed": 0, "all timed": 1, "one in a few": PER_SECOND // FLUSHES // TIMED_PER_FLUSH}
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"


class Ajar:
    """A door that counts nobody."""

    def opened(self, connection: Served) -> None:
        """Do nothing."""

    def closed(self, connection: Served) -> None:
        """Do nothing."""

    def failed(self, connection: Served) -> None:
        """Do nothing."""


async def measure() -> tuple[dict[str, float], float]:
    """Return what a request takes, by how many are timed, and what a flush does. All ns."""
    shared = HttpShared.of(HttpSettings())
    connection: Any = asgi_factory(hello, "hello", Ajar(), None, shared)()
    connection.connection_made(Forgetful())
    received, load = connection.data_received, shared.load
    load.time_requests()
    costs: dict[str, list[float]] = {name: [] for name in STRIDES}
    gc.collect()
    gc.freeze()
    for _ in range(ROUNDS):
        for name, stride in STRIDES.items():
            load._stride = stride
            load.timed_at = 0 if stride == 1 else load.begun + 1 if stride else UNLIMITED
            before = time.process_time_ns()
            for _ in range(REQUESTS):
                received(_REQUEST)
                await asyncio.sleep(0)  # the application has its turn
            costs[name].append((time.process_time_ns() - before) / REQUESTS)
    row = Scoreboard.create(1, time.monotonic_ns()).use_slot(0)

    def flush() -> None:
        load.answered += 1  # or there is nothing new to be flushed
        load.flush(row)

    # Of those with a die in them the least would be a turn in which it fell well.
    return {name: statistics.quantiles(found, n=20)[0] for name, found in costs.items()}, best_ns(flush)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if it is more than BAR_NS."""
    runs = []
    for _ in range(STARTS):
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        runs.append(loop.run_until_complete(measure()))
        loop.close()
    flush_ns = FLUSHES * min(flush for _, flush in runs) / PER_SECOND
    print(f"{kind()}: a request that is not timed: {min(costs['not timed'] for costs, _ in runs):,.0f} ns")
    more = {}
    for name in list(STRIDES)[1:]:
        found = sorted(costs[name] - costs["not timed"] for costs, _ in runs)
        more[name] = statistics.median(found)
        print(f"{name}: {more[name]:.0f} ns more ({found[0]:.0f} to {found[-1]:.0f})")
    looks_ns = 2 * best_ns(lambda: [time.monotonic_ns() for _ in range(1000)]) / 1000
    total_ns = more["one in a few"] + flush_ns
    print(f"two looks at the clock: {looks_ns:.0f} ns; flush, at {PER_SECOND:,} a second: {flush_ns:.1f} ns a request")
    print(f"together {total_ns:.0f} ns; bar {BAR_NS} ns: {'kept' if total_ns <= BAR_NS else 'MISSED'}")
    return 0 if total_ns <= BAR_NS else 1


if __name__ == "__main__":
    as_command(main)
