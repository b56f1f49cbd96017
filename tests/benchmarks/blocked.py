"""A worker that calls ``time.sleep(60)`` in its loop: how soon does the log name the line, and do others notice?

    python -m tests.benchmarks.blocked

Two workers with the limits of the command's defaults. One of them blocks; meanwhile newcomers come a hundred times a
second, each with a connection of its own, until the log has the stack. Loopback only.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import tempfile
from pathlib import Path

from hybrid.ground.clock import monotonic
from tests.apps import stalls
from tests.support.clients import connect_to, say
from tests.support.server import Server, running

PER_S = 100
SOON_S = 6.0
PATIENCE_S = 12.0


def main() -> int:
    """Block a worker, look, print; return 0 if the log named the line soon and nobody else noticed."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with running("tests.apps.stalls:stalls", "--workers", "2", "--bind", "127.0.0.1:0", log=log) as server:
            pids = server.wait_ready().ready_pids()
            with connect_to(server, pids[0]) as victim:
                say(victim, "sleep")
                named_s, waits = asyncio.run(watch(server))
                print(server.log)
    failed = sum(wait is None for wait in waits)
    slowest_ms = max((wait for wait in waits if wait is not None), default=0.0) * 1000
    print(f"the line was named after: {'never' if named_s is None else f'{named_s:.1f} s'}")
    print(f"newcomers: {len(waits)}, failed: {failed}, slowest: {slowest_ms:.0f} ms")
    return 0 if named_s is not None and named_s <= SOON_S and not failed else 1


def line_that_blocks() -> str:
    """Return how a stack names it."""
    source, first = inspect.getsourcelines(stalls.sleep)
    number = first + next(at for at, text in enumerate(source) if "time.sleep" in text)
    return f"stalls.py:{number}"


async def watch(server: Server) -> tuple[float | None, list[float | None]]:
    """Return how long it took until the log named the line, and how long each newcomer waited; None: it failed."""
    named, began_s = line_that_blocks(), monotonic()
    waits: list[asyncio.Task[float | None]] = []
    named_s = None
    while named_s is None and monotonic() < began_s + PATIENCE_S:
        waits.append(asyncio.ensure_future(ask(server.address)))
        await asyncio.sleep(1 / PER_S)
        if named in server.log:
            named_s = monotonic() - began_s
    return named_s, await asyncio.gather(*waits)


async def ask(address: str) -> float | None:
    """Return how long a newcomer waits for its answer; None: it gets none."""
    host, _, port = address.rpartition(":")
    began_s = monotonic()
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"pid\n")
        answer = await asyncio.wait_for(reader.readline(), PATIENCE_S)
        writer.close()
    except (OSError, asyncio.TimeoutError):
        return None
    return monotonic() - began_s if answer.strip().isdigit() else None


if __name__ == "__main__":
    sys.exit(main())
