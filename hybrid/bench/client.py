"""A client process: reads jobs from standard input, makes the load, writes what came of it; ends with its input.

    python hybrid/bench/client.py

Runs in: a process of its own, one thread; several of them share the load (:mod:`hybrid.bench.load`).
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Callable

if __name__ == "__main__":  # started by path; before 3.11 nothing else keeps our own directory off the import path
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(os.path.dirname(here)), *(entry for entry in sys.path if entry != here)]

from hybrid.bench.engine import Engine
from hybrid.bench.jobs import Job, Mode, Outcome, outcome_line, read_job
from hybrid.bench.measure import own_schedule_ns
from hybrid.bench.steady import steady


def closed(engine: Engine) -> None:
    """Keep so many connections under way; when the time is up, see the last through."""
    until = engine.job.start_s + engine.job.for_s
    while (now := time.monotonic()) < until:
        missing = engine.job.connections - len(engine.flights)
        for _ in range(missing):
            engine.begin(now)
        engine.turn(min(0.05, until - now))
    engine.drain()


def scheduled(engine: Engine, begin: Callable[[int, float], None]) -> None:
    """Call ``begin`` with the number and the time of each slot when it is due; note how late that was."""
    job, lags = engine.job, engine.outcome.lags_s
    number, planned = 0, job.planned
    while number < planned:
        due_s = job.due_s(number)
        late_s = time.monotonic() - due_s
        if late_s < 0:
            engine.turn(-late_s)
            continue
        lags.append(late_s)
        begin(number, due_s)
        number += 1
        if not number % 16:  # behind its schedule it must still read what comes in
            engine.turn(0)


def at_rate(engine: Engine) -> None:
    """Open connections by schedule; every so often one asks for something special."""
    job = engine.job
    special = job.special.encode("latin-1")
    next_special_s = job.start_s + job.special_every_s

    def begin(_number: int, due_s: float) -> None:
        nonlocal next_special_s
        if special and due_s >= next_special_s:
            next_special_s += job.special_every_s
            engine.begin(due_s, special)
        else:
            engine.begin(due_s)

    scheduled(engine, begin)
    engine.drain()


def burst(engine: Engine) -> None:
    """Open all connections before reading from any."""
    for _ in range(engine.job.connections):
        engine.begin(time.monotonic())
    engine.drain()


def hold(engine: Engine, held: list[socket.socket]) -> None:
    """Open connections by schedule and keep them."""

    def begin(_number: int, _due_s: float) -> None:
        sock = engine.connect()
        if sock is not None:
            held.append(sock)

    scheduled(engine, begin)
    engine.outcome.held = len(held)


def release(held: list[socket.socket]) -> None:
    """Close all that are held."""
    while held:
        held.pop().close()


def work(job: Job, held: list[socket.socket]) -> Outcome:
    """Do one job. ``held``: the connections that HOLD has left open so far."""
    engine = Engine(job)
    try:
        while (early_s := job.start_s - time.monotonic()) > 0:
            time.sleep(early_s)
        ran_ns, waited_ns = own_schedule_ns()
        begun_s = time.monotonic()
        _DO[job.mode](engine, held)
        outcome = engine.outcome
        outcome.wall_s = time.monotonic() - begun_s
        now_ran_ns, now_waited_ns = own_schedule_ns()
        if outcome.wall_s > 0:
            outcome.busiest = (now_ran_ns - ran_ns) / 1e9 / outcome.wall_s
            outcome.waiting = (now_waited_ns - waited_ns) / 1e9 / outcome.wall_s
        return outcome
    finally:
        engine.close()


_DO: dict[Mode, Callable[[Engine, list[socket.socket]], None]] = {
    Mode.CLOSED: lambda engine, held: closed(engine),
    Mode.OPEN: lambda engine, held: at_rate(engine),
    Mode.BURST: lambda engine, held: burst(engine),
    Mode.HOLD: hold,
    Mode.RELEASE: lambda engine, held: release(held),
    Mode.STEADY: lambda engine, held: steady(engine),
}


def main() -> int:
    """Do jobs until the input ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held: list[socket.socket] = []
    for line in sys.stdin.buffer:
        outcome = work(read_job(line), held)
        sys.stdout.buffer.write(outcome_line(outcome))
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
