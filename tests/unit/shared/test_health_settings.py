"""The options of a worker's health: what contradicts itself is refused."""

from __future__ import annotations

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.health_settings import HealthSettings, check_health
from hybrid.shared.keywords import refuse_what_needs_a_pool, settings_from_keywords


def test_limit_below_the_dump_is_refused() -> None:
    """It names both, their values, and what to change."""
    with pytest.raises(UsageError) as caught:
        settings_from_keywords("app:f", {"stall_dump": 5, "worker_timeout": 2})
    assert str(caught.value) == (
        "cannot use --worker-timeout 2 with --stall-dump 5: a worker would be replaced before its stacks are logged. "
        "Raise --worker-timeout, or lower --stall-dump."
    )


@pytest.mark.parametrize(("dump_s", "kill_s"), [(5.0, 5.0), (5.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_either_may_be_off(dump_s: float, kill_s: float) -> None:
    """0 contradicts nothing."""
    check_health(HealthSettings(dump_s, kill_s))


@pytest.mark.parametrize("guest", [True, False])
@pytest.mark.parametrize("name", ["stall_dump", "worker_timeout"])
def test_without_a_pool_they_are_refused(name: str, guest: bool) -> None:
    """Nobody would see that the loop stands still."""
    with pytest.raises(UsageError, match=f"cannot use {name}= with workers=0"):
        refuse_what_needs_a_pool({name: 3}, guest=guest)
