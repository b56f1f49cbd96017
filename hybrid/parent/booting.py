"""How molds come and go, and what a failed boot means. Rules of :mod:`hybrid.parent.core`."""

from __future__ import annotations

from dataclasses import replace

from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent import reloading
from hybrid.parent.draft import Draft
from hybrid.parent.pace import STABLE_S, backoff_s
from hybrid.parent.resizing import bounds_of
from hybrid.parent.stopping import MOLD_LEAVE_S, boot_failed, end_mold, retire
from hybrid.shared.boot_report import Report


def started(draft: Draft, event: ev.Started) -> None:
    """Begin with a mold of the first generation."""
    preload = draft.pool.plan.preload != "off"
    mold = p.Mold(p.MoldLife.ABSENT, draft.pool.generation, preload=preload, deadline=draft.now)
    draft.pool = replace(draft.pool, molds=(mold,), started_at=draft.now)


def begin_anew(draft: Draft, source: str) -> None:
    """Boot once more, with the code that is there now: nothing has served yet."""
    draft.write("info", f"{source}: booting anew")
    draft.pool = replace(draft.pool, last_failure="", waits_after="")
    for slot in draft.pool.slots:
        if slot.wanted:
            retire(draft, slot)  # its seat is claimed anew
    mold = draft.pool.mold
    if mold.life in (p.MoldLife.IMPORTING, p.MoldLife.READY):
        end_mold(draft, mold.generation)
    mold = draft.pool.mold
    deadline = draft.now if mold.life is p.MoldLife.ABSENT else mold.deadline
    draft.mold(mold.generation, mold.life, deadline, failures=0)


def _importing(draft: Draft, generation: int) -> p.Mold | None:
    """Return the mold of ``generation`` if it imports; None: it was told to leave meanwhile."""
    mold = draft.pool.mold_of(generation)
    return mold if mold is not None and mold.life is p.MoldLife.IMPORTING else None


def mold_imported(draft: Draft, event: ev.MoldImported) -> None:
    """Fork from it, as many as the settings or the machine say."""
    if _importing(draft, event.generation) is None:
        return
    draft.mold(event.generation, p.MoldLife.READY, None)
    plan = draft.plan_of(event.generation)
    bounds = bounds_of(plan, event)
    if event.generation == draft.pool.reload.generation:
        reloading.imported(draft, bounds)
    elif not draft.pool.target:  # a mold that replaces another changes nothing about the size
        sized = replace(draft.pool, target=bounds.least, least=bounds.least, most=bounds.most, standby=plan.standby)
        draft.pool = replace(sized, size_reason=bounds.reason)


def mold_unsafe(draft: Draft, event: ev.MoldUnsafe) -> None:
    """Do without preloading, unless it was insisted on."""
    if _importing(draft, event.generation) is None:
        return
    if draft.plan_of(event.generation).preload == "on":
        _refuse_mold(draft, event.generation, "--preload on", event.report)
        return
    draft.write("warning", "not preloading: importing the app left what does not survive a fork", event.report.detail)
    draft.mold(event.generation, p.MoldLife.LEAVING, draft.now + MOLD_LEAVE_S, preload=False)
    draft.do(act.EndMold(event.generation))


def mold_import_failed(draft: Draft, event: ev.MoldImportFailed) -> None:
    """Show why, and try again later, unless nothing ever served."""
    if _importing(draft, event.generation) is None:
        return
    whats = {"exec": "the mold cannot be started", "tls": "TLS cannot be set up"}
    what = whats.get(event.report.step, "the app cannot be imported")
    _refuse_mold(draft, event.generation, what, event.report)


def _refuse_mold(draft: Draft, generation: int, what: str, report: Report) -> None:
    """Show and count the failure of a mold that has imported nothing useful, and let it go."""
    if generation == draft.pool.reload.generation:
        reloading.failed(draft, what, report)
        return
    boot_failed(draft, what, report)
    end_mold(draft, generation)
    mold = draft.pool.mold
    draft.mold(generation, mold.life, mold.deadline, failures=mold.failures + 1)


def mold_exited(draft: Draft, event: ev.MoldExited) -> None:
    """Start another, if its generation is to live on."""
    before = draft.pool.mold_of(event.generation)
    if before is None:
        return
    _give_up_on_forks(draft, event.generation)
    if draft.pool.phase >= p.Phase.STOPPING:
        draft.mold(event.generation, p.MoldLife.ABSENT, None)
    elif event.generation not in (draft.pool.generation, draft.pool.reload.generation):
        draft.drop_mold(event.generation)
    elif before.life is p.MoldLife.LEAVING:  # counted and shown when it was told to leave
        wait_s = backoff_s(before.failures) if before.failures else 0.0
        draft.mold(event.generation, p.MoldLife.ABSENT, draft.now + wait_s)
    elif event.generation != draft.pool.generation:
        draft.drop_mold(event.generation)
        reloading.failed(draft, f"its mold {event.exit}{_doing(before)}", Report())
    else:
        _died(draft, before, event.exit)


def _died(draft: Draft, before: p.Mold, exit: ev.Exit) -> None:
    could_fork = before.life is p.MoldLife.READY
    failures = 0 if could_fork and draft.now - before.since >= STABLE_S else before.failures + 1
    waited = failures - could_fork  # the first quick death of one that could fork is nobody's loop yet
    wait_s = backoff_s(waited) if waited > 0 else 0.0
    draft.mold(before.generation, p.MoldLife.ABSENT, draft.now + wait_s, failures=failures)
    if draft.pool.phase is p.Phase.BOOTING and failures >= draft.pool.plan.boot_attempts:
        times = "" if failures == 1 else f" {failures} times"
        boot_failed(draft, f"the mold {exit}{times} before a worker was ready", Report(step="import"))
        return
    after = f"; another starts in {wait_s:.1f} s" if wait_s else "; another starts"
    draft.write("error" if failures else "warning", f"the mold {exit}{_doing(before)}{after}")


def _doing(mold: p.Mold) -> str:
    """Return what a mold that has died was about, where that says where to look."""
    return " while it imported the app" if mold.life is p.MoldLife.IMPORTING else ""


def _give_up_on_forks(draft: Draft, generation: int) -> None:
    """The mold that was asked is gone: workers it has not reported never came to be."""
    for slot in draft.pool.slots:
        if slot.life in p.LIVING and slot.pid == 0 and slot.generation == generation:
            draft.lose(slot)
