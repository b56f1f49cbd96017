"""Life of a reload: one enum, one table. Run by :func:`hybrid.shared.machine.advance`."""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """How far a reload has come."""

    IDLE = 0
    """None is under way."""
    RESOLVE = 1
    """A child reads the command line, the environment and the files anew."""
    IMPORT = 2
    """The new generation's mold imports the app."""
    CANARY = 3
    """The new generation's first worker boots; nothing has changed for anybody yet."""
    ROLL = 4
    """A worker of the new generation becomes ready, one of the old is parked, and so on."""


class StageEvent(IntEnum):
    """What moves a reload from one :class:`Stage` to the next."""

    ASKED = 0
    """Somebody wants the new code."""
    RESOLVED = 1
    """The new settings are there."""
    IMPORTED = 2
    """The new mold can fork."""
    SERVES = 3
    """The first worker of the new generation accepts."""
    COMMITTED = 4
    """All of them do: the old generation drains."""
    FAILED = 5
    """Something did not come up: the old generation goes on as if nothing had happened."""
    STOPPED = 6
    """The pool stops: there is no generation to come."""


STAGES: dict[tuple[Stage, StageEvent], Stage] = {
    (Stage.IDLE, StageEvent.ASKED): Stage.RESOLVE,
    (Stage.RESOLVE, StageEvent.RESOLVED): Stage.IMPORT,
    (Stage.IMPORT, StageEvent.IMPORTED): Stage.CANARY,
    (Stage.CANARY, StageEvent.SERVES): Stage.ROLL,
    (Stage.ROLL, StageEvent.COMMITTED): Stage.IDLE,
    **{(stage, StageEvent.FAILED): Stage.IDLE for stage in Stage if stage is not Stage.IDLE},
    **{(stage, StageEvent.STOPPED): Stage.IDLE for stage in Stage},
}
