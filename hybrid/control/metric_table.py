"""Every metric of ``/metrics``: its name, its kind, its labels, what it means. The reference page is made of this.

Names without ``_total``, which the exposition adds to counters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hybrid.shared.scoreboard import Cell


@dataclass(frozen=True, slots=True)
class Spec:
    """A family. ``kind``: as Prometheus calls it."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Return the name as it stands in the text."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


SLOT = ("slot",)
BUILD = Spec("hybrid_build", "info", "What runs: of hybrid and Python the versions.", ("version", "python"))
STARTED = Spec("hybrid_start_time_seconds", "gauge", "When the server was started, Unix time.")
READY = Spec("hybrid_ready", "gauge", "1 while /readyz answers 200, else 0.")
GENERATION = Spec("hybrid_pool_generation", "gauge", "Which load of the code is served; a reload adds one.")
TARGET = Spec("hybrid_pool_target_workers", "gauge", "How many workers are to serve.")
LEAST = Spec("hybrid_pool_least_workers", "gauge", "The fewest that the pool may be sized to.")
MOST = Spec("hybrid_pool_most_workers", "gauge", "The most that the pool may be sized to.")
STANDBY = Spec("hybrid_pool_standby_workers", "gauge", "Workers to be kept booted and parked besides (--standby).")
BALANCE = Spec(
    "hybrid_pool_balance",
    "gauge",
    "How evenly open connections are spread over ready workers: 1 is even, 1/n all at one. Missing: too few.",
)
LOAD = Spec(
    "hybrid_load_ratio",
    "gauge",
    "How much of what its workers can do is asked of the pool: 1 is full, above it clients wait. For autoscalers. "
    "Missing: no worker accepts.",
)
SPARE = Spec(
    "hybrid_spare_ratio",
    "gauge",
    "Which part of the pool nobody uses, 0 to 1; workers that are missing are not there to spare.",
)
WORKERS = Spec("hybrid_workers", "gauge", "Workers, by where they are in their life.", ("life",))
SPAWNED = Spec("hybrid_workers_started", "counter", "Workers ever started.")
REPLACED = Spec(
    "hybrid_workers_replaced",
    "counter",
    "Workers that had to be replaced, by why: requests, lifetime, memory (--max-…), died (crashed or killed), told "
    "(somebody sent it SIGTERM, or drained it by hybrid-ctl).",
    ("cause",),
)
WORKER = Spec(
    "hybrid_worker",
    "info",
    "Who is in a slot now; join with it to see seat, pid or generation.",
    ("slot", "seat", "pid", "generation", "life"),
)
DURATION = Spec(
    "hybrid_request_duration_seconds",
    "histogram",
    "How long HTTP requests took that were answered by the application: from the end of the head to the end of the "
    "answer. Not in it: what waited for its turn before, and WebSockets.",
)
QUEUE = Spec("hybrid_accept_queue_connections", "gauge", "Connections that wait to be accepted.")
QUEUE_LIMIT = Spec("hybrid_accept_queue_limit_connections", "gauge", "How many may wait there.")
QUEUE_WAIT = Spec(
    "hybrid_accept_wait_seconds",
    "gauge",
    "How long who connects now will wait: the queue by the rate at which it is served.",
)


@dataclass(frozen=True, slots=True)
class CounterSpec:
    """A counter of a slot, shown for each and for all together. ``scale``: of what is in the cell."""

    cell: int
    name: str
    meaning: str
    scale: float = 1.0

    @property
    def total(self) -> Spec:
        """Return the family of all workers together."""
        return Spec(f"hybrid_{self.name}", "counter", self.meaning)

    @property
    def each(self) -> Spec:
        """Return the family with a series for each slot."""
        return Spec(f"hybrid_worker_{self.name}", "counter", f"The same, by slot. {self.meaning}", SLOT)


NS = 1e-9
COUNTED = (
    CounterSpec(Cell.ACCEPTED, "connections_accepted", "Connections accepted."),
    CounterSpec(Cell.CLOSED, "connections_closed", "Connections accepted that are over."),
    CounterSpec(Cell.HANDLER_ERRORS, "connections_failed", "Connections lost to an exception in the application."),
    CounterSpec(
        Cell.PAUSES,
        "accept_pauses",
        "Times a worker left new connections to others: its limit was reached, or descriptors were short.",
    ),
    CounterSpec(Cell.REQUESTS, "requests", "HTTP requests given to the application; 0 for other kinds of handlers."),
    CounterSpec(Cell.CLIENT_ERRORS, "client_errors", "HTTP responses of 400 to 499, the server's own among them."),
    CounterSpec(Cell.SERVER_ERRORS, "server_errors", "HTTP responses of 500 and above, the server's own among them."),
    CounterSpec(
        Cell.LOOP_BUSY_NS,
        "loop_busy_seconds",
        "How long event loops had something to do. Its rate by worker is the loop's use, 0 to 1.",
        NS,
    ),
    CounterSpec(Cell.ON_CPU_NS, "loop_cpu_seconds", "How long the loops' threads ran on a CPU.", NS),
    CounterSpec(
        Cell.RUN_QUEUE_NS,
        "loop_run_queue_seconds",
        "How long the loops' threads were ready to run and had no CPU: cores are the limit.",
        NS,
    ),
    CounterSpec(Cell.LAG_NS, "loop_lag_seconds", "How late the loops' ticks came, added up.", NS),
)


@dataclass(frozen=True, slots=True)
class GaugeSpec:
    """A gauge of a worker. ``sample``: the field of a WorkerSample. ``total``: how all together are made: sum, max."""

    sample: str
    name: str
    meaning: str
    total: str = ""

    @property
    def all(self) -> Spec:
        """Return the family of all workers together."""
        how = {"sum": "", "max": " The largest of all workers."}[self.total]
        return Spec(f"hybrid_{self.name}", "gauge", self.meaning + how)

    @property
    def each(self) -> Spec:
        """Return the family with a series for each slot that has a worker."""
        return Spec(
            f"hybrid_worker_{self.name}",
            "gauge",
            self.meaning if not self.total else f"The same, by slot. {self.meaning}",
            SLOT,
        )


GAUGES = (
    GaugeSpec("connections", "connections_open", "Connections that are open.", "sum"),
    GaugeSpec("limit", "connections_limit", "Connections at which a worker stops accepting."),
    GaugeSpec("in_flight", "requests_in_flight", "HTTP requests whose application has not returned.", "sum"),
    GaugeSpec("loop_use", "loop_use_ratio", "Share of the last second that a loop had something to do, 0 to 1."),
    GaugeSpec("lag_max_s", "loop_lag_max_seconds", "How late the latest tick of the last 10 to 20 s came.", "max"),
    GaugeSpec("heartbeat_age_s", "heartbeat_age_seconds", "Since a loop last turned.", "max"),
    GaugeSpec("memory_bytes", "memory_private_bytes", "Memory of workers that they share with nobody.", "sum"),
    GaugeSpec("age_s", "age_seconds", "Since a worker was started."),
)


def every_spec() -> Iterator[Spec]:
    """Yield every family, in the order of the text."""
    yield from (BUILD, STARTED, READY, GENERATION, TARGET, LEAST, MOST, STANDBY, LOAD, SPARE, WORKERS)
    yield from (SPAWNED, REPLACED)
    yield from (each.total for each in COUNTED)
    yield from (each.all for each in GAUGES if each.total)
    yield from (DURATION, QUEUE, QUEUE_LIMIT, QUEUE_WAIT, BALANCE, WORKER)
    yield from (each.each for each in COUNTED)
    yield from (each.each for each in GAUGES)
