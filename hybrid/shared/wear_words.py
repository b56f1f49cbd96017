"""A worker that has served enough, in words: what the parent logs about ``Op.WORN_OUT``."""

from __future__ import annotations

from hybrid.shared.messages import WearReason


def wear_words(reason: int, value: int, limit: int) -> str:
    """Return why a worker has served enough, to stand behind ``worker 1 is worn out: ``.

    Args: the record's a, b and c. Raises: nothing, whatever a worker has written there.
    """
    if reason == WearReason.REQUESTS:
        return f"it has served {value}, and its limit is {limit}"
    if reason == WearReason.LIFETIME:
        return f"it has lived {_seconds(value)}, and its limit is {_seconds(limit)}"
    if reason == WearReason.MEMORY:
        return f"it has {value >> 20} MB of its own, and its limit is {limit >> 20} MB"
    return "it says so"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3g} s" if milliseconds < 100_000 else f"{milliseconds // 1000} s"
