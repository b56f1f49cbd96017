"""Every decision of the parent, without a process: ``step(pool, event, now) -> (pool, actions)``.

Pure: no clock, no descriptor, no log. The shell (:mod:`hybrid.parent.main`) turns what the kernel says into
events and carries the actions out; whatever fails there comes back as an event. So each rule below can be
tested with a table.

Rules, and where they come from:

* A worker that dies is replaced at once. One that dies *quickly* (before READY, or within ``STABLE_S`` of it)
  again and again waits min(30 s, 0.5·1.5ⁿ); the others keep serving. (einhorn, httpd) :mod:`hybrid.parent.workers`
* Before any worker was ever ready, ``boot_attempts`` failures of one slot, or an app that cannot be imported,
  end the server with the report. After that the pool never gives up by itself. (httpd's ``sick_child``)
  :mod:`hybrid.parent.booting`
* When a worker is gone, parked, or drains, the others look at once for what it leaves: a lost wake-up, an orphaned
  queue.
* A new generation replaces the old one seat by seat, and can be taken back until all of it serves.
  :mod:`hybrid.parent.reloading`
* How many serve follows the load, between bounds, and never costs anybody a connection. :mod:`hybrid.parent.resizing`
* What is asked by hand is done, and answered. :mod:`hybrid.parent.by_hand`
* A worn worker is replaced before it leaves. (uWSGI) :mod:`hybrid.parent.renewal`
* When the parent itself comes late (stopped, or the whole machine was), every deadline moves by as much. (pitchfork)
* Stopping is a ladder: drain, cancel, abort, kill. Time climbs it, and so does each further signal.
  :mod:`hybrid.parent.stopping`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hybrid.ground.states import Life, LifeEvent
from hybrid.parent import actions as act
from hybrid.parent import booting, by_hand, reloading, renewal, resizing, stopping, upgrading, workers
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.draft import Draft

FORKS_AT_ONCE = 32
"""Requests to molds that are not answered yet: a channel holds about 280, and a mold forks one after another."""


def step(pool: p.Pool, event: ev.Event, now: float) -> tuple[p.Pool, tuple[act.Action, ...]]:
    """Return what the pool becomes, and what is to be done, when ``event`` happens at ``now`` (monotonic seconds).

    Raises: IllegalTransition: a worker was given an event that its life does not list; a bug, not a condition.
    """
    draft = Draft(pool, now)
    _HANDLERS[type(event)](draft, event)
    _settle(draft)
    return draft.pool, tuple(draft.actions)


def next_deadline(pool: p.Pool) -> float | None:
    """Return when :class:`~hybrid.parent.events.TimePassed` is due, in monotonic seconds; None: nothing waits."""
    times = [slot.deadline for slot in pool.slots if slot.deadline is not None and _waits(pool, slot)]
    times += [mold.deadline for mold in pool.molds if mold.deadline is not None]
    times += [time for time in (pool.stop_due, pool.reload.deadline) if time is not None]
    return min(times, default=None)


def _waits(pool: p.Pool, slot: p.Slot) -> bool:
    """Return whether the slot's deadline can lead to anything: a vacant one needs a mold that forks."""
    return _may_spawn(pool, slot) if slot.life is Life.VACANT else True


def _may_spawn(pool: p.Pool, slot: p.Slot) -> bool:
    """Return whether a worker is to be started in the vacant slot, now or later."""
    if pool.phase >= p.Phase.STOPPING or not slot.wanted or pool.is_replaced(slot):
        return False
    mold = pool.mold_of(slot.generation)
    return mold is not None and mold.life is p.MoldLife.READY


# ── what follows from any event ──────────────────────────────────────────────────────────────────────────────


def _settle(draft: Draft) -> None:
    """Start what is wanted and missing; announce; leave when nothing is left."""
    if draft.pool.phase < p.Phase.STOPPING:
        reloading.go_on(draft)
        renewal.go_on(draft)
        _start_molds(draft)
        _start_workers(draft)
        _announce(draft)
        upgrading.go_on(draft)
    elif draft.pool.phase is p.Phase.STOPPING and _empty(draft.pool):
        code = draft.pool.exit_code
        draft.pool = replace(draft.pool, phase=p.Phase.STOPPED)
        draft.write("info", "stopped" if not code else f"gave up; exit code {code}")
        draft.do(act.Quit(code))


def _start_molds(draft: Draft) -> None:
    for mold in draft.pool.molds:
        if mold.life is p.MoldLife.ABSENT and mold.deadline is not None and mold.deadline <= draft.now:
            boot_s = draft.plan_of(mold.generation).boot_s
            draft.mold(mold.generation, p.MoldLife.IMPORTING, draft.now + boot_s)
            draft.do(act.StartMold(mold.generation, mold.preload))


def _start_workers(draft: Draft) -> None:
    room = FORKS_AT_ONCE - sum(slot.life in p.LIVING and slot.pid == 0 for slot in draft.pool.slots)
    for slot in draft.pool.slots:
        is_due = slot.life is Life.VACANT and slot.deadline is not None and slot.deadline <= draft.now
        if room > 0 and is_due and _may_spawn(draft.pool, slot):
            room -= 1
            ticket = draft.pool.tickets + 1
            draft.pool = replace(draft.pool, tickets=ticket)
            slot = replace(slot, ticket=ticket, spawns=slot.spawns + 1, pid=0)
            draft.move(slot, LifeEvent.SPAWN, draft.now + draft.plan_of(slot.generation).boot_s)
            draft.do(act.Spawn(slot.index, ticket, slot.generation, slot.seat))


def _announce(draft: Draft) -> None:
    pool = draft.pool
    slots = [slot for slot in pool.slots if slot.wanted and slot.duty is p.Duty.SERVE]
    ready = sum(slot.life in p.SERVING for slot in slots)
    settled = all(slot.life in p.SERVING or slot.failures >= pool.plan.boot_attempts for slot in slots)
    if not pool.announced and ready and settled:
        draft.pool = replace(pool, announced=True)
        if ready < len(slots):
            draft.write("warning", f"only {ready} of {len(slots)} workers became ready; the others are retried")
        draft.do(act.Announce(ready, draft.now - pool.started_at))


def _empty(pool: p.Pool) -> bool:
    alive = any(slot.life in p.LIVING for slot in pool.slots)
    return not alive and all(mold.life is p.MoldLife.ABSENT for mold in pool.molds)


# ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────


def _asked(draft: Draft, event: ev.Asked) -> None:
    intent = event.intent
    if intent is ev.Intent.REOPEN_LOGS:
        draft.do(act.ReopenLogs(event.source))
    elif intent in (ev.Intent.STOP, ev.Intent.STOP_NOW):
        stopping.asked(draft, event)
    elif intent is ev.Intent.RELOAD and draft.pool.phase is p.Phase.BOOTING and draft.pool.plan.waits_for_change:
        booting.begin_anew(draft, event.source)
    elif intent is ev.Intent.RELOAD:
        renewal.accept_again(draft, event.source)
        reloading.asked(draft, event.source)
    elif intent is ev.Intent.UPGRADE:
        upgrading.asked(draft, event.source)
    elif draft.pool.phase < p.Phase.STOPPING:
        if intent is ev.Intent.PARK:
            renewal.stand(draft, event.source)
        else:
            by_hand.more_or_fewer(draft, 1 if intent is ev.Intent.MORE else -1, event)


def _time_passed(draft: Draft, event: ev.TimePassed) -> None:
    stopping.time_passed(draft)
    reloading.time_passed(draft)


def _held_up(draft: Draft, event: ev.HeldUp) -> None:
    """Give whoever boots, imports or leaves the time in which nobody heard him: he may have said that he is done."""
    before = draft.pool
    for slot in before.slots:
        if slot.life in p.LIVING and slot.deadline is not None:
            draft.put(replace(slot, deadline=slot.deadline + event.seconds))
    for mold in before.molds:
        if mold.life is not p.MoldLife.ABSENT and mold.deadline is not None:
            draft.mold(mold.generation, mold.life, mold.deadline + event.seconds)
    reload = draft.pool.reload
    if reload.deadline is not None:
        draft.pool = replace(draft.pool, reload=replace(reload, deadline=reload.deadline + event.seconds))
    if draft.pool is not before:
        what = f"the parent was held up for {event.seconds:.1f} s (stopped, or the machine was)"
        draft.write("warning", f"{what}; whoever boots or leaves has so much more time")


_HANDLERS: dict[type, Callable[[Draft, Any], None]] = {
    ev.Started: booting.started,
    ev.MoldImported: booting.mold_imported,
    ev.MoldUnsafe: booting.mold_unsafe,
    ev.MoldImportFailed: booting.mold_import_failed,
    ev.MoldExited: booting.mold_exited,
    ev.Forked: workers.forked,
    ev.ForkFailed: workers.fork_failed,
    ev.WorkerReady: workers.worker_ready,
    ev.WorkerDraining: workers.worker_draining,
    ev.WornOut: workers.worn_out,
    ev.WorkerExited: workers.worker_exited,
    ev.Resolved: reloading.resolved,
    ev.ResolveFailed: reloading.resolve_failed,
    ev.UpgradeChecked: upgrading.checked,
    ev.Asked: _asked,
    ev.Sized: resizing.sized,
    ev.ScaleAsked: by_hand.scaled,
    ev.StandbyAsked: by_hand.stood_by,
    ev.SlotAsked: by_hand.slot_asked,
    ev.Replanned: by_hand.replanned,
    ev.TimePassed: _time_passed,
    ev.HeldUp: _held_up,
}
