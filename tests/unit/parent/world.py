"""A pool without a process: what happens to it is told, what it does about it is remembered."""

from __future__ import annotations

import signal

from hybrid.parent import core
from hybrid.parent import pool as p
from hybrid.parent.sizing import CpuFacts, MemoryFacts
from hybrid.shared.boot_report import Report

PLAN = p.Plan(workers=2, preload="auto", grace_s=30.0, boot_s=60.0, boot_attempts=3)
CPUS = CpuFacts(affinity=2, quota=None)
MEMORY = MemoryFacts(limit_bytes=8 << 30, mold_private_bytes=20 << 20, mold_resident_bytes=30 << 20)
IMPORTED = p.MoldImported(1, CPUS, MEMORY)
KILLED = p.Exit(signal=signal.SIGKILL)


class World:
    """A pool and a clock; remembers what was asked for since the last look."""

    def __init__(self, plan: p.Plan = PLAN) -> None:
        self.pool = p.Pool(plan)
        self.now = 100.0
        self.actions: list[p.Action] = []

    def happens(self, *events: p.Event) -> list[p.Action]:
        """Let events happen; return what the parent does about them."""
        self.actions = []
        for event in events:
            self.pool, actions = core.step(self.pool, event, self.now)
            self.actions += actions
        return self.actions

    def passes(self, seconds: float) -> list[p.Action]:
        """Let time pass."""
        self.now += seconds
        return self.happens(p.TimePassed())

    def boots(self) -> None:
        """Bring the pool to where every worker is ready."""
        self.happens(p.Started(), IMPORTED)
        for slot in self.pool.slots:
            self.comes_up(slot.index, 1000 + slot.ticket)

    def comes_up(self, slot: int, pid: int) -> list[p.Action]:
        """Let the worker that was asked for in ``slot`` be forked and become ready."""
        ticket = self.pool.slots[slot].ticket
        return self.happens(p.Forked(slot, ticket, pid), p.WorkerReady(slot, ticket))

    def dies(self, slot: int, exit: p.Exit = KILLED, report: Report | None = None) -> list[p.Action]:
        """Let the worker in ``slot`` be reaped."""
        return self.happens(p.WorkerExited(slot, self.pool.slots[slot].ticket, exit, report or Report()))

    def of(self, kind: type) -> list[p.Action]:
        """Return the actions of one kind that the last look saw."""
        return [action for action in self.actions if isinstance(action, kind)]
