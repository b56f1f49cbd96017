"""What can be set without a reload: from text to a number, and from the number to settings."""

from __future__ import annotations

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.knobs import KNOBS, applied, read
from hybrid.shared.options import all_options
from hybrid.shared.settings import Settings


@pytest.mark.parametrize(
    ("key", "value", "group", "field", "expected"),
    [
        ("log-level", "debug", "log", "level", "debug"),
        ("graceful-timeout", 2.5, "timeout", "grace_s", 2.5),
        ("graceful-timeout", "2.5", "timeout", "grace_s", 2.5),
        ("worker-timeout", 60, "health", "kill_s", 60.0),
        ("stall-dump", 0, "health", "dump_s", 0.0),
        ("standby", "3", "worker", "standby", 3),
    ],
)
def test_what_is_set_is_in_the_settings(key: str, value: object, group: str, field: str, expected: object) -> None:
    """Through two numbers, which is all that the parent is told."""
    name, settings = applied(Settings(), *read(key, value))
    assert name == key
    assert getattr(getattr(settings, group), field) == expected


def test_knobs_are_options() -> None:
    """By the name that the option has in a file; each has a number of its own."""
    assert KNOBS.keys() <= {option.key for option in all_options()}
    assert len({knob.number for knob in KNOBS.values()}) == len(KNOBS)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("bind", ":1", "There are log-level"),
        (None, 1, "There are log-level"),
        ("log-level", "loud", "not a level. Give one of debug"),
        ("log-level", 10, "not a level"),
        ("graceful-timeout", -1, "Give seconds"),
        ("graceful-timeout", "soon", "Give seconds"),
        ("graceful-timeout", True, "Give seconds"),
        ("graceful-timeout", 1e12, "Give seconds"),
        ("standby", 1.5, "Give a whole number"),
        ("standby", 10**6, "Give a whole number"),
    ],
)
def test_what_is_none_is_refused(key: object, value: object, words: str) -> None:
    """With what can be set, or what the knob takes."""
    with pytest.raises(UsageError, match=words):
        read(key, value)


@pytest.mark.parametrize(("number", "value"), [(1, 11), (99, 1), (2, 1 << 62), (5, 1 << 20)])
def test_parent_refuses_numbers_that_mean_nothing(number: int, value: int) -> None:
    """Control has no more rights than the app: what it sends is judged."""
    with pytest.raises(UsageError):
        applied(Settings(), number, value)


def test_contradiction_is_refused() -> None:
    """A worker is not replaced before its stacks are logged."""
    with pytest.raises(UsageError, match="Raise --worker-timeout"):
        applied(Settings(), *read("worker-timeout", 1))
