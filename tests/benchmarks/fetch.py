"""Fetch: what one short connection costs the server. ``python -m tests.benchmarks.fetch --rounds 15``.

The client sends ``4000\\n``; the server returns 4000 bytes and closes. 16 connections are open at a time, so that the
server accepts in small batches. Stevens' exercise (UNP ch. 30), by which the classic server designs are compared.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from contextlib import ExitStack
from functools import partial

from tests.benchmarks.measure import CLIENT_CPU, Bar, Server, compare, pin, report

BATCH = 16
SIZE_BYTES = 4000
CANDIDATES = ("bare", "connection", "streams", "anyio", "fork")
BARS = (
    Bar("connection", "bare", 1.25),
    Bar("connection", "streams", 1.0),
    Bar("connection", "fork", 1 / 40),
)


def fetch(port: int, for_s: float) -> int:
    """Fetch for a while; return how often."""
    count = 0
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        sockets = []
        for _ in range(BATCH):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.send(b"%d\n" % SIZE_BYTES)
            sockets.append(sock)
        for sock in sockets:
            got = 0
            while data := sock.recv(65536):
                got += len(data)
            assert got == SIZE_BYTES, got
            sock.close()
        count += BATCH
    return count


def main() -> None:
    """Measure, print, and leave with 1 if a bar is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--for-s", type=float, default=0.5)
    chosen = options.parse_args()
    pin(CLIENT_CPU)
    with ExitStack() as running:
        servers = {
            name: running.enter_context(Server("tests.benchmarks.servers", "fetch", name)) for name in CANDIDATES
        }
        costs = compare(servers, partial(fetch, for_s=chosen.for_s), chosen.rounds)
        held = report(f"fetch of {SIZE_BYTES} B, {BATCH} connections at a time", costs, "bare", BARS)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
