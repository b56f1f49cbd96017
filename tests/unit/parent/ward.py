"""Workers that are well, and otherwise, on a clock of their own: what :mod:`hybrid.parent.health` sees of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hybrid.parent import health
from hybrid.parent.health import SECOND, Rounds
from hybrid.shared.health_settings import HealthSettings
from hybrid.shared.procfs import ThreadState

BEAT_NS = SECOND // 4


class Does(Enum):
    """What a loop's thread does: its letter, and which part of the time it runs and waits for a CPU."""

    TURNS = ("S", 0.01, 0.0)
    SLEEPS = ("S", 0.0, 0.0)
    COMPUTES = ("R", 1.0, 0.0)
    SHARES = ("R", 0.25, 0.75)
    """It computes, and so do three others on its CPU."""
    STARVES = ("R", 0.02, 0.98)
    UNCOUNTED = ("R", 0.0, 0.0)
    """Runnable, and on no run queue that the kernel counts."""
    STOPPED = ("T", 0.0, 0.0)
    TRACED = ("t", 0.0, 0.0)
    DISK = ("D", 0.0, 0.0)


@dataclass
class Patient:
    """One worker."""

    slot: int
    ticket: int = 1
    pid: int = 100
    does: Does = Does.TURNS
    heartbeat_ns: int = 0
    on_cpu_ns: int = 0
    waiting_ns: int = 0
    dumping: bool = False
    has_facts: bool = True

    def live(self, now_ns: int, for_ns: int) -> None:
        """Do for a while what it does."""
        _letter, runs, waits = self.does.value
        self.on_cpu_ns += int(runs * for_ns)
        self.waiting_ns += int(waits * for_ns)
        if self.does is Does.TURNS:
            self.heartbeat_ns = now_ns - now_ns % BEAT_NS

    def facts(self) -> ThreadState | None:
        return ThreadState(self.does.value[0], self.on_cpu_ns, self.waiting_ns) if self.has_facts else None


class Ward:
    """Some patients, and the rounds among them. ``notes``: what was decided, and when, in seconds from the start."""

    def __init__(self, *, dump_s: float = 5.0, kill_s: float = 30.0, count: int = 1) -> None:
        self.start_ns = self.now_ns = 1000 * SECOND
        self.rounds = Rounds(HealthSettings(dump_s, kill_s), self.now_ns)
        self.patients = {slot: Patient(slot, pid=100 + slot) for slot in range(count)}
        self.notes: list[tuple[float, health.Decision]] = []
        self.asked_for_facts = 0
        self.passes(1.0)

    def passes(self, for_s: float) -> Ward:
        """Let time pass, and look whenever it is time."""
        end_ns = self.now_ns + round(for_s * SECOND)
        while self.rounds.due_ns <= end_ns:
            self._live(max(self.rounds.due_ns, self.now_ns))
            self.look()
        self._live(end_ns)
        return self

    def freezes(self, for_s: float) -> None:
        """Let time pass in which nobody does anything: neither a worker nor the parent."""
        self.now_ns += round(for_s * SECOND)

    def sleeps(self, for_s: float) -> None:
        """Let time pass in which the parent does nothing, and the workers go on."""
        self._live(self.now_ns + round(for_s * SECOND))

    def look(self) -> None:
        """Look at everybody, now."""
        pulses = []
        for each in self.patients.values():
            wanted = self.rounds.wants_facts(each.slot, each.ticket, each.heartbeat_ns, self.now_ns)
            self.asked_for_facts += wanted
            facts = each.facts() if wanted else None
            pulses.append(health.Pulse(each.slot, each.ticket, each.pid, each.heartbeat_ns, facts, each.dumping))
        for decision in self.rounds.look(self.now_ns, pulses):
            self.notes.append(((self.now_ns - self.start_ns) / SECOND, decision))

    def _live(self, until_ns: int) -> None:
        for each in self.patients.values():
            each.live(until_ns, until_ns - self.now_ns)
        self.now_ns = until_ns

    # ── what was decided ──

    @property
    def lines(self) -> list[str]:
        """What was said."""
        return [note.message for _at, note in self.notes if isinstance(note, health.Say)]

    @property
    def dumps(self) -> list[float]:
        """When stacks were asked for."""
        return [at for at, note in self.notes if isinstance(note, health.Dump)]

    @property
    def signals(self) -> list[tuple[float, int, int]]:
        """When which slot was sent what."""
        return [(at, note.slot, note.number) for at, note in self.notes if isinstance(note, health.Send)]
