"""The tables of a request's life: every pair, and the gate that S7 asks for."""

from __future__ import annotations

from itertools import product

import pytest

from hybrid.ground.errors import IllegalTransition
from hybrid.http.lifecycle import STEP_AFTER, STEPS, TURN_AFTER, TURNS, Passed, Said, Step, Turn, step_after, turn_after


@pytest.mark.parametrize(("step", "said"), [*product(Step, Said)], ids=lambda each: each.name)
def test_every_step_is_listed_or_illegal(step: Step, said: Said) -> None:
    """What the table does not list raises, and both forms of the table say the same."""
    assert STEP_AFTER[step][said] is STEPS.get((step, said))
    if (step, said) in STEPS:
        assert step_after(step, said) is STEPS[step, said]
    else:
        with pytest.raises(IllegalTransition, match=f"{step.name} does not take {said.name}"):
            step_after(step, said)


@pytest.mark.parametrize(("turn", "passed"), [*product(Turn, Passed)], ids=lambda each: each.name)
def test_every_turn_is_listed_or_illegal(turn: Turn, passed: Passed) -> None:
    """What the table does not list raises, and both forms of the table say the same."""
    assert TURN_AFTER[turn][passed] is TURNS.get((turn, passed))
    if (turn, passed) in TURNS:
        assert turn_after(turn, passed) is TURNS[turn, passed]
    else:
        with pytest.raises(IllegalTransition, match=f"{turn.name} does not take {passed.name}"):
            turn_after(turn, passed)


def test_response_only_goes_forward() -> None:
    """No step leads back: a response is never begun twice; nothing leads out of its end."""
    assert all(after >= before for (before, _), after in STEPS.items())
    assert not [before for before, _ in STEPS if before is Step.COMPLETE]


@pytest.mark.parametrize(
    "passed",
    [
        (Passed.BARE_HEAD, Passed.RESPONSE),
        (Passed.HEAD, Passed.BODY, Passed.RESPONSE),
        (Passed.HEAD, Passed.RESPONSE, Passed.BODY),
    ],
    ids=["no body", "body first", "S7 early response"],
)
def test_gate_opens_when_body_and_response_have_ended(passed: tuple[Passed, ...]) -> None:
    """In whichever order; one event before, no head is read."""
    turn = Turn.NEXT
    for each in passed:
        turn = turn_after(turn, each)
        assert (turn is Turn.NEXT) is (each is passed[-1])


@pytest.mark.parametrize("turn", [turn for turn in Turn if turn is not Turn.NEXT], ids=lambda turn: turn.name)
@pytest.mark.parametrize("head", [Passed.HEAD, Passed.BARE_HEAD], ids=lambda head: head.name)
def test_no_head_is_read_elsewhere(turn: Turn, head: Passed) -> None:
    """S7: what comes while a body or a response is under way is no request."""
    with pytest.raises(IllegalTransition):
        turn_after(turn, head)


def test_end_is_final() -> None:
    """From everywhere, and nothing leads back: what follows a fault is never parsed."""
    assert {turn_after(turn, Passed.END) for turn in Turn} == {Turn.ENDED}
    assert {after for (before, _), after in TURNS.items() if before is Turn.ENDED} == {Turn.ENDED}
