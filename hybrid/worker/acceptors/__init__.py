"""Acceptors: how a worker takes connections off the listeners. One file for each way; see README.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hybrid.ground.errors import UsageError
from hybrid.worker.acceptors.acceptor import Acceptor, Entrance
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.acceptors.shared import Shared

ACCEPTORS: dict[str, Callable[[Entrance, Intake], Acceptor]] = {
    "shared": Shared,
    "shared=plain": partial(Shared, plain=True),
}
"""By the name that ``--accept`` takes."""


def make_acceptor(name: str, entrance: Entrance, intake: Intake) -> Acceptor:
    """Return the acceptor that ``--accept NAME`` asks for; ``intake`` starts, pauses and ends it.

    Raises: UsageError: there is none of that name.
    """
    try:
        make = ACCEPTORS[name]
    except KeyError:
        raise UsageError(f"--accept {name}: no such way of accepting. Use one of {', '.join(ACCEPTORS)}.") from None
    acceptor = make(entrance, intake)
    intake.acceptors.append(acceptor)
    return acceptor
