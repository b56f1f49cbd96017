"""Quotas and limits from trees as machines and containers have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.shared import cgroup

GIB = 1 << 30
UNLIMITED_V1 = "9223372036854771712"


class Tree:
    """A root directory with /proc and cgroup mounts, as one process would see them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mounts: list[str] = []
        self.write("proc/meminfo", "MemTotal: 16777216 kB\n")  # 16 GiB

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def own_groups(self, *lines: str) -> None:
        self.write("proc/self/cgroup", "".join(f"{line}\n" for line in lines))

    def mount(self, point: str, part: str = "/", controllers: str = "") -> None:
        """Version 2 without controllers; ``point`` and ``part`` as mountinfo writes them."""
        kind = f"cgroup cgroup rw,{controllers}" if controllers else "cgroup2 cgroup2 rw,nsdelegate"
        self._mounts.append(f"32 23 0:29 {part} {point} rw,nosuid shared:9 - {kind}")
        other = "23 1 8:1 / / rw - ext4 /dev/root rw"
        self.write("proc/self/mountinfo", "\n".join([other, *self._mounts, ""]))

    @property
    def quota(self) -> float | None:
        return cgroup.cgroup_cpu_quota(str(self.root))

    @property
    def memory(self) -> int | None:
        return cgroup.memory_limit_bytes(str(self.root))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_v2_takes_the_least_along_the_way(tree: Tree) -> None:
    """A limit of an ancestor holds below it; our own may be looser or absent."""
    tree.own_groups("0::/app.slice/web.service")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/app.slice/web.service/cpu.max", "400000 100000\n")
    tree.write("sys/fs/cgroup/app.slice/cpu.max", "150000 100000\n")
    tree.write("sys/fs/cgroup/app.slice/web.service/memory.max", "max\n")
    tree.write("sys/fs/cgroup/app.slice/memory.max", str(2 * GIB))
    assert tree.quota == 1.5
    assert tree.memory == 2 * GIB


def test_v2_reads_the_mount_point_too(tree: Tree) -> None:
    """In a container with its own cgroup namespace the limit is at the top of the mount."""
    tree.own_groups("0::/")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/cpu.max", "50000 100000\n")
    tree.write("sys/fs/cgroup/memory.max", str(GIB))
    assert tree.quota == 0.5
    assert tree.memory == GIB


def test_v2_without_limits_is_none(tree: Tree) -> None:
    """``max`` is no quota; memory is then the machine's."""
    tree.own_groups("0::/a")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/a/cpu.max", "max 100000\n")
    tree.write("sys/fs/cgroup/a/memory.max", "max\n")
    assert tree.quota is None
    assert tree.memory == 16 * GIB


def test_v2_memory_high_counts(tree: Tree) -> None:
    """Above memory.high the kernel throttles, so it is a limit for sizing."""
    tree.own_groups("0::/a")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/a/memory.max", str(4 * GIB))
    tree.write("sys/fs/cgroup/a/memory.high", str(3 * GIB))
    assert tree.memory == 3 * GIB


def test_v1_takes_the_least_along_the_way_of_each_controller(tree: Tree) -> None:
    """CPU and memory may be different trees with different paths."""
    tree.own_groups("4:memory:/m/deep", "3:cpu,cpuacct:/c", "0::/")
    tree.mount("/sys/fs/cgroup/cpu,cpuacct", controllers="cpu,cpuacct")
    tree.mount("/sys/fs/cgroup/memory", controllers="memory")
    tree.write("sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "250000\n")
    tree.write("sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n")
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    tree.write("sys/fs/cgroup/memory/m/deep/memory.limit_in_bytes", UNLIMITED_V1)
    tree.write("sys/fs/cgroup/memory/m/memory.limit_in_bytes", str(3 * GIB))
    assert tree.quota == 2.5
    assert tree.memory == 3 * GIB


def test_v1_huge_number_is_no_limit(tree: Tree) -> None:
    """What version 1 writes for "unlimited" is not taken for a limit."""
    tree.own_groups("4:memory:/")
    tree.mount("/sys/fs/cgroup/memory", controllers="memory")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1)
    tree.write("proc/meminfo", "")
    assert tree.memory is None


def test_v1_cpuset_is_not_taken_for_cpu(tree: Tree) -> None:
    """Controllers are compared whole: cpuset and cpuacct are not cpu."""
    tree.own_groups("3:cpuset:/", "2:cpuacct:/")
    tree.mount("/sys/fs/cgroup/cpuset", controllers="cpuset")
    tree.write("sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "100000")
    tree.write("sys/fs/cgroup/cpuset/cpu.cfs_period_us", "100000")
    assert tree.quota is None


def test_hybrid_hierarchy_reads_both(tree: Tree) -> None:
    """With the unified tree beside version 1, limits of both hold."""
    tree.own_groups("3:cpu:/a", "0::/b")
    tree.mount("/sys/fs/cgroup/cpu", controllers="cpu")
    tree.mount("/sys/fs/cgroup/unified")
    tree.write("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000")
    tree.write("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000")
    tree.write("sys/fs/cgroup/unified/b/memory.max", str(GIB))
    assert tree.quota == 3.0
    assert tree.memory == GIB


def test_mount_of_our_own_group_ends_the_way(tree: Tree) -> None:
    """A container with the host's paths and a mount of its own group only: the path is relative to that part."""
    tree.own_groups("3:cpu:/docker/abc/init", "0::/docker/abc/init")
    tree.mount("/sys/fs/cgroup/cpu", part="/docker/abc", controllers="cpu")
    tree.mount("/sys/fs/cgroup/unified", part="/docker/abc")
    tree.write("sys/fs/cgroup/cpu/init/cpu.cfs_quota_us", "-1")
    tree.write("sys/fs/cgroup/cpu/init/cpu.cfs_period_us", "100000")
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000")
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    tree.write("sys/fs/cgroup/unified/init/memory.max", str(GIB))
    assert tree.quota == 2.0
    assert tree.memory == GIB


def test_part_is_compared_by_whole_names(tree: Tree) -> None:
    """/docker/ab is not above /docker/abc; the mount that is, is taken."""
    tree.own_groups("0::/docker/abc")
    tree.mount("/wrong", part="/docker/ab")
    tree.mount("/right", part="/docker/abc")
    tree.write("wrong/cpu.max", "100000 100000")
    tree.write("wrong/c/cpu.max", "100000 100000")
    tree.write("right/cpu.max", "300000 100000")
    assert tree.quota == 3.0


def test_mount_of_another_part_is_taken_when_there_is_no_better(tree: Tree) -> None:
    """A container whose path does not match its mount still sees its limit at the mount's top."""
    tree.own_groups("4:memory:/")
    tree.mount("/sys/fs/cgroup/memory", part="/lxc/web", controllers="memory")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", str(GIB))
    assert tree.memory == GIB


def test_group_outside_of_our_namespace_has_no_readable_limit(tree: Tree) -> None:
    """A path with ``..`` is not below the mount: another group's limit is not taken for ours."""
    tree.own_groups("0::/../other")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/cpu.max", "100000 100000")
    assert tree.quota is None


def test_group_beside_our_namespace_is_found_below_a_wider_mount(tree: Tree) -> None:
    """A mount whose part begins above the namespace does show such a group."""
    tree.own_groups("0::/../other")
    tree.mount("/sys/fs/cgroup", part="/..")
    tree.write("sys/fs/cgroup/other/cpu.max", "100000 100000")
    assert tree.quota == 1.0


def test_directory_that_is_not_visible_is_passed_over(tree: Tree) -> None:
    """Where our own group's directory does not exist, its ancestors are still asked."""
    tree.own_groups("0::/host/only/path")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/cpu.max", "200000 100000")
    assert tree.quota == 2.0


def test_mount_point_with_a_space_is_understood(tree: Tree) -> None:
    """mountinfo's octal escapes are undone."""
    tree.own_groups("0::/")
    tree.mount("/sys/my\\040cgroup")
    tree.write("sys/my cgroup/cpu.max", "200000 100000")
    assert tree.quota == 2.0


def test_group_name_with_a_colon_is_kept_whole(tree: Tree) -> None:
    """Only the first two colons of a line separate."""
    tree.own_groups("0::/a:b")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/a:b/cpu.max", "200000 100000")
    assert tree.quota == 2.0


@pytest.mark.parametrize("text", ["", "nonsense", "100000 0", "max"])
def test_quota_that_makes_no_sense_is_none(text: str, tree: Tree) -> None:
    """A file that cannot be understood is no limit and no error."""
    tree.own_groups("0::/")
    tree.mount("/sys/fs/cgroup")
    tree.write("sys/fs/cgroup/cpu.max", text)
    assert tree.quota is None


def test_machine_without_cgroups_has_no_limits(tmp_path: Path) -> None:
    """Nothing to read at all: no quota, unknown memory, no error."""
    assert cgroup.cgroup_cpu_quota(str(tmp_path)) is None
    assert cgroup.memory_limit_bytes(str(tmp_path)) is None


def test_this_machine_can_be_read() -> None:
    """On the machine at hand the memory limit is a sensible number."""
    limit = cgroup.memory_limit_bytes()
    assert limit is not None and 16 << 20 < limit < 1 << 50
    assert cgroup.cgroup_cpu_quota() is None or cgroup.cgroup_cpu_quota() != 0
