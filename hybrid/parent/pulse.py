"""The parent's part in the workers' health: it reads what :mod:`hybrid.parent.health` decides by, and obeys.

A look reads one number of each worker's row. Only for one that is late it asks the kernel, and only for one whose
stacks are wanted it sends anything. Stacks come in two steps (:mod:`hybrid.shared.stack_dump`): a thread of the worker
is asked for a report; if that has not come after half a second nobody can get the GIL, and faulthandler is asked. The
parent waits for neither: it looks again when it is time.

Source: proc(5), pidfd_send_signal(2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life
from hybrid.parent import health
from hybrid.parent.pool import Pool, Slot
from hybrid.parent.spawn import Child
from hybrid.shared import procfs, stack_dump
from hybrid.shared.log_line import LogWriter
from hybrid.shared.places import read_stacks, to_blame
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.settings import Settings

WATCHED = (Life.READY, Life.PARKED, Life.DRAINING)
"""Whose loop is to turn."""
PEEK_NS = health.SECOND // 20
"""Between looks whether an answer has come."""
GIL_NS = health.SECOND // 2
"""For a thread of the worker's to get the GIL, and report."""
SIGNAL_NS = health.SECOND // 5
"""For faulthandler to write what it knows."""
NO_STACKS = "stacks: not available, no code of the worker's answers"
NO_TASKS = "asyncio tasks: not available, the GIL is held"
"""What is said when no thread of the worker could get the GIL in time."""


MOST_THENS = 64
"""Who wait for the same stacks."""
GONE = "the worker was gone before it had told its stacks"

Then = Callable[[str, str], None]
"""Is told the place to blame, or nothing, and the stacks."""


class Premises(Protocol):
    """What a nurse needs of the :class:`~hybrid.parent.house.House`."""

    log: LogWriter
    scoreboard: Scoreboard
    settings: Settings
    """Those in force: a reload replaces them."""


class Step(Enum):
    """How far a dump has come."""

    REPORT = "report"
    """A thread of the worker was asked."""
    SIGNAL = "signal"
    """It did not answer; the signal was sent."""
    ALONE = "alone"
    """So many threads are there that the main one was not among those told; the signal for that one was sent."""


@dataclass(slots=True)
class _Dump:
    """Stacks that were asked for. ``message``: how their log line begins."""

    child: Child
    level: str
    message: str
    step: Step
    until_ns: int
    due_ns: int
    thens: list[Then]
    """Who wants them told, besides the log."""


class Nurse:
    """Takes the workers' pulses.

    Runs in: parent; nothing here waits. Closes: nothing.
    """

    def __init__(
        self,
        house: Premises,
        pool: Callable[[], Pool],
        workers: Mapping[int, Child],
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._house = house
        self._pool = pool
        self._workers = workers
        self._clock_ns = clock_ns
        self._rounds = health.Rounds(house.settings.health, clock_ns())
        self._dumps: dict[int, _Dump] = {}

    @property
    def deadline(self) -> float:
        """When :meth:`time_passed` is due. Monotonic seconds."""
        return min([self._rounds.due_ns, *(dump.due_ns for dump in self._dumps.values())]) / health.SECOND

    def time_passed(self) -> None:
        """Do what was due at :attr:`deadline`."""
        now_ns = self._clock_ns()
        for slot in tuple(self._dumps):
            self._follow_up(slot, now_ns)
        if now_ns >= self._rounds.due_ns:
            self._rounds.settings = self._house.settings.health
            for decision in self._rounds.look(now_ns, tuple(self._pulses(now_ns))):
                self._act(decision, now_ns)

    def dump(self, slot: int, message: str, level: str = "info", then: Then | None = None) -> bool:
        """Write the stacks of the worker in ``slot`` to the log, as soon as it has told them; it goes on as it was.

        Args: message: how the line begins, such as ``stacks, as asked, of worker 1 (pid 5)``. then: told them, too.
        Returns False: there is no worker.
        """
        child = self._workers.get(slot)
        if child is None or not child.pid:
            return False
        now_ns, before = self._clock_ns(), self._dumps.get(slot)
        if before is not None and before.child is child and then is not None:
            self._join(before, then)
            return True
        thens = [*(before.thens if before is not None else ()), *((then,) if then is not None else ())]
        self._dumps[slot] = _Dump(child, level, message, Step.REPORT, now_ns + GIL_NS, now_ns + PEEK_NS, thens)
        try:
            stack_dump.ask(child.dump_fd, child.wake_fd)
        except OSError:
            pass  # nobody reads the pipe, or it is full: the time passes, and the signal is next
        return True

    def _join(self, dump: _Dump, then: Then) -> None:
        """Let one more hear of stacks that were asked for already: who asks again and again delays nobody."""
        if len(dump.thens) < MOST_THENS:
            dump.thens.append(then)
        else:
            then("", "too many ask for the stacks of this worker. Try again later")

    # ── looking ──

    def _pulses(self, now_ns: int) -> Iterator[health.Pulse]:
        for slot in self._pool().slots:
            if slot.life in WATCHED and slot.pid and slot.index in self._workers:
                yield self._pulse(slot, now_ns)

    def _pulse(self, slot: Slot, now_ns: int) -> health.Pulse:
        heartbeat_ns = self._house.scoreboard.row(slot.index)[Cell.HEARTBEAT_NS]
        facts = None
        if self._rounds.wants_facts(slot.index, slot.ticket, heartbeat_ns, now_ns):
            facts = procfs.thread_state(slot.pid, slot.pid)  # the loop runs in the main thread
        return health.Pulse(slot.index, slot.ticket, slot.pid, heartbeat_ns, facts, slot.index in self._dumps)

    # ── doing ──

    def _act(self, decision: health.Decision, now_ns: int) -> None:
        if isinstance(decision, health.Say):
            self._house.log.write(decision.level, decision.message)
        elif isinstance(decision, health.Dump):
            self.dump(decision.slot, decision.message, "error")
        else:
            self._workers[decision.slot].kill(decision.number)

    def _follow_up(self, slot: int, now_ns: int) -> None:
        """See how far the dump of ``slot`` has come."""
        dump = self._dumps[slot]
        if self._workers.get(slot) is not dump.child:
            del self._dumps[slot]  # the worker is gone, and its descriptors are closed
            for then in dump.thens:
                then("", GONE)
        elif now_ns < dump.due_ns:
            pass
        elif dump.step is Step.REPORT:
            self._look_for_report(slot, dump, now_ns)
        else:
            self._take_stacks(slot, dump, now_ns)

    def _look_for_report(self, slot: int, dump: _Dump, now_ns: int) -> None:
        report = stack_dump.read_report(dump.child.dump_fd)
        if report is not None:
            place, _, detail = report.partition("\n")
            self._write(slot, place, detail)
        elif now_ns < dump.until_ns:
            dump.due_ns = min(now_ns + PEEK_NS, dump.until_ns)
        elif not self._signal(dump, Step.SIGNAL, stack_dump.SIGNAL, now_ns):
            self._write(slot, "", f"{NO_STACKS}\n{NO_TASKS}")

    def _take_stacks(self, slot: int, dump: _Dump, now_ns: int) -> None:
        places, stacks = read_stacks(stack_dump.read_stacks(dump.child.dump_fd))
        wanted = bool(stacks) and not places and dump.step is Step.SIGNAL
        if not (wanted and self._signal(dump, Step.ALONE, stack_dump.SIGNAL_ALONE, now_ns)):
            detail = stack_dump.cut(stacks) or NO_STACKS
            self._write(slot, str(to_blame(places) or ""), f"{detail}\n{NO_TASKS}")

    def _signal(self, dump: _Dump, step: Step, number: int, now_ns: int) -> bool:
        """Ask by a signal; False: it is not caught, and would end the worker."""
        if not procfs.catches(dump.child.pid, number):
            return False
        dump.child.kill(number)
        dump.step, dump.due_ns = step, now_ns + SIGNAL_NS
        return True

    def _write(self, slot: int, place: str, detail: str) -> None:
        dump = self._dumps.pop(slot)
        self._house.log.write(dump.level, dump.message + (f" at {place}" if place else ""), detail)
        for then in dump.thens:
            then(place, detail)
