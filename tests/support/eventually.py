"""Wait for a condition instead of sleeping for a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.005


def eventually(check: Callable[[], T], within_s: float = 5.0) -> T:
    """Return the first truthy result of ``check``; fail with its last result when the time is up.

    An AssertionError raised by ``check`` counts as "not yet" and is shown at the end.
    """
    deadline = time.monotonic() + within_s
    while True:
        last: object = None
        try:
            result = check()
            if result:
                return result
            last = result
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s; last: {last!r}")
        time.sleep(_POLL_S)


async def eventually_async(check: Callable[[], T], within_s: float = 5.0) -> T:
    """Do the same as :func:`eventually` without holding the loop."""
    deadline = time.monotonic() + within_s
    while True:
        last: object = None
        try:
            result = check()
            if result:
                return result
            last = result
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s; last: {last!r}")
        await asyncio.sleep(_POLL_S)
