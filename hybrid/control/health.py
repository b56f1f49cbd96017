"""``/healthz`` and ``/readyz``: whether the server is alive, and whether it is to be sent anything.

Alive: the parent's loop turns. It is the one process that nobody restarts, so it is asked, and has to answer: a pid that
is there may belong to a process that is stopped. Ready: enough workers accept, and nobody has told the server to stop.

Source: Kubernetes, liveness and readiness probes.
"""

from __future__ import annotations

from typing import Protocol

from hybrid.shared.messages import Op
from hybrid.shared.notices import Answered, PoolState
from hybrid.shared.scoreboard import Scoreboard

ANSWER_WITHIN_S = 5.0
"""For the parent to answer. It never waits for a disk or a lock, so it is late only when the machine is."""
"""An answer is believed for so long, however often somebody asks."""
FRESH_S = 1.0


class PoolKnower(Protocol):
    """What is needed of control's state."""

    @property
    def scoreboard(self) -> Scoreboard: ...
    @property
    def pool(self) -> PoolState: ...
    async def ask(self, op: Op, slot: int = 0, a: int = 0, b: int = 0) -> Answered: ...


def least_ready(pool: PoolState) -> int:
    """Return how many workers must accept so that the server is ready: half of what is wanted, and one at least.

    Not all of them: one that is being replaced would take the machine out of the balancer, and its load with it.
    """
    return max(1, (min(pool.target, pool.least or pool.target) + 1) // 2)
