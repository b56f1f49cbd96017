"""The accept queues, as the workers have seen them: one that all share, or one for each (``--accept reuseport``)."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.control.sampler import SECOND, WorkerSample
from hybrid.shared.settings import Settings

FRESH_NS = 5 * SECOND
"""How old a worker's look at the accept queue may be, next to the youngest, to be added to it."""


def own_queues(settings: Settings) -> bool:
    """Return whether each worker has an accept queue of its own."""
    return settings.bind.accept == "reuseport"


def accept_queue(samples: Sequence[WorkerSample], *, own_queues: bool) -> tuple[int | None, int | None]:
    """Return how many wait to be accepted and how many may, as seen last; None: nobody has looked.

    Args: own_queues: each worker has a queue of its own, and they are added up; else all see the same.
    """
    seen = [each for each in samples if each.measured_ns is not None and each.accept_queue is not None]
    if not seen:
        return None, None
    last = max(seen, key=lambda each: each.measured_ns or 0)
    if not own_queues:
        return last.accept_queue, last.accept_queue_limit
    fresh = [each for each in seen if (last.measured_ns or 0) - (each.measured_ns or 0) <= FRESH_NS]
    return sum(each.accept_queue or 0 for each in fresh), sum(each.accept_queue_limit or 0 for each in fresh)
