"""Which way of accepting serves which kind of handler, and what is said where one does not."""

from __future__ import annotations

import pytest

from hybrid.ground.errors import UsageError
from hybrid.shared.models import MODELS, check_pool, resolve

LOOP = ("shared", "shared=plain", "locked=fcntl", "locked=robust", "passing", "reuseport")
THREADED = (
    *("locked=fcntl", "locked=robust", "passing", "reuseport"),
    *("threads", "threads=mutex", "threads=main", "thread", "fork"),
)


def test_auto_is_the_default_of_each_kind() -> None:
    """shared for handlers in the loop, threads for blocking ones."""
    assert resolve("auto", threaded=False) == "shared"
    assert resolve("auto", threaded=True) == "threads"


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_every_pair_is_served_or_refused(name: str, threaded: bool) -> None:
    """A pair that cannot be is refused by name, with those that can."""
    fit = THREADED if threaded else LOOP
    if name in fit:
        assert resolve(name, threaded=threaded) == name
        return
    with pytest.raises(UsageError) as caught:
        resolve(name, threaded=threaded)
    said = str(caught.value)
    assert said.startswith(f"--accept {name} (")
    assert all(each in said for each in fit)


@pytest.mark.parametrize("name", MODELS)
def test_only_what_lives_from_a_parent_or_forks_needs_a_pool(name: str) -> None:
    """--workers 0 serves every other model in this process."""
    check_pool(name, 1)
    check_pool("auto", 0)
    if name in ("passing", "fork"):
        with pytest.raises(UsageError, match="needs a pool, and --workers 0 asks for none"):
            check_pool(name, 0)
    else:
        check_pool(name, 0)
