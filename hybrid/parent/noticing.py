"""What is new in the pool, as notices: read off two states of it, before and after a step, and the step's actions.

Pure, like the core, which is not asked: nothing decides anything by what is told. One place for all of it, so that the
log, ``events``, the page and the metrics tell the same.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from hybrid import __version__
from hybrid.ground.clock import Clock, wall
from hybrid.ground.states import Cause, Life
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.reload_stages import Stage
from hybrid.shared import notices as tell
from hybrid.shared.log_line import LogEvent
from hybrid.shared.stack_dump import cut

DETAIL_BYTES = 32768
"""Of a boot log, as it is told: its end says most."""
LINE_BYTES = 4096
"""Of the detail of a line in the log, as it is told: the log has the rest."""
KEPT = 256
"""Notices that are kept."""

STEPS = {
    Stage.RESOLVE: "reading the settings",
    Stage.IMPORT: "importing the app",
    Stage.CANARY: "starting the first worker",
}


def news(
    before: p.Pool, after: p.Pool, actions: Sequence[act.Action], event: ev.Event | None = None
) -> Iterator[tell.Notice]:
    """Yield what is new in ``after``. Args: event: what led to it."""
    for new, old in zip_longest(after.slots, before.slots):  # slots are added, and none is taken away
        if new is not old:
            yield from _of_worker(old or p.Slot(new.index), new, _cause(before, after), event)
    for action in actions:
        if isinstance(action, act.Resized):
            yield tell.Resized(action.before, action.target, action.reason, dict(action.inputs))
    yield from _of_reload(before, after, actions)
    if after.phase is not before.phase:
        yield tell.PhaseChanged(after.phase.name.lower())


def _cause(before: p.Pool, after: p.Pool) -> str:
    """Return why a worker had to be replaced, if one was counted in this step."""
    for cause in Cause:
        if after.replaced[cause] > before.replaced[cause]:
            return cause.name.lower()
    return ""


def _of_worker(old: p.Slot, new: p.Slot, cause: str, event: ev.Event | None) -> Iterator[tell.Notice]:
    if old.life is not Life.VACANT and (new.life is Life.VACANT or new.ticket != old.ticket):
        how = str(event.exit) if isinstance(event, ev.WorkerExited) and event.slot == new.index else "never came to be"
        yield tell.WorkerExited(new.index, old.pid, cause, how)
    if new.life is Life.VACANT:
        return
    if new.ticket != old.ticket:
        yield tell.WorkerStarted(new.index, new.seat, new.generation)
    elif new.life is old.life:
        return
    if new.life is Life.READY and old.life is Life.PARKED:
        yield tell.WorkerUnparked(new.index, new.pid)
    elif new.life is Life.READY or (new.life is Life.PARKED and old.life is Life.STARTING):
        yield tell.WorkerReady(new.index, new.pid)
    if new.life is Life.PARKED:
        yield tell.WorkerParked(new.index, new.pid)
    elif new.life is Life.DRAINING:
        yield tell.WorkerDraining(new.index, new.pid)


# ── a reload ─────────────────────────────────────────────────────────────────────────────────────────────────


def _of_reload(before: p.Pool, after: p.Pool, actions: Sequence[act.Action]) -> Iterator[tell.Notice]:
    old, new = before.reload, after.reload
    end = ended(before, after, actions)
    if end is not None:
        yield end
    if new.stage is Stage.IDLE:
        return
    if (new.stage, new.generation) != (old.stage, old.generation) and new.stage in STEPS:
        yield tell.ReloadStep(new.stage.name.lower(), STEPS[new.stage])
    serving = _serving(after, new.generation)
    if serving != _serving(before, new.generation):
        words = f"{serving} of {new.count} worker{'s' if new.count != 1 else ''} ready"
        yield tell.ReloadStep(new.stage.name.lower(), f"generation {new.generation}: {words}")


def _serving(pool: p.Pool, generation: int) -> int:
    return sum(slot.life in p.SERVING and slot.wanted for slot in pool.slots if slot.generation == generation)


def ended(before: p.Pool, after: p.Pool, actions: Sequence[act.Action]) -> tell.ReloadEnded | None:
    """Return how the reload that was under way in ``before`` has ended; None: it goes on, or there was none."""
    generation = before.reload.generation
    if before.reload.stage is Stage.IDLE or after.reload.generation == generation:
        return None
    if after.generation == generation:
        workers = f"{after.target} worker{'s' if after.target != 1 else ''}"
        return tell.ReloadEnded(True, f"generation {generation} serves with {workers}")
    failures = [each.message for each in actions if isinstance(each, act.Write) and each.level == "error"]
    said = next((message for message in failures if message.startswith("reload failed")), "")
    if said:
        text = f"{said.rstrip('.')}. Generation {after.generation} serves on."
        return tell.ReloadEnded(False, text, boot_log(actions))
    return tell.ReloadEnded(False, "reload ended: the server is stopping")


def boot_log(actions: Sequence[act.Action]) -> str:
    """Return what was logged below the last error of a step: a traceback, or what else a boot left behind."""
    details = [each.detail for each in actions if isinstance(each, act.Write) and each.level == "error"]
    found = next((detail for detail in reversed(details) if detail), "")
    data = found.encode(errors="replace")
    return found if len(data) <= DETAIL_BYTES else "…\n" + data[-DETAIL_BYTES:].decode(errors="ignore")


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told of the server besides the pool."""

    readiness: str
    app: str
    kind: str
    addresses: tuple[str, ...]
    started_at: float


def state_of(pool: p.Pool, facts: Facts) -> tell.PoolState:
    """Return the whole small state."""
    return tell.PoolState(
        phase=pool.phase.name.lower(),
        readiness=facts.readiness,
        stance=pool.stance.name.lower(),
        generation=pool.generation,
        target=pool.target,
        least=pool.least,
        most=pool.most,
        standby=pool.standby,
        size_reason=pool.size_reason,
        app=facts.app,
        kind=facts.kind,
        addresses=facts.addresses,
        reload_stage=pool.reload.stage.name.lower(),
        reload_source=pool.reload.source,
        reload_failure=pool.reload.failure,
        upgrade=pool.upgrade.name.lower(),
        pid=os.getpid(),
        started_at=facts.started_at,
        version=__version__,
    )


class Ledger:
    """The notices of this server, numbered; the last are kept for a control that starts later. Runs in: parent."""

    def __init__(self, held: Sequence[str] = (), clock: Clock = wall) -> None:
        """``held``: notices of the program before us in this process."""
        known = (tell.from_json(each) for each in held)
        self.kept: deque[tell.Notice] = deque((each for each in known if each is not None), maxlen=KEPT)
        self.number = self.kept[-1].number if self.kept else 0
        self._clock = clock

    def held(self) -> tuple[str, ...]:
        """Return the notices, as a successor takes them over."""
        return tuple(tell.to_json(each) for each in self.kept)

    def enter(self, notice: tell.Notice) -> tell.Notice:
        """Return ``notice`` with its number and the time."""
        self.number += 1
        entered = replace(notice, at=self._clock(), number=self.number)
        self.kept.append(entered)
        return entered

    def enter_line(self, event: LogEvent) -> tell.Notice:
        """Return the notice of a line in the log."""
        detail = cut(event.detail, LINE_BYTES)
        return self.enter(tell.Logged(event.level, event.who, event.message, detail))
