"""One step of the core in the making: the pool so far, the actions so far, and the edits that every rule is made of."""

from __future__ import annotations

from dataclasses import replace

from hybrid.ground.states import LIFE, Cause, Life, LifeEvent
from hybrid.parent import actions as act
from hybrid.parent import pool as p
from hybrid.shared.machine import advance
from hybrid.shared.messages import Op
from hybrid.shared.settings import MOST_SLOTS


class Draft:
    """One step in the making: the pool so far, and the actions so far."""

    __slots__ = ("actions", "now", "pool")

    def __init__(self, pool: p.Pool, now: float) -> None:
        self.pool = pool
        self.now = now
        self.actions: list[act.Action] = []

    def do(self, action: act.Action) -> None:
        """Note what is to be done, after what was noted before."""
        self.actions.append(action)

    def write(self, level: str, message: str, detail: str = "") -> None:
        """Note a log line."""
        self.do(act.Write(level, message, detail))

    def plan_of(self, generation: int) -> p.Plan:
        """Return the settings that ``generation`` is run by."""
        reload = self.pool.reload
        return reload.plan if reload.plan is not None and generation == reload.generation else self.pool.plan

    # ── slots ──

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

    def claim(self, seat: int, generation: int, duty: p.Duty = p.Duty.SERVE) -> p.Slot | None:
        """Take a free slot for a worker of ``generation`` that is to sit in ``seat``; None: none is free."""
        slots = self.pool.slots
        free = next((slot for slot in slots if slot.life is Life.VACANT and not slot.wanted), None)
        if free is None:
            if len(slots) >= MOST_SLOTS:
                return None
            free = p.Slot(len(slots))
            self.pool = replace(self.pool, slots=(*slots, free))
        fresh = p.Slot(free.index, wanted=True, generation=generation, seat=seat, duty=duty, deadline=self.now)
        is_of_same = free.generation == generation and self.pool.phase is p.Phase.RUNNING  # else the code is another
        if is_of_same and free.deadline is not None and free.deadline > self.now:
            fresh = replace(fresh, failures=free.failures, deadline=free.deadline)
        return self.put(replace(fresh, ticket=free.ticket, spawns=free.spawns))

    def release(self, slot: p.Slot) -> p.Slot:
        """Want nobody in the slot any more; a worker that is in it is left alone.

        Where boots fail, how long to wait for the next stays, for whoever is wanted there again before that.
        """
        if slot.life is Life.VACANT:
            slot = replace(slot, worn="", deadline=slot.deadline if slot.failures else None)
        return self.put(replace(slot, wanted=False))

    def vacate(self, slot: p.Slot) -> p.Slot:
        """Take note that the worker is gone: the slot is vacant, and free if nobody is wanted there."""
        slot = self.move(slot, LifeEvent.VACATE, self.now)
        self.do(act.Vacate(slot.index))
        successor = slot.worn and any(
            each.wanted and each.seat == slot.seat and each.generation == slot.generation
            for each in self.pool.slots
            if each.index != slot.index
        )
        return self.release(slot) if successor or not slot.wanted else slot

    def lose(self, slot: p.Slot) -> p.Slot:
        """Take note that the worker that was asked for never came to be."""
        return self.vacate(self.move(slot, LifeEvent.LOST))

    def park(self, slot: p.Slot) -> None:
        """Have the worker accept no more; it serves what it holds."""
        self.move(slot, LifeEvent.PARK)
        self.do(act.Tell(slot.index, Op.PARK))
        self.let_the_others_look(slot.index)

    def unpark(self, slot: p.Slot) -> None:
        """Have the worker accept again."""
        self.move(slot, LifeEvent.UNPARK)
        self.do(act.Tell(slot.index, Op.UNPARK))

    def count(self, cause: Cause) -> None:
        """Note that a worker was replaced, and why."""
        counts = self.pool.replaced
        self.pool = replace(self.pool, replaced=(*counts[:cause], counts[cause] + 1, *counts[cause + 1 :]))

    def let_the_others_look(self, gone: int) -> None:
        """Have them look for what the worker in ``gone`` leaves: a wake-up it did not use, a queue that is its own."""
        if self.pool.phase < p.Phase.STOPPING:
            for slot in self.pool.slots:
                if slot.life is Life.READY and slot.index != gone:
                    self.do(act.Tell(slot.index, Op.LOOK))

    # ── molds ──

    def mold(self, generation: int, life: p.MoldLife, deadline: float | None, **changes: object) -> None:
        """Change the mold of ``generation``; a new life starts its own clock."""
        before = self.pool.mold_of(generation)
        assert before is not None
        if life is not before.life:
            changes["since"] = self.now
        after = replace(before, life=life, deadline=deadline, **changes)  # type: ignore[arg-type]  # fields of Mold
        molds = tuple(after if mold is before else mold for mold in self.pool.molds)
        self.pool = replace(self.pool, molds=molds)

    def drop_mold(self, generation: int) -> None:
        """Forget the mold of ``generation``: none is wanted, and none is there."""
        self.pool = replace(self.pool, molds=tuple(m for m in self.pool.molds if m.generation != generation))
