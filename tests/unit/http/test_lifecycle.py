"""The table of a response's life: every pair, no way back, and that a response goes by it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from hybrid.http.head import HeadLimits, HeadReader
from hybrid.http.lifecycle import STEP_AFTER, STEPS, Said, Step
from hybrid.http.response import Response

SAYS: dict[Said, Callable[[Response], object]] = {
    Said.HINT: lambda response: response.informational(103, []),
    Said.START: lambda response: response.start(200, [], b"", trailers=False),
    Said.PIECE: lambda response: response.body(b"piece", True),
    Said.LAST: lambda response: response.body(b"last", False),
    Said.LAST_BEFORE_TRAILERS: lambda response: response.body(b"last", False),
    Said.TRAILER: lambda response: response.trailers([], True),
    Said.LAST_TRAILER: lambda response: response.trailers([], False),
}
WAYS: dict[Step, tuple[Said, ...]] = {
    Step.NEW: (),
    Step.HELD: (Said.START,),
    Step.BODY: (Said.START, Said.PIECE),
    Step.TRAILERS: (Said.START, Said.LAST_BEFORE_TRAILERS),
    Step.COMPLETE: (Said.START, Said.LAST),
}
"""How a response comes to each step."""


def response_at(step: Step, *, trailers: bool) -> Response:
    """Return a response that has come to ``step``; whether trailers were announced."""
    head = HeadReader(HeadLimits()).read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0)
    assert head is not None
    response = Response(head)
    for said in WAYS[step]:
        if said is Said.START:
            response.start(200, [], b"", trailers=trailers)
        else:
            SAYS[said](response)
    return response


def takes(response: Response, said: Said) -> bool:
    """Return whether it can be said; the only error is RuntimeError."""
    try:
        SAYS[said](response)
    except RuntimeError:
        return False
    return True


def test_both_forms_of_the_table_say_the_same() -> None:
    """The tuples that are looked at hold what the table lists, and nothing else."""
    assert all(STEP_AFTER[step][said] is STEPS.get((step, said)) for step, said in product(Step, Said))


def test_response_takes_what_its_step_lists() -> None:
    """Every pair: what the table does not list raises, what it lists does not."""
    for step, said in product(Step, Said):
        if step is Step.COMPLETE and said is Said.LAST_BEFORE_TRAILERS:
            continue  # a body that ends is one or the other by what was announced: LAST here
        announced = step is Step.TRAILERS or said is Said.LAST_BEFORE_TRAILERS
        assert takes(response_at(step, trailers=announced), said) is ((step, said) in STEPS), (step.name, said.name)


def test_response_only_goes_forward() -> None:
    """No step leads back: a response is never begun twice; nothing leads out of its end."""
    assert all(after >= before for (before, _), after in STEPS.items())
    assert not [before for before, _ in STEPS if before is Step.COMPLETE]
