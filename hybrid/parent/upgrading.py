"""When a new program may take the parent's place. Rules of :mod:`hybrid.parent.core`."""

from __future__ import annotations

from dataclasses import replace

from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.draft import Draft
from hybrid.parent.reload_stages import Stage


def asked(draft: Draft, source: str) -> None:
    """Note the wish; a second one changes nothing."""
    is_stopping = draft.pool.phase >= p.Phase.STOPPING or draft.pool.stop_step is not p.StopStep.NONE
    if draft.pool.upgrade is p.UpgradeStage.NONE and not is_stopping:
        if not is_quiet(draft.pool):
            draft.write("info", f"{source}: upgrading as soon as nothing else is under way")
        draft.pool = replace(draft.pool, upgrade=p.UpgradeStage.ASKED)


def checked(draft: Draft, event: ev.UpgradeChecked) -> None:
    """The new program was tried: it can take over, or it cannot; or it was to, and the exec failed."""
    if draft.pool.upgrade not in (p.UpgradeStage.CHECKING, p.UpgradeStage.DUE):
        return
    if event.report.error:
        draft.pool = replace(draft.pool, upgrade=p.UpgradeStage.NONE)
        draft.write("error", f"upgrade failed: {event.report.error}; serving on as before", event.report.detail)
    elif draft.pool.upgrade is p.UpgradeStage.CHECKING:
        draft.pool = replace(draft.pool, upgrade=p.UpgradeStage.CHECKED)


def go_on(draft: Draft) -> None:
    """Try it, or do it, when nothing else is under way."""
    if not is_quiet(draft.pool):
        return
    if draft.pool.upgrade is p.UpgradeStage.ASKED:
        draft.pool = replace(draft.pool, upgrade=p.UpgradeStage.CHECKING)
        draft.do(act.CheckUpgrade())
    elif draft.pool.upgrade is p.UpgradeStage.CHECKED:
        draft.pool = replace(draft.pool, upgrade=p.UpgradeStage.DUE)
        draft.write("info", "upgrading: the new program takes over in this process")
        draft.do(act.CarryOutUpgrade())


def is_quiet(pool: p.Pool) -> bool:
    """Return whether nothing is under way that another program would have to go on with in the middle."""
    is_settled = pool.phase is p.Phase.RUNNING and pool.announced and pool.stop_step is p.StopStep.NONE
    return is_settled and pool.reload.stage is Stage.IDLE
