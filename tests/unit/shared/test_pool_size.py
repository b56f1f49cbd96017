"""What --workers may say, and what it comes to on a machine."""

from __future__ import annotations

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.pool_size import PoolSize, check_size, is_range, parse


@pytest.mark.parametrize(
    ("given", "auto", "bounds"),
    [
        (4, 8, (4, 4)),
        ("auto", 8, (8, 8)),
        ("2..8", 4, (2, 8)),
        ("2..", 4, (2, 4)),
        ("6..", 4, (6, 6)),
        ("auto..", 4, (1, 5)),
        ("auto..3", 4, (1, 3)),
        ("3..3", 8, (3, 3)),
        ("2..90", 4, (2, 50)),
        ("60..90", 4, (50, 50)),
    ],
)
def test_what_it_comes_to(given: int | str, auto: int, bounds: tuple[int, int]) -> None:
    """A number is both bounds; an open end is what the machine allows; nothing is above the limit (here 50)."""
    assert parse(given).bounds(auto, 50) == bounds


def test_a_range_is_told_apart() -> None:
    """Only a range turns the sizing on; ``auto`` alone does not."""
    assert [each for each in (4, "auto", "2..8", "auto..") if is_range(each)] == ["2..8", "auto.."]
    assert parse("2..8") == PoolSize(2, 8, is_range=True)
    assert not parse("auto").is_range


@pytest.mark.parametrize(
    ("workers", "standby", "accept", "said"),
    [(0, 1, "auto", "--standby 1 with --workers 0"), ("1..4", 0, "fork", "a process for each connection")],
)
def test_what_makes_no_sense_is_refused(workers: int | str, standby: int, accept: str, said: str) -> None:
    """With what to do instead."""
    with pytest.raises(UsageError, match=said) as raised:
        check_size(workers, standby, accept)
    assert "leave out" in str(raised.value)


@pytest.mark.parametrize(("workers", "standby", "accept"), [(0, 0, "auto"), ("1..4", 2, "shared"), (4, 1, "fork")])
def test_what_makes_sense_is_taken(workers: int | str, standby: int, accept: str) -> None:
    """A pool without a range may have standbys with every way of accepting."""
    check_size(workers, standby, accept)
