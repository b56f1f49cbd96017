"""What the benchmarks measure with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PINS = "import os, sys; from hybrid.bench.measure import pin; pin(int(sys.argv[1])); print(*os.sched_getaffinity(0))"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_server_is_pinned_beside_the_client_that_started_it() -> None:
    """A child inherits the CPU that its parent was pinned to; told to take another one, it does."""
    cpus = sorted(os.sched_getaffinity(0))

    def start(number: int) -> str:
        child = subprocess.run(
            [sys.executable, "-c", PINS, str(number)],
            preexec_fn=lambda: os.sched_setaffinity(0, {cpus[1]}),
            capture_output=True,
            text=True,
            check=True,
        )
        return child.stdout.strip()

    assert [start(0), start(1)] == [str(cpus[0]), str(cpus[1])]
