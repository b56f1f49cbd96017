"""How many workers ``--workers auto`` means. Pure: the facts come from procfs, cgroup and the mold.

Runs in: parent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_WORKER_BYTES = 32 << 20
"""What a worker is reckoned to grow to at least: its own loop, buffers and heap."""


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """``affinity``: CPUs we may run on. ``quota``: CPUs' worth of time the cgroups allow; None: no quota."""

    affinity: int
    quota: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """``limit_bytes``: what all processes together may use; None: unknown. The mold's figures: after the import."""

    limit_bytes: int | None
    mold_resident_bytes: int
    mold_private_bytes: int


def auto_workers(cpus: CpuFacts, memory: MemoryFacts) -> tuple[int, str]:
    """Return how many workers to run, and why, in words for the boot line.

    The least of the CPUs we may run on, the CPU quota rounded up, and what memory allows. A worker is reckoned to
    copy half of the mold's private memory in its life (reference counts are written), and to need 32 MB at least.
    Never less than 1: a server that was asked for serves, though memory may be short.
    """
    fits = _fitting(memory)
    limits: list[tuple[str, int | None, str]] = [
        ("CPU affinity", cpus.affinity, f"CPU affinity {cpus.affinity}"),
        (
            "cgroup quota",
            None if cpus.quota is None else math.ceil(cpus.quota),
            "cgroup quota none" if cpus.quota is None else f"cgroup quota {cpus.quota:.3g}",
        ),
        ("memory", fits, "memory unknown" if fits is None else f"memory allows {fits}"),
    ]
    name, least, shown = min(((n, v, s) for n, v, s in limits if v is not None), key=lambda limit: limit[1])
    count = max(1, least)
    # Where the figure shown differs from the count (a quota of 1.5, memory for 0), the boot line shows both.
    by = name if shown.endswith(f" {count}") else f"{name} ({shown.removeprefix(name).strip()})"
    others = "; ".join(other for other_name, _value, other in limits if other_name != name)
    return count, f"auto: {count} by {by}; {others}"


def _fitting(memory: MemoryFacts) -> int | None:
    if memory.limit_bytes is None:
        return None
    each = max(LEAST_WORKER_BYTES, memory.mold_private_bytes // 2)
    return max(0, memory.limit_bytes - memory.mold_resident_bytes) // each
