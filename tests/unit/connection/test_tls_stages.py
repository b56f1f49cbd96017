"""The table of a TLS connection's life lists what can happen, and refuses the rest."""

from __future__ import annotations

import itertools

import pytest

from hybrid.connection.tls_stages import AFTER, STAGES, Stage, StageEvent
from hybrid.ground.errors import IllegalTransition
from hybrid.shared.machine import advance

IMPOSSIBLE = {
    (Stage.HANDSHAKE, StageEvent.END),  # there is nobody yet who could
    (Stage.OPEN, StageEvent.SECURED),
    (Stage.ENDED, StageEvent.SECURED),
    (Stage.ENDED, StageEvent.END),
    (Stage.CLOSING, StageEvent.SECURED),
    (Stage.CLOSING, StageEvent.END),
    (Stage.CLOSING, StageEvent.CLOSE),
    (Stage.LOST, StageEvent.SECURED),
    (Stage.LOST, StageEvent.END),
    (Stage.LOST, StageEvent.CLOSE),
}
PAIRS = list(itertools.product(Stage, StageEvent))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_every_pair_is_listed_or_impossible(pair: tuple[Stage, StageEvent]) -> None:
    """Each pair of stage and event has a next stage or is refused; none was forgotten."""
    if pair in IMPOSSIBLE:
        with pytest.raises(IllegalTransition):
            advance(STAGES, *pair)
    else:
        assert advance(STAGES, *pair) in Stage


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_rows_say_what_the_table_says(pair: tuple[Stage, StageEvent]) -> None:
    """A pair that is not listed stays where it is: close() is idempotent, and comes after a loss too."""
    assert AFTER[pair[0]][pair[1]] is STAGES.get(pair, pair[0])
