"""What runs with ``make test-long`` only: variations of what ``make test`` has one of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

T = TypeVar("T")


def long(*values: object) -> ParameterSet:
    """Return one case of a parametrized test, marked as long."""
    return pytest.param(*values, marks=pytest.mark.long)


def mostly_long(cases: Iterable[T], is_short: Callable[[T], bool]) -> list[object]:
    """Return the cases, all but the short ones marked as long. A case of several values is a tuple of them."""
    return [case if is_short(case) else long(*case) if isinstance(case, tuple) else long(case) for case in cases]
