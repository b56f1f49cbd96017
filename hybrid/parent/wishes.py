"""What control asks for, as events of the core, and what comes of it, as answers.

The parent parses no text from outside: a wish is a record of fixed size, and what fits nothing is refused. Who asks is
checked by control, which runs with the rights of ``--user``: whoever has those rights controls the pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from hybrid.ground.errors import UsageError
from hybrid.parent import actions as act
from hybrid.parent import events as ev
from hybrid.parent import pool as p
from hybrid.parent.by_hand import nobody_there
from hybrid.parent.noticing import boot_log, ended
from hybrid.parent.reload_stages import Stage
from hybrid.shared.messages import Op, Record
from hybrid.shared.notices import Answered

SOURCE = "control"
"""Who asks, in the log."""
MOST_WAITING = 256
"""Wishes that are not answered yet; one more is refused."""
STOPPING = "the server is stopping"

SLOT_INTENTS = {
    Op.CONTROL_PARK: ev.SlotIntent.PARK,
    Op.CONTROL_UNPARK: ev.SlotIntent.UNPARK,
    Op.CONTROL_DRAIN: ev.SlotIntent.DRAIN,
    Op.CONTROL_KILL: ev.SlotIntent.KILL,
}


class Doer(Protocol):
    """What is done by the shell, and not decided by the core."""

    @property
    def reopen_failure(self) -> str:
        """Return why a log file could not be opened anew the last time; nothing: all could."""

    def dump(self, slot: int, then: Callable[[str, str], None]) -> bool:
        """Have the stacks of a worker told to ``then``; False: there is none."""

    def turn(self, knob: int, value: int, token: int) -> str | None:
        """Set one of :mod:`hybrid.shared.knobs`; return what to say; None: the core answers. Raises: UsageError."""

    def loads(self) -> tuple[int, ...]:
        """Return the open connections of each slot."""


class Wishes:
    """Wishes of one control process. Runs in: parent.

    Args: events: where they are put. answer: tells control. doer: the shell.
    """

    def __init__(
        self, events: deque[ev.Event], pool: Callable[[], p.Pool], answer: Callable[[Answered], None], doer: Doer
    ) -> None:
        self._events = events
        self._pool = pool
        self._answer = answer
        self._doer = doer
        self._reloads: dict[int, int] = {}
        """Who waits for a reload: by token, the generation that it is to bring; 0: it has not begun."""
        self._upgrades: list[int] = []
        self._stops: list[int] = []
        self._reopenings: list[int] = []
        self._simple: dict[Op, Callable[[Record], None]] = {
            Op.CONTROL_RELOAD: self._reload,
            Op.CONTROL_SCALE: self._scale,
            Op.CONTROL_DUMP: self._dump,
            Op.CONTROL_SET: self._set,
            Op.CONTROL_STOP: self._stop,
            Op.CONTROL_REOPEN_LOGS: self._reopen_logs,
            Op.CONTROL_UPGRADE: self._upgrade,
            **dict.fromkeys(SLOT_INTENTS, self._slot),
        }

    def forget(self) -> None:
        """Answer nobody any more: control is gone."""
        self._reloads.clear()
        self._upgrades.clear()
        self._stops.clear()
        self._reopenings.clear()

    def hear(self, record: Record) -> None:
        """Take in a wish. One that is none is passed over."""
        take = self._simple.get(record.op)
        if record.op is Op.CONTROL_TURNS:  # also when it stops, and whoever else waits
            self._say(record.a, True, "")
        elif take is None:
            return
        elif len(self._reloads) + len(self._upgrades) + len(self._stops) + len(self._reopenings) >= MOST_WAITING:
            self._say(record.a, False, f"{MOST_WAITING} wishes wait for an answer already. Try again later.")
        elif self._pool().phase >= p.Phase.STOPPING and record.op not in (Op.CONTROL_STOP, Op.CONTROL_DUMP):
            self._say(record.a, False, STOPPING)
        else:
            take(record)

    def follow(self, before: p.Pool, after: p.Pool, actions: Sequence[act.Action]) -> None:
        """Answer those whose wish has come true, or will not."""
        for action in actions:
            if isinstance(action, act.Answer):
                self._say(action.token, action.ok, action.text)
            elif isinstance(action, act.ReopenLogs):
                failure = self._doer.reopen_failure
                for token in self._reopenings:
                    self._say(token, not failure, failure or "log files are opened anew")
                self._reopenings.clear()
        if self._reloads:
            self._follow_reloads(before, after, actions)
        if self._upgrades:
            self._follow_upgrades(before, after, actions)
        if self._stops and after.stop_step is not p.StopStep.NONE:
            said = [each.message for each in actions if isinstance(each, act.Write)]
            ours = [message.removeprefix(f"{SOURCE}: ") for message in said if message.startswith(f"{SOURCE}: ")]
            for token in self._stops:
                self._say(token, True, ours[0] if ours else STOPPING)
            self._stops.clear()

    def _say(self, token: int, ok: bool, text: str, detail: str = "") -> None:
        self._answer(Answered(token, ok, text, detail))

    # ── reload ──

    def _reload(self, record: Record) -> None:
        pool = self._pool()
        if pool.phase is p.Phase.BOOTING and pool.plan.waits_for_change:
            self._say(record.a, True, "booting anew")
        else:
            self._reloads[record.a] = 0
        self._events.append(ev.Asked(ev.Intent.RELOAD, SOURCE))

    def _follow_reloads(self, before: p.Pool, after: p.Pool, actions: Sequence[act.Action]) -> None:
        old, new = before.reload, after.reload
        if after.stop_step is not p.StopStep.NONE:
            for token in self._reloads:
                self._say(token, False, f"not reloaded: {STOPPING}")
            self._reloads.clear()
            return
        end = ended(before, after, actions)
        if end is not None:
            for token in [each for each, generation in self._reloads.items() if generation == old.generation]:
                del self._reloads[token]
                self._say(token, end.ok, end.text, end.detail)
        if new.stage is not Stage.IDLE and new.generation != old.generation:
            self._reloads.update({token: new.generation for token, given in self._reloads.items() if not given})

    # ── the rest ──

    def _scale(self, record: Record) -> None:
        least, most = (min(each, 1 << 31) for each in (record.b, record.c))
        self._events.append(ev.ScaleAsked(least, most, SOURCE, record.a, self._doer.loads()))

    def _slot(self, record: Record) -> None:
        self._events.append(ev.SlotAsked(record.slot, SLOT_INTENTS[record.op], SOURCE, record.a))

    def _dump(self, record: Record) -> None:
        def then(place: str, detail: str) -> None:
            where = f" at {place}" if place else ""
            self._say(record.a, True, f"worker {record.slot} is{where or ' where its stacks say'}", detail)

        if not self._doer.dump(record.slot, then):
            self._say(record.a, False, f"cannot dump slot {record.slot}: {nobody_there(self._pool())}")

    def _set(self, record: Record) -> None:
        try:
            said = self._doer.turn(record.slot, record.b, record.a)
        except (UsageError, OSError) as error:
            self._say(record.a, False, str(error))
            return
        if said is not None:
            self._say(record.a, True, said)

    def _stop(self, record: Record) -> None:
        self._stops.append(record.a)
        self._events.append(ev.Asked(ev.Intent.STOP_NOW if record.b else ev.Intent.STOP, SOURCE))

    def _reopen_logs(self, record: Record) -> None:
        self._reopenings.append(record.a)
        self._events.append(ev.Asked(ev.Intent.REOPEN_LOGS, SOURCE))

    def _upgrade(self, record: Record) -> None:
        self._upgrades.append(record.a)
        self._events.append(ev.Asked(ev.Intent.UPGRADE, SOURCE))

    def _follow_upgrades(self, before: p.Pool, after: p.Pool, actions: Sequence[act.Action]) -> None:
        if after.upgrade is p.UpgradeStage.DUE:
            ok, text = True, "the new program takes over"
        elif before.upgrade is not p.UpgradeStage.NONE and after.upgrade is p.UpgradeStage.NONE:
            said = [each.message for each in actions if isinstance(each, act.Write) and each.level == "error"]
            ok, text = False, said[-1] if said else "upgrade failed"
        elif after.stop_step is not p.StopStep.NONE:
            ok, text = False, f"not upgraded: {STOPPING}"
        else:
            return
        for token in self._upgrades:
            self._say(token, ok, text, "" if ok else boot_log(actions))
        self._upgrades.clear()
