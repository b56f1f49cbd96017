"""Control groups of a test's own, with limits, where this machine lets us make any. Source: cgroups(7)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.eventually import eventually

TREE = Path("/sys/fs/cgroup")
PERIOD_US = 100_000


class ControlGroups:
    """Makes groups. Closes: all of them, on :meth:`close`; by then everybody has to have left."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def limit_cpus(self, cpus: float) -> None:
        """Make a group of so many CPUs. Skips the test where none can be made, as all here do."""
        quota = str(int(cpus * PERIOD_US))
        old = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": quota}
        self._make("cpu", {"cpu.max": f"{quota} {PERIOD_US}"}, old)

    def limit_memory(self, size: int) -> None:
        """Make a group of so many bytes."""
        self._make("memory", {"memory.max": str(size)}, {"memory.limit_in_bytes": str(size)})

    def enter(self) -> None:
        """Put the calling process into all of them. For ``preexec_fn``."""
        for group in self._made:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def close(self) -> None:
        """Remove them."""
        for group in self._made:
            eventually(lambda group=group: not (group / "cgroup.procs").read_text())  # type: ignore[misc]  # bound now
            group.rmdir()

    def _make(self, controller: str, new: dict[str, str], old: dict[str, str]) -> None:
        """Args: new, old: what to write into which file of version 2, and of version 1."""
        is_old = (TREE / controller / "tasks").exists()
        above = TREE / controller if is_old else TREE
        group = above / f"hybrid-test-{os.getpid()}-{controller}"
        try:
            if not is_old and controller not in (above / "cgroup.subtree_control").read_text().split():
                pytest.skip(f"no control group here can limit {controller}")
            group.mkdir()
        except OSError as error:
            pytest.skip(f"no control group that limits {controller} can be made here: {error.strerror}")
        self._made.append(group)
        for file, value in (old if is_old else new).items():
            (group / file).write_text(value)
