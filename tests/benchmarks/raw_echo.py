"""Raw echo: what one message costs the server. ``python -m tests.benchmarks.raw_echo --rounds 15``.

64 connections, one message of 64 B or 1 KiB open on each; the client is one process with blocking sockets that goes
round them (receive the reply, send the next), so that the server nearly always has something to do.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from functools import partial

from tests.benchmarks.measure import CLIENT_CPU, Bar, Server, compare, pin, report

CONNECTIONS = 64
CANDIDATES = ("bare", "connection", "streams", "anyio")
BARS = (Bar("connection", "bare", 1.5), Bar("connection", "streams", 1.0), Bar("connection", "anyio", 1.0))


def exchange(port: int, size_bytes: int, for_s: float) -> int:
    """Exchange messages for a while; return how many."""
    message = b"x" * size_bytes
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for sock in sockets:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(message)
    calls = [(sock.recv, sock.send) for sock in sockets]
    count = 0
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        for recv, send in calls:
            got = len(recv(size_bytes))
            while got < size_bytes:
                got += len(recv(size_bytes - got))
            send(message)
        count += CONNECTIONS
    for sock in sockets:
        got = 0
        while got < size_bytes:
            got += len(sock.recv(size_bytes - got))
        sock.close()
    return count + CONNECTIONS


def main() -> None:
    """Measure, print, and leave with 1 if a bar is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--for-s", type=float, default=0.5)
    options.add_argument("--sizes", type=int, nargs="+", default=[64, 1024])
    chosen = options.parse_args()
    pin(CLIENT_CPU)
    servers = {name: Server("tests.benchmarks.servers", "echo", name) for name in CANDIDATES}
    try:
        held = True
        for size in chosen.sizes:
            costs = compare(servers, partial(exchange, size_bytes=size, for_s=chosen.for_s), chosen.rounds)
            held = report(f"echo of {size} B, {CONNECTIONS} connections", costs, "bare", BARS) and held
    finally:
        for server in servers.values():
            server.stop()
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
