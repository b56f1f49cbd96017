"""What the workers of a real pool measure of themselves, from outside, under a load that the test commands."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from pathlib import Path

import pytest

import hybrid
from hybrid import InLoopServer, PoolServer, WorkerLoad, WorkerStatus
from tests.apps.loads import loads
from tests.support.eventually import eventually_async
from tests.support.variations import long

Server = PoolServer | InLoopServer

LOADS = "tests.apps.loads:loads"
TICK_NS = 250_000_000
CLOCK_STEP_NS = 3_000_000
"""Loops round their timers to milliseconds."""


async def measured(server: Server, after_ns: int = 0) -> WorkerStatus:
    """Return the only worker, once it has measured itself later than at this time."""

    def check() -> WorkerStatus:
        worker = server.workers[0]
        assert worker.load.measured_ns is not None and worker.load.measured_ns > after_ns
        return worker

    return await eventually_async(check)


async def command(server: Server, line: bytes) -> int:
    """Have the loop held; return for how many ns it was."""
    host, _, port = server.addresses[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(line)
    answer = int(await asyncio.wait_for(reader.readline(), 10))
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("loop", "how"),
    [("uvloop", "spin"), long("uvloop", "block"), long("asyncio", "spin"), ("asyncio", "block")],
)
async def test_held_loop_is_seen_from_outside(loop: str, how: str) -> None:
    """0.6 s in which nobody is served are 0.6 s of loop use, and a tick that was late by what is more than its period.

    Only one that computed used a CPU meanwhile.
    """
    async with hybrid.serve(LOADS, bind="127.0.0.1:0", workers=1, loop=loop, log_level="warning") as server:
        before = await measured(server)
        held_ns = await command(server, f"{how} 0.6\n".encode())
        after = await measured(server, asyncio_ns() + 2 * TICK_NS)  # and then nothing was to do for half a second
        use = after.since(before)
        assert use is not None and use.loop is not None and use.cpu is not None and use.lag_s is not None
        busy_ns, elapsed_ns = use.loop * use.elapsed_s * 1e9, use.elapsed_s * 1e9
        assert held_ns - 1000 <= busy_ns <= held_ns + 0.5 * (elapsed_ns - held_ns)
        late_ns = held_ns - TICK_NS - CLOCK_STEP_NS
        assert after.load.lag_max_ns is not None and after.load.lag_max_ns >= late_ns
        assert use.lag_s * 1e9 >= late_ns
        assert use.run_queue is not None
        if how == "spin":
            assert use.cpu + use.run_queue >= 0.8 * use.loop  # whoever computes has a CPU or waits for one
        else:
            assert use.cpu <= 0.5 * use.loop


def asyncio_ns() -> int:
    """Return the monotonic clock of this machine, which is the workers' too."""
    return round(asyncio.get_running_loop().time() * 1e9)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", long("[::1]:0"), "unix:{}/socket", long("unix:@{name}")])
async def test_who_waits_to_be_accepted_is_seen_from_outside(bind: str, tmp_path: Path) -> None:
    """A worker that is full leaves newcomers in the queue, and says how many; when it has room, the queue empties."""
    bind = bind.format(tmp_path, name=uuid.uuid4())
    options = {"bind": bind, "workers": 1, "limit_connections": 1, "backlog": 20, "log_level": "warning"}
    async with hybrid.serve(LOADS, **options) as server:
        clients = [await connect(server.addresses[0]) for _ in range(4)]
        await eventually_async(lambda: queue_of(server) == (3, 20))
        for client in clients:
            client.close()
        await eventually_async(lambda: queue_of(server) == (0, 20))


async def connect(address: str) -> asyncio.StreamWriter:
    """Open a connection that says nothing."""
    if address.startswith("unix:"):
        path = address[5:]
        return (await asyncio.open_unix_connection("\0" + path[1:] if path.startswith("@") else path))[1]
    host, _, port = address.rpartition(":")
    return (await asyncio.open_connection(host.strip("[]"), int(port)))[1]


def queue_of(server: Server) -> tuple[int | None, int | None]:
    """Return length and limit as the only worker sees them."""
    load = server.workers[0].load
    return load.accept_queue, load.accept_queue_limit


async def test_replacement_is_not_compared_with_the_dead() -> None:
    """Another process in the same slot begins at nothing: there is no difference to take."""
    async with hybrid.serve(LOADS, bind="127.0.0.1:0", workers=1, log_level="critical") as server:
        before = await measured(server)
        os.kill(before.pid, signal.SIGKILL)
        await eventually_async(lambda: server.workers[0].pid not in (0, before.pid))
        assert server.replaced == {"requests": 0, "lifetime": 0, "memory": 0, "died": 1, "told": 0}
        after = await measured(server, before.load.measured_ns or 0)
        assert after.pid != before.pid
        assert after.since(before) is None


async def test_guest_in_a_loop_measures_nothing() -> None:
    """With workers=0 the loop is the caller's: its settings are left alone, and its figures are unknown."""
    async with hybrid.serve(loads, bind="127.0.0.1:0", workers=0) as server:
        assert [worker.load for worker in server.workers] == [WorkerLoad()]
