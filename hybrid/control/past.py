"""The last ten minutes of a few figures, so that a page that is opened shows at once what has been.

Kept only where the page is served: it is a look at the scoreboard every other second, whether anybody watches or not.
No file is read for it, and no worker notices.
"""

from __future__ import annotations

import asyncio
from collections import deque

from hybrid.control.queues import own_queues
from hybrid.control.sampler import Sampler
from hybrid.control.snapshot import StateView, totals
from hybrid.ground.clock import wall

EVERY_S = 2.0
SPAN_S = 600.0
FIGURES = (
    "ready",
    "connections",
    "accepted_per_s",
    "requests_per_s",
    "errors_per_s",
    "loop_use",
    "run_queue",
    "lag_s",
    "accept_queue",
)
"""What is kept of the totals of a snapshot."""
COLUMNS = ("now", "target", *FIGURES)


class Past:
    """Keeps the last points. Runs in: control, in its loop. Closes: its task, on :meth:`close`."""

    def __init__(self, state: StateView, sampler: Sampler) -> None:
        self._state = state
        self._sampler = sampler
        self._points: deque[tuple[object, ...]] = deque(maxlen=round(SPAN_S / EVERY_S))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep points."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="past")

    def close(self) -> None:
        """Keep no more. May be called twice."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def table(self) -> dict[str, object]:
        """Return the points, oldest first, as a table."""
        return {"columns": COLUMNS, "rows": list(self._points)}

    def look(self) -> None:
        """Keep one point more, of now."""
        samples = self._sampler.sample(with_memory=False)
        figures = totals(samples, own_queues=own_queues(self._state.settings))
        self._points.append((round(wall(), 3), self._state.pool.target, *(figures[name] for name in FIGURES)))

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)
