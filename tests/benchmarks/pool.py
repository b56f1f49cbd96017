"""What the pool costs and what it survives: forks from a big mold, idle connections, killed workers.

``python -m tests.benchmarks.pool``: prints a table. Bounded: under a minute, loopback only.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
import statistics
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from hybrid.ground.clock import monotonic_ns
from hybrid.parent.pace import STABLE_S
from hybrid.shared import procfs
from hybrid.shared.scoreboard import Cell, Row, Scoreboard
from tests.support.eventually import eventually
from tests.support.server import Server, exactly, running

Line = tuple[str, str, str]
"""What, figure, bar."""


ECHO = ("tests.apps.heap:echo", "--workers", "2", "--bind", "127.0.0.1:0")
SMALL = {**os.environ, "HYBRID_BENCH_HEAP_MB": "0"}


def board(server: Server) -> Scoreboard:
    """Attach to the server's scoreboard."""
    return server._scoreboard()


def respawn_ms(row: Row) -> float:
    """Kill the worker of this row; return how long its successor took from spawn to READY."""
    spawned = row[Cell.SPAWNED_NS]
    stable_ns = int(STABLE_S * 1.1e9)  # a worker that dies younger would be taken for a crash loop, and wait
    eventually(lambda: row[Cell.READY_NS] and monotonic_ns() - row[Cell.READY_NS] > stable_ns, 30)
    os.kill(row[Cell.PID], signal.SIGKILL)
    eventually(lambda: row[Cell.READY_NS] > row[Cell.SPAWNED_NS] > spawned, 60)
    return (row[Cell.READY_NS] - row[Cell.SPAWNED_NS]) / 1e6


def forks_from_a_big_mold(log: Path, rounds: int) -> list[Line]:
    """Kill the only worker again and again; time its successor from spawn to READY."""
    with running(
        "tests.apps.heap:handle", "--workers", "2", "--bind", "127.0.0.1:0", "--preload", "on", log=log
    ) as server:
        server.wait_ready(120)
        mold_resident = procfs.memory_resident_bytes(server.mold_pid())
        scores = board(server)
        row = scores.row(0)
        times_ms = [respawn_ms(row) for _ in range(rounds)]
        private_mb = []
        for client in [server.connect() for _ in range(8)]:
            with client:
                client.sendall(b"collect")
                assert exactly(client, 4) == b"done"
        for worker in server.workers():
            private_mb.append(procfs.memory_private_bytes(worker.pid) / 2**20)
        parent_mb = procfs.memory_pss_bytes(server.pid) / 2**20
        del row
        scores.close()
    spread = f"{min(times_ms):.1f}–{max(times_ms):.1f}"
    return [
        ("mold's resident memory", f"{mold_resident / 2**20:.0f} MB", "a 100 MB heap"),
        ("worker spawn → READY", f"{statistics.median(times_ms):.1f} ms (range {spread}, n={rounds})", "< 50 ms"),
        ("worker's private memory after gc.collect()", f"{max(private_mb):.1f} MB", "< 10 MB"),
        ("parent PSS", f"{parent_mb:.1f} MB", "< 16 MB"),
    ]


def idle_connections(log: Path, count: int) -> list[Line]:
    """Hold ``count`` idle connections on two workers; report the workers' memory for each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(count, hard - 200)
    with running(*ECHO, log=log, env=SMALL) as server:
        server.wait_ready()
        pids = server.ready_pids()
        before = sum(procfs.memory_pss_bytes(pid) for pid in pids)
        clients: list[socket.socket] = []
        try:
            for _ in range(count):
                clients.append(server.connect())
            eventually(lambda: sum(worker.active for worker in server.workers()) == count, 30)
            split = [worker.active for worker in server.workers()]
            after = sum(procfs.memory_pss_bytes(pid) for pid in pids)
        finally:
            for client in clients:
                client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    per_connection = (after - before) / count / 1024
    return [(f"{count} idle connections, {split[0]} + {split[1]}", f"{per_connection:.2f} kB each", "report")]


class Load(threading.Thread):
    """Opens a connection, echoes, closes; again and again. Counts what failed, and how."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__()
        self.connect = connect
        self.served = self.refused = self.lost = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            try:
                client = self.connect()
            except OSError:
                self.refused += 1
                continue
            with client:
                try:
                    client.sendall(b"ping")
                    if exactly(client, 4) == b"ping":
                        self.served += 1
                    else:
                        self.lost += 1
                except OSError:
                    self.lost += 1


def wait_replaced(server: Server, dead: int) -> None:
    """Wait until a killed worker is gone from the scoreboard and two serve again."""
    eventually(lambda: dead not in server.ready_pids())
    server.wait_workers(2)


def wait_served(load: list[Load], count: int) -> None:
    """Wait until ``count`` connections have been served in all."""
    eventually(lambda: sum(thread.served for thread in load) > count, 20)


def killed_workers(log: Path, kills: int, threads: int = 4) -> list[Line]:
    """SIGKILL workers one after another under load; count what clients saw."""
    with running(*ECHO, log=log, env=SMALL) as server:
        server.wait_ready()
        held = [server.connect() for _ in range(40)]
        eventually(lambda: sum(worker.active for worker in server.workers()) == 40)
        load = [Load(server.connect) for _ in range(threads)]
        for thread in load:
            thread.start()
        for kill in range(kills):
            served = sum(thread.served for thread in load)
            pids = server.wait_workers(2)
            os.kill(pids[kill % 2], signal.SIGKILL)
            wait_replaced(server, pids[kill % 2])
            wait_served(load, served + 200)
        for thread in load:
            thread.over.set()
        for thread in load:
            thread.join(20)
        for client in held:
            client.close()
    served, refused, lost = (sum(getattr(t, name) for t in load) for name in ("served", "refused", "lost"))
    return [
        (f"{kills} workers SIGKILLed under load", f"{served} served, {lost} lost, {refused} refused", "0 refused"),
        ("connections lost per kill", f"{lost / kills:.1f} (≤ {threads} were open)", f"≤ {threads}"),
    ]


def main() -> None:
    """Run everything; print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--idle", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        rows = forks_from_a_big_mold(log, options.rounds)
        rows += idle_connections(log, options.idle)
        rows += killed_workers(log, 5)
    print("| what | measured | bar |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
