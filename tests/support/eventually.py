"""Wait for a condition instead of sleeping for a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WITHIN_S = 20.0
"""Patience, no measurement: what takes milliseconds may take seconds while other tests have the cores."""
_SHORTEST_S = 0.002
_LONGEST_S = 0.025


def eventually(check: Callable[[], T], within_s: float = WITHIN_S) -> T:
    """Return the first truthy result of ``check``; fail with its last result when the time is up.

    An AssertionError raised by ``check`` counts as "not yet" and is shown at the end.
    """
    began = time.monotonic()
    while True:
        last: object = None
        try:
            result = check()
            if result:
                return result
            last = result
        except AssertionError as error:
            last = error
        waited_s = time.monotonic() - began
        if waited_s > within_s:
            raise AssertionError(f"not within {within_s} s; last: {last!r}")
        time.sleep(_pause_s(waited_s))


async def eventually_async(check: Callable[[], T], within_s: float = WITHIN_S) -> T:
    """Do the same as :func:`eventually` without holding the loop."""
    began = time.monotonic()
    while True:
        last: object = None
        try:
            result = check()
            if result:
                return result
            last = result
        except AssertionError as error:
            last = error
        waited_s = time.monotonic() - began
        if waited_s > within_s:
            raise AssertionError(f"not within {within_s} s; last: {last!r}")
        await asyncio.sleep(_pause_s(waited_s))


def _pause_s(waited_s: float) -> float:
    """Return when to look again. Many a look reads all of /proc: who waits long looks less often."""
    return min(_LONGEST_S, max(_SHORTEST_S, waited_s / 16))
