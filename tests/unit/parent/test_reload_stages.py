"""The table of a reload: every stage with every event."""

from __future__ import annotations

import pytest

from hybrid.ground.errors import IllegalTransition
from hybrid.parent.reload_stages import STAGES, Stage, StageEvent
from hybrid.shared.machine import advance

FORWARD = {
    (Stage.IDLE, StageEvent.ASKED): Stage.RESOLVE,
    (Stage.RESOLVE, StageEvent.RESOLVED): Stage.IMPORT,
    (Stage.IMPORT, StageEvent.IMPORTED): Stage.CANARY,
    (Stage.CANARY, StageEvent.SERVES): Stage.ROLL,
    (Stage.ROLL, StageEvent.COMMITTED): Stage.IDLE,
}


@pytest.mark.parametrize("event", StageEvent)
@pytest.mark.parametrize("stage", Stage)
def test_every_stage_with_every_event(stage: Stage, event: StageEvent) -> None:
    """Forward one by one; back to nothing from anywhere; all else is a bug and says so."""
    if event is StageEvent.STOPPED or (event is StageEvent.FAILED and stage is not Stage.IDLE):
        assert advance(STAGES, stage, event) is Stage.IDLE
    elif (stage, event) in FORWARD:
        assert advance(STAGES, stage, event) is FORWARD[stage, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{stage.name} does not take {event.name}"):
            advance(STAGES, stage, event)
