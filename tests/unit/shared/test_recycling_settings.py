"""The options of recycling: which of them need another one."""

from __future__ import annotations

import pytest

from hybrid.shared.recycling_settings import RecyclingSettings

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
