"""The scoreboard: a row of numbers per worker slot in memory that every process maps.

A memfd of little-endian 8-byte cells. No locks and no pointers, so there is nothing to repair after a
SIGKILL; an aligned 8-byte store is one instruction, so a reader never sees half a number. Each 64-byte line
has one writer. The layout is versioned because a memfd outlives the program that made it (an upgrade execs
the parent in place).

::

    header   one page                    written by the parent; the lock at LOCK_OFFSET by whoever takes it
    row i    16 lines of 8 cells         lines 0, 5, 6: parent · the others: worker i

The hot path counts in plain ints and flushes them a few times a second; only line 2 is written at once: the
acceptors of the other workers compare themselves with ``ACTIVE``, the parent with ``RECEIVED``.

No count is lost with its worker: before the parent resets a row it adds what the worker counted to what was counted in
that slot before (:meth:`Scoreboard.retire`), so that the sum of both never goes back.

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
from hybrid.shared.scoreboard_cells import (
    BUCKETS,
    CELLS_PER_LINE,
    CELLS_PER_ROW,
    COUNT_MASK,
    COUNTERS,
    HEADER_BYTES,
    LOCK_BYTES,
    LOCK_OFFSET,
    MAGIC,
    MOST,
    NOT_ACCEPTING,
    PARENTS_LINES,
    RETIRED_AFTER,
    ROW_BYTES,
    UNKNOWN,
    VERSION,
    Cell,
    Header,
    counted,
)

__all__ = [
    "BUCKETS",
    "CELLS_PER_LINE",
    "CELLS_PER_ROW",
    "COUNTERS",
    "COUNT_MASK",
    "HEADER_BYTES",
    "LOCK_BYTES",
    "LOCK_OFFSET",
    "MAGIC",
    "MOST",
    "NOT_ACCEPTING",
    "PARENTS_LINES",
    "RETIRED_AFTER",
    "ROW_BYTES",
    "UNKNOWN",
    "VERSION",
    "Cell",
    "Header",
    "Row",
    "Scoreboard",
    "counted",
]

_SLOTS_USED = Header.SLOTS_USED  # hot: connections; see slots_used
_ZEROS = memoryview(array("Q", [0] * CELLS_PER_ROW))


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
        """Zero every cell but the count of spawns and what is retired; the slot accepts nothing, nothing is measured.

        Runs in: parent, when no worker writes here. What the worker counted is lost: see :meth:`Scoreboard.retire`.
        """
        spawns = self[Cell.SPAWNS]
        self.cells[: Cell.RETIRED] = _ZEROS[: Cell.RETIRED]
        self.cells[Cell.LATENCY_NS :] = _ZEROS[Cell.LATENCY_NS :]
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
        self._retiring = 0
        """The same of RETIRING."""

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
        row = self.retire(slot)
        self._used = max(self._used, slot + 1)
        self._cells[Header.SLOTS_USED] = self._used
        return row

    def retire(self, slot: int) -> Row:
        """Return the row of ``slot``, reset; what its worker counted is kept. Again: changes nothing.

        Runs in: parent, after a reap and before a spawn, when no worker writes here. A reader in between would see
        counts twice, or not at all: it sees by ``RETIRING`` that it has to read again.
        """
        header, row = self._cells, self.row(slot)
        self._retiring = self._retiring + 1 & COUNT_MASK
        header[Header.RETIRING] = self._retiring
        for cell in COUNTERS:
            row[cell + RETIRED_AFTER] = counted(row[cell + RETIRED_AFTER]) + counted(row[cell])
        for bucket in range(BUCKETS) if row[Cell.LATENCY_NS] else ():
            header[Header.RETIRED_LATENCIES + bucket] = counted(header[Header.RETIRED_LATENCIES + bucket]) + counted(
                row[Cell.LATENCIES + bucket]
            )
        header[Header.RETIRED_LATENCY_NS] = counted(header[Header.RETIRED_LATENCY_NS]) + counted(row[Cell.LATENCY_NS])
        row.reset()
        self._retiring += 1
        header[Header.RETIRING] = self._retiring
        return row

    @property
    def header(self) -> memoryview:
        """Return the cells of the header: a view, not a copy."""
        return self._cells[: HEADER_BYTES // 8]

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
