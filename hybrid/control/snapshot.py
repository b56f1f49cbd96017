"""The one shape in which a running server is shown: ``status``, ``watch``, the status page and ``hybrid-ctl top``.

Plain dicts, lists, strings and numbers: it is made to become JSON. ``None`` is unknown, never zero.

::

    version, now (unix s)
    parent    pid, uptime_s
    pool      phase, readiness, stance, generation, target, least, most, standby, size_reason, app, kind, addresses,
              reload: stage, source, failure
    totals    workers, ready, connections, accepted_per_s, requests_per_s, errors_per_s, loop_use, run_queue, lag_s,
              memory_bytes, accept_queue, accept_queue_limit, accept_wait_s, balance, replaced: {cause: count}
    workers   a row for each that lives: see WorkerSample; without accept queues
    sizing    on, last: at, before, target, reason, inputs
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from hybrid import __version__
from hybrid.control.queues import accept_queue, own_queues
from hybrid.control.sampler import SECOND, Sampler, WorkerSample, is_ready
from hybrid.ground.clock import monotonic_ns, wall
from hybrid.shared.notices import Notice, PoolState, Resized
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.status import replacements

FEW = 5
"""Connections for each worker below which their balance is chance."""
WORKER_KEYS = (
    "slot",
    "seat",
    "pid",
    "life",
    "generation",
    "age_s",
    "connections",
    "limit",
    "accepted",
    "requests",
    "errors",
    "pauses",
    "accepted_per_s",
    "requests_per_s",
    "errors_per_s",
    "loop_use",
    "run_queue",
    "lag_s",
    "lag_max_s",
    "memory_bytes",
    "heartbeat_age_s",
)
"""What is shown of a worker."""


def worker_rows(samples: Iterable[WorkerSample]) -> list[dict[str, object]]:
    """Return the workers as rows of a snapshot, by seat; who replaces whom stands beside it."""
    ordered = sorted(samples, key=lambda each: (each.seat, each.generation, each.slot))
    return [{key: _short(getattr(each, key)) for key in WORKER_KEYS} for each in ordered]


def totals(samples: Sequence[WorkerSample], *, own_queues: bool = False) -> dict[str, object]:
    """Return the sums over ``samples``.

    Args: own_queues: each worker has an accept queue of its own (``--accept reuseport``); else all see the same.
    """
    ready = [each for each in samples if is_ready(each)]
    accepted_per_s = _sum(each.accepted_per_s for each in samples)
    queue, limit = accept_queue(samples, own_queues=own_queues)
    return {
        "workers": len(samples),
        "ready": len(ready),
        "connections": sum(each.connections for each in samples),
        "accepted_per_s": accepted_per_s,
        "requests_per_s": _sum(each.requests_per_s for each in samples),
        "errors_per_s": _sum(each.errors_per_s for each in samples),
        "loop_use": _mean(each.loop_use for each in ready),
        "run_queue": _mean(each.run_queue for each in ready),
        "lag_s": max((each.lag_s for each in ready if each.lag_s is not None), default=None),
        "memory_bytes": _sum(each.memory_bytes for each in samples),
        "accept_queue": queue,
        "accept_queue_limit": limit,
        "accept_wait_s": _wait_s(queue, accepted_per_s),
        "balance": balance([each.connections for each in ready]),
    }


def balance(counts: Sequence[int]) -> float | None:
    """Return how evenly connections are spread: 1 is even, 1/n all at one. None: too few to say.

    Jain's index, the square of the sum by n times the sum of squares.
    Source: Jain, Chiu, Hawe, A Quantitative Measure of Fairness, DEC-TR-301 (1984).
    """
    total = sum(counts)
    if len(counts) < 2 or total < FEW * len(counts):
        return None
    return total * total / (len(counts) * sum(each * each for each in counts))


def _wait_s(queue: int | None, accepted_per_s: float | None) -> float | None:
    """Return how long who comes now will wait, by Little's law: the queue by the rate at which it is served."""
    if queue == 0:
        return 0.0
    return queue / accepted_per_s if queue is not None and accepted_per_s else None


def _short(value: object) -> object:
    """Return a fraction with as many digits as anybody reads: a snapshot of many workers is half as long."""
    return round(value, 6) if isinstance(value, float) else value


def _sum(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


class StateView(Protocol):
    """What a snapshot needs of control's state."""

    @property
    def settings(self) -> Settings: ...
    @property
    def scoreboard(self) -> Scoreboard: ...
    @property
    def pool(self) -> PoolState: ...
    @property
    def history(self) -> Sequence[Notice]: ...


def snapshot(state: StateView, sampler: Sampler) -> dict[str, object]:
    """Return the server as it is now. Runs in: control. Raises: nothing."""
    samples = sampler.sample()
    pool, board = state.pool, state.scoreboard
    return {
        "version": pool.version or __version__,
        "now": wall(),
        "parent": {"pid": board.parent_pid, "uptime_s": max(0.0, (monotonic_ns() - board.started_ns) / SECOND)},
        "pool": {
            "phase": pool.phase,
            "readiness": board.readiness.name.lower(),
            "stance": pool.stance,
            "generation": pool.generation,
            "target": pool.target,
            "least": pool.least,
            "most": pool.most,
            "standby": pool.standby,
            "size_reason": pool.size_reason,
            "app": state.settings.app.target or pool.app,
            "kind": pool.kind,
            "addresses": list(pool.addresses),
            "reload": {
                "stage": pool.reload_stage,
                "source": pool.reload_source,
                "failure": pool.reload_failure,
            },
        },
        "totals": {**totals(samples, own_queues=own_queues(state.settings)), "replaced": replacements(board)},
        "workers": worker_rows(samples),
        "sizing": {"on": pool.most > pool.least, "last": last_resize(state.history)},
    }


def last_resize(history: Sequence[Notice]) -> dict[str, object] | None:
    """Return the last notice that the pool was resized, as a snapshot shows it; None: there was none."""
    for notice in reversed(history):
        if isinstance(notice, Resized):
            shown = {key: getattr(notice, key) for key in ("at", "before", "target", "reason")}
            return {**shown, "inputs": finite(notice.inputs)}
    return None


def finite(inputs: Mapping[str, float]) -> dict[str, float | None]:
    """Return the inputs of a decision with None for what JSON has no number for: infinite, or none at all."""
    return {name: value if math.isfinite(value) else None for name, value in inputs.items()}
