"""A worker that starves for a minute, beside four processes that use two CPUs up: is it killed?

    python -m tests.benchmarks.starved --seconds 60

Two workers serve with the limits of the command's defaults. Both, and the busy processes, are bound to two CPUs.
One worker, the victim, is also given the lowest scheduling class and something to compute, so that its loop stands
still for want of a CPU; the other is only one of six. It must be the same processes that serve at the end. Loopback
only.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from hybrid.ground.clock import monotonic_ns
from hybrid.shared.procfs import thread_state
from tests.support.clients import ask, connect_to, say
from tests.support.server import Server, running

RIVALS = 4
EVERY_S = 5.0


def main(arguments: list[str]) -> int:
    """Starve a worker; return 0 if it lived through it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("options", nargs="*", help="of hybrid-serve, after --")
    asked = parser.parse_args(arguments)
    cpus = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cpus)  # whoever we start inherits it
    with tempfile.TemporaryDirectory() as folder:
        options = ("--workers", "2", "--bind", "127.0.0.1:0", *asked.options)
        with running("tests.apps.stalls:stalls", *options, log=Path(folder, "log")) as server:
            before = server.wait_ready().ready_pids()
            with connect_to(server, before[0]) as victim, connect_to(server, before[1]) as other:
                for number in range(RIVALS):  # its children: they end with its session
                    ask(other, f"crowd {cpus[number % len(cpus)]}")
                os.sched_setscheduler(before[0], os.SCHED_IDLE, os.sched_param(0))
                say(victim, f"compute {asked.seconds}")
                watch(server, before[0], other, asked.seconds)
            survived = server.ready_pids() == before
        print(f"\n{server.log}\nthe same workers serve after {asked.seconds:g} s: {'yes' if survived else 'NO'}")
    return 0 if survived else 1


def watch(server: Server, pid: int, other: socket.socket, for_s: float) -> None:
    """Print every few seconds how the victim is, and how long its neighbour takes to answer."""
    began_ns, began = monotonic_ns(), thread_state(pid, pid)
    print("   time  heartbeat is   victim had  waited for a CPU  the other answers in")
    while (passed_s := (monotonic_ns() - began_ns) / 1e9) < for_s:
        time.sleep(min(EVERY_S, for_s - passed_s))
        asked_ns = monotonic_ns()
        ask(other, "pid")
        answer_ms = (monotonic_ns() - asked_ns) / 1e6
        now, age_s = thread_state(pid, pid), (monotonic_ns() - heartbeat(server, pid)) / 1e9
        if began is None or now is None:
            print(f"process {pid} is gone")
            return
        had_s, waited_s = (now.on_cpu_ns - began.on_cpu_ns) / 1e9, (now.waiting_ns - began.waiting_ns) / 1e9
        passed_s = (monotonic_ns() - began_ns) / 1e9
        print(f"{passed_s:5.1f} s  {age_s:8.1f} s old  {had_s:8.2f} s  {waited_s:14.1f} s  {answer_ms:16.1f} ms")


def heartbeat(server: Server, pid: int) -> int:
    """Return when the worker's loop last turned."""
    return next((worker.heartbeat_ns for worker in server.workers() if worker.pid == pid), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
