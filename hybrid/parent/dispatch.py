"""Who gets the next connection, with ``--accept passing``: the rules, without a descriptor and without a clock.

* The worker with the least load gets it; of equals, the one whose last turn is longest ago. (Without a turn, worker 0
  got 749 of 750 connections that came one at a time.)
* A worker's load is what it holds, and what is on its way to it: ``ACTIVE + sent - RECEIVED``. Both cells are the
  worker's, which may write anything: a number that cannot be is corrected, not believed.
* A worker that has not moved for ``STALL_S`` while something is on its way to it is *stuck*: its loop is blocked, or it
  was stopped. What it has not taken goes to a worker that is not stuck. It is itself again when its loop turns or it
  takes something.
* When all who take are stuck, they go on being given connections: one of them will be the first to move, and gets
  what lies with the others. Nothing goes from one stuck worker to another.

Source: W. R. Stevens, UNIX Network Programming, vol. 1, ch. 30, "TCP Preforked Server, Descriptor Passing".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from heapq import heapify, heapreplace

from hybrid.shared.machine import advance
from hybrid.shared.scoreboard import Cell

STALL_S = 0.05
"""Without a move for so long, while something is on its way: stuck."""


class Stage(IntEnum):
    """What a worker does with connections, as the parent knows it."""

    AWAY = 0
    """It has not said that it takes any, or that it takes none any more."""
    TAKING = 1
    """It is given connections."""
    FULL = 2
    """Its channel holds no more."""
    STUCK = 3
    """It does not move. It is given connections only if all others are stuck, too."""
    CLOGGED = 4
    """Stuck, and its channel holds no more."""


class Sign(IntEnum):
    """What moves a worker from one :class:`Stage` to the next."""

    TAKES = 0
    """It says so."""
    TAKES_NONE = 1
    """It says so."""
    REFUSED = 2
    """Its channel took no more."""
    ROOM = 3
    """Its channel has room again."""
    STALLED = 4
    """It has not moved for a while."""
    MOVED = 5
    """Its loop turned, or it took something."""


STAGES: dict[tuple[Stage, Sign], Stage] = {
    (Stage.AWAY, Sign.TAKES): Stage.TAKING,
    (Stage.AWAY, Sign.TAKES_NONE): Stage.AWAY,
    (Stage.TAKING, Sign.TAKES): Stage.TAKING,
    (Stage.TAKING, Sign.TAKES_NONE): Stage.AWAY,
    (Stage.TAKING, Sign.REFUSED): Stage.FULL,
    (Stage.TAKING, Sign.STALLED): Stage.STUCK,
    (Stage.FULL, Sign.TAKES): Stage.FULL,
    (Stage.FULL, Sign.TAKES_NONE): Stage.AWAY,
    (Stage.FULL, Sign.ROOM): Stage.TAKING,
    (Stage.FULL, Sign.STALLED): Stage.CLOGGED,
    (Stage.STUCK, Sign.TAKES): Stage.TAKING,  # who speaks moves
    (Stage.STUCK, Sign.TAKES_NONE): Stage.AWAY,
    (Stage.STUCK, Sign.REFUSED): Stage.CLOGGED,
    (Stage.STUCK, Sign.MOVED): Stage.TAKING,
    (Stage.CLOGGED, Sign.TAKES): Stage.FULL,
    (Stage.CLOGGED, Sign.TAKES_NONE): Stage.AWAY,
    (Stage.CLOGGED, Sign.ROOM): Stage.STUCK,
    (Stage.CLOGGED, Sign.MOVED): Stage.FULL,
}
GIVEN = (Stage.TAKING, Stage.STUCK)
"""Who can be given a connection."""
BRIMFUL = (Stage.FULL, Stage.CLOGGED)
"""Whose channel is waited for."""
IMMOBILE = (Stage.STUCK, Stage.CLOGGED)


@dataclass(slots=True)
class Taker:
    """A worker, as far as connections are passed to it."""

    cells: Sequence[int]
    """Its row of the scoreboard."""
    stage: Stage = Stage.AWAY
    sent: int = 0
    """Connections sent to it, less those that were taken back."""
    received: int = 0
    """Of those, what it had taken when it was last looked at."""
    since: float = 0.0
    """When it last moved, or when something was sent to it that had nothing on its way. Monotonic seconds."""
    heartbeat_ns: int = 0
    """Its heartbeat, when it got stuck."""
    turn: int = 0
    """When it was last chosen; counts choices."""


class Line:
    """The workers that can be given a connection, whoever is next first. Good for one handful: loads change."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._heap = [
            # ACTIVE as it is: a worker that takes none has a bit set in it that makes it larger than any load.
            (taker.stage, taker.cells[Cell.ACTIVE] + taker.sent - taker.received, taker.turn, slot)
            for slot, taker in dispatch.takers.items()
            if taker.stage in GIVEN
        ]
        heapify(self._heap)

    def share(self, connections: list[int]) -> dict[int, list[int]]:
        """Return which of ``connections`` each worker gets, by slot; nothing if nobody is left in the line."""
        heap, dispatch = self._heap, self._dispatch
        shares: dict[int, list[int]] = {}
        if heap:
            for connection in connections:
                stage, load, _turn, slot = heap[0]
                dispatch.turn += 1
                dispatch.takers[slot].turn = dispatch.turn
                heapreplace(heap, (stage, load + 1, dispatch.turn, slot))
                shares.setdefault(slot, []).append(connection)
        return shares

    def leave_out(self, slot: int) -> None:
        """Give the worker in ``slot`` nothing of this handful."""
        self._heap = [each for each in self._heap if each[3] != slot]
        heapify(self._heap)


class Dispatch:
    """All workers, and what is on its way to them. Whoever moves the descriptors tells it what he did."""

    def __init__(self) -> None:
        self.takers: dict[int, Taker] = {}
        self.turn = 0
        self.deadline: float | None = None
        """When :meth:`look` is due: somebody may be stuck by then, or no longer. Monotonic seconds."""
        self.changed = False
        """Somebody's stage is not what it was when this was last set to False."""

    # ── who is there ──

    def join(self, slot: int, cells: Sequence[int]) -> None:
        """Reckon with a new worker in ``slot``, which takes nothing until it says so."""
        received = cells[Cell.RECEIVED]
        self.takers[slot] = Taker(cells, sent=received, received=received)

    def leave(self, slot: int) -> None:
        """Forget the worker in ``slot``."""
        del self.takers[slot]
        self.changed = True

    def note(self, slot: int, sign: Sign) -> None:
        """Advance the worker's stage."""
        taker = self.takers[slot]
        before, taker.stage = taker.stage, advance(STAGES, taker.stage, sign)
        self.changed |= taker.stage is not before

    @property
    def open(self) -> bool:
        """Whether anybody can be given a connection."""
        return any(taker.stage in GIVEN for taker in self.takers.values())

    # ── what is on its way ──

    @property
    def untaken(self) -> int:
        """How many connections were sent to workers that have not taken them yet."""
        return sum(max(0, taker.sent - taker.cells[Cell.RECEIVED]) for taker in self.takers.values())

    def messages(self, slot: int, share: list[int]) -> list[list[int]]:
        """Return ``share`` as what goes into one message each.

        A worker takes a message whole. So one that could reach its limit by them, or has not told it yet, is sent
        them one by one: it stops reading when it is full, and what is left can be taken back.
        """
        taker = self.takers[slot]
        room = taker.cells[Cell.LIMIT] - taker.cells[Cell.ACTIVE] - (taker.sent - taker.received)
        return [share] if len(share) <= room else [[each] for each in share]

    def sent(self, slot: int, count: int, now: float) -> None:
        """Take note that the worker was sent ``count`` connections."""
        taker = self.takers[slot]
        if taker.sent == taker.received:
            taker.since = now
        taker.sent += count
        due = now + STALL_S
        if self.deadline is None or due < self.deadline:
            self.deadline = due

    def taken_back(self, slot: int, count: int) -> None:
        """Take note that ``count`` connections that it had not taken are ours again."""
        taker = self.takers[slot]
        taker.sent = max(taker.received, taker.sent - count)

    def emptied(self, slot: int) -> None:
        """Take note that nothing is on its way to it, whatever the numbers say."""
        taker = self.takers[slot]
        taker.sent = taker.received

    def look(self, now: float) -> None:
        """See who moved and who did not, and when to look again."""
        self.deadline = None
        for slot, taker in self.takers.items():
            received = taker.cells[Cell.RECEIVED]
            moved = received != taker.received
            if moved:
                taker.received, taker.since = received, now
                taker.sent = max(taker.sent, received)
            if taker.stage in IMMOBILE:
                if moved or taker.cells[Cell.HEARTBEAT_NS] != taker.heartbeat_ns:
                    taker.since = now
                    self.note(slot, Sign.MOVED)
            elif taker.stage is not Stage.AWAY and taker.sent > received and now >= taker.since + STALL_S:
                taker.heartbeat_ns = taker.cells[Cell.HEARTBEAT_NS]
                self.note(slot, Sign.STALLED)
            if taker.stage is not Stage.AWAY and taker.sent > received:
                due = (now if taker.stage in IMMOBILE else taker.since) + STALL_S
                if self.deadline is None or due < self.deadline:
                    self.deadline = due

    def line(self) -> Line:
        """Return who is next, by what the last look saw and what was sent since."""
        return Line(self)

    def source(self) -> int | None:
        """Return the slot of a worker whose channel is to be emptied, for others; None: nobody's."""
        stages = [taker.stage for taker in self.takers.values()]
        taken_from = [Stage.AWAY, *(IMMOBILE if Stage.TAKING in stages else ())]
        for slot, taker in self.takers.items():
            if taker.sent > taker.received and taker.stage in taken_from:
                return slot
        return None
