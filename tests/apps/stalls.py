"""A service that holds its loop up in every way, one word a line; and lifespans that take their time to end."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hybrid import Connection, Worker

Stall = Callable[[Connection, str], Awaitable[None]]
TURN_S = 0.1


async def stalls(conn: Connection) -> None:
    """Obey one line after another: a word, a space, an argument. Answer first, then do it."""
    async for line in conn.lines():
        word, _, argument = line.decode().partition(" ")
        await STALLS[word](conn, argument)


async def pid(conn: Connection, argument: str) -> None:
    """Say which worker this is."""
    await conn.send(b"%d\n" % os.getpid())


async def sleep(conn: Connection, argument: str) -> None:
    """Sleep as if nobody else were there."""
    await _begin(conn)
    time.sleep(60)  # noqa: ASYNC251  # the fault that one looks for


async def regex(conn: Connection, argument: str) -> None:
    """Hold the GIL, in C, for longer than anybody waits."""
    await _begin(conn)
    re.match(r"(a+)+$", "a" * 60 + "b")


async def among_threads(conn: Connection, argument: str) -> None:
    """Hold the GIL among so many threads that sleep."""
    for _ in range(int(argument)):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    await _begin(conn)
    re.match(r"(a+)+$", "a" * 60 + "b")


async def loop(conn: Connection, argument: str) -> None:
    """Compute for ever in Python, which lets go of the GIL now and then."""
    await _begin(conn)
    while True:
        pass


async def compute(conn: Connection, argument: str) -> None:
    """Use so many seconds of a CPU, however long that takes."""
    await _begin(conn)
    until = time.thread_time() + float(argument)
    while time.thread_time() < until:
        pass
    await conn.send(b"done\n")


async def churn(conn: Connection, argument: str) -> None:
    """Hold the loop up for 100 ms at a time, so many times."""
    for _ in range(int(argument)):
        until = time.monotonic() + TURN_S
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0)
    await conn.send(b"done\n")


async def crowd(conn: Connection, argument: str) -> None:
    """Start a process that uses the CPU with this number for ever; say its pid."""
    script = f"import os\nos.sched_setaffinity(0, [{int(argument)}])\nwhile True: pass"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=subprocess.DEVNULL)
    await conn.send(b"%d\n" % process.pid)


async def _begin(conn: Connection) -> None:
    """Say that it begins, and let that go out."""
    await conn.send(b"begins\n")
    await asyncio.sleep(0)


STALLS: dict[str, Stall] = {
    "pid": pid,
    "sleep": sleep,
    "regex": regex,
    "threads": among_threads,
    "loop": loop,
    "compute": compute,
    "churn": churn,
    "crowd": crowd,
}


@asynccontextmanager
async def awaits_at_the_end(worker: Worker) -> AsyncIterator[None]:
    """Take long to end, and let the loop turn."""
    yield
    await asyncio.sleep(60)


@asynccontextmanager
async def blocks_at_the_end(worker: Worker) -> AsyncIterator[None]:
    """Take long to end, and hold the loop up."""
    yield
    time.sleep(60)  # noqa: ASYNC251  # the fault that one looks for
