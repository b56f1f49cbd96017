"""How patient the parent is with what fails again and again."""

from __future__ import annotations

STABLE_S = 1.0
"""A worker that lived this long after READY did not die of its boot; nor did a mold."""


def backoff_s(failures: int) -> float:
    """Return how long a slot waits after its ``failures``-th quick death in a row: 0.5 s, growing, 30 s at most."""
    return float(min(30.0, 0.5 * 1.5 ** min(failures - 1, 20)))
