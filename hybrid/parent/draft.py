"""One step of the core in the making: the pool so far, the actions so far, and what follows from any event."""

from __future__ import annotations

from dataclasses import replace

from hybrid.ground.states import LIFE, Life, LifeEvent
from hybrid.parent import actions as act
from hybrid.parent import pool as p
from hybrid.shared.machine import advance

LIVING = (Life.STARTING, Life.READY, Life.PARKED, Life.DRAINING, Life.KILLING)
"""Lives with a process behind them, or one that is being forked."""
FORKS_AT_ONCE = 32
"""Requests to the mold that are not answered yet: its channel holds about 280, and it forks one after another."""


class Draft:
    """One step in the making: the pool so far, and the actions so far."""

    __slots__ = ("actions", "now", "pool")

    def __init__(self, pool: p.Pool, now: float) -> None:
        self.pool = pool
        self.now = now
        self.actions: list[act.Action] = []

    # ── edits ──

    def put(self, slot: p.Slot) -> p.Slot:
        """Let ``slot`` take its place; return it."""
        slots = self.pool.slots
        self.pool = replace(self.pool, slots=(*slots[: slot.index], slot, *slots[slot.index + 1 :]))
        return slot

    def move(self, slot: p.Slot, event: LifeEvent, deadline: float | None = None) -> p.Slot:
        """Advance the slot's life; a new life starts its own clock and deadline."""
        life = advance(LIFE, slot.life, event)
        since = slot.since if life is slot.life else self.now
        return self.put(replace(slot, life=life, since=since, deadline=deadline))

    def do(self, action: act.Action) -> None:
        """Note what is to be done, after what was noted before."""
        self.actions.append(action)

    def write(self, level: str, message: str, detail: str = "") -> None:
        """Note a log line."""
        self.do(act.Write(level, message, detail))

    def mold(self, life: p.MoldLife, deadline: float | None, **changes: object) -> None:
        """Change the mold; a new life starts its own clock."""
        if life is not self.pool.mold.life:
            changes["since"] = self.now
        self.pool = replace(
            self.pool,
            mold=replace(self.pool.mold, life=life, deadline=deadline, **changes),  # type: ignore[arg-type]  # fields of Mold
        )

    # ── what follows from any event ──

    def settle(self) -> None:
        """Start what is wanted and missing; announce; leave when nothing is left."""
        if self.pool.phase < p.Phase.STOPPING:
            self._start_what_is_missing()
            self._announce()
        elif self.pool.phase is p.Phase.STOPPING and self._empty():
            self.pool = replace(self.pool, phase=p.Phase.STOPPED)
            self.write("info", "stopped" if not self.pool.exit_code else f"gave up; exit code {self.pool.exit_code}")
            self.do(act.Quit(self.pool.exit_code))

    def _start_what_is_missing(self) -> None:
        mold = self.pool.mold
        if mold.life is p.MoldLife.ABSENT and mold.deadline is not None and mold.deadline <= self.now:
            self.mold(p.MoldLife.IMPORTING, self.now + self.pool.plan.boot_s)
            self.do(act.StartMold(mold.generation, mold.preload))
        if mold.life is not p.MoldLife.READY:
            return
        room = FORKS_AT_ONCE - sum(slot.life in LIVING and slot.pid == 0 for slot in self.pool.slots)
        for slot in self.pool.slots:
            if room > 0 and slot.life is Life.VACANT and slot.deadline is not None and slot.deadline <= self.now:
                room -= 1
                ticket = self.pool.tickets + 1
                self.pool = replace(self.pool, tickets=ticket)
                slot = replace(slot, ticket=ticket, spawns=slot.spawns + 1, pid=0)
                self.move(slot, LifeEvent.SPAWN, self.now + self.pool.plan.boot_s)
                self.do(act.Spawn(slot.index, ticket, mold.generation))

    def _announce(self) -> None:
        slots = self.pool.slots
        ready = sum(slot.life is Life.READY for slot in slots)
        attempts = self.pool.plan.boot_attempts
        settled = all(slot.life is Life.READY or slot.failures >= attempts for slot in slots)
        if not self.pool.announced and ready and settled:
            self.pool = replace(self.pool, announced=True)
            if ready < len(slots):
                self.write("warning", f"only {ready} of {len(slots)} workers became ready; the others are retried")
            self.do(act.Announce(ready, self.now - self.pool.started_at))

    def _empty(self) -> bool:
        alive = any(slot.life in LIVING for slot in self.pool.slots)
        return not alive and self.pool.mold.life is p.MoldLife.ABSENT
