"""``hybrid-bench handler``: steady load on one handler, and what a message and a connection cost it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from hybrid.bench.accept_run import BLOCKING_KINDS, Place
from hybrid.bench.accept_run import Plan as AcceptPlan
from hybrid.bench.figures import Latencies, latencies, median
from hybrid.bench.handlers import BUILT_IN
from hybrid.bench.jobs import TO_CLOSE, Job, Mode, Outcome, Reply
from hybrid.bench.load import Clients, Honesty, honesty
from hybrid.bench.probe import learn
from hybrid.bench.report import machine
from hybrid.bench.server import BenchServer
from hybrid.ground.errors import UsageError
from hybrid.shared.models import resolve

IDLE_PER_S = 2000.0
WARM_UP_S = 0.3
FIRST_FEW = 32
MOST_CONNECTIONS = 64
"""Without ``--connections``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to serve, and how to load it."""

    target: str
    workers: str = "auto"
    accept: str = "auto"
    threads: int = 0
    """0: the server's default."""
    connections: int = 0
    """0: MOST_CONNECTIONS, or fewer if a blocking handler has fewer threads."""
    idle: int = 1000
    """Connections that are opened to see what one costs in memory; 0: none."""
    per_s: float = 0.0
    """Messages a second; 0: as fast as they are answered."""
    for_s: float = 1.0
    rounds: int = 5
    clients: int = 2
    request: str = "hello\n"
    reply: Reply | None = None
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class HandlerReport:
    """What was measured."""

    plan: Plan
    kind: str
    workers: int
    connections: int
    """That exchanged messages."""
    reply: Reply
    machine: dict[str, str]
    per_s: tuple[float, ...]
    cpu_us: tuple[float, ...]
    """Per message, of the whole server, round by round."""
    latencies: Latencies
    lost: int
    honesty: Honesty
    worker_bytes: int
    """Proportional set size of a worker without connections."""
    idle: int
    """Idle connections that were opened; 0: none were."""
    connection_bytes: float
    """By which the workers grew, for each of them."""

    @property
    def is_capped(self) -> bool:
        """Whether there were fewer connections than usual, because the workers have only so many threads."""
        return not self.plan.connections and self.connections < MOST_CONNECTIONS

    @property
    def serves_at_a_time(self) -> int:
        """Connections that the workers serve at a time, as far as the idle ones have shown; 0: more than were tried."""
        return self.idle if self.idle < self.plan.idle else 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        return asdict(self)


Watch = Callable[[str], None]


def steps(plan: Plan) -> int:
    """Return how often :func:`run` tells what comes next."""
    return 3 + plan.rounds


def run(plan: Plan, watch: Watch) -> HandlerReport:
    """Measure. Closes: the server and the clients, whatever happens.

    Raises: Unserved: the server does not serve this. HybridError: the handler does not answer. UsageError: it answers
    by closing, so that there is no steady load.
    """
    with ExitStack() as stack:
        watch("start the server")
        place = Place.of(AcceptPlan(handler=plan.target), stack)
        server = stack.enter_context(BenchServer(_arguments(plan), place.environ, place.cwd)).wait_ready()
        resolve(plan.accept, threaded=server.kind in BLOCKING_KINDS)
        found = learn(server, plan.request)  # also to learn that it answers at all
        reply = plan.reply or found
        if reply.ends == TO_CLOSE:
            raise UsageError(
                f"cannot put steady load on {plan.target}: it closes the connection after its answer to "
                f"{plan.request!r}. Use hybrid-bench accept --handler {plan.target}, or another --request."
            )
        clients = stack.enter_context(Clients(plan.clients))
        watch("open idle connections")
        worker_bytes, idle, connection_bytes = _memory(plan, server, clients)
        connections = plan.connections or _connections(plan, server, clients, idle)
        watch("warm up")
        job = Job(
            Mode.STEADY, server.port, for_s=WARM_UP_S, connections=connections, per_s=plan.per_s,
            request=plan.request, reply=reply, timeout_s=plan.timeout_s,
        )  # fmt: skip
        clients.run(job)
        per_s, cpu_us, outcomes = _rounds(plan, server, clients, job, watch)
        samples = array("d")
        for outcome in outcomes:
            samples.extend(outcome.latencies_s)
        return HandlerReport(
            plan, server.kind, len(server.workers()), connections, reply, machine(), tuple(per_s), tuple(cpu_us),
            latencies(samples), sum(outcome.lost for outcome in outcomes), honesty(outcomes), worker_bytes, idle,
            connection_bytes,
        )  # fmt: skip


def _arguments(plan: Plan) -> list[str]:
    arguments = [BUILT_IN.get(plan.target, plan.target), "--workers", plan.workers, "--accept", plan.accept]
    return [*arguments, "--threads", str(plan.threads)] if plan.threads else arguments


def _rounds(
    plan: Plan, server: BenchServer, clients: Clients, job: Job, watch: Watch
) -> tuple[list[float], list[float], list[Outcome]]:
    job = replace(job, for_s=plan.for_s)
    per_s: list[float] = []
    cpu_us: list[float] = []
    outcomes: list[Outcome] = []
    for turn in range(plan.rounds):
        watch(f"round {turn + 1}/{plan.rounds}")
        before = server.counted().cpu_ns
        outcome = clients.run(job)
        spent = server.counted().cpu_ns - before
        cpu_us.append(spent / 1000 / max(1, outcome.completed))
        per_s.append(outcome.per_s)
        outcomes.append(outcome)
    return per_s, cpu_us, outcomes


def _memory(plan: Plan, server: BenchServer, clients: Clients) -> tuple[int, int, float]:
    """Return a worker's memory, the number of idle connections that it took, and by how much each made workers grow.

    A few are opened and closed before: what the first ones make a worker import and allocate is not theirs. A full
    round before would hide everything, because what was freed is used again. Kernel memory, some kilobytes for each
    socket, is not in it.
    """
    if plan.idle:
        _hold(plan, server, clients, min(plan.idle, FIRST_FEW))
        _release(server, clients)
    empty = server.worker_memory_bytes()
    worker_bytes = int(median(empty)) if empty else 0
    if not plan.idle:
        return worker_bytes, 0, 0.0
    try:
        held = _hold(plan, server, clients, plan.idle)
        grown = sum(server.worker_memory_bytes()) - sum(empty)
    finally:
        _release(server, clients)
    return worker_bytes, held, grown / held if held else 0.0


def _connections(plan: Plan, server: BenchServer, clients: Clients, idle: int) -> int:
    """Return how many connections to load a server with: no more than have a thread. ``idle``: that it took."""
    if server.kind not in BLOCKING_KINDS:
        return MOST_CONNECTIONS
    if idle == plan.idle < MOST_CONNECTIONS:  # it took all that were tried: try more
        try:
            idle = _hold(plan, server, clients, MOST_CONNECTIONS)
        finally:
            _release(server, clients)
    return max(1, min(idle, MOST_CONNECTIONS))


def _hold(plan: Plan, server: BenchServer, clients: Clients, connections: int) -> int:
    """Open idle connections; return how many the server took: blocking handlers take one for each thread."""
    clients.run(Job(Mode.HOLD, server.port, connections=connections, per_s=IDLE_PER_S, timeout_s=plan.timeout_s))
    server.eventually(lambda workers: sum(worker.active for worker in workers) >= connections, 3.0)
    return sum(worker.active for worker in server.workers())


def _release(server: BenchServer, clients: Clients) -> None:
    clients.run(Job(Mode.RELEASE, server.port))
    server.eventually(lambda workers: not any(worker.active for worker in workers), 3.0)
