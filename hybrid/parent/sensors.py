"""What the pool's size is decided by, measured: the workers' load as their rows have it, and what the kernel knows.

A worker stores what it measures four times a second, from its loop. One whose loop does not turn stores nothing: its
row is old, and what is true of it is read off its age. It has been busy since then, whatever it was busy with, and
how much of that it spent waiting for a CPU, the kernel tells of its thread. Zero would be wrong: a pool in which all
are blocked would look idle.

Runs in: parent. Nothing here waits.
Source: proc(5) on schedstat; :mod:`hybrid.worker.meter`, which writes what is read here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hybrid.ground.states import Life
from hybrid.meters.accept_queue import AcceptQueues
from hybrid.meters.run_queue import RunQueue, ThreadTime
from hybrid.parent.pool import Duty, Pool, Slot
from hybrid.parent.sizing import Observation
from hybrid.shared.scoreboard import UNKNOWN, Cell, Row, Scoreboard

SECOND = 1_000_000_000
TICK_NS = SECOND // 4
"""Between two ticks of a worker that is well."""
STALE_NS = 2 * TICK_NS
"""A row older than this is of a loop that does not turn."""
FIRST_BOOT_S = 1.0
"""How long a boot is reckoned to take before one was seen."""
MEASURED = (Life.READY, Life.PARKED)
"""Whose load counts. One that is parked serves what it holds: were it left out, each step down would look like less
demand, and be followed by the next."""

AskKernel = Callable[[int], ThreadTime | None]


class Entrance(Protocol):
    """What the sensors need of the :class:`~hybrid.parent.porter.Porter`."""

    def queues(self) -> Sequence[socket.socket]:
        """Return the listening sockets, as they are now."""

    def on_the_way(self) -> int:
        """Return how many connections wait for a worker behind their queues."""


@dataclass(frozen=True, slots=True)
class Account:
    """What one worker has had since it was born, up to ``until_ns``.

    ``lag_ns``: of the last tick that came, or how late the one that has not come is by now.
    """

    ticket: int
    until_ns: int
    busy_ns: int
    on_cpu_ns: int
    waiting_ns: int
    lag_total_ns: int
    lag_ns: int
    accepted: int
    requests: int
    threads_share: float = 0.0
    """Of its threads for blocking code, how many are taken; above 1 when more is waiting for one."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one worker, in loop-seconds per second."""

    busy: float = 0.0
    on_cpu: float = 0.0
    waiting: float = 0.0


class Sensors:
    """Takes windows of the pool's load: each :meth:`observe` ends one and begins the next.

    Runs in: parent. Closes: what it opened to ask the kernel, on :meth:`close`.
    """

    def __init__(self, scoreboard: Scoreboard, entrance: Entrance, ask_kernel: AskKernel | None = None) -> None:
        self._scoreboard = scoreboard
        self._entrance = entrance
        self._ask_kernel = ask_kernel or thread_time
        self._accounts: dict[int, Account] = {}
        self._rates: dict[int, Rates] = {}
        self._since_ns = 0
        self._asked: tuple[socket.socket, ...] = ()
        self._kernel: AcceptQueues | None = None

    def observe(self, pool: Pool, now_ns: int) -> Observation:
        """Return what was seen since the last time."""
        before, rates = self._accounts, self._rates
        self._accounts, self._rates = {}, {}
        came = requests = 0
        for slot in measured(pool):
            account = self._read(slot, now_ns, before.get(slot.index))
            if account is None:
                continue
            old = before.get(slot.index)
            if old is None or old.ticket != account.ticket:
                rates.pop(slot.index, None)  # somebody else's
                old = replace(account, accepted=0, requests=0)
            self._accounts[slot.index] = account
            self._rates[slot.index] = _rates(old, account) or rates.get(slot.index, Rates())
            came += max(0, account.accepted - old.accepted)
            requests += max(0, account.requests - old.requests)
        window_s = (now_ns - self._since_ns) / SECOND if self._since_ns else TICK_NS / SECOND
        self._since_ns = now_ns
        return self._sum(pool, now_ns / SECOND, max(window_s, 1e-3), max(came, requests))

    def _sum(self, pool: Pool, now: float, window_s: float, arrived: int) -> Observation:
        serving = [slot for slot in measured(pool) if slot.life is Life.READY]
        lags = [self._accounts[slot.index].lag_ns / SECOND for slot in serving if slot.index in self._accounts]
        threads = {index: account.threads_share for index, account in self._accounts.items()}
        busy = sum(max(rates.busy - rates.waiting, threads[index]) for index, rates in self._rates.items())
        return Observation(
            now=now,
            window_s=window_s,
            busy=max(0.0, busy),
            run_queue=sum(rates.waiting for rates in self._rates.values()),
            accepted=arrived / window_s,
            queue=self._queue(),
            lag_s=_median(lags),
            serving=len(serving),
            booting=_count(pool, Duty.SERVE, Life.STARTING, Life.VACANT),
            parked=_count(pool, Duty.SPARE, Life.PARKED),
            boot_s=self._boot_s(pool),
            on_cpu=sum(rates.on_cpu for rates in self._rates.values()),
        )

    def _read(self, slot: Slot, now_ns: int, before: Account | None) -> Account | None:
        """Return the worker's account; None: it has measured nothing yet."""
        row = self._scoreboard.row(slot.index)
        measured_ns, busy_ns, on_cpu_ns, waiting_ns, lag_total_ns, *_ = row.line(Cell.MEASURED_NS)
        if measured_ns in (0, UNKNOWN) or not slot.pid:
            return None
        age_ns = max(0, now_ns - measured_ns)
        on_cpu_ns = _known(on_cpu_ns, 0)
        busy_ns = _known(busy_ns, on_cpu_ns)  # a build of uvloop that tells nothing: what it computes
        waiting_ns = _known(waiting_ns, 0)
        lag_total_ns = _known(lag_total_ns, 0)
        lag_ns = max(0, age_ns - TICK_NS)
        if before is not None and before.ticket == slot.ticket:
            ticked = lag_total_ns - before.lag_total_ns
            lag_ns = max(lag_ns, ticked if before.until_ns < measured_ns else before.lag_ns)
        until_ns = measured_ns
        if age_ns > STALE_NS:
            until_ns, busy_ns = now_ns, busy_ns + age_ns
            time = self._ask_kernel(slot.pid)
            if time is not None:
                on_cpu_ns, waiting_ns = max(on_cpu_ns, time.on_cpu_ns), max(waiting_ns, time.waiting_ns)
        return Account(
            slot.ticket,
            until_ns,
            busy_ns,
            on_cpu_ns,
            waiting_ns,
            lag_total_ns,
            lag_ns,
            row[Cell.ACCEPTED],
            row[Cell.REQUESTS],
            _threads_share(row),
        )

    def _queue(self) -> int:
        """Return how many connections wait to be accepted; 0 where nobody knows."""
        sockets = tuple(self._entrance.queues())
        if sockets != self._asked:
            self.close()
            self._asked, self._kernel = sockets, AcceptQueues(sockets)
        queue = self._kernel.read() if self._kernel is not None else None
        return (queue.length if queue is not None else 0) + self._entrance.on_the_way()

    def _boot_s(self, pool: Pool) -> float:
        """Return how long the boot took of whoever was ready last."""
        last_ns, took_s = 0, FIRST_BOOT_S
        for slot in measured(pool):
            row = self._scoreboard.row(slot.index)
            ready_ns, spawned_ns = row[Cell.READY_NS], row[Cell.SPAWNED_NS]
            if ready_ns > max(last_ns, spawned_ns):
                last_ns, took_s = ready_ns, (ready_ns - spawned_ns) / SECOND
        return took_s

    def has_threads(self, pool: Pool) -> bool:
        """Return whether the workers run blocking code in threads: then a loop's wait for a CPU says little."""
        return any(self._scoreboard.row(slot.index)[Cell.THREADS] for slot in measured(pool))

    def loads(self, pool: Pool) -> tuple[int, ...]:
        """Return the open connections of each slot."""
        return tuple(self._scoreboard.row(slot.index).active for slot in pool.slots)

    def close(self) -> None:
        """Close what was opened. May be called twice."""
        if self._kernel is not None:
            self._kernel.close()
        self._asked, self._kernel = (), None


def measured(pool: Pool) -> Iterable[Slot]:
    """Yield the slots whose workers serve now, or were parked because they are not needed."""
    return (slot for slot in pool.slots if slot.wanted and slot.life in MEASURED and slot.generation == pool.generation)


def _count(pool: Pool, duty: Duty, *lives: Life) -> int:
    return sum(slot.wanted and slot.duty is duty and slot.life in lives for slot in pool.slots)


def _median(values: list[float]) -> float:
    """Return the median, of two middle ones the lower; 0 of none. (The library that has it loads three more.)"""
    return sorted(values)[(len(values) - 1) // 2] if values else 0.0


def thread_time(pid: int) -> ThreadTime | None:
    """Return what the kernel has accounted for the main thread of ``pid``, in which the loop runs; None: unknown."""
    accounts = RunQueue(pid, pid)
    try:
        return accounts.read()
    finally:
        accounts.close()


def _rates(before: Account, after: Account) -> Rates | None:
    """Return the rates between two accounts; None: there is no time between them."""
    span_ns = after.until_ns - before.until_ns
    if span_ns <= 0:
        return None
    shares = (
        (after.busy_ns - before.busy_ns) / span_ns,
        (after.on_cpu_ns - before.on_cpu_ns) / span_ns,
        (after.waiting_ns - before.waiting_ns) / span_ns,
    )
    return Rates(*(min(1.0, max(0.0, share)) for share in shares))


def _threads_share(row: Row) -> float:
    """Return how many of a worker's threads are taken: by requests where it counts them, else by connections."""
    threads = row[Cell.THREADS]
    if not threads:
        return 0.0
    return (row[Cell.IN_FLIGHT] if row[Cell.REQUESTS] else row.active) / threads


def _known(value: int, instead: int) -> int:
    return instead if value == UNKNOWN else value
