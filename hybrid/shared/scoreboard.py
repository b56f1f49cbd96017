"""The scoreboard: a row of numbers per worker slot in memory that every process maps.

A memfd of little-endian 8-byte cells. No locks and no pointers, so there is nothing to repair after a
SIGKILL; an aligned 8-byte store is one instruction, so a reader never sees half a number. Each 64-byte line
has one writer. The layout is versioned because a memfd outlives the program that made it (an upgrade execs
the parent in place).

::

    header   one page                    written by the parent; the lock at LOCK_OFFSET by whoever takes it
    row i    8 lines of 8 cells          line 0: parent · lines 1-7: worker i

The hot path counts in plain ints and flushes them a few times a second; only line 2 is written at once: the
acceptors of the other workers compare themselves with ``ACTIVE``, the parent with ``RECEIVED``.

The locks of ``--accept locked`` live here, too, because every worker has this memory and nobody else has:
``locked=robust`` is a robust, process-shared pthread mutex in the ``LOCK_BYTES`` bytes at ``LOCK_OFFSET``;
``locked=fcntl`` is a POSIX record lock on byte 0 of the memfd itself.

Source: memfd_create(2), mmap(2); Apache httpd's scoreboard (no pointers, one row per slot).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from collections.abc import Iterator, Sequence

from hybrid.ground.errors import HybridError
from hybrid.ground.states import Cause, Readiness
from hybrid.shared.robust_mutex import RobustMutex

MAGIC = 0x31_44_52_42_59_48  # "HYBRD1"
VERSION = 2
HEADER_BYTES = 4096
CELLS_PER_LINE = 8
LINES_PER_ROW = 8
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
    REPLACED = 8
    """Workers ever replaced, a cell for each :class:`~hybrid.ground.states.Cause`; a line of its own."""


_SLOTS_USED = Header.SLOTS_USED  # hot: connections; see slots_used


class Cell:
    """Cells of a row, by index. The first line is the parent's, the others are the worker's."""

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
    LIMIT = 27
    """Connections at which the worker stops accepting."""
    PAUSES = 28
    """Times the worker left the accept queue to others: connection limit or descriptors short."""
    REQUESTS = 29
    """HTTP requests given to the application; 0 for other kinds of handlers."""
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


class Row:
    """One slot's cells, as a mutable sequence of ints."""

    __slots__ = ("cells", "slot")

    def __init__(self, slot: int, cells: memoryview) -> None:
        self.slot = slot
        self.cells = cells

    def __getitem__(self, cell: int) -> int:
        value: int = self.cells[cell]
        return value

    def __setitem__(self, cell: int, value: int) -> None:
        self.cells[cell] = value

    @property
    def active(self) -> int:
        """Open connections."""
        return self[Cell.ACTIVE] & COUNT_MASK

    def reset(self) -> None:
        """Zero every cell but the count of spawns; the slot accepts nothing, and nothing is measured.

        Runs in: parent, before a spawn and after a reap, when no worker writes here.
        """
        spawns = self[Cell.SPAWNS]
        for cell in range(CELLS_PER_ROW):
            self.cells[cell] = 0
        self[Cell.SPAWNS] = spawns
        self[Cell.ACTIVE] = NOT_ACCEPTING
        self.store_line(Cell.MEASURED_NS, [UNKNOWN] * CELLS_PER_LINE)

    def line(self, first: int) -> list[int]:
        """Return the line that begins with cell ``first``, in one copy."""
        values: list[int] = self.cells[first : first + CELLS_PER_LINE].tolist()
        return values

    def store_line(self, first: int, values: Sequence[int]) -> None:
        """Store the line that begins with cell ``first`` in one copy of 64 aligned bytes.

        Between two stores of ours the interpreter may turn to another thread, for as long as that likes: a reader
        would take the difference of figures from different moments.
        """
        self.cells[first : first + CELLS_PER_LINE] = memoryview(array("Q", values))


class Scoreboard:
    """The mapped memory and its rows.

    Runs in: parent (creates), mold and workers (inherit), hosts and control (attach by descriptor).
    Closes: the mapping and ``fd``, on :meth:`close`.
    """

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        self.fd = fd
        self._memory = memory
        self._cells = memoryview(memory).cast("Q")
        self.slots: int = min(self._cells[Header.SLOTS], (len(memory) - HEADER_BYTES) // ROW_BYTES)
        self._used = 0
        """What the maker knows of SLOTS_USED: a worker can write the cell, and must not mislead the parent."""

    @classmethod
    def create(cls, slots: int, now_ns: int) -> Scoreboard:
        """Make a scoreboard with ``slots`` vacant rows. Untouched rows cost no memory."""
        fd = os.memfd_create("hybrid-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, HEADER_BYTES + slots * ROW_BYTES)
        # A worker that shrinks it would end every process that maps it, the parent first, with SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        memory = mmap.mmap(fd, 0)
        cells = memoryview(memory).cast("Q")
        cells[Header.MAGIC] = MAGIC
        cells[Header.VERSION] = VERSION
        cells[Header.SLOTS] = slots
        cells[Header.PARENT_PID] = os.getpid()
        cells[Header.STARTED_NS] = now_ns
        cells.release()
        return cls(fd, memory)

    @classmethod
    def attach(cls, fd: int) -> Scoreboard:
        """Map the scoreboard behind ``fd``; the descriptor then belongs to the returned object.

        Raises: HybridError: the descriptor holds something else, or another version's layout.
        """
        try:
            memory = mmap.mmap(fd, 0)
        except (OSError, ValueError) as error:
            raise HybridError(f"cannot map descriptor {fd} as a scoreboard: {error}") from error
        if len(memory) < HEADER_BYTES:
            raise HybridError(f"descriptor {fd} is no scoreboard: {len(memory)} bytes")
        with memoryview(memory).cast("Q") as cells:
            magic, version = cells[Header.MAGIC], cells[Header.VERSION]
        if (magic, version) != (MAGIC, VERSION):
            memory.close()
            raise HybridError(
                f"descriptor {fd} is no scoreboard of this version: magic {magic:#x}, version {version}, "
                f"expected {MAGIC:#x}, {VERSION}. Use the hybrid that started the server."
            )
        return cls(fd, memory)

    def row(self, slot: int) -> Row:
        """Return the row of ``slot``: a view, not a copy."""
        first = HEADER_BYTES // 8 + slot * CELLS_PER_ROW
        return Row(slot, self._cells[first : first + CELLS_PER_ROW])

    def rows(self) -> Iterator[Row]:
        """Yield the rows that were ever used."""
        for slot in range(self.slots_used):
            yield self.row(slot)

    @property
    def parent_pid(self) -> int:
        """Return the process that made the scoreboard."""
        pid: int = self._cells[Header.PARENT_PID]
        return pid

    @property
    def started_ns(self) -> int:
        """Return when it did so. Monotonic clock."""
        started_ns: int = self._cells[Header.STARTED_NS]
        return started_ns

    @property
    def readiness(self) -> Readiness:
        """Whether the server is to be sent anything. Set by: parent."""
        value = self._cells[Header.READINESS]
        return Readiness(value) if value in set(Readiness) else Readiness.BOOTING

    @readiness.setter
    def readiness(self, value: Readiness) -> None:
        self._cells[Header.READINESS] = value

    @property
    def replaced(self) -> tuple[int, ...]:
        """Workers ever replaced, by :class:`~hybrid.ground.states.Cause`. Set by: parent."""
        return tuple(self._cells[Header.REPLACED : Header.REPLACED + len(Cause)])

    @replaced.setter
    def replaced(self, counts: Sequence[int]) -> None:
        for cause in Cause:
            self._cells[Header.REPLACED + cause] = counts[cause]

    @property
    def slots_used(self) -> int:
        """One more than the highest slot that ever held a worker."""
        used: int = self._cells[_SLOTS_USED]
        # hot: connections; with min() 500 of 111,685 instructions more
        return used if used < self.slots else self.slots

    def use_slot(self, slot: int) -> Row:
        """Mark ``slot`` as used and return its row, reset. Runs in: parent."""
        for gap in range(self._used, slot):  # never used, so their zeroed ACTIVE would look like room
            self.row(gap).reset()
        row = self.row(slot)
        row.reset()
        self._used = max(self._used, slot + 1)
        self._cells[Header.SLOTS_USED] = self._used
        return row

    def go_on(self, used: int) -> None:
        """Be the maker, in whose place this program is: ``used`` rows were ever used. Runs in: parent."""
        self._used = used

    def active_column(self) -> memoryview:
        """Return the ``ACTIVE`` cells of the used rows: what ``min()`` looks at when a worker accepts."""
        first = HEADER_BYTES // 8 + Cell.ACTIVE
        last = first + max(1, self.slots_used) * CELLS_PER_ROW
        return self._cells[first:last:CELLS_PER_ROW]

    def make_mutex(self) -> None:
        """Make the mutex of ``--accept locked=robust``, unlocked. Runs in: parent, before any worker.

        Raises: HybridError: this system has none of the kind.
        """
        try:
            self.mutex().initialise()
        except (OSError, AttributeError) as error:
            raise HybridError(
                f"cannot make a robust mutex for --accept locked=robust: {error}. Use --accept locked=fcntl."
            ) from error

    def mutex(self) -> RobustMutex:
        """Return a handle of the mutex of ``--accept locked=robust``."""
        return RobustMutex(memoryview(self._memory)[LOCK_OFFSET : LOCK_OFFSET + LOCK_BYTES])

    def close(self) -> None:
        """Unmap and close the descriptor. Rows and columns handed out must not be used afterwards."""
        try:
            self._cells.release()
            self._memory.close()
        except BufferError:
            pass  # a row is still held somewhere: the mapping goes with the process
        os.close(self.fd)
