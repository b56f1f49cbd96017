"""How many workers there are, and fresh ones for those that are worn. Rules of :mod:`hybrid.parent.core`.

A worn worker serves until a fresh one is ready in its seat; then it drains. One at a time, and none while a reload is
under way, which replaces them all.
"""

from __future__ import annotations

from dataclasses import replace

from hybrid.ground.states import Life
from hybrid.parent import pool as p
from hybrid.parent.draft import Draft
from hybrid.parent.reload_stages import Stage
from hybrid.parent.stopping import retire
from hybrid.shared.settings import MOST_WORKERS


def go_on(draft: Draft) -> None:
    """Claim slots for seats that are empty, let go of those that are too many, and renew one worn worker."""
    if draft.pool.reload.stage is Stage.IDLE:
        _fit(draft)
        _renew(draft)


def serves(draft: Draft, fresh: p.Slot) -> None:
    """A fresh worker accepts: let go of the worn one in its seat."""
    for slot in draft.pool.slots:
        is_elder = slot.index != fresh.index and slot.generation == fresh.generation and slot.seat == fresh.seat
        if is_elder and slot.wanted and fresh.wanted:
            draft.write("info", f"worker {fresh.index} (pid {fresh.pid}) takes the place of worker {slot.index}")
            draft.count(slot.cause)
            retire(draft, slot)


def resize(draft: Draft, by: int, source: str) -> None:
    """Have a worker more, or one fewer; one always stays."""
    pool = draft.pool
    if not pool.target:
        draft.write("info", f"{source}: the number of workers is not known yet")
        return
    target = max(1, min(MOST_WORKERS, pool.target + by))
    reload = (
        replace(pool.reload, count=max(1, min(MOST_WORKERS, pool.reload.count + by))) if pool.reload.count else None
    )
    draft.pool = replace(pool, target=target, size_reason=source, reload=reload or pool.reload)
    draft.write("info", f"{source}: {target} worker{'s' if target != 1 else ''} (before: {pool.target})")


def _within(workers: int) -> int:
    return max(1, min(MOST_WORKERS, workers))


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
            if slot.life is Life.PARKED and not draft.pool.is_replaced(slot):
                draft.unpark(slot)


def _fit(draft: Draft) -> None:
    """Make the seats those from 0 to the target."""
    held = {slot.seat for slot in draft.pool.slots if slot.wanted}
    for seat in range(draft.pool.target):
        if seat not in held:
            draft.claim(seat, draft.pool.generation)
    for slot in draft.pool.slots:
        if slot.wanted and slot.seat >= draft.pool.target:
            retire(draft, slot)


def _renew(draft: Draft) -> None:
    """Claim a slot for a fresh worker, unless one is being replaced."""
    slots = draft.pool.slots
    wanted = [slot for slot in slots if slot.wanted]
    is_busy = len({slot.seat for slot in wanted}) < len(wanted) or any(
        slot.worn and slot.life in p.LIVING and not slot.wanted for slot in slots
    )
    worn = next((slot for slot in wanted if slot.worn and slot.life in p.SERVING), None)
    if worn is not None and not is_busy and draft.pool.stop_step is p.StopStep.NONE:
        fresh = draft.claim(worn.seat, draft.pool.generation)
        if fresh is not None:
            draft.write("info", f"worker {worn.index} (pid {worn.pid}) is to be replaced: {worn.worn}")
