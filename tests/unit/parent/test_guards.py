"""What forbids the pool to grow: memory, the quota, CPUs that are used up; with a kernel of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.parent.auto_size import LEAST_WORKER_BYTES
from hybrid.parent.guards import LOOK_NS, MEMORY_SHARE, SECOND, Guards, Kernel, judge_cpus, judge_memory
from hybrid.shared import cgroup, procfs

MB = 1 << 20


class FakeKernel:
    """Answers as it is told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.now_ns = 10 * SECOND
        self.free: int | None = 1000 * MB
        self.throttled: int | None = None
        self.private = {1: 40 * MB, 2: 60 * MB}
        self.used: dict[int, int] = {}
        self.asked: list[int] = []
        self.takes_ns = 0

    def private_bytes(self, pid: int) -> int:
        self.asked.append(pid)
        self.now_ns += self.takes_ns
        if pid not in self.private:
            raise ProcessLookupError(pid)
        return self.private[pid]

    def cpu_ns(self, pid: int) -> int:
        if pid not in self.used:
            raise ProcessLookupError(pid)
        return self.used[pid]

    def guards(self) -> Guards:
        return Guards(
            lambda: self.now_ns,
            Kernel(
                lambda: self.free, lambda: 2000 * MB, lambda: self.throttled, self.private_bytes, cpu_ns=self.cpu_ns
            ),
        )


@pytest.mark.parametrize(
    ("free", "limit", "need", "fits"),
    [
        (200 * MB, 2000 * MB, 100 * MB, True),
        (199 * MB, 2000 * MB, 100 * MB, False),
        (None, 2000 * MB, 100 * MB, True),
        (100 * MB, None, 100 * MB, True),
        (99 * MB, None, 100 * MB, False),
    ],
)
def test_memory_keeps_a_reserve(free: int | None, limit: int | None, need: int, fits: bool) -> None:
    """A twentieth, for what the workers that are there grow by. What nobody knows forbids nothing."""
    assert judge_memory(free, limit, need) is fits


def test_worker_is_reckoned_as_large_as_the_largest() -> None:
    """And at least as large as any becomes."""
    kernel = FakeKernel()
    guards = kernel.guards()
    assert guards.look([]).need_bytes == LEAST_WORKER_BYTES
    for _ in range(2):
        kernel.now_ns += LOOK_NS
        verdict = guards.look([1, 2])
    assert verdict.need_bytes == 60 * MB and verdict.can_boot
    kernel.free = 150 * MB
    kernel.now_ns += LOOK_NS
    assert not guards.look([1, 2]).can_boot


def test_workers_are_asked_about_in_turn() -> None:
    """One at each look; whoever is gone is forgotten, and costs nothing but the look."""
    kernel = FakeKernel()
    guards = kernel.guards()
    for pids in ([1, 2], [1, 2], [1, 2], [1, 2], [1, 9], [1]):
        kernel.now_ns += LOOK_NS
        guards.look(pids)
    assert kernel.asked == [1, 2, 1, 2, 9, 1]


def test_large_workers_are_asked_about_seldom() -> None:
    """The kernel goes through their page tables: no more than a hundredth of the time."""
    kernel = FakeKernel()
    kernel.takes_ns = SECOND // 5
    guards = kernel.guards()
    looks = 100
    for _ in range(looks):
        kernel.now_ns += LOOK_NS
        guards.look([1, 2])
    assert len(kernel.asked) <= looks * LOOK_NS // (MEMORY_SHARE * kernel.takes_ns) + 1


def test_between_two_looks_nothing_is_asked() -> None:
    """The sizing looks ten times a second; this need not."""
    kernel = FakeKernel()
    guards = kernel.guards()
    guards.look([1])
    kernel.free = 0
    kernel.now_ns += LOOK_NS - 1
    assert guards.look([1]).can_boot
    kernel.now_ns += 1
    assert not guards.look([1]).can_boot


def test_quota_that_holds_us_up_is_seen() -> None:
    """From the second look on: the first has nothing to compare with."""
    kernel = FakeKernel()
    kernel.throttled = 5 * SECOND
    guards = kernel.guards()
    assert not guards.look([1]).throttled
    for held_up, expected in ((SECOND // 20, False), (SECOND // 5, True), (0, False)):
        kernel.throttled += held_up
        kernel.now_ns += LOOK_NS
        assert guards.look([1]).throttled is expected


def test_cpus_that_are_used_up_are_seen() -> None:
    """Only where that is asked for; a worker that came or went meanwhile is no load that was measured."""
    kernel = FakeKernel()
    guards = kernel.guards()
    kernel.used = {1: 0, 2: 0}
    guards.look([1, 2], 2.0)
    for more, expected in ((SECOND // 2, False), (SECOND, True)):
        kernel.used = {pid: used + more for pid, used in kernel.used.items()}
        kernel.now_ns += LOOK_NS
        assert guards.look([1, 2], 2.0).throttled is expected
    kernel.used = {2: kernel.used[2], 3: 99 * SECOND}
    kernel.now_ns += LOOK_NS
    assert not guards.look([1, 2, 3], 2.0).throttled
    assert judge_cpus(1.8, 2.0) and not judge_cpus(1.7, 2.0)


# ── the real kernel ──────────────────────────────────────────────────────────────────────────────────────────


def tree(root: Path, version: int, **files: str) -> str:
    """Make a machine with one cgroup, and the files in it."""
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    kind, ours = ("cgroup2", "0::/") if version == 2 else ("cgroup", "3:cpu,memory:/")
    options = "rw" if version == 2 else "rw,cpu,memory"
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"{ours}\n")
    (root / "proc/self/mountinfo").write_text(f"30 20 0:1 / /sys/fs/cgroup rw - {kind} cgroup {options}\n")
    (root / "proc/meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 4000 kB\n")
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("version", "files", "free"),
    [
        (2, {"memory__max": "max", "memory__current": "1"}, 4000 << 10),
        (
            2,
            {"memory__max": "100000", "memory__current": "70000", "memory__stat": "anon 1\ninactive_file 5000"},
            35_000,
        ),
        (2, {"memory__high": "90000", "memory__max": "100000", "memory__current": "70000"}, 20_000),
        (1, {"memory__limit_in_bytes": "100000", "memory__usage_in_bytes": "99000"}, 1000),
        (2, {}, 4000 << 10),
    ],
)
def test_free_memory(tmp_path: Path, version: int, files: dict[str, str], free: int) -> None:
    """The least of what the groups and the machine leave; what the kernel can drop counts as free."""
    assert cgroup.memory_free_bytes(tree(tmp_path, version, **files)) == free


@pytest.mark.parametrize(
    ("version", "files", "held_ns"),
    [
        (2, {"cpu__max": "50000 100000", "cpu__stat": "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500"}, 2_500_000),
        (2, {"cpu__max": "max 100000", "cpu__stat": "throttled_usec 2500"}, None),
        (
            1,
            {"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "100000", "cpu__stat": "throttled_time 2500"},
            2500,
        ),
        (2, {}, None),
    ],
)
def test_throttled_time(tmp_path: Path, version: int, files: dict[str, str], held_ns: int | None) -> None:
    """Of the groups that have a quota; without one nobody is held up."""
    assert cgroup.cpu_throttled_ns(tree(tmp_path, version, **files)) == held_ns


def test_the_kernel_knows_our_own_time(tmp_path: Path) -> None:
    """Of all threads; one that is not there is an error that the guards pass over."""
    (tmp_path / "7").mkdir()
    ticks = " ".join(["S", *map(str, range(1, 30))])
    (tmp_path / "7/stat").write_text(f"7 (a b) {ticks}")
    assert procfs.cpu_ns(7, str(tmp_path)) % 1_000_000 == 0 and procfs.cpu_ns(7, str(tmp_path)) > 0
    with pytest.raises(OSError):
        procfs.cpu_ns(8, str(tmp_path))
