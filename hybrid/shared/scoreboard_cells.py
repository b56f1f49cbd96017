"""Where what stands in the scoreboard: its layout, which every process of a pool knows by heart.

The memory itself is :mod:`hybrid.shared.scoreboard`, from which everybody takes these names, too. Who changes a cell
changes VERSION, and docs/reference/scoreboard.md.
"""

from __future__ import annotations

MAGIC = 0x31_44_52_42_59_48  # "HYBRD1"
VERSION = 3
HEADER_BYTES = 4096
CELLS_PER_LINE = 8
LINES_PER_ROW = 16
CELLS_PER_ROW = CELLS_PER_LINE * LINES_PER_ROW
ROW_BYTES = CELLS_PER_ROW * 8
LOCK_OFFSET = 1024
"""Where in the header the mutex of ``--accept locked=robust`` lies: on a line of its own."""
LOCK_BYTES = 64
"""What is reserved for it; a pthread_mutex_t takes 40 on x86-64, 48 on aarch64."""

NOT_ACCEPTING = 1 << 62
"""Bit of the ``ACTIVE`` cell: this slot takes no connections (vacant, parked, draining, dead).

It makes the cell larger than any count, so that nobody waits for such a slot to take the next connection.
"""
COUNT_MASK = NOT_ACCEPTING - 1

UNKNOWN = (1 << 64) - 1
"""In a cell of line 4: nobody has measured this, or the system does not tell. Zero would be a figure."""

MOST = 1 << 62
"""Larger than any true count or clock: a cell with more holds UNKNOWN, or garbage that somebody's code has written."""


class Header:
    """Cells of the header, by index."""

    MAGIC = 0
    VERSION = 1
    SLOTS = 2
    """Rows that exist."""
    SLOTS_USED = 3
    """Rows ever used: one more than the highest slot. Readers need look no further."""
    PARENT_PID = 4
    STARTED_NS = 5
    """Monotonic clock when the parent made the scoreboard."""
    READINESS = 6
    """Whether the server is to be sent anything: :class:`~hybrid.ground.states.Readiness`."""
    RETIRING = 7
    """Changes with every :meth:`Scoreboard.retire`, and is odd while the parent is at it."""
    REPLACED = 8
    """Workers ever replaced, a cell for each :class:`~hybrid.ground.states.Cause`; a line of its own."""
    RETIRED_LATENCIES = 256
    """The histogram of the workers that are gone: as many cells as :attr:`Cell.LATENCIES` has."""
    RETIRED_LATENCY_NS = 320
    """The sum that belongs to it."""


class Cell:
    """Cells of a row, by index. Lines 0, 5 and 6 are the parent's, the others are the worker's."""

    # line 0: parent
    LIFE = 0
    PID = 1
    GENERATION = 2
    SPAWNED_NS = 3
    SPAWNS = 4
    """Workers ever started in this slot."""
    SEAT = 5
    """Which of the pool's workers this is, 0 to n-1; whoever replaces it in another slot has the same."""
    # line 1: worker, from its loop
    HEARTBEAT_NS = 8
    """Monotonic clock when the loop last turned (never written by a helper thread). 0: not yet, or no more."""
    READY_NS = 9
    LIMIT = 10
    """Connections at which the worker stops accepting."""
    THREADS = 11
    """Threads that blocking code has; 0: none, the handler runs in the loop. What a worker has of them, and what it has
    open or in flight, says whether it is full: its loop does not."""
    # line 2: worker, at once on every connection
    ACTIVE = 16
    """Open connections, with NOT_ACCEPTING or-ed in."""
    RECEIVED = 17
    """``--accept passing``: connections ever taken off the worker's pass channel."""
    # line 3: worker, flushed
    ACCEPTED = 24
    CLOSED = 25
    HANDLER_ERRORS = 26
    """Connections lost to an exception in the handler."""
    CLIENT_ERRORS = 27
    """HTTP responses of 400 to 499."""
    PAUSES = 28
    """Times the worker left the accept queue to others: connection limit or descriptors short."""
    REQUESTS = 29
    """HTTP requests given to the application; 0 for other kinds of handlers."""
    IN_FLIGHT = 30
    """Of those, the ones whose application has not returned."""
    SERVER_ERRORS = 31
    """HTTP responses of 500 and above."""
    # line 4: worker, flushed in one copy, so that its figures belong to the same instant; UNKNOWN where not known
    MEASURED_NS = 32
    """Monotonic clock when this line was written."""
    LOOP_BUSY_NS = 33
    """How long the loop had something to do, since the worker was born; the rest of the time it waited."""
    ON_CPU_NS = 34
    """How long the loop's thread ran."""
    RUN_QUEUE_NS = 35
    """How long the loop's thread was ready to run and had no CPU."""
    LAG_NS = 36
    """How late the loop's ticks came, added up."""
    LAG_MAX_NS = 37
    """How late the latest tick of the last 10 to 20 s came."""
    ACCEPT_QUEUE = 38
    """Connections that wait in the listeners' queues, as this worker saw it."""
    ACCEPT_QUEUE_LIMIT = 39
    # lines 5 and 6: parent; what lines 3 and 4 counted for the workers that this slot had before
    RETIRED = 40
    """Of the counter in cell *n* of lines 3 and 4: cell *n* + 16."""
    # line 7: worker, flushed; only with --metrics-bind
    LATENCY_NS = 56
    """How long requests took that were answered: from the end of the head to the end of the answer. All together."""
    # lines 8 to 15: worker, flushed; only with --metrics-bind
    LATENCIES = 64
    """How many took so long: in cell 64 + *k* those of less than 2**k ns that are in no cell before it."""


COUNTERS = (
    Cell.ACCEPTED,
    Cell.CLOSED,
    Cell.HANDLER_ERRORS,
    Cell.CLIENT_ERRORS,
    Cell.PAUSES,
    Cell.REQUESTS,
    Cell.SERVER_ERRORS,
    Cell.LOOP_BUSY_NS,
    Cell.ON_CPU_NS,
    Cell.RUN_QUEUE_NS,
    Cell.LAG_NS,
)
"""Cells of lines 3 and 4 that only grow while a worker lives."""
RETIRED_AFTER = Cell.RETIRED - Cell.ACCEPTED
"""From such a cell to the one with what was counted before."""
PARENTS_LINES = (0, 5, 6)
"""Lines of a row that the parent writes; the others are the worker's."""
BUCKETS = 64
"""Cells of the histogram: any time that fits into a cell has its place."""


def counted(value: int) -> int:
    """Return what a cell counts: nothing, if it is unknown or garbage."""
    return value if value < MOST else 0
