"""Prethreaded: what ``--accept threads`` costs above a bare loop of accept, recv, sendall in as many threads.

``python -m tests.benchmarks.threads --rounds 21``: N processes of T threads each, the textbook's fetch of 4000 bytes.
The bare server's threads block in accept(2) and do nothing else: no counting, no limits, no drain, no log.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from hybrid.bench.measure import tree_cpu_ns
from hybrid.shared import prctl
from tests.benchmarks.fetch import SIZE_BYTES, fetch
from tests.benchmarks.measure import CLIENT_CPU, Bar, Server, compare, pin, report
from tests.support import server as pool

REPLY = bytes(range(256)) * 16


def bare(sock: socket.socket) -> None:
    """Answer one line with so many bytes."""
    line = b""
    while not line.endswith(b"\n"):
        line += sock.recv(64)
    sock.sendall(REPLY[: int(line)])


def serve_bare(workers: int, threads: int) -> None:
    """Fork; in each process block in accept in so many threads; for ever."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)

    def work() -> None:
        while True:
            sock, _address = listener.accept()
            with sock:
                bare(sock)

    children = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            prctl.signal_at_parents_death(signal.SIGKILL)
            for _ in range(threads - 1):
                threading.Thread(target=work, daemon=True).start()
            work()
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


class HybridServer(Server):
    """The same handler, served by the pool."""

    def __init__(self, running: pool.Server) -> None:
        self._running = running
        self.port = int(running.address.rpartition(":")[2])

    def cpu_ns(self) -> int:
        """Return the CPU time used so far by parent, mold and workers."""
        return tree_cpu_ns(self._running.pid)

    def stop(self) -> None:
        """Leave that to the block it runs in."""


def main() -> None:
    """Measure, print, and leave with 1 if the bar is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=21)
    options.add_argument("--for-s", type=float, default=0.5)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--threads", type=int, default=8)
    options.add_argument("--serve", action="store_true", help="be the bare server")
    chosen = options.parse_args()
    if chosen.serve:
        serve_bare(chosen.workers, chosen.threads)
        return
    size = ("--workers", str(chosen.workers), "--threads", str(chosen.threads))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[str, Server] = {"bare": stack.enter_context(Server(__spec__.name, "--serve", *size))}
        for name in ("threads", "threads=mutex", "threads=main"):
            target = "tests.benchmarks.threads:bare"
            running = pool.running(target, "--accept", name, "--bind", "127.0.0.1:0", *size, log=folder / name)
            servers[name] = HybridServer(stack.enter_context(running).wait_ready())
        pin(CLIENT_CPU)
        costs = compare(servers, partial(fetch, for_s=chosen.for_s), chosen.rounds)
        title = f"fetch of {SIZE_BYTES} B by {chosen.workers} processes of {chosen.threads} threads"
        held = report(title, costs, "bare", [Bar("threads", "bare", 1.2)])
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
