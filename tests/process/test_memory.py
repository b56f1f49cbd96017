"""What workers share: what the mold has imported before it forks them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.conftest import Serve


def maps(pid: int) -> str:
    """Return what is mapped into a process."""
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_the_loop_is_imported_before_the_fork(serve: Serve, preload: str) -> None:
    """Each worker would have it anew, and what an import writes to would be its own: 2 MB in each."""
    pytest.importorskip("uvloop")
    server = serve("tests.apps.hello:hello", "--workers", "1", "--preload", preload)
    assert "/uvloop/loop." in maps(server.mold_pid())
    assert server.mold_pid() != server.workers()[0].pid


def test_a_loop_that_is_not_used_is_not_imported(serve: Serve) -> None:
    """``--loop asyncio`` is without it in every process."""
    server = serve("tests.apps.hello:hello", "--workers", "1", "--loop", "asyncio")
    assert "/uvloop/" not in maps(server.mold_pid()) + maps(server.workers()[0].pid)
