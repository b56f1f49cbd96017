"""How long ``status`` takes at the control socket while all workers are blocked, in three ways.

    python -m tests.benchmarks.control_status

One worker for each CPU, as ``--workers auto`` has it: blocked in a sleep, computing in Python (each CPU is busy), and
stopped. Each question is a connection of its own. The bar is 50 ms, for the median, once control runs; the first
question, which starts control, is shown beside it. Loopback only.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from hybrid.ground.clock import monotonic
from tests.support.clients import connect_to, hear, say
from tests.support.control import Control
from tests.support.server import Server, running

QUESTIONS = 200
BAR_S = 0.050
APP = "tests.apps.stalls:stalls"


def main() -> int:
    """Block all workers, ask, print; return 0 if the bar is met in every way."""
    met = [measure(name, block) for name, block in WAYS.items()]
    return 0 if all(met) else 1


def measure(name: str, block: Callable[[Server], AbstractContextManager[None]]) -> bool:
    """Print the figures of one way; return whether the bar is met."""
    workers = len(os.sched_getaffinity(0))
    arguments = (APP, "--workers", str(workers), "--worker-timeout", "0", "--stall-dump", "0", "--bind", "127.0.0.1:0")
    with tempfile.TemporaryDirectory() as folder, running(*arguments, log=Path(folder, "log")) as server:
        server.wait_ready()
        with ExitStack() as stack:
            stack.enter_context(block(server))
            first_s = ask(server, workers)
            took = sorted(ask(server, workers) for _ in range(QUESTIONS))
    median_s, worst_s = statistics.median(took), took[-1]
    percentile_s = took[int(len(took) * 0.99)]
    print(
        f"{workers} workers {name}: first {first_s * 1000:.0f} ms; then median {median_s * 1000:.1f} ms, "
        f"p99 {percentile_s * 1000:.1f} ms, worst {worst_s * 1000:.1f} ms ({QUESTIONS} questions)"
    )
    return median_s < BAR_S


def ask(server: Server, workers: int) -> float:
    """Ask once; return how long it took, connecting included."""
    began = monotonic()
    with Control(server) as control:
        rows = control.result("status")["workers"]
    took = monotonic() - began
    assert len(rows) == workers, rows
    return took


@contextmanager
def _told(server: Server, word: str) -> Iterator[None]:
    with ExitStack() as stack:
        for pid in server.ready_pids():
            client = stack.enter_context(connect_to(server, pid))
            say(client, word)
            hear(client)  # that it begins
        yield


@contextmanager
def _stopped(server: Server) -> Iterator[None]:
    pids = server.ready_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


WAYS: dict[str, Callable[[Server], AbstractContextManager[None]]] = {
    "asleep in their loops": lambda server: _told(server, "sleep"),
    "computing for ever": lambda server: _told(server, "loop"),
    "stopped": _stopped,
}

if __name__ == "__main__":
    sys.exit(main())
