"""Runs the state tables of :mod:`hybrid.ground.states` and draws them for the docs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from hybrid.ground.errors import IllegalTransition

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


def advance(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """Return the state that ``event`` leads to.

    Raises: IllegalTransition: the table does not list the pair; the caller has a bug.
    """
    try:
        return table[(state, event)]
    except KeyError:
        raise IllegalTransition(
            f"{type(state).__name__} {state.name} does not take {event.name}: not in its table"
        ) from None


def mermaid(table: Mapping[tuple[S, E], S]) -> str:
    """Return the table as a Mermaid state diagram: the docs' picture is the code's table."""
    rows = ["stateDiagram-v2"]
    rows += [f"    {a.name} --> {b.name}: {event.name.lower()}" for (a, event), b in table.items()]
    return "\n".join(rows) + "\n"
