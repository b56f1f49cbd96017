"""A pool without a process: what happens to it is told, what it does about it is remembered."""

from __future__ import annotations

import signal
from dataclasses import replace

from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import core
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.auto_size import CpuFacts, MemoryFacts
from hybrid.shared.boot_report import Report

PLAN = p.Plan(workers=2, preload="auto", grace_s=30.0, boot_s=60.0, boot_attempts=3)
CPUS = CpuFacts(affinity=2, quota=None)
MEMORY = MemoryFacts(limit_bytes=8 << 30, mold_private_bytes=20 << 20, mold_resident_bytes=30 << 20)
IMPORTED = ev.MoldImported(1, CPUS, MEMORY)
KILLED = ev.Exit(signal=signal.SIGKILL)


class World:
    """A pool and a clock; remembers what was asked for since the last look."""

    def __init__(self, plan: p.Plan = PLAN) -> None:
        self.pool = p.Pool(plan)
        self.now = 100.0
        self.actions: list[act.Action] = []

    def happens(self, *events: ev.Event) -> list[act.Action]:
        """Let events happen; return what the parent does about them."""
        self.actions = []
        for event in events:
            self.pool, actions = core.step(self.pool, event, self.now)
            self.actions += actions
        return self.actions

    def passes(self, seconds: float) -> list[act.Action]:
        """Let time pass."""
        self.now += seconds
        return self.happens(ev.TimePassed())

    def boots(self) -> None:
        """Bring the pool to where every worker is ready."""
        self.happens(ev.Started(), IMPORTED)
        for slot in self.pool.slots:
            self.comes_up(slot.index, 1000 + slot.ticket)

    def comes_up(self, slot: int, pid: int) -> list[act.Action]:
        """Let the worker that was asked for in ``slot`` be forked and become ready."""
        ticket = self.pool.slots[slot].ticket
        return self.happens(ev.Forked(slot, ticket, pid), ev.WorkerReady(slot, ticket))

    def dies(self, slot: int, exit: ev.Exit = KILLED, report: Report | None = None) -> list[act.Action]:
        """Let the worker in ``slot`` be reaped."""
        return self.happens(ev.WorkerExited(slot, self.pool.slots[slot].ticket, exit, report or Report()))

    def of(self, kind: type) -> list[act.Action]:
        """Return the actions of one kind that the last look saw."""
        return [action for action in self.actions if isinstance(action, kind)]

    def log(self) -> str:
        """Return the lines that the last look saw."""
        return "\n".join(action.message for action in self.actions if isinstance(action, act.Write))

    # ── a reload ──

    def asks(self, source: str = "SIGHUP") -> list[act.Action]:
        """Ask for a reload."""
        return self.happens(ev.Asked(ev.Intent.RELOAD, source))

    def resolves(self, plan: p.Plan | None = None) -> list[act.Action]:
        """Let the new settings be there."""
        return self.happens(ev.Resolved(self.pool.reload.generation, plan or self.pool.plan))

    def imports(self) -> list[act.Action]:
        """Let the new mold have imported the app."""
        return self.happens(replace(IMPORTED, generation=self.pool.reload.generation))

    def starting(self) -> list[int]:
        """Return the slots whose workers boot."""
        return [slot.index for slot in self.pool.slots if slot.life is Life.STARTING]

    def lives(self) -> list[tuple[int, str]]:
        """Return each slot that has a worker: its generation, and where its worker is in its life."""
        return [(slot.generation, slot.life.name) for slot in self.pool.slots if slot.life is not Life.VACANT]
