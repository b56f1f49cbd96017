"""What is done to one running server, and what is measured at it. One function for each scenario.

``load``, ``light`` and ``burst`` are the textbook's and the notes' loads; ``held`` shows how connections are spread
that stay; ``kill``, ``drain`` and ``blocked`` show what a worker that leaves, or stands still, costs the clients.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hybrid.bench.designs import Design
from hybrid.bench.figures import variation
from hybrid.bench.jobs import Job, Mode, Outcome, Reply
from hybrid.bench.load import Clients
from hybrid.bench.server import BenchServer, WorkerView
from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life

SCENARIOS = ("load", "light", "burst", "held", "kill", "drain", "blocked")
LIGHT_PER_S = 500.0
STRIKE_PER_S = 2000.0
STRIKE_FOR_S = 1.6
FREEZE_AFTER_S = 0.5
FROZEN_S = 0.15
BLOCKED_PER_S = 1000.0
BLOCKED_FOR_S = 2.5
BLOCK_EVERY_S = 0.6
BLOCK_REQUEST = "block 500\n"
LONG_S = 0.1
"""A client that waited longer than this was stalled."""
MOST_CHILDREN = 64
"""Held connections of ``fork``: each is a process."""
_STABLE_NS = 1_200_000_000
"""A worker that dies younger than a second is taken for a crash loop, and its successor waits."""
_FLUSH_NS = 350_000_000
_SHARE_OF_MOST = 0.6
"""A schedule must be one that the server can keep: this much of what it served under full load, at most."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What the clients say and expect."""

    request: str
    reply: Reply
    timeout_s: float


@dataclass(slots=True)
class Series:
    """One scenario's rounds on one design; figures per connection."""

    cpu_us: list[float] = field(default_factory=list)
    switches: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    rate: float = 0.0
    """Connections a second that were asked for; 0: as many as it takes."""

    @property
    def samples(self) -> list[float]:
        """All latencies of all rounds."""
        return [sample for each in self.outcomes for sample in each.latencies_s]

    @property
    def lost(self) -> int:
        return sum(each.lost for each in self.outcomes)


@dataclass(frozen=True, slots=True)
class Spread:
    """How connections were spread over the workers."""

    counts: tuple[int, ...]
    lost: int = 0

    @property
    def variation(self) -> float:
        return variation(self.counts)


@dataclass(frozen=True, slots=True)
class Held:
    """Connections that stay: how they were spread, and again after one worker was killed and replaced."""

    asked: int
    bounded: bool
    """Fewer than asked for, because each takes a thread or a process."""
    first: Spread
    again: Spread | None


@dataclass(frozen=True, slots=True)
class Casualties:
    """What clients saw: of ``planned`` connections at ``per_s``, so many got an error, so many waited long."""

    planned: int
    per_s: float
    refused: int
    reset: int
    timed_out: int
    short: int
    stalled: int
    """Waited longer than LONG_S, and were served."""
    behind: bool = False
    """The clients did not keep their schedule."""

    @property
    def lost(self) -> int:
        return self.refused + self.reset + self.timed_out + self.short


@dataclass(slots=True)
class Bench:
    """One design's server, the clients, and what to ask."""

    design: Design
    server: BenchServer
    clients: Clients
    ask: Ask
    most_per_s: float = 0.0
    """What it served under full load, once that is known."""

    def job(self, mode: Mode, **details: float | int | str) -> Job:
        """Return a job on this server."""
        ask = self.ask
        given = {"request": ask.request, "reply": ask.reply, "timeout_s": ask.timeout_s, **details}
        return Job(mode, self.server.port, **given)  # type: ignore[arg-type]  # the names are checked at run time

    def rate(self, wanted_per_s: float) -> float:
        """Return a rate that the server can keep."""
        return min(wanted_per_s, self.most_per_s * _SHARE_OF_MOST) if self.most_per_s else wanted_per_s

    def is_quiet(self) -> bool:
        """Wait a little for the last connections to end; return whether they have."""
        return self.server.eventually(lambda workers: not any(worker.active for worker in workers), 1.0)


def one_round(bench: Bench, job: Job, series: Series) -> None:
    """Do one round of load and add what it cost to ``series``."""
    before = bench.server.counted()
    outcome = bench.clients.run(job)
    bench.is_quiet()
    after = bench.server.counted()
    done = max(1, outcome.completed)
    series.cpu_us.append((after.cpu_ns - before.cpu_ns) / 1000 / done)
    series.switches.append((after.switches - before.switches) / done)
    series.per_s.append(outcome.completed / outcome.wall_s if outcome.wall_s else 0.0)
    series.outcomes.append(outcome)


def burst(bench: Bench, connections: int) -> Spread:
    """Open ``connections`` at once; return who took how many."""
    before = _settled(bench.server)
    outcome = bench.clients.run(bench.job(Mode.BURST, connections=connections))
    after = _settled(bench.server)
    return Spread(tuple(new - old for new, old in zip(after, before, strict=True)), outcome.lost)


def _settled(server: BenchServer) -> tuple[int, ...]:
    """Return who has accepted how many, when that has stood still: the counters are flushed a few times a second."""
    last: tuple[int, ...] = ()
    since_ns = monotonic_ns()

    def stands(workers: list[WorkerView]) -> bool:
        nonlocal last, since_ns
        now = tuple(worker.accepted for worker in workers)
        if now != last:
            last, since_ns = now, monotonic_ns()
        return monotonic_ns() - since_ns > _FLUSH_NS

    server.eventually(stands, 3.0)
    return last


def held(bench: Bench, connections: int, per_s: float) -> Held:
    """Open connections and keep them; kill one worker, wait for the next in its slot, open half as many more."""
    most = MOST_CHILDREN if bench.design.accept == "fork" else bench.design.slots(len(bench.server.workers()))
    first = min(connections, most) if most else connections
    try:
        spread = _hold(bench, first, per_s)
        again = None
        if len(spread.counts) > 1 and replace_worker(bench, 0, signal.SIGKILL):
            left = sum(worker.active for worker in bench.server.workers())
            more = min(connections // 2, most - left) if most else connections // 2
            again = _hold(bench, max(more, 1), per_s)
    finally:
        bench.clients.run(bench.job(Mode.RELEASE))
        bench.is_quiet()
    return Held(connections, first < connections, spread, again)


def _hold(bench: Bench, connections: int, per_s: float) -> Spread:
    before = sum(worker.active for worker in bench.server.workers())
    outcome = bench.clients.run(bench.job(Mode.HOLD, connections=connections, per_s=per_s))
    bench.server.eventually(lambda workers: sum(each.active for each in workers) >= before + connections, 3.0)
    return Spread(tuple(worker.active for worker in bench.server.workers()), outcome.lost)


def replace_worker(bench: Bench, slot: int, number: signal.Signals) -> bool:
    """Send a worker that is no longer young a signal, and wait for its successor; return whether it came."""
    old = wait_stable(bench, slot)
    os.kill(old.pid, number)
    return _wait_successor(bench, old)


def wait_stable(bench: Bench, slot: int) -> WorkerView:
    """Wait until the worker in ``slot`` has served long enough not to be taken for a crash loop when it dies."""
    bench.server.eventually(lambda workers: monotonic_ns() - workers[slot].ready_ns > _STABLE_NS)
    return bench.server.workers()[slot]


def _wait_successor(bench: Bench, old: WorkerView) -> bool:
    def serves(workers: list[WorkerView]) -> bool:
        new = workers[old.slot]
        return new.pid != old.pid and new.life is Life.READY

    return bench.server.eventually(serves)


def strike(bench: Bench, slot: int, blow: Callable[[int], None]) -> Casualties:
    """Freeze one worker under load, long enough for a queue to form, then strike; count what clients saw."""
    per_s = bench.rate(STRIKE_PER_S)
    victim = wait_stable(bench, slot)
    begin_s = bench.clients.start(bench.job(Mode.OPEN, per_s=per_s, for_s=STRIKE_FOR_S))
    try:
        _wait_until(begin_s + FREEZE_AFTER_S)
        os.kill(victim.pid, signal.SIGSTOP)
        _wait_until(begin_s + FREEZE_AFTER_S + FROZEN_S)
        blow(victim.pid)
    finally:
        outcome = bench.clients.collect()
    _wait_successor(bench, victim)
    bench.is_quiet()
    return casualties(outcome, per_s)


def kill(pid: int) -> None:
    """End a frozen worker outright."""
    os.kill(pid, signal.SIGKILL)


def drain(pid: int) -> None:
    """Let a frozen worker go on, to finish what it has and leave."""
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)


def blocked(bench: Bench) -> Casualties:
    """Load at a rate, while now and then a request blocks its worker for half a second; count who had to wait."""
    per_s = bench.rate(BLOCKED_PER_S)
    job = bench.job(Mode.OPEN, per_s=per_s, for_s=BLOCKED_FOR_S, special=BLOCK_REQUEST, special_every_s=BLOCK_EVERY_S)
    outcome = bench.clients.run(job)
    bench.is_quiet()
    return casualties(outcome, per_s)


def casualties(outcome: Outcome, per_s: float) -> Casualties:
    """Sum up what clients saw. Those that asked for the block themselves are not among the stalled."""
    return Casualties(
        planned=outcome.planned,
        per_s=per_s,
        refused=outcome.refused,
        reset=outcome.reset,
        timed_out=outcome.timed_out + outcome.other,
        short=outcome.short,
        stalled=sum(sample > LONG_S for sample in outcome.latencies_s),
        behind=any(lag > LONG_S / 2 for lag in outcome.lags_s),
    )


def _wait_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.monotonic()))
