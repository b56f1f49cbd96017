"""What somebody asks of the size, or of one worker. Rules of :mod:`hybrid.parent.core`.

What was asked by hand holds until something else is asked, or the server reloads: a reload reads the settings anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hybrid.ground.states import Cause, Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent import resizing
from hybrid.parent.draft import Draft
from hybrid.parent.reload_stages import Stage
from hybrid.parent.stopping import kill, retire
from hybrid.shared.settings import MOST_WORKERS

_SLOTS_NAMED = 16
"""So many in a message; it has to fit into a datagram."""

# ── the size ─────────────────────────────────────────────────────────────────────────────────────────────────


def more_or_fewer(draft: Draft, by: int, event: ev.Asked) -> None:
    """Have a worker more, or one fewer; one always stays.

    Of a pool that sizes itself the bound moves: one more is then the fewest, one fewer the most. Else the sizing would
    take back at once what was asked for.
    """
    pool = draft.pool
    if not pool.target:
        draft.write("info", f"{event.source}: the number of workers is not known yet")
        return
    target = _within(pool.target + by)
    least, most = target, target
    if pool.is_sized:
        least, most = (target, max(pool.most, target)) if by > 0 else (min(pool.least, target), target)
    _set(draft, least, most, event)


def scaled(draft: Draft, event: ev.ScaleAsked) -> None:
    """Move the bounds; the same one twice fixes the size."""
    pool = draft.pool
    if not pool.target or pool.phase >= p.Phase.STOPPING:
        _answer(draft, event.token, False, "the server boots, or stops: its size is not to be changed now")
        return
    least, most = event.least or pool.least, event.most or pool.most
    if not 1 <= least <= most <= MOST_WORKERS:
        _answer(draft, event.token, False, f"cannot have {least} to {most} workers. Give 1 to {MOST_WORKERS}.")
        return
    before = draft.pool.target
    _set(draft, least, most, event)
    size = f"{least}" if least == most else f"{least} to {most}"
    now = f"; {draft.pool.target} now, {before} before" if least != most or before != draft.pool.target else ""
    _answer(draft, event.token, True, f"workers: {size}{now}")


def _set(draft: Draft, least: int, most: int, event: ev.Asked | ev.ScaleAsked) -> None:
    pool = draft.pool
    target = max(least, min(most, pool.target))
    reload = pool.reload
    if reload.stage is not Stage.IDLE:  # its count may not be known yet: then it follows from these bounds
        count = max(least, min(most, reload.count)) if reload.count else 0
        reload = replace(reload, count=count, least=least, most=most)
    draft.pool = replace(pool, least=least, most=most, reload=reload)
    if (least, most) != (pool.least, pool.most) and least < most:
        draft.write("info", f"{event.source}: {least} to {most} workers (before: {pool.least} to {pool.most})")
    if target != pool.target:
        resizing.resize(draft, target, event.source)
        draft.write("info", f"{event.source}: {target} worker{'s' if target != 1 else ''} (before: {pool.target})")
    if reload.stage is Stage.IDLE:
        resizing.fit(draft, event.loads)


def _within(workers: int) -> int:
    return max(1, min(MOST_WORKERS, workers))


def stood_by(draft: Draft, event: ev.StandbyAsked) -> None:
    """Have so many stand by."""
    pool = draft.pool
    if not 0 <= event.standby <= MOST_WORKERS:
        _answer(draft, event.token, False, f"cannot have {event.standby} stand by. Give 0 to {MOST_WORKERS}.")
        return
    draft.pool = replace(pool, standby=event.standby)
    draft.write("info", f"{event.source}: {event.standby} to stand by (before: {pool.standby})")
    _answer(draft, event.token, True, "standby is set until the settings are read anew (reload, restart)")


def replanned(draft: Draft, event: ev.Replanned) -> None:
    """Go by the changed settings from now on; who drains already keeps the time that it was given."""
    draft.pool = replace(draft.pool, plan=event.plan)


# ── one worker ───────────────────────────────────────────────────────────────────────────────────────────────


def slot_asked(draft: Draft, event: ev.SlotAsked) -> None:
    """Do it if there is a worker in the slot that it can be done with; else say why not."""
    slot = draft.pool.slots[event.slot] if 0 <= event.slot < len(draft.pool.slots) else p.Slot(event.slot)
    if draft.pool.phase >= p.Phase.STOPPING:
        _answer(draft, event.token, False, "the server is stopping")
    elif what := _refusal(draft.pool, slot, event.intent):
        why = f"cannot {event.intent.name.lower()} slot {event.slot}: {what}"
        draft.write("info", f"{event.source}: {why}")
        _answer(draft, event.token, False, why)
    else:
        done = _RULES[event.intent][0](draft, slot)
        who = f"worker {slot.index} (pid {slot.pid})"
        draft.write("info", f"{event.source}: {who} {done}")
        _answer(draft, event.token, True, f"{who} {done}")


def _refusal(pool: p.Pool, slot: p.Slot, intent: ev.SlotIntent) -> str:
    """Return why the worker cannot be had for this; nothing: it can."""
    is_kill = intent is ev.SlotIntent.KILL
    if slot.life is Life.VACANT:
        return nobody_there(pool)
    if slot.life not in _RULES[intent][1] or not (slot.wanted or is_kill):
        return f"the worker is {slot.life.name.lower()}"
    if is_kill and not slot.pid:  # to give up on a fork ends the mold, and with it all that it would fork
        return "the worker is being forked. Ask again in a moment"
    return ""


def nobody_there(pool: p.Pool) -> str:
    """Return what to say of a slot without a worker, and which ones have one."""
    taken = [str(slot.index) for slot in pool.slots if slot.pid]
    if not taken:
        return "there is no worker, there or elsewhere"
    more = " …" if len(taken) > _SLOTS_NAMED else ""
    return f"there is no worker. Workers are in slots {', '.join(taken[:_SLOTS_NAMED])}{more}"


def _park(draft: Draft, slot: p.Slot) -> str:
    resizing.assign_seat(draft, slot, p.Duty.HELD)
    return "is parked: it serves what it holds, and accepts nothing until it is un-parked"


def _unpark(draft: Draft, slot: p.Slot) -> str:
    is_one_more, was_held = slot.duty is p.Duty.SPARE, slot.duty is p.Duty.HELD
    resizing.assign_seat(draft, slot, p.Duty.SERVE)
    pool = draft.pool
    if is_one_more:  # or the rules of the size would park one at once
        target = _within(pool.target + 1)
        least = pool.least if pool.is_sized else target
        draft.pool = replace(pool, target=target, least=least, most=max(pool.most, target))
    elif was_held and pool.reload.stage is Stage.IDLE:  # of a pool that sizes itself another may have come meanwhile
        resizing.fit(draft, keep=slot.seat)
    return "is un-parked"


def _drain(draft: Draft, slot: p.Slot) -> str:
    draft.count(Cause.TOLD)
    retire(draft, slot)
    pool = draft.pool
    if slot.duty is p.Duty.SPARE or pool.is_replaced(slot):
        return "drains"
    taken = {(each.seat, each.generation) for each in pool.slots if each.wanted}
    is_missed = pool.reload.stage is not Stage.IDLE and slot.generation == pool.generation
    if is_missed and (slot.seat, slot.generation) not in taken:
        draft.claim(slot.seat, slot.generation)  # until the reload is through nobody looks who is missing
    return "drains; another starts in its place"


def _kill(draft: Draft, slot: p.Slot) -> str:
    kill(draft, draft.put(replace(slot, cause=Cause.DIED)))
    return "is killed" + ("; another starts in its place" if slot.wanted else "")


_RULES: dict[ev.SlotIntent, tuple[Callable[[Draft, p.Slot], str], tuple[Life, ...]]] = {
    ev.SlotIntent.PARK: (_park, (Life.READY, Life.PARKED)),
    ev.SlotIntent.UNPARK: (_unpark, (Life.PARKED, Life.READY)),
    ev.SlotIntent.DRAIN: (_drain, (Life.STARTING, Life.READY, Life.PARKED)),
    ev.SlotIntent.KILL: (_kill, (Life.STARTING, Life.READY, Life.PARKED, Life.DRAINING)),
}
"""What is done, and with workers in which lives."""


def _answer(draft: Draft, token: int, ok: bool, text: str) -> None:
    """Tell whoever asked what came of it. A token of 0: nobody waits for an answer."""
    if token:
        draft.do(act.Answer(token, ok, text))
