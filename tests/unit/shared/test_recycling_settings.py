"""The options of recycling: which need another one, and what the parent says of a worker that is worn out."""

from __future__ import annotations

import pytest

from hybrid.shared.messages import WearReason
from hybrid.shared.recycling_settings import RecyclingSettings
from hybrid.shared.wear_words import wear_words

MB = 1 << 20


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (RecyclingSettings(), []),
        (RecyclingSettings(max_requests=5, max_requests_jitter=5), []),
        (RecyclingSettings(max_lifetime_s=5.0, jitter_percent=0), []),
        (RecyclingSettings(max_memory_bytes=64 * MB, jitter_percent=50), []),
        (RecyclingSettings(max_requests_jitter=0), ["--max-requests-jitter"]),
        (RecyclingSettings(max_lifetime_s=5.0, max_requests_jitter=5), ["--max-requests-jitter"]),
        (RecyclingSettings(jitter_percent=0), ["--recycle-jitter"]),
    ],
)
def test_jitter_without_a_limit_is_said_to_have_no_effect(settings: RecyclingSettings, flags: list[str]) -> None:
    """By the option's name."""
    assert [said.partition(" has no effect without --max-")[0] for said in settings.without_effect] == flags


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((WearReason.REQUESTS, 10432, 10391), "it has served 10432, and its limit is 10391"),
        ((WearReason.LIFETIME, 3_600_250, 3_600_000), "it has lived 3600 s, and its limit is 3600 s"),
        ((WearReason.LIFETIME, 1_510, 1_500), "it has lived 1.51 s, and its limit is 1.5 s"),
        ((WearReason.MEMORY, 530 * MB, 528 * MB), "it has 530 MB of its own, and its limit is 528 MB"),
        ((99, 2**64 - 1, 0), "it says so"),
    ],
)
def test_wear_in_words(given: tuple[int, int, int], words: str) -> None:
    """Numbers with their units; whatever a worker says is a line."""
    assert wear_words(*given) == words
