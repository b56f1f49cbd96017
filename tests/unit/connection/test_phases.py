"""The table of a connection's life lists what can happen, and refuses the rest."""

from __future__ import annotations

import itertools

import pytest

from hybrid.connection.phases import AFTER_CLOSE, AFTER_LOST, AFTER_MADE, PHASES, Phase, PhaseEvent
from hybrid.ground.errors import IllegalTransition
from hybrid.shared.machine import advance

IMPOSSIBLE = {
    (Phase.NEW, PhaseEvent.CLOSE),  # nobody knows of it yet
    (Phase.NEW, PhaseEvent.LOST),
    (Phase.OPEN, PhaseEvent.MADE),
    (Phase.CLOSING, PhaseEvent.MADE),
    (Phase.BROKEN, PhaseEvent.MADE),
    (Phase.BROKEN, PhaseEvent.LOST),  # a loop says so once
    (Phase.CLOSED, PhaseEvent.MADE),
    (Phase.CLOSED, PhaseEvent.LOST),
}


@pytest.mark.parametrize("pair", list(itertools.product(Phase, PhaseEvent)), ids=lambda pair: str(pair))
def test_every_pair_is_listed_or_impossible(pair: tuple[Phase, PhaseEvent]) -> None:
    """Each pair of phase and event has a next phase or is refused; none was forgotten."""
    if pair in IMPOSSIBLE:
        with pytest.raises(IllegalTransition):
            advance(PHASES, *pair)
    else:
        assert advance(PHASES, *pair) in Phase


def test_closed_is_the_end() -> None:
    """Nothing leads out of CLOSED."""
    assert {after for (before, _), after in PHASES.items() if before is Phase.CLOSED} == {Phase.CLOSED}


@pytest.mark.parametrize("pair", list(itertools.product(Phase, PhaseEvent)), ids=lambda pair: str(pair))
def test_rows_for_the_hot_path_say_the_same(pair: tuple[Phase, PhaseEvent]) -> None:
    """The tuples that connections use agree with the table; what is impossible changes nothing."""
    phase, event = pair
    rows = {PhaseEvent.MADE: AFTER_MADE, PhaseEvent.CLOSE: AFTER_CLOSE, PhaseEvent.LOST: AFTER_LOST}
    assert rows[event][phase] is PHASES.get(pair, phase)
