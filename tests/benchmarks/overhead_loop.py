"""The process that :mod:`tests.benchmarks.overhead` times: ``overhead_loop.py TREE OTHER``.

It answers requests in process with the hybrid of both trees, REQUESTS at a time by turns, and prints JSON: what one
request took, in ns of CPU, the least of ROUNDS; what share of it the other tree saves, the median; and what a worker of
the first tree does by the clock, in ns each time. Nothing of a socket is in it: a transport that forgets what it is
given, one turn of the loop for each request, an ASGI application that answers at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from math import inf
from typing import Any

import uvloop

from tests.benchmarks.apps_http import hello

REQUESTS = 50
ROUNDS = 3000
CONNECTIONS = 64
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"


class Forgetful(asyncio.Transport):
    """Takes bytes, and that is all."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Forget them."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Know the peer."""
        return ("127.0.0.1", 40000) if name in ("peername", "sockname") else default


class Room:
    """A worker's connections, made of one tree's modules: hence Any. Runs in: the loop."""

    def __init__(self, tree: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "hybrid"]:
            del sys.modules[name]  # whoever has it keeps it
        sys.path.insert(0, tree)
        made: Any = import_module("hybrid.handlers.asgi").asgi_factory
        shared: Any = import_module("hybrid.handlers.http_shared").HttpShared
        settings: Any = import_module("hybrid.shared.http_settings").HttpSettings()
        scoreboard: Any = import_module("hybrid.shared.scoreboard").Scoreboard.create(1, time.monotonic_ns())
        self.registry: Any = import_module("hybrid.connection.registry").Registry(scoreboard.use_slot(0))
        intake = import_module("hybrid.worker.acceptors.intake").Intake(self.registry, scoreboard, 10000)
        self.meter: Any = import_module("hybrid.worker.meter").Meter(self.registry.row, None, [])
        factory = made(hello, "hello", intake, None, shared.of(settings))
        self.connections: list[Any] = [factory() for _ in range(CONNECTIONS)]
        for each in self.connections:
            each.connection_made(Forgetful())
            each.deadline = inf  # they say nothing, and are to stay
        self._connection = self.connections[0]

    async def answer(self) -> float:
        """Answer REQUESTS requests; return what one took."""
        received = self._connection.data_received
        before = time.process_time_ns()
        for _ in range(REQUESTS):
            received(_REQUEST)
            await asyncio.sleep(0)  # the application has its turn
        return (time.process_time_ns() - before) / REQUESTS

    def sweep(self) -> None:
        """Look at the deadlines of all connections."""
        endpoint = self.connections[0]._endpoint
        if endpoint.sweeping is not None:
            endpoint.sweeping.cancel()  # one timer, not thousands
        endpoint._sweep()


def best_ns(work: Callable[[], object], times: int = 2000) -> float:
    """Return the least of what a call takes."""
    costs = []
    for _ in range(times):
        before = time.perf_counter_ns()
        work()
        costs.append(time.perf_counter_ns() - before)
    return float(min(costs))


async def main(trees: list[str]) -> None:
    """Measure and print."""
    rooms = [Room(tree) for tree in trees]
    first, second = rooms
    gc.collect()
    gc.freeze()
    clocked = {"flush": first.registry.flush, "meters": first.meter.tick, "sweep": first.sweep}
    told: dict[str, Any] = {"clocked": {name: best_ns(work) for name, work in clocked.items()}}
    costs = [(await first.answer(), await second.answer()) for _ in range(ROUNDS)]
    told["request"] = min(cost for cost, _ in costs)
    told["share"] = statistics.median((cost - other) / cost for cost, other in costs)
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.set_event_loop(loop := uvloop.new_event_loop())
    loop.run_until_complete(main(sys.argv[1:]))
