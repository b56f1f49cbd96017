"""Every decision of the parent, without a process: ``step(pool, event, now) -> (pool, actions)``.

Pure: no clock, no descriptor, no log. The shell (:mod:`hybrid.parent.main`) turns what the kernel says into
events and carries the actions out; whatever fails there comes back as an event. So each rule below can be
tested with a table.

Rules, and where they come from:

* A worker that dies is replaced at once. One that dies *quickly* (before READY, or within ``STABLE_S`` of it)
  again and again waits min(30 s, 0.5·1.5ⁿ); the others keep serving. (einhorn, httpd)
* Before any worker was ever ready, ``boot_attempts`` failures of one slot, or an app that cannot be imported,
  end the server with the report. After that the pool never gives up by itself. (httpd's ``sick_child``)
* When a worker is gone, or drains, the others look at once for what it leaves: a lost wake-up, an orphaned queue.
* Stopping is a ladder: drain, cancel, abort, kill. Time climbs it, and so does each further signal.
* What another process says may come at any time, or be a lie: what does not fit is passed over, never an error.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hybrid.ground.clock import LONGEST_S
from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life, LifeEvent
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.draft import LIVING, Draft
from hybrid.parent.sizing import auto_workers
from hybrid.shared.boot_report import Report
from hybrid.shared.messages import Op

STABLE_S = 1.0
"""A worker that lived this long after READY did not die of its boot; nor did a mold."""
CANCEL_S = 1.0
"""Between cancelling handlers and cutting their connections. The worker keeps it; the parent only waits for it."""
LEAVE_S = 4.0
"""For what comes after the last connection: lifespan shutdown, atexit."""
ABORT_S = 1.0
"""Between asking a worker to cut everything and SIGKILL."""
MOLD_LEAVE_S = 2.0
REPEAT_S = 0.2
"""Signals closer together than this are one wish: terminals and wrappers send the same one twice."""


def backoff_s(failures: int) -> float:
    """Return how long a slot waits after its ``failures``-th quick death in a row: 0.5 s, growing, 30 s at most."""
    return float(min(30.0, 0.5 * 1.5 ** min(failures - 1, 20)))


def step(pool: p.Pool, event: ev.Event, now: float) -> tuple[p.Pool, tuple[act.Action, ...]]:
    """Return what the pool becomes, and what is to be done, when ``event`` happens at ``now`` (monotonic seconds).

    Raises: IllegalTransition: a worker was given an event that its life does not list; a bug, not a condition.
    """
    draft = Draft(pool, now)
    _HANDLERS[type(event)](draft, event)
    draft.settle()
    return draft.pool, tuple(draft.actions)


def next_deadline(pool: p.Pool) -> float | None:
    """Return when :class:`~hybrid.parent.pool.TimePassed` is due, in monotonic seconds; None: nothing waits."""
    times = [slot.deadline for slot in pool.slots if slot.deadline is not None and _waits(pool, slot)]
    if pool.mold.deadline is not None:
        times.append(pool.mold.deadline)
    return min(times, default=None)


def _waits(pool: p.Pool, slot: p.Slot) -> bool:
    """Return whether the slot's deadline can lead to anything: a vacant one needs a mold that forks."""
    if slot.life is not Life.VACANT:
        return True
    return pool.mold.life is p.MoldLife.READY and pool.phase < p.Phase.STOPPING


# ── booting ──────────────────────────────────────────────────────────────────────────────────────────────────


def _started(draft: Draft, event: ev.Started) -> None:
    preload = draft.pool.plan.preload != "off"
    mold = p.Mold(p.MoldLife.ABSENT, generation=1, preload=preload, deadline=draft.now)
    draft.pool = replace(draft.pool, mold=mold, started_at=draft.now)


def _mold_imported(draft: Draft, event: ev.MoldImported) -> None:
    if draft.pool.mold.life is not p.MoldLife.IMPORTING:
        return  # it was told to leave meanwhile
    draft.mold(p.MoldLife.READY, None)
    if draft.pool.slots:
        return  # a replaced mold: the size stands
    count, reason = draft.pool.plan.workers, "as asked"
    if count is None:
        count, reason = auto_workers(event.cpus, event.memory)
    slots = tuple(p.Slot(index, deadline=draft.now) for index in range(count))
    draft.pool = replace(draft.pool, slots=slots, size_reason=reason)


def _mold_unsafe(draft: Draft, event: ev.MoldUnsafe) -> None:
    if draft.pool.mold.life is not p.MoldLife.IMPORTING:
        return
    found = event.report.detail
    if draft.pool.plan.preload == "on":
        _refuse_mold(draft, "--preload on", event.report)
        return
    draft.write("warning", "not preloading: importing the app left what does not survive a fork", found)
    draft.mold(p.MoldLife.LEAVING, draft.now + MOLD_LEAVE_S, preload=False)
    draft.do(act.EndMold())


def _mold_import_failed(draft: Draft, event: ev.MoldImportFailed) -> None:
    if draft.pool.mold.life is not p.MoldLife.IMPORTING:
        return
    whats = {"exec": "the mold cannot be started", "tls": "TLS cannot be set up"}
    _refuse_mold(draft, whats.get(event.report.step, "the app cannot be imported"), event.report)


def _refuse_mold(draft: Draft, what: str, report: Report) -> None:
    """Show and count the failure of a mold that has imported nothing useful, and let it go."""
    _boot_failed(draft, what, report)
    _end_mold(draft)
    mold = draft.pool.mold
    draft.mold(mold.life, mold.deadline, failures=mold.failures + 1)


def _mold_exited(draft: Draft, event: ev.MoldExited) -> None:
    before = draft.pool.mold
    _give_up_on_forks(draft)
    if draft.pool.phase >= p.Phase.STOPPING:
        draft.mold(p.MoldLife.ABSENT, None)
        return
    if before.life is p.MoldLife.LEAVING:  # counted and shown when it was told to leave
        wait_s = backoff_s(before.failures) if before.failures else 0.0
        draft.mold(p.MoldLife.ABSENT, draft.now + wait_s)
        return
    could_fork = before.life is p.MoldLife.READY
    failures = 0 if could_fork and draft.now - before.since >= STABLE_S else before.failures + 1
    waited = failures - could_fork  # the first quick death of one that could fork is nobody's loop yet
    wait_s = backoff_s(waited) if waited > 0 else 0.0
    draft.mold(p.MoldLife.ABSENT, draft.now + wait_s, failures=failures)
    if draft.pool.phase is p.Phase.BOOTING and failures >= draft.pool.plan.boot_attempts:
        times = "" if failures == 1 else f" {failures} times"
        _boot_failed(draft, f"the mold {event.exit}{times} before a worker was ready", Report(step="import"))
        return
    after = f"; another starts in {wait_s:.1f} s" if wait_s else "; another starts"
    draft.write("error" if failures else "warning", f"the mold {event.exit}{after}")


def _give_up_on_forks(draft: Draft) -> None:
    """The mold that was asked is gone: workers it has not reported never came to be."""
    for slot in draft.pool.slots:
        if slot.life in LIVING and slot.pid == 0:
            _lost(draft, slot)


def _lost(draft: Draft, slot: p.Slot) -> None:
    slot = draft.move(slot, LifeEvent.LOST)
    draft.move(slot, LifeEvent.VACATE, draft.now)
    draft.do(act.Vacate(slot.index))


def _boot_failed(draft: Draft, what: str, report: Report) -> None:
    """Show a failure once; before the first success it ends the server, after it nothing stops."""
    again = report.fingerprint == draft.pool.last_failure
    draft.pool = replace(draft.pool, last_failure=report.fingerprint)
    message = f"{what}: {report.error}" if report.error else f"{what} (step: {report.step or 'fork'})"
    draft.write("error", message + (" (as before)" if again else ""), "" if again else report.detail)
    if draft.pool.phase is not p.Phase.BOOTING:
        return
    code = ExitCode(report.exit_code) if report.exit_code in set(ExitCode) else ExitCode.BOOT_FAILED
    draft.pool = replace(draft.pool, exit_code=code)
    draft.do(act.Fail(code, message, report.detail))
    _stop(draft, p.StopStep.DRAIN, grace_s=0.0)


# ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────


def _forked(draft: Draft, event: ev.Forked) -> None:
    slot = draft.pool.slots[event.slot]
    if slot.ticket != event.ticket or slot.life not in LIVING or slot.pid:
        return
    draft.put(replace(slot, pid=event.pid))
    if slot.life in (Life.DRAINING, Life.KILLING):  # told to leave before it was there to hear
        draft.do(act.Signal(slot.index, signal.SIGKILL if slot.life is Life.KILLING else signal.SIGTERM))


def _fork_failed(draft: Draft, event: ev.ForkFailed) -> None:
    slot = draft.pool.slots[event.slot]
    if slot.ticket != event.ticket or slot.life not in LIVING or slot.pid:
        return
    failures = slot.failures + 1
    wait_s = backoff_s(failures)
    _lost(draft, slot)
    draft.put(replace(draft.pool.slots[slot.index], failures=failures, deadline=draft.now + wait_s))
    if draft.pool.phase is p.Phase.BOOTING and failures >= draft.pool.plan.boot_attempts:
        _boot_failed(draft, f"cannot fork worker {slot.index}", Report(step="fork", error=event.reason))
        return
    draft.write("error", f"cannot fork worker {slot.index}: {event.reason}; again in {wait_s:.1f} s")


def _is_of(slot: p.Slot, event: ev.WorkerReady | ev.WorkerDraining) -> bool:
    """Return whether a word is that of the worker we hold in the slot, not of one that is gone or not there yet."""
    return slot.ticket == event.ticket and slot.life in LIVING and slot.pid != 0


def _worker_ready(draft: Draft, event: ev.WorkerReady) -> None:
    slot = draft.pool.slots[event.slot]
    if not _is_of(slot, event) or slot.life in (Life.READY, Life.PARKED):
        return  # a word too many
    deadline = slot.deadline if slot.life in (Life.DRAINING, Life.KILLING) else None
    slot = draft.move(slot, LifeEvent.BOOTED, deadline)
    if slot.life is Life.READY and draft.pool.phase is p.Phase.BOOTING:
        draft.pool = replace(draft.pool, phase=p.Phase.RUNNING, last_failure="")
    if draft.pool.announced and slot.life is Life.READY:
        draft.write("info", f"worker {slot.index} (pid {slot.pid}) is ready")


def _worker_draining(draft: Draft, event: ev.WorkerDraining) -> None:
    slot = draft.pool.slots[event.slot]
    if _is_of(slot, event) and slot.life in (Life.READY, Life.PARKED):
        grace_s = min(event.grace_s, draft.pool.plan.grace_s)  # no worker takes more than it was given
        draft.move(slot, LifeEvent.DRAIN, draft.now + grace_s + CANCEL_S + LEAVE_S)
        draft.write("info", f"worker {slot.index} (pid {slot.pid}) drains: it was sent SIGTERM")
        _let_the_others_look(draft, slot.index)


def _let_the_others_look(draft: Draft, gone: int) -> None:
    """Have them look for what the worker in ``gone`` leaves: a wake-up it did not use, a queue that is its own."""
    if draft.pool.phase < p.Phase.STOPPING:
        for slot in draft.pool.slots:
            if slot.life is Life.READY and slot.index != gone:
                draft.do(act.Tell(slot.index, Op.LOOK))


def _worker_exited(draft: Draft, event: ev.WorkerExited) -> None:
    slot = draft.pool.slots[event.slot]
    if slot.ticket != event.ticket or slot.life not in LIVING:
        return
    died_in, lived_s = slot.life, draft.now - slot.since
    slot = draft.move(slot, LifeEvent.REAPED)
    slot = draft.move(slot, LifeEvent.VACATE, draft.now)
    draft.do(act.Vacate(slot.index))
    _let_the_others_look(draft, slot.index)
    if draft.pool.phase >= p.Phase.STOPPING:
        draft.write("debug", f"worker {slot.index} (pid {slot.pid}) {event.exit}")
    elif died_in is Life.STARTING or (died_in is Life.KILLING and event.report.step != "ready"):
        _died_booting(draft, slot, event)
    elif died_in is Life.READY or died_in is Life.PARKED:
        _died_serving(draft, slot, event, quick=lived_s < STABLE_S)
    else:
        draft.put(replace(slot, failures=0))
        draft.write("info", f"worker {slot.index} (pid {slot.pid}) {event.exit} after its drain; another starts")


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
        _boot_failed(draft, f"worker {slot.index} failed to boot{times}", report)
        return
    again = report.fingerprint == draft.pool.last_failure
    draft.pool = replace(draft.pool, last_failure=report.fingerprint)
    message = f"worker {slot.index} failed to boot: {error.rstrip('.')}; again in {backoff_s(failures):.1f} s"
    draft.write("error", message + (" (as before)" if again else ""), "" if again else report.detail)


def _died_serving(draft: Draft, slot: p.Slot, event: ev.WorkerExited, *, quick: bool) -> None:
    failures = slot.failures + 1 if quick else 0
    wait_s = backoff_s(failures - 1) if failures > 1 else 0.0  # the first quick death is nobody's loop yet
    draft.put(replace(slot, failures=failures, deadline=draft.now + wait_s))
    after = f"; another starts in {wait_s:.1f} s" if wait_s else "; another starts"
    draft.write("error", f"worker {slot.index} (pid {slot.pid}) {event.exit}{after}")


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────


def _asked(draft: Draft, event: ev.Asked) -> None:
    if event.intent is ev.Intent.REOPEN_LOGS:
        draft.do(act.ReopenLogs())
        return
    if event.intent is ev.Intent.RELOAD:
        draft.write("warning", f"{event.source}: this version cannot reload")
        return
    if draft.pool.phase is p.Phase.STOPPED:
        return
    wanted = next_stop_step(draft.pool.stop_step, event.intent, draft.now - draft.pool.stopped_at)
    if wanted > draft.pool.stop_step:
        grace_s = draft.pool.plan.grace_s if event.grace_s is None else min(event.grace_s, LONGEST_S)
        draft.write("info", f"{event.source}: {STEP_WORDS[wanted].format(grace_s=grace_s)}")
        _stop(draft, wanted, grace_s)


def next_stop_step(step: p.StopStep, intent: ev.Intent, since_s: float) -> p.StopStep:
    """Return the rung that a wish to stop leads to from ``step``, which was taken ``since_s`` seconds ago."""
    if intent is ev.Intent.STOP_NOW:
        return p.StopStep(max(p.StopStep.ABORT, step))
    if step is not p.StopStep.NONE and since_s < REPEAT_S:
        return step
    return p.StopStep(min(step + 1, p.StopStep.KILL))


STEP_WORDS = {
    p.StopStep.DRAIN: "stopping; open connections have {grace_s:g} s to finish",
    p.StopStep.CANCEL: "cancelling handlers",
    p.StopStep.ABORT: "cutting connections",
    p.StopStep.KILL: "killing workers",
}


def _stop(draft: Draft, wanted: p.StopStep, grace_s: float) -> None:
    if draft.pool.phase is not p.Phase.STOPPING:
        draft.do(act.StopListening())  # first, so that the last worker that closes its copy takes the queue with it
    draft.pool = replace(draft.pool, phase=p.Phase.STOPPING, stop_step=wanted, stopped_at=draft.now)
    for slot in draft.pool.slots:
        if slot.life in LIVING:
            _stop_worker(draft, slot, wanted, grace_s)
    if draft.pool.mold.life in (p.MoldLife.IMPORTING, p.MoldLife.READY):
        _end_mold(draft)
    elif draft.pool.mold.life is p.MoldLife.ABSENT:
        draft.mold(p.MoldLife.ABSENT, None)


def _end_mold(draft: Draft) -> None:
    """Tell the mold to leave; one that imports hears nothing, so it is killed."""
    importing = draft.pool.mold.life is p.MoldLife.IMPORTING
    draft.mold(p.MoldLife.LEAVING, None if importing else draft.now + MOLD_LEAVE_S)
    draft.do(act.EndMold(kill=importing))


def _stop_worker(draft: Draft, slot: p.Slot, wanted: p.StopStep, grace_s: float) -> None:
    if wanted is p.StopStep.KILL:
        _kill(draft, slot)
    elif slot.life is Life.STARTING:
        draft.move(slot, LifeEvent.DRAIN, draft.now + CANCEL_S + ABORT_S)
        if slot.pid:
            draft.do(act.Signal(slot.index, signal.SIGTERM))
    elif slot.life is not Life.KILLING:
        abort = wanted is p.StopStep.ABORT
        grace_s = grace_s if wanted is p.StopStep.DRAIN else 0.0
        patience_s = ABORT_S if abort else grace_s + CANCEL_S + LEAVE_S
        draft.move(slot, LifeEvent.DRAIN, draft.now + patience_s)
        draft.do(act.Tell(slot.index, Op.DRAIN, a=int(grace_s * 1000), b=int(abort), c=1))


def _kill(draft: Draft, slot: p.Slot) -> None:
    draft.move(slot, LifeEvent.KILL)
    if slot.pid:
        draft.do(act.Signal(slot.index, signal.SIGKILL))
    elif draft.pool.mold.life is not p.MoldLife.ABSENT:
        draft.do(act.EndMold(kill=True))  # it never answered: whoever it forked goes with its channel


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _time_passed(draft: Draft, event: ev.TimePassed) -> None:
    mold = draft.pool.mold
    running = mold.life in (p.MoldLife.IMPORTING, p.MoldLife.LEAVING)
    if running and mold.deadline is not None and mold.deadline <= draft.now:
        if mold.life is p.MoldLife.IMPORTING:
            draft.write(
                "error",
                f"the mold did not finish importing within {draft.pool.plan.boot_s:g} s (--boot-timeout): SIGKILL",
            )
        draft.mold(mold.life, None)
        draft.do(act.EndMold(kill=True))
    for slot in draft.pool.slots:
        if slot.life in (Life.STARTING, Life.DRAINING) and slot.deadline is not None and slot.deadline <= draft.now:
            boot = f"boot within {draft.pool.plan.boot_s:g} s (--boot-timeout)"
            late = boot if slot.life is Life.STARTING else "leave in time"
            draft.write("error", f"worker {slot.index} (pid {slot.pid}) did not {late}: SIGKILL")
            _kill(draft, slot)


_HANDLERS: dict[type, Callable[[Draft, Any], None]] = {
    ev.Started: _started,
    ev.MoldImported: _mold_imported,
    ev.MoldUnsafe: _mold_unsafe,
    ev.MoldImportFailed: _mold_import_failed,
    ev.MoldExited: _mold_exited,
    ev.Forked: _forked,
    ev.ForkFailed: _fork_failed,
    ev.WorkerReady: _worker_ready,
    ev.WorkerDraining: _worker_draining,
    ev.WorkerExited: _worker_exited,
    ev.Asked: _asked,
    ev.TimePassed: _time_passed,
}
