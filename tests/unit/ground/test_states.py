"""The life of a worker: every pair of state and event."""

from __future__ import annotations

from itertools import product

import pytest

from hybrid.ground.errors import IllegalTransition
from hybrid.ground.states import LIFE, Life, LifeEvent
from hybrid.shared.machine import advance, mermaid


@pytest.mark.parametrize(("state", "event"), list(product(Life, LifeEvent)))
def test_every_pair_moves_or_raises(state: Life, event: LifeEvent) -> None:
    """A listed pair moves; an unlisted one raises and names both."""
    if (state, event) in LIFE:
        assert advance(LIFE, state, event) is LIFE[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{state.name}.*{event.name}"):
            advance(LIFE, state, event)


def test_every_life_can_end() -> None:
    """From wherever a worker is, a reap leads to EXITED and on to VACANT."""
    for state in Life:
        if state not in (Life.VACANT, Life.EXITED):
            assert LIFE[state, LifeEvent.REAPED] is Life.EXITED
    assert LIFE[Life.EXITED, LifeEvent.VACATE] is Life.VACANT


def test_diagram_shows_every_transition() -> None:
    """The docs' picture leaves nothing out."""
    assert len(mermaid(LIFE).splitlines()) == len(LIFE) + 1
