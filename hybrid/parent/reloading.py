"""How one generation follows another. Rules of :mod:`hybrid.parent.core`.

New settings, a fresh mold, one worker that shows that the new code serves, then the others; as each of them becomes
ready, the worker that sat in its seat before is parked: it serves what it holds, and accepts nothing more. When all are
ready, the old generation drains. Until then nothing is final: whatever does not come up, the parked workers accept
again at once, the new ones leave, and the service has not noticed.

One reload at a time. Who asks meanwhile gets another one, together with everybody else who asked.
"""

from __future__ import annotations

import math
from dataclasses import replace

from hybrid.ground.states import Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.draft import Draft
from hybrid.parent.reload_stages import STAGES, Stage, StageEvent
from hybrid.parent.resizing import Bounds
from hybrid.parent.stopping import retire, retire_mold
from hybrid.shared.boot_report import Report
from hybrid.shared.machine import advance

MOST_LEAVING = 2
"""Generations that may be draining when another reload begins: each holds its memory for a grace at most."""


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────


def asked(draft: Draft, source: str) -> None:
    """Note the wish; it is granted as soon as it can be."""
    pool = draft.pool
    if pool.stop_step is not p.StopStep.NONE or pool.phase >= p.Phase.STOPPING:
        draft.write("info", f"{source}: not reloading, the server is stopping")
        return
    if not _can_begin(pool) and not pool.reload.again:
        draft.write("info", f"{source}: reloading as soon as {_what_holds(pool)}")
    draft.pool = replace(pool, reload=replace(pool.reload, again=source))


def _what_holds(pool: p.Pool) -> str:
    if pool.phase is p.Phase.BOOTING:
        return "the server is ready"
    if pool.reload.stage is not Stage.IDLE:
        return "the server has reloaded"
    is_upgrading = pool.upgrade is not p.UpgradeStage.NONE
    return "the upgrade is through" if is_upgrading else "an earlier generation has drained"


def _can_begin(pool: p.Pool) -> bool:
    if pool.phase is not p.Phase.RUNNING or pool.reload.stage is not Stage.IDLE:
        return False
    if pool.upgrade is not p.UpgradeStage.NONE:
        return False  # it comes first: the code that is loaded then may be of another version than this program
    leaving = {slot.generation for slot in pool.slots if slot.life in p.LIVING and slot.generation != pool.generation}
    return len(leaving) < MOST_LEAVING


def go_on(draft: Draft) -> None:
    """Take the next step, if what it waits for has come."""
    reload = draft.pool.reload
    if reload.stage in (Stage.CANARY, Stage.ROLL):
        _roll(draft)
    reload = draft.pool.reload
    if reload.again and draft.pool.stop_step is p.StopStep.NONE and _can_begin(draft.pool):
        _begin(draft, reload.again)


def _begin(draft: Draft, source: str) -> None:
    pool = draft.pool
    generation = pool.generations + 1
    stage = advance(STAGES, pool.reload.stage, StageEvent.ASKED)
    reload = p.Reload(stage, generation, source, since=draft.now, deadline=draft.now + pool.plan.boot_s)
    draft.pool = replace(pool, generations=generation, reload=reload)
    draft.write("info", f"{source}: reloading, as generation {generation}")
    draft.do(act.Resolve(generation))


# ── what comes ───────────────────────────────────────────────────────────────────────────────────────────────


def resolved(draft: Draft, event: ev.Resolved) -> None:
    """Start the new generation's mold."""
    pool = draft.pool
    if event.generation != pool.reload.generation or pool.reload.stage is not Stage.RESOLVE:
        return
    stage = advance(STAGES, pool.reload.stage, StageEvent.RESOLVED)
    mold = p.Mold(p.MoldLife.ABSENT, event.generation, preload=event.plan.preload != "off", deadline=draft.now)
    reload = replace(pool.reload, stage=stage, plan=event.plan, deadline=None)
    draft.pool = replace(pool, molds=(*pool.molds, mold), reload=reload)


def resolve_failed(draft: Draft, event: ev.ResolveFailed) -> None:
    """Go on as before."""
    reload = draft.pool.reload
    if event.generation == reload.generation and reload.stage is Stage.RESOLVE:
        what = "the settings are wrong" if event.report.step == "resolve" else "the settings cannot be read"
        failed(draft, what, event.report)


def imported(draft: Draft, bounds: Bounds) -> None:
    """The new mold can fork: let it show one worker first.

    Where the pool sizes itself, the new generation is to be as large as the old one is, within its own bounds.
    """
    reload = draft.pool.reload
    if reload.stage is not Stage.IMPORT:
        return  # a mold that replaces another within the reload: what was begun goes on
    stage = advance(STAGES, reload.stage, StageEvent.IMPORTED)
    if reload.most:  # somebody has asked for others meanwhile
        bounds = Bounds(reload.least, reload.most, "as asked")
    count = max(bounds.least, min(bounds.most, draft.pool.target))
    reload = replace(reload, stage=stage, count=count, least=bounds.least, most=bounds.most, reason=bounds.reason)
    draft.pool = replace(draft.pool, reload=reload)


def serves(draft: Draft, slot: p.Slot) -> None:
    """A worker of the new generation accepts: park whoever sat in its seat."""
    reload = draft.pool.reload
    if reload.stage is Stage.CANARY:
        stage = advance(STAGES, reload.stage, StageEvent.SERVES)
        draft.pool = replace(draft.pool, reload=replace(reload, stage=stage))
    for old in draft.pool.slots:
        if old.wanted and old.life is Life.READY and old.generation < slot.generation and old.seat == slot.seat:
            draft.park(old)


def time_passed(draft: Draft) -> None:
    """Lose patience with whoever reads the settings."""
    reload = draft.pool.reload
    if reload.deadline is not None and reload.deadline <= draft.now:
        draft.do(act.EndResolver())
        late = f"they were not there within {draft.pool.plan.boot_s:g} s (--boot-timeout)"
        failed(draft, "the settings cannot be read", Report(error=late))


# ── how it goes on ───────────────────────────────────────────────────────────────────────────────────────────


def _roll(draft: Draft) -> None:
    """Commit, or start as many more as may be starting at once."""
    reload = draft.pool.reload
    new = [slot for slot in draft.pool.slots if slot.wanted and slot.generation == reload.generation]
    serving = sum(slot.life in p.SERVING for slot in new)
    if serving >= reload.count:
        _commit(draft)
        return
    plan = draft.plan_of(reload.generation)
    surge = plan.max_surge or max(1, math.ceil(reload.count / 4))
    most = min(reload.count, len(new) + (1 if reload.stage is Stage.CANARY else surge) - (len(new) - serving))
    for seat in sorted(set(range(reload.count)) - {slot.seat for slot in new})[: max(0, most - len(new))]:
        draft.claim(seat, reload.generation)


def _commit(draft: Draft) -> None:
    """The new generation serves: let the old one go."""
    reload, old = draft.pool.reload, draft.pool.generation
    assert reload.plan is not None
    for slot in draft.pool.slots:
        if slot.wanted and slot.generation < reload.generation:
            retire(draft, slot)
    stage = advance(STAGES, reload.stage, StageEvent.COMMITTED)
    draft.pool = replace(
        draft.pool,
        plan=reload.plan,
        generation=reload.generation,
        target=reload.count,
        least=reload.least,
        most=reload.most,
        standby=reload.plan.standby,
        size_reason=reload.reason,
        last_failure="",
        reload=p.Reload(stage, again=reload.again),
    )
    retire_mold(draft, old)
    draft.do(act.Adopt(reload.generation))
    count = f"{reload.count} worker{'s' if reload.count != 1 else ''}"
    took_s = draft.now - reload.since
    draft.write("info", f"reloaded: generation {reload.generation} serves with {count} after {took_s:.2f} s")


def failed(draft: Draft, what: str, report: Report) -> None:
    """Whatever did not come up: the old generation goes on as if nothing had happened, the new one leaves."""
    reload = draft.pool.reload
    stage = advance(STAGES, reload.stage, StageEvent.FAILED)
    why = f": {report.error}" if report.error else ""
    draft.write("error", f"reload failed: {what}{why}", report.detail)
    draft.pool = replace(draft.pool, reload=p.Reload(stage, again=reload.again, failure=f"{what}{why}"))
    for slot in draft.pool.slots if draft.pool.stance is p.Stance.ACCEPTING else ():
        is_of_old = slot.wanted and slot.generation < reload.generation
        if is_of_old and slot.life is Life.PARKED and slot.duty is p.Duty.SERVE:
            draft.unpark(slot)
    for slot in draft.pool.slots:
        if slot.wanted and slot.generation == reload.generation:
            retire(draft, slot)
    retire_mold(draft, reload.generation)
    draft.do(act.Discard(reload.generation))
    draft.write("warning", f"generation {draft.pool.generation} serves on, with the code and the settings that it has")
