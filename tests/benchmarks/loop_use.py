"""What it costs to know how busy a loop is: ``python -m tests.benchmarks.loop_use --rounds 21``.

An echo of 64 B on a plain and on a measured loop of each kind. ``one``: one connection, a message and its answer in
turn, so that each turn of the loop waits: the dearest case. ``ring``: 64 connections, so that the loop finds
something each time it asks.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from contextlib import ExitStack
from functools import partial

from hybrid.worker.loops import new_loop, new_measured_loop
from tests.benchmarks.measure import CLIENT_CPU, SERVER_CPU, Server, compare, pin, report
from tests.benchmarks.raw_echo import ring
from tests.benchmarks.servers import BareEcho

SIZE_BYTES = 64


async def echo() -> None:
    """Serve for ever."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_server(BareEcho, sock=listener)
    await asyncio.Event().wait()


def one(port: int, messages: int) -> int:
    """Exchange messages on one connection; return how many."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(messages):
            client.sendall(b"x" * SIZE_BYTES)
            client.recv(SIZE_BYTES)
    return messages


def main() -> None:
    """Serve, or measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--serve", nargs=2, metavar=("LOOP", "plain|measured"))
    options.add_argument("--rounds", type=int, default=21)
    options.add_argument("--messages", type=int, default=4000)
    options.add_argument("--for-s", type=float, default=0.3)
    chosen = options.parse_args()
    if chosen.serve:
        kind, how = chosen.serve
        pin(SERVER_CPU)
        loop = new_loop(kind) if how == "plain" else new_measured_loop(kind)[0]
        loop.run_until_complete(echo())
    pin(CLIENT_CPU)
    works = {
        "one": partial(one, messages=chosen.messages),
        "ring": partial(ring, size_bytes=SIZE_BYTES, for_s=chosen.for_s),
    }
    for kind in ("uvloop", "asyncio"):
        with ExitStack() as running:
            servers = {
                how: running.enter_context(Server("tests.benchmarks.loop_use", "--serve", kind, how))
                for how in ("plain", "measured")
            }
            for client, work in works.items():
                report(f"{kind}, client {client}", compare(servers, work, chosen.rounds), "plain", ())
    sys.exit(0)


if __name__ == "__main__":
    main()
