"""The process that :mod:`tests.benchmarks.overhead` times: ``overhead_loop.py``, with a tree on its PYTHONPATH.

For each line that it reads it answers REQUESTS requests in process and prints what one took, in ns of CPU; before the
first it prints what the worker does by the clock, JSON, in ns each time. Nothing of a socket is in it: a transport that
forgets what it is given, one turn of the loop for each request, an ASGI application that answers at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import uvloop

from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.registry import Door, Registry
from hybrid.handlers.asgi import asgi_factory
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.scoreboard import Scoreboard
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.meter import Meter
from tests.benchmarks.apps_http import hello

REQUESTS = 100
CONNECTIONS = 64
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"


class Forgetful(asyncio.Transport):
    """Takes bytes, and that is all."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Forget them."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Know the peer."""
        return ("127.0.0.1", 40000) if name in ("peername", "sockname") else default


def best_ns(work: Callable[[], object], times: int = 2000) -> float:
    """Return the least of what a call takes."""
    costs = []
    for _ in range(times):
        before = time.perf_counter_ns()
        work()
        costs.append(time.perf_counter_ns() - before)
    return float(min(costs))


async def main() -> None:
    """Serve as many requests as lines ask for."""
    scoreboard = Scoreboard.create(1, time.monotonic_ns())
    registry = Registry(scoreboard.use_slot(0))
    intake = Intake(registry, scoreboard, 10000)
    factory = asgi_factory(hello, "hello", cast(Door, intake), None, HttpShared.of(HttpSettings()))
    connections = [cast(HttpConnection, factory()) for _ in range(CONNECTIONS)]
    for each in connections:
        each.connection_made(Forgetful())
    endpoint = connections[0]._endpoint
    meter = Meter(registry.row, None, [])

    def sweep() -> None:
        endpoint._sweep()
        if endpoint.sweeping is not None:
            endpoint.sweeping.cancel()  # and none in its place: timers are no part of a request

    gc.collect()
    gc.freeze()
    clocked = {"flush": registry.flush, "meters": meter.tick, "sweep": sweep}
    print(json.dumps({name: best_ns(work) for name, work in clocked.items()}), flush=True)
    connection = connections[0]
    while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        before = time.process_time_ns()
        for _ in range(REQUESTS):
            connection.data_received(_REQUEST)
            await asyncio.sleep(0)  # the application has its turn
        print((time.process_time_ns() - before) / REQUESTS, flush=True)


if __name__ == "__main__":
    asyncio.set_event_loop(loop := uvloop.new_event_loop())
    loop.run_until_complete(main())
