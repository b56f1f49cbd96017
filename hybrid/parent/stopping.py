"""How workers and molds leave: one alone, or everybody. Rules of :mod:`hybrid.parent.core`.

Stopping is a ladder: drain, cancel, abort, kill. Time climbs it, and so does each further signal. Before its first rung
there may be a pause in which a load balancer learns that nothing new is to be sent here.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from hybrid.ground.clock import LONGEST_S
from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life, LifeEvent
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.draft import Draft
from hybrid.parent.reload_stages import STAGES, StageEvent
from hybrid.shared.boot_report import Report
from hybrid.shared.machine import advance
from hybrid.shared.messages import Op

CANCEL_S = 1.0
"""Between cancelling handlers and cutting their connections. The worker keeps it; the parent only waits for it."""
LEAVE_S = 4.0
"""For what comes after the last connection: lifespan shutdown, atexit."""
ABORT_S = 1.0
"""Between asking a worker to cut everything and SIGKILL."""
MOLD_LEAVE_S = 2.0
REPEAT_S = 0.2
"""Signals closer together than this are one wish: terminals and wrappers send the same one twice."""
WAITING = "waiting for a change of the files that are watched (--reload); without one it is tried again now and then"
"""A library that is installed meanwhile is no file that is watched, and a database that comes up is none either."""


# ── one worker, one mold ─────────────────────────────────────────────────────────────────────────────────────


def retire(draft: Draft, slot: p.Slot) -> None:
    """Let the worker in ``slot`` finish what it holds and leave; nobody comes after it in this slot."""
    slot = draft.release(slot)
    if slot.life in (Life.STARTING, Life.READY, Life.PARKED):
        _tell_to_leave(draft, slot, p.StopStep.DRAIN, draft.pool.plan.grace_s, last=False)
        draft.let_the_others_look(slot.index)


def retire_mold(draft: Draft, generation: int) -> None:
    """Let the mold of ``generation`` go; nobody comes after it."""
    mold = draft.pool.mold_of(generation)
    if mold is None:
        return
    if mold.life in (p.MoldLife.IMPORTING, p.MoldLife.READY):
        end_mold(draft, generation)
    elif mold.life is p.MoldLife.ABSENT:
        draft.drop_mold(generation)


def end_mold(draft: Draft, generation: int) -> None:
    """Tell the mold to leave; one that imports hears nothing, so it is killed."""
    mold = draft.pool.mold_of(generation)
    importing = mold is not None and mold.life is p.MoldLife.IMPORTING
    draft.mold(generation, p.MoldLife.LEAVING, None if importing else draft.now + MOLD_LEAVE_S)
    draft.do(act.EndMold(generation, kill=importing))


def kill(draft: Draft, slot: p.Slot) -> None:
    """End the worker with SIGKILL."""
    draft.move(slot, LifeEvent.KILL)
    mold = draft.pool.mold_of(slot.generation)
    if slot.pid:
        draft.do(act.Signal(slot.index, signal.SIGKILL))
    elif mold is not None and mold.life is not p.MoldLife.ABSENT:
        draft.do(act.EndMold(slot.generation, kill=True))  # it never answered: whoever it forked goes with its channel


def _tell_to_leave(draft: Draft, slot: p.Slot, step: p.StopStep, grace_s: float, *, last: bool) -> None:
    """``last``: everybody leaves, so what waits in the queue is the worker's, too."""
    if slot.life is Life.STARTING:
        draft.move(slot, LifeEvent.DRAIN, draft.now + CANCEL_S + ABORT_S)
        if slot.pid:
            draft.do(act.Signal(slot.index, signal.SIGTERM))
        return
    abort = step is p.StopStep.ABORT
    grace_s = grace_s if step is p.StopStep.DRAIN else 0.0
    patience_s = ABORT_S if abort else grace_s + CANCEL_S + LEAVE_S
    draft.move(slot, LifeEvent.DRAIN, draft.now + patience_s)
    draft.do(act.Tell(slot.index, Op.DRAIN, a=int(grace_s * 1000), b=int(abort), c=int(last)))


# ── everybody ────────────────────────────────────────────────────────────────────────────────────────────────


def asked(draft: Draft, event: ev.Asked) -> None:
    """Take the rung of the ladder that a wish to stop leads to."""
    pool = draft.pool
    if pool.phase is p.Phase.STOPPED:
        return
    may_delay = pool.announced and pool.phase is p.Phase.RUNNING and event.grace_s is None
    delay_s = pool.plan.drain_delay_s if may_delay else 0.0
    wanted = next_stop_step(pool.stop_step, event.intent, draft.now - pool.stopped_at, delay=delay_s > 0)
    if wanted > pool.stop_step:
        grace_s = pool.plan.grace_s if event.grace_s is None else min(event.grace_s, LONGEST_S)
        words = STEP_WORDS[wanted].format(grace_s=grace_s, delay_s=delay_s)
        draft.write("info", f"{event.source}: {words}")
        if wanted is p.StopStep.DELAY:
            draft.pool = replace(pool, stop_step=wanted, stopped_at=draft.now, stop_due=draft.now + delay_s)
            draft.do(act.Unready())
        else:
            stop(draft, wanted, grace_s)


def next_stop_step(step: p.StopStep, intent: ev.Intent, since_s: float, *, delay: bool = False) -> p.StopStep:
    """Return the rung that a wish to stop leads to from ``step``, which was taken ``since_s`` seconds ago.

    ``delay``: the first rung is :attr:`~hybrid.parent.pool.StopStep.DELAY`.
    """
    if intent is ev.Intent.STOP_NOW:
        return p.StopStep(max(p.StopStep.ABORT, step))
    if step is p.StopStep.NONE:
        return p.StopStep.DELAY if delay else p.StopStep.DRAIN
    if since_s < REPEAT_S:
        return step
    return p.StopStep(min(step + 1, p.StopStep.KILL))


STEP_WORDS = {
    p.StopStep.DELAY: "stopping in {delay_s:g} s; until then everything is served (--drain-delay)",
    p.StopStep.DRAIN: "stopping; open connections have {grace_s:g} s to finish",
    p.StopStep.CANCEL: "cancelling handlers",
    p.StopStep.ABORT: "cutting connections",
    p.StopStep.KILL: "killing workers",
}


def stop(draft: Draft, wanted: p.StopStep, grace_s: float) -> None:
    """Take the rung ``wanted`` of the ladder: every worker and every mold is to leave."""
    pool = draft.pool
    if pool.phase is not p.Phase.STOPPING:
        draft.do(act.Unready())
        draft.do(act.StopListening())  # first, so that the last worker that closes its copy takes the queue with it
        draft.do(act.EndResolver())
    stage = advance(STAGES, pool.reload.stage, StageEvent.STOPPED)
    draft.pool = replace(
        pool,
        phase=p.Phase.STOPPING,
        stop_step=wanted,
        stopped_at=draft.now,
        stop_due=None,
        reload=p.Reload(stage),
    )
    for slot in draft.pool.slots:
        if slot.life in p.LIVING:
            _stop_worker(draft, slot, wanted, grace_s)
    for mold in draft.pool.molds:
        if mold.life in (p.MoldLife.IMPORTING, p.MoldLife.READY):
            end_mold(draft, mold.generation)
        elif mold.life is p.MoldLife.ABSENT:
            draft.mold(mold.generation, p.MoldLife.ABSENT, None)


def _stop_worker(draft: Draft, slot: p.Slot, wanted: p.StopStep, grace_s: float) -> None:
    if wanted is p.StopStep.KILL:
        kill(draft, slot)
    elif slot.life is not Life.KILLING:
        _tell_to_leave(draft, slot, wanted, grace_s, last=True)


def boot_failed(draft: Draft, what: str, report: Report) -> None:
    """Show a failure once; before the first success it ends the server, after it nothing stops."""
    again = report.fingerprint == draft.pool.last_failure
    waits = draft.pool.phase is p.Phase.BOOTING and draft.pool.plan.waits_for_change
    was_said = waits and report.fingerprint == draft.pool.waits_after
    draft.pool = replace(draft.pool, last_failure=report.fingerprint)
    message = f"{what}: {report.error}" if report.error else f"{what} (step: {report.step or 'fork'})"
    level = "debug" if was_said else "error"
    draft.write(level, message + (" (as before)" if again else ""), "" if again else report.detail)
    if draft.pool.phase is not p.Phase.BOOTING:
        return
    if waits:
        if not was_said:
            draft.pool = replace(draft.pool, waits_after=report.fingerprint)
            draft.write("info", WAITING)
        return
    code = ExitCode(report.exit_code) if report.exit_code in set(ExitCode) else ExitCode.BOOT_FAILED
    draft.pool = replace(draft.pool, exit_code=code)
    draft.do(act.Fail(code, message, report.detail))
    stop(draft, p.StopStep.DRAIN, grace_s=0.0)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────


def time_passed(draft: Draft) -> None:
    """Lose patience with whoever did not leave, boot or import in time."""
    pool = draft.pool
    if pool.stop_due is not None and pool.stop_due <= draft.now:
        draft.write("info", STEP_WORDS[p.StopStep.DRAIN].format(grace_s=pool.plan.grace_s))
        stop(draft, p.StopStep.DRAIN, pool.plan.grace_s)
        return
    for mold in pool.molds:
        running = mold.life in (p.MoldLife.IMPORTING, p.MoldLife.LEAVING)
        if running and mold.deadline is not None and mold.deadline <= draft.now:
            if mold.life is p.MoldLife.IMPORTING:
                boot_s = draft.plan_of(mold.generation).boot_s
                draft.write("error", f"the mold did not finish importing within {boot_s:g} s (--boot-timeout): SIGKILL")
            draft.mold(mold.generation, mold.life, None)
            draft.do(act.EndMold(mold.generation, kill=True))
    for slot in pool.slots:
        if slot.life in (Life.STARTING, Life.DRAINING) and slot.deadline is not None and slot.deadline <= draft.now:
            boot = f"boot within {draft.plan_of(slot.generation).boot_s:g} s (--boot-timeout)"
            late = boot if slot.life is Life.STARTING else "leave in time"
            draft.write("error", f"worker {slot.index} (pid {slot.pid}) did not {late}: SIGKILL")
            kill(draft, slot)
