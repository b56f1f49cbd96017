"""How a worker comes up, speaks and dies. Rules of :mod:`hybrid.parent.core`.

What another process says may come at any time, or be a lie: what does not fit is passed over, never an error.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Cause, Life, LifeEvent
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent import reloading, renewal
from hybrid.parent.draft import Draft
from hybrid.parent.pace import STABLE_S, backoff_s
from hybrid.parent.stopping import CANCEL_S, LEAVE_S, boot_failed
from hybrid.shared.boot_report import Report

YOUNG_S = 60.0
"""A worker that has reached its memory sooner had hardly served."""


def _is_coming(draft: Draft, slot: p.Slot) -> bool:
    """Return whether the worker is one of the generation that a reload is bringing."""
    return slot.wanted and slot.generation == draft.pool.reload.generation


# ── coming up ────────────────────────────────────────────────────────────────────────────────────────────────


def forked(draft: Draft, event: ev.Forked) -> None:
    """Take note of its pid."""
    slot = draft.pool.slots[event.slot]
    if slot.ticket != event.ticket or slot.life not in p.LIVING or slot.pid:
        return
    draft.put(replace(slot, pid=event.pid))
    if slot.life in (Life.DRAINING, Life.KILLING):  # told to leave before it was there to hear
        draft.do(act.Signal(slot.index, signal.SIGKILL if slot.life is Life.KILLING else signal.SIGTERM))


def fork_failed(draft: Draft, event: ev.ForkFailed) -> None:
    """Ask again, later and later."""
    slot = draft.pool.slots[event.slot]
    if slot.ticket != event.ticket or slot.life not in p.LIVING or slot.pid:
        return
    failures = slot.failures + 1
    wait_s = backoff_s(failures)
    slot = draft.lose(slot)
    if not slot.wanted:
        return
    slot = draft.put(replace(slot, failures=failures, deadline=draft.now + wait_s))
    report = Report(step="fork", error=event.reason)
    if _is_coming(draft, slot):
        reloading.failed(draft, f"cannot fork worker {slot.index}", report)
    elif draft.pool.phase is p.Phase.BOOTING and failures >= draft.pool.plan.boot_attempts:
        boot_failed(draft, f"cannot fork worker {slot.index}", report)
    else:
        draft.write("error", f"cannot fork worker {slot.index}: {event.reason}; again in {wait_s:.1f} s")


def _is_of(slot: p.Slot, event: ev.WorkerReady | ev.WorkerDraining | ev.WornOut) -> bool:
    """Return whether a word is that of the worker we hold in the slot, not of one that is gone or not there yet."""
    return slot.ticket == event.ticket and slot.life in p.LIVING and slot.pid != 0


def worker_ready(draft: Draft, event: ev.WorkerReady) -> None:
    """Let it serve, and whoever sat in its seat before it leave."""
    slot = draft.pool.slots[event.slot]
    if not _is_of(slot, event) or slot.life in p.SERVING:
        return  # a word too many
    deadline = slot.deadline if slot.life in (Life.DRAINING, Life.KILLING) else None
    slot = draft.move(slot, LifeEvent.BOOTED, deadline)
    if slot.life is not Life.READY:
        return
    if draft.pool.phase is p.Phase.BOOTING:
        draft.pool = replace(draft.pool, phase=p.Phase.RUNNING, last_failure="")
    if draft.pool.announced:
        what = ", and stands by" if slot.duty is p.Duty.SPARE else ""
        draft.write("info", f"worker {slot.index} (pid {slot.pid}) is ready{what}")
    if _is_coming(draft, slot):
        reloading.serves(draft, slot)
    else:
        renewal.serves(draft, slot)
    is_parked = draft.pool.stance is p.Stance.PARKED or slot.duty is not p.Duty.SERVE
    if is_parked or draft.pool.is_replaced(slot):
        draft.park(slot)


# ── speaking ─────────────────────────────────────────────────────────────────────────────────────────────────


def worker_draining(draft: Draft, event: ev.WorkerDraining) -> None:
    """Somebody else told it to leave: wait for it as if we had."""
    slot = draft.pool.slots[event.slot]
    if _is_of(slot, event) and slot.life in p.SERVING:
        grace_s = min(event.grace_s, draft.pool.plan.grace_s)  # no worker takes more than it was given
        slot = draft.put(replace(slot, cause=Cause.TOLD))
        draft.move(slot, LifeEvent.DRAIN, draft.now + grace_s + CANCEL_S + LEAVE_S)
        draft.write("info", f"worker {slot.index} (pid {slot.pid}) drains: it was sent SIGTERM")
        draft.let_the_others_look(slot.index)


def worn_out(draft: Draft, event: ev.WornOut) -> None:
    """Take note that it is to be replaced; it serves until then."""
    slot = draft.pool.slots[event.slot]
    if _is_of(slot, event) and slot.life in p.SERVING and not slot.worn:
        draft.put(replace(slot, worn=event.reason, cause=event.cause))
        served_s = draft.now - slot.since
        if event.cause is Cause.MEMORY and served_s < YOUNG_S:
            what = f"worker {slot.index} has reached --max-memory after {served_s:.0f} s"
            draft.write("warning", f"{what}: what the app needs may be more than that. Raise it, or mend a quick leak.")


# ── dying ────────────────────────────────────────────────────────────────────────────────────────────────────


def worker_exited(draft: Draft, event: ev.WorkerExited) -> None:
    """Replace it where a worker is wanted; wait first if it died quickly, again and again."""
    slot = draft.pool.slots[event.slot]
    if slot.ticket != event.ticket or slot.life not in p.LIVING:
        return
    died_in, lived_s, pid = slot.life, draft.now - slot.since, slot.pid
    was_wanted = slot.wanted
    slot = draft.vacate(draft.move(slot, LifeEvent.REAPED))
    draft.let_the_others_look(slot.index)
    who = f"worker {slot.index} (pid {pid})"
    if draft.pool.phase >= p.Phase.STOPPING:
        draft.write("debug", f"{who} {event.exit}")
    elif not was_wanted:
        draft.write("info", f"{who} {event.exit} after its drain")
    elif not slot.wanted:  # its successor is on the way already
        draft.count(Cause.DIED if died_in in p.SERVING else slot.cause)
        draft.write("error" if died_in in p.SERVING else "info", f"{who} {event.exit}; another was starting already")
    elif _is_coming(draft, slot):
        report = event.report if event.report.step != "ready" else Report()
        reloading.failed(draft, f"worker {slot.index} {event.exit} at step {event.report.step or 'fork'}", report)
    elif died_in is Life.STARTING or (died_in is Life.KILLING and event.report.step != "ready"):
        _died_booting(draft, slot, event)
    elif died_in in p.SERVING:
        _died_serving(draft, slot, event, quick=lived_s < STABLE_S)
    else:
        draft.put(replace(slot, failures=0, worn="", cause=Cause.DIED))
        draft.count(slot.cause)
        after = " after its drain" if died_in is Life.DRAINING else ""
        draft.write("info", f"{who} {event.exit}{after}; another starts")


def _died_booting(draft: Draft, slot: p.Slot, event: ev.WorkerExited) -> None:
    failures = slot.failures + 1
    slot = draft.put(replace(slot, failures=failures, deadline=draft.now + backoff_s(failures)))
    report = event.report
    error = report.error or f"{event.exit} at step {report.step or 'fork'}"
    # The same failure in every worker is one failure: told apart by what happened, not by who it happened to.
    report = replace(report, error=error)
    hopeless = report.exit_code in (ExitCode.APP_NOT_LOADED, ExitCode.USAGE) and bool(event.report.error)
    if draft.pool.phase is p.Phase.BOOTING and (hopeless or failures >= draft.pool.plan.boot_attempts):
        times = "" if failures == 1 else f" {failures} times"
        boot_failed(draft, f"worker {slot.index} failed to boot{times}", report)
        return
    again = report.fingerprint == draft.pool.last_failure
    draft.pool = replace(draft.pool, last_failure=report.fingerprint)
    message = f"worker {slot.index} failed to boot: {error.rstrip('.')}; again in {backoff_s(failures):.1f} s"
    draft.write("error", message + (" (as before)" if again else ""), "" if again else report.detail)


def _died_serving(draft: Draft, slot: p.Slot, event: ev.WorkerExited, *, quick: bool) -> None:
    draft.count(Cause.DIED)
    failures = slot.failures + 1 if quick else 0
    wait_s = backoff_s(failures - 1) if failures > 1 else 0.0  # the first quick death is nobody's loop yet
    draft.put(replace(slot, failures=failures, worn="", deadline=draft.now + wait_s))
    after = f"; another starts in {wait_s:.1f} s" if wait_s else "; another starts"
    draft.write("error", f"worker {slot.index} (pid {slot.pid}) {event.exit}{after}")
