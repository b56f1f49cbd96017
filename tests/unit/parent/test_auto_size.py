"""--workers auto: the least of three, and the words for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.parent.auto_size import CpuFacts, MemoryFacts, auto_workers

MIB = 1 << 20
PLENTY = MemoryFacts(limit_bytes=10_000 * MIB, mold_resident_bytes=80 * MIB, mold_private_bytes=60 * MIB)


@pytest.mark.parametrize(
    ("cpus", "memory", "count", "reason"),
    [
        (CpuFacts(2), PLENTY, 2, "auto: 2 by CPU affinity; cgroup quota none; memory allows 310"),
        (CpuFacts(8, 3.0), PLENTY, 3, "auto: 3 by cgroup quota; CPU affinity 8; memory allows 310"),
        (CpuFacts(8, 2.5), PLENTY, 3, "auto: 3 by cgroup quota (2.5); CPU affinity 8; memory allows 310"),
        (CpuFacts(8, 0.25), PLENTY, 1, "auto: 1 by cgroup quota (0.25); CPU affinity 8; memory allows 310"),
        (CpuFacts(2, 2.0), PLENTY, 2, "auto: 2 by CPU affinity; cgroup quota 2; memory allows 310"),
        (
            CpuFacts(8),
            MemoryFacts(256 * MIB, 96 * MIB, 60 * MIB),
            5,
            "auto: 5 by memory; CPU affinity 8; cgroup quota none",
        ),
        (
            CpuFacts(8, 6.0),
            MemoryFacts(1024 * MIB, 424 * MIB, 400 * MIB),
            3,
            "auto: 3 by memory; CPU affinity 8; cgroup quota 6",
        ),
        (
            CpuFacts(8),
            MemoryFacts(64 * MIB, 80 * MIB, 60 * MIB),
            1,
            "auto: 1 by memory (allows 0); CPU affinity 8; cgroup quota none",
        ),
        (
            CpuFacts(4),
            MemoryFacts(None, 80 * MIB, 60 * MIB),
            4,
            "auto: 4 by CPU affinity; cgroup quota none; memory unknown",
        ),
    ],
)
def test_least_decides_and_the_reason_names_it(cpus: CpuFacts, memory: MemoryFacts, count: int, reason: str) -> None:
    """The deciding one comes first, the others are shown."""
    assert auto_workers(cpus, memory) == (count, reason)


@given(
    affinity=st.integers(1, 1024),
    quota=st.none() | st.floats(0.01, 1024),
    limit=st.none() | st.integers(0, 1 << 45),
    resident=st.integers(0, 1 << 40),
    private=st.integers(0, 1 << 40),
)
def test_there_is_always_a_worker_and_never_more_than_cpus(
    affinity: int, quota: float | None, limit: int | None, resident: int, private: int
) -> None:
    """Whatever the facts: at least one, at most one per CPU, and the count is in the words."""
    count, reason = auto_workers(CpuFacts(affinity, quota), MemoryFacts(limit, resident, private))
    assert 1 <= count <= affinity
    assert reason.startswith(f"auto: {count} by ")
