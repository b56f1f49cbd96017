"""Who accepts, and fresh workers for those that are worn. Rules of :mod:`hybrid.parent.core`.

A worn worker serves until a fresh one is ready in its seat; then it drains. One at a time, and none while a reload is
under way, which replaces them all.
"""

from __future__ import annotations

from dataclasses import replace

from hybrid.ground.states import Life
from hybrid.parent import pool as p
from hybrid.parent import resizing
from hybrid.parent.draft import Draft
from hybrid.parent.reload_stages import Stage
from hybrid.parent.stopping import retire


def go_on(draft: Draft) -> None:
    """Have as many workers as are wanted, and renew one worn worker."""
    if draft.pool.reload.stage is Stage.IDLE:
        resizing.fit(draft)
        _renew(draft)


def serves(draft: Draft, fresh: p.Slot) -> None:
    """A fresh worker accepts: let go of the worn one in its seat."""
    for slot in draft.pool.slots:
        is_elder = slot.index != fresh.index and slot.generation == fresh.generation and slot.seat == fresh.seat
        if is_elder and slot.wanted and fresh.wanted:
            draft.write("info", f"worker {fresh.index} (pid {fresh.pid}) takes the place of worker {slot.index}")
            draft.count(slot.cause)
            retire(draft, slot)


def stand(draft: Draft, source: str) -> None:
    """Park everybody who accepts; or, if that was done before, let them accept again."""
    pool = draft.pool
    if pool.stance is p.Stance.PARKED:
        accept_again(draft, source)
        return
    draft.write("info", f"{source}: nobody accepts any more, newcomers wait; once more, and they are served")
    draft.pool = replace(pool, stance=p.Stance.PARKED)
    for slot in pool.slots:
        if slot.life is Life.READY:
            draft.park(slot)


def accept_again(draft: Draft, source: str) -> None:
    """Let everybody accept whom :func:`stand` has parked."""
    if draft.pool.stance is p.Stance.PARKED:
        draft.write("info", f"{source}: newcomers are served again")
        draft.pool = replace(draft.pool, stance=p.Stance.ACCEPTING)
        for slot in draft.pool.slots:
            if slot.life is Life.PARKED and slot.duty is p.Duty.SERVE and not draft.pool.is_replaced(slot):
                draft.unpark(slot)


def _renew(draft: Draft) -> None:
    """Claim a slot for a fresh worker, unless one is being replaced."""
    slots = draft.pool.slots
    wanted = [slot for slot in slots if slot.wanted]
    is_busy = len({slot.seat for slot in wanted}) < len(wanted) or any(
        slot.worn and slot.life in p.LIVING and not slot.wanted for slot in slots
    )
    worn = next((slot for slot in wanted if slot.worn and slot.life in p.SERVING), None)
    if worn is not None and not is_busy and draft.pool.stop_step is p.StopStep.NONE:
        fresh = draft.claim(worn.seat, draft.pool.generation, worn.duty)
        if fresh is not None:
            draft.write("info", f"worker {worn.index} (pid {worn.pid}) is to be replaced: {worn.worn}")
