"""A service that does what its client says, one word a line: what can go right or wrong inside a worker."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import hybrid
from hybrid import Connection

Knob = Callable[[Connection, str], Awaitable[None]]


async def knobs(conn: Connection) -> None:
    """Obey one line after another: a word, a space, an argument."""
    async for line in conn.lines():
        word, _, argument = line.decode().partition(" ")
        await KNOBS[word](conn, argument)


async def pid(conn: Connection, argument: str) -> None:
    """Say which worker this is."""
    await conn.send(b"%d\n" % os.getpid())


async def echo(conn: Connection, argument: str) -> None:
    """Send the argument back."""
    await conn.send(argument.encode() + b"\n")


async def who(conn: Connection, argument: str) -> None:
    """Say as whom and where the worker runs."""
    mask = os.umask(0)
    os.umask(mask)
    groups = ",".join(map(str, os.getgroups())) or "-"
    said = f"{os.getuid()} {os.getgid()} {groups} {mask:03o} {os.getcwd()} {os.environ.get('HOME')}\n"
    await conn.send(said.encode())


async def environ(conn: Connection, argument: str) -> None:
    """Say which variables of the environment begin with one of some words."""
    found = sorted(name for name in os.environ if name.startswith(tuple(argument.split(","))))
    await conn.send(f"{','.join(found)}\n".encode())


async def package(conn: Connection, argument: str) -> None:
    """Say which hybrid this is."""
    await conn.send(f"{hybrid.__file__}\n".encode())


async def segfault(conn: Connection, argument: str) -> None:
    """Read from where nothing is."""
    ctypes.string_at(0)


async def exit_now(conn: Connection, argument: str) -> None:
    """End the process without a word."""
    os._exit(int(argument))


async def leave(conn: Connection, argument: str) -> None:
    """Raise SystemExit in a callback of the loop, past every handler."""
    asyncio.get_running_loop().call_soon(sys.exit, int(argument))


async def raise_exit(conn: Connection, argument: str) -> None:
    """Raise SystemExit in the handler."""
    sys.exit(int(argument))


async def fail(conn: Connection, argument: str) -> None:
    """Raise what nobody expects."""
    raise ZeroDivisionError(argument)


async def block(conn: Connection, argument: str) -> None:
    """Hold the loop for ever; the interpreter's lock is free most of the time."""
    await conn.send(b"blocking\n")
    await asyncio.sleep(0)
    _sleep_for_ever()


async def hold(conn: Connection, argument: str) -> None:
    """Wait for ever; say so when it is cancelled."""
    await conn.send(b"holding\n")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await conn.send(b"cancelled\n")
        raise


async def stubborn(conn: Connection, argument: str) -> None:
    """Wait for ever, whatever happens."""
    await conn.send(b"holding\n")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await conn.send(b"no\n")


async def finish(conn: Connection, argument: str) -> None:
    """Go on until the worker drains, then say goodbye."""
    await conn.send(b"draining\n" if conn.draining else b"serving\n")
    await conn.wait_draining()
    await conn.send(b"draining\n" if conn.draining else b"not draining\n")
    await conn.aclose()


async def orphan(conn: Connection, argument: str) -> None:
    """Start a process whose parent leaves at once; say its pid."""
    await conn.send(_start_orphan())


async def fork(conn: Connection, argument: str) -> None:
    """Fork, as a pool of processes does; the child sleeps, and nobody ends it."""
    child = os.fork()
    if not child:
        _sleep_for_ever()
    await conn.send(b"%d\n" % child)


async def thread(conn: Connection, argument: str) -> None:
    """Start a thread that never ends, and that the interpreter would wait for."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    await conn.send(b"started\n")


def _sleep_for_ever() -> None:
    while True:
        time.sleep(60)


def _start_orphan() -> bytes:
    """Return the pid, and a newline."""
    script = "sleep 600 </dev/null >/dev/null 2>&1 & echo $!"
    return subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True).stdout


KNOBS: dict[str, Knob] = {
    "pid": pid,
    "echo": echo,
    "who": who,
    "environ": environ,
    "package": package,
    "segfault": segfault,
    "exit": exit_now,
    "leave": leave,
    "raise-exit": raise_exit,
    "fail": fail,
    "block": block,
    "hold": hold,
    "stubborn": stubborn,
    "finish": finish,
    "orphan": orphan,
    "fork": fork,
    "thread": thread,
}


async def two_arguments(reader: object, writer: object) -> None:
    """What asyncio's streams call; not what we call."""
