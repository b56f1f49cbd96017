"""What a worker tells about its own load, four times a second: is it the right number of workers?

It reads the meters in the loop, where their figures are true, and stores them in its row. Whoever reads the row takes
differences, with a period of his own: ``hybrid.shared.status``.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence

from hybrid.ground.clock import monotonic_ns
from hybrid.meters.accept_queue import AcceptQueues
from hybrid.meters.lag import Lag
from hybrid.meters.loop_use import IdleClock
from hybrid.meters.run_queue import RunQueue
from hybrid.meters.unix_diag import Queue
from hybrid.shared.scoreboard import UNKNOWN, Cell, Row

_log = logging.getLogger("hybrid.error")

QUEUE_SHARE = 200
"""Looking at the accept queues takes at most one part in so many of the time. The kernel goes through all unix
sockets to find one: 30 µs when there are few, 0.4 ms when there are ten thousand (Linux 6.18)."""


class Meter:
    """The meters of one worker, and the line of its row that they are stored in.

    Runs in: worker, in its loop's thread. Closes: what it opened, on :meth:`close`. Nothing raises: a worker that
    cannot be measured serves all the same.
    """

    def __init__(
        self,
        row: Row,
        idle: IdleClock | None,
        listeners: Sequence[socket.socket],
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._row = row
        self._idle = idle
        self._clock_ns = clock_ns
        self._lag = Lag()
        self._run_queue = RunQueue(os.getpid(), threading.get_native_id())
        self._queues = AcceptQueues(listeners)
        self._queue: Queue | None = None
        self._queue_due_ns = 0
        self._began_ns = clock_ns()
        self._began_idle_ns = idle.idle_ns() if idle is not None else None
        if idle is None and row[Cell.SEAT] == 0:  # the same in all of them: one says it
            _log.info("loop use is unknown: this uvloop hides uv_metrics_idle_time; --loop asyncio is measured")

    def expect(self, in_s: float) -> None:
        """Note that the next tick is due in ``in_s`` seconds; called right after its timer was set."""
        self._lag.expect(self._clock_ns() + round(in_s * 1e9))

    def tick(self) -> None:
        """Read the meters and store what they say; called first thing when the tick comes."""
        now_ns = self._clock_ns()
        self._lag.tick(now_ns)
        time = self._run_queue.read()
        queue = self._accept_queue(now_ns)
        self._row.store_line(
            Cell.MEASURED_NS,
            (
                now_ns,
                self._busy_ns(now_ns),
                time.on_cpu_ns if time else UNKNOWN,
                time.waiting_ns if time else UNKNOWN,
                self._lag.total_ns,
                self._lag.max_ns,
                queue.length if queue else UNKNOWN,
                queue.limit if queue else UNKNOWN,
            ),
        )

    def close(self) -> None:
        """Close what was opened to read; the row keeps the last figures. May be called twice."""
        self._run_queue.close()
        self._queues.close()

    def _busy_ns(self, now_ns: int) -> int:
        idle_ns = self._idle.idle_ns() if self._idle is not None else None
        if idle_ns is None or self._began_idle_ns is None:
            return UNKNOWN
        busy_ns = (now_ns - self._began_ns) - (idle_ns - self._began_idle_ns)
        return busy_ns if busy_ns >= 0 else UNKNOWN  # it cannot have waited longer than it lived

    def _accept_queue(self, now_ns: int) -> Queue | None:
        if now_ns >= self._queue_due_ns:
            self._queue = self._queues.read()
            self._queue_due_ns = now_ns + QUEUE_SHARE * (self._clock_ns() - now_ns)
        return self._queue
