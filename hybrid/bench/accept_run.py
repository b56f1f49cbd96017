"""The comparison: every design's server runs, and they take turns in every round.

All servers are up from the beginning; those whose turn it is not are idle, and cost the one that is measured nothing
that shows. The order is rotated in each round, so that no design is always measured after the same neighbour.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from hybrid.bench.designs import BLOCKING, LOOP, Design, chosen, designs, unfit
from hybrid.bench.handlers import BUILT_IN
from hybrid.bench.jobs import TO_CLOSE, Mode, Reply
from hybrid.bench.load import Clients
from hybrid.bench.probe import learn
from hybrid.bench.scenarios import (
    LIGHT_PER_S,
    Ask,
    Bench,
    Casualties,
    Held,
    Series,
    Spread,
    blocked,
    burst,
    drain,
    held,
    kill,
    one_round,
    strike,
)
from hybrid.bench.server import BenchServer, Unserved, plain_environment, users_environment
from hybrid.ground.errors import UsageError
from hybrid.shared.models import MODELS

TEXTBOOK_REQUEST = "4000\n"
TEXTBOOK_REPLY = Reply(TO_CLOSE, 4000)
WARM_UP_S = 0.15
GAUGE_S = 0.3
"""A load this long shows what a design can do, where no other one does."""
_AT_A_RATE = ("light", "kill", "drain", "blocked")
BLOCKING_KINDS = ("threaded", "wsgi")
"""Kinds of handler, as the boot line names them, that have a thread to themselves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to compare, and how thoroughly."""

    handler: str = ""
    """A built-in one's name, a target, or empty: the textbook's, of both kinds."""
    workers: tuple[int, ...] = (4,)
    threads: int = 8
    models: tuple[str, ...] = ()
    """Empty: all that serve the handler."""
    scenarios: tuple[str, ...] = ("load", "light", "burst", "held")
    rounds: int = 6
    for_s: float = 0.4
    concurrency: int = 64
    connections: int = 400
    per_s: float = 500.0
    clients: int = 2
    request: str = TEXTBOOK_REQUEST
    reply: Reply | None = None
    """None: found out by asking once."""
    timeout_s: float = 5.0

    @property
    def is_users(self) -> bool:
        """Whether the handler is the user's own."""
        return ":" in self.handler


@dataclass(slots=True)
class Row:
    """All that was measured of one design. ``problem``: why nothing was, in the server's words."""

    design: Design
    problem: str = ""
    load: Series | None = None
    light: Series | None = None
    burst: Spread | None = None
    held: Held | None = None
    kill: Casualties | None = None
    drain: Casualties | None = None
    blocked: Casualties | None = None


@dataclass(slots=True)
class Comparison:
    """One table: the rows for one number of workers."""

    plan: Plan
    workers: int
    handlers: dict[str, str]
    """By kind: the target that was served."""
    rows: list[Row] = field(default_factory=list)
    reply: Reply = TEXTBOOK_REPLY


Watch = Callable[[str], None]
"""Is told what comes next; called once for each of :func:`steps`."""


def steps(plan: Plan, rows: int) -> int:
    """Return how many steps one number of workers takes with so many rows."""
    rounds = sum(name in plan.scenarios for name in ("load", "light")) * (plan.rounds + 1)
    once = sum(name not in ("load", "light") for name in plan.scenarios)
    return rows * (1 + rounds + once + _needs_gauge(plan))


def _needs_gauge(plan: Plan) -> bool:
    """Whether something is done at a rate, and no full load shows what rate a design keeps."""
    return "load" not in plan.scenarios and any(name in plan.scenarios for name in _AT_A_RATE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers are started: environment and working directory."""

    environ: Mapping[str, str]
    cwd: str

    @classmethod
    def of(cls, plan: Plan, stack: ExitStack) -> Place:
        """Return the user's place for a handler of theirs, an empty one for the built-in: nothing configures it."""
        if plan.is_users:
            return cls(users_environment(os.environ), os.getcwd())
        return cls(plain_environment(os.environ), stack.enter_context(tempfile.TemporaryDirectory()))


def survey(plan: Plan) -> tuple[dict[str, str], Reply]:
    """Return the targets by kind, and how they reply; the user's handler is started and asked once to find out.

    Raises: Unserved: it cannot be served at all. HybridError: it does not answer.
    """
    if not plan.is_users:
        name = plan.handler
        found = {LOOP: BUILT_IN["protocol"], BLOCKING: BUILT_IN["blocking"]}
        if name:
            found = {BLOCKING if name == "blocking" else LOOP: BUILT_IN[name]}
        return found, plan.reply or (TEXTBOOK_REPLY if plan.request == TEXTBOOK_REQUEST else Reply())
    with ExitStack() as stack:
        place = Place.of(plan, stack)
        server = stack.enter_context(BenchServer((plan.handler, "--workers", "1"), place.environ, place.cwd))
        server.wait_ready()
        answer = learn(server, plan.request)  # also to learn that it answers at all
        reply = plan.reply or answer
        return {BLOCKING if server.kind in BLOCKING_KINDS else LOOP: plan.handler}, reply


def chosen_rows(plan: Plan, found: tuple[dict[str, str], Reply]) -> list[Design]:
    """Return the designs that will be measured. Raises: UsageError: none of those named serves this handler."""
    fit = designs(found[0], plan.threads)
    rows = chosen(fit, plan.models)
    if not rows:
        models, names = ",".join(plan.models), ", ".join(dict.fromkeys(row.name for row in fit if not row.is_baseline))
        runs = "runs in the event loop" if LOOP in found[0] else "is blocking"
        raise UsageError(
            f"cannot use {models} for --models with --handler {plan.handler}: the handler {runs}. Give one of {names}."
        )
    return rows


def compare(plan: Plan, workers: int, watch: Watch, found: tuple[dict[str, str], Reply]) -> Comparison:
    """Measure every design with ``workers`` and return the rows. ``found``: of :func:`survey`.

    Closes: all servers and clients, whatever happens.
    """
    handlers, reply = found
    comparison = Comparison(plan, workers, handlers, reply=reply)
    fit = designs(handlers, plan.threads)
    comparison.rows = [Row(design) for design in chosen_rows(plan, found)]
    with ExitStack() as stack:
        clients = stack.enter_context(Clients(plan.clients))
        ask = Ask(plan.request, reply, plan.timeout_s)
        place = Place.of(plan, stack)
        starting = [(row, _start(row.design, comparison, place, stack)) for row in comparison.rows]
        benches: list[tuple[Row, Bench]] = []
        for row, server in starting:
            watch(f"start {row.design.name}")
            try:
                benches.append((row, Bench(row.design, server.wait_ready(), clients, ask)))
            except Unserved as error:
                row.problem = str(error)
                server.end()
        if _needs_gauge(plan):
            _gauge(plan, benches, watch)
        for name in ("load", "light"):
            if name in plan.scenarios:
                _rounds(plan, name, benches, watch)
        for row, bench in benches:
            _once(plan, row, bench, watch)
    comparison.rows += [Row(_misfit(name), problem=_why_unfit(name)) for name in unfit(fit, plan.models)]
    return comparison


def _start(design: Design, comparison: Comparison, place: Place, stack: ExitStack) -> BenchServer:
    arguments = [comparison.handlers[design.kind], "--accept", design.accept]
    arguments += ["--workers", str(design.workers or comparison.workers)]
    if design.threads:
        arguments += ["--threads", str(design.threads)]
    return stack.enter_context(BenchServer(arguments, place.environ, place.cwd))


def _misfit(name: str) -> Design:
    return Design(name, "", name, "", MODELS[name].term if name in MODELS else name)


def _why_unfit(name: str) -> str:
    serves = LOOP if name in MODELS and MODELS[name].loop else BLOCKING
    other = "a blocking handler" if serves == LOOP else "a handler that runs in the event loop"
    return f"cannot serve {other}"


def _gauge(plan: Plan, benches: Sequence[tuple[Row, Bench]], watch: Watch) -> None:
    """Find out what rate each design keeps; nothing else comes of it."""
    for row, bench in benches:
        watch(f"gauge {row.design.name}")
        outcome = bench.clients.run(bench.job(Mode.CLOSED, connections=plan.concurrency, for_s=GAUGE_S))
        bench.is_quiet()
        bench.most_per_s = outcome.completed / outcome.wall_s if outcome.wall_s else 0.0


def _rounds(plan: Plan, name: str, benches: Sequence[tuple[Row, Bench]], watch: Watch) -> None:
    """Measure ``load`` or ``light`` round by round; the first round warms up and is forgotten."""
    for row, bench in benches:
        rate = bench.rate(LIGHT_PER_S) if name == "light" else 0.0
        setattr(row, name, Series(rate=rate))
    for turn in range(-1, plan.rounds):
        at = turn % len(benches) if benches else 0
        for row, bench in [*benches[at:], *benches[:at]]:
            watch(f"{name} {turn + 1}/{plan.rounds} {row.design.name}" if turn >= 0 else f"warm up {row.design.name}")
            series: Series = getattr(row, name)
            for_s = plan.for_s if turn >= 0 else WARM_UP_S
            if name == "light":
                job = bench.job(Mode.OPEN, per_s=series.rate, for_s=for_s)
            else:
                job = bench.job(Mode.CLOSED, connections=plan.concurrency, for_s=for_s)
            one_round(bench, job, series if turn >= 0 else Series())
    if name == "load":
        for row, bench in benches:
            bench.most_per_s = min(row.load.per_s) if row.load and row.load.per_s else 0.0


def _once(plan: Plan, row: Row, bench: Bench, watch: Watch) -> None:
    """Do the scenarios that are done once on each design. What takes a worker away needs a second one."""
    several = len(bench.server.workers()) > 1
    for name in plan.scenarios:
        if name in ("load", "light"):
            continue
        watch(f"{name} {row.design.name}")
        if name == "burst":
            row.burst = burst(bench, plan.connections)
        elif name == "held":
            row.held = held(bench, plan.connections, plan.per_s)
        elif name == "blocked" and several and not plan.is_users:
            row.blocked = blocked(bench)
        elif name == "kill" and several:
            row.kill = strike(bench, 1, kill)
        elif name == "drain" and several:
            row.drain = strike(bench, 2 % len(bench.server.workers()), drain)
