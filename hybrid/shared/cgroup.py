"""What control groups leave of the machine: CPU quota and memory limit, of version 1, version 2 and both at once.

A limit anywhere between our own group and the root holds for us, so the least along the way counts. Where the way
is, takes two files: ``/proc/self/cgroup`` says which group we are in, ``/proc/self/mountinfo`` where that tree is
mounted and *which part of it* (in a container often only our own group's: the mount's root is then the group's
path and the way ends there).

Every function takes ``root``, the directory that holds ``proc`` and the mounts, so that tests can bring a tree.
What cannot be read or understood is no limit: a wrong guess here would only make a server smaller than it could be.

Source: cgroups(7), cgroup_namespaces(7), proc(5) on mountinfo; Documentation/admin-guide/cgroup-v2.rst;
Documentation/scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from hybrid.shared import procfs

_UNLIMITED_BYTES = 1 << 60
"""Version 1 says "unlimited" as the largest page-aligned number, a little under 2 to the 63."""


_MEMORY = (
    ("memory.limit_in_bytes", "memory.usage_in_bytes", 1),
    ("memory.max", "memory.current", 2),
    ("memory.high", "memory.current", 2),
)
"""Files of a limit, of what counts against it, and the version that has them."""


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted cgroup tree: which part of it is where. ``controllers`` is empty for version 2."""

    version: int
    part: str
    point: str
    controllers: frozenset[str]


def cgroup_cpu_quota(root: str = "/") -> float | None:
    """Return how many CPUs' worth of time the groups allow, or None when they set no quota."""
    quotas = [
        quota
        for read, version in ((_cpu_v1, 1), (_cpu_v2, 2))
        for directory in _way(root, version, "cpu")
        if (quota := read(directory)) is not None
    ]
    return min(quotas, default=None)


def memory_limit_bytes(root: str = "/") -> int | None:
    """Return the least of the groups' memory limits and the machine's memory; None when nothing is known.

    Version 2's ``memory.high`` counts too: above it the kernel makes us wait for every page.
    """
    limits = [
        limit
        for name, _used, version in _MEMORY
        for directory in _way(root, version, "memory")
        if (limit := _number(f"{directory}/{name}")) is not None and 0 < limit < _UNLIMITED_BYTES
    ]
    total = procfs.memory_total_bytes(os.path.join(root, "proc"))
    return min([*limits, total] if total is not None else limits, default=None)


def memory_free_bytes(root: str = "/") -> int | None:
    """Return how much more memory we may use, before a limit or the machine's end is reached; None: nobody tells.

    What the kernel can drop at once (files that nobody has used lately) counts as free.
    """
    free = [
        limit - (used - _inactive_bytes(directory))
        for limit_name, used_name, version in _MEMORY
        for directory in _way(root, version, "memory")
        if (limit := _number(f"{directory}/{limit_name}")) is not None
        and 0 < limit < _UNLIMITED_BYTES
        and (used := _number(f"{directory}/{used_name}")) is not None
    ]
    available = procfs.memory_available_bytes(os.path.join(root, "proc"))
    return min([*free, available] if available is not None else free, default=None)


def _inactive_bytes(directory: str) -> int:
    for line in _text(f"{directory}/memory.stat").splitlines():
        name, _space, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):  # version 1 has both; the first is without its children
            return int(value)
    return 0


def cpu_throttled_ns(root: str = "/") -> int | None:
    """Return for how long, added up over the CPUs, quotas have held the groups up; None: there is no quota.

    Source: Documentation/scheduler/sched-bwc.rst.
    """
    times = [
        int(value) * unit
        for name, unit, version in (("throttled_time", 1, 1), ("throttled_usec", 1000, 2))
        for directory in _way(root, version, "cpu")
        if (_cpu_v1 if version == 1 else _cpu_v2)(directory) is not None
        for line in _text(f"{directory}/cpu.stat").splitlines()
        for key, _space, value in [line.partition(" ")]
        if key == name and value.isdecimal()
    ]
    return max(times, default=None)


def _cpu_v1(directory: str) -> float | None:
    quota = _number(f"{directory}/cpu.cfs_quota_us")
    period = _number(f"{directory}/cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _cpu_v2(directory: str) -> float | None:
    quota, _space, period = _text(f"{directory}/cpu.max").strip().partition(" ")
    try:
        return int(quota) / int(period or 100_000)
    except (ValueError, ZeroDivisionError):  # "max 100000", or no such file
        return None


def _way(root: str, version: int, controller: str) -> Iterator[str]:
    """Yield the directories from our own group up to where its tree is mounted."""
    group = _own_group(root, version, controller)
    if group is None:
        return
    mounts = [m for m in _mounts(root) if m.version == version and (version == 2 or controller in m.controllers)]
    ways = [(mount.point, below) for mount in mounts if (below := _below(group, mount.part)) is not None]
    if not ways and ".." not in group.split("/"):
        # The mount shows another part than our path says, as in a container that sees the host's path but only
        # its own tree (lxc, some nested containers). Its top is the nearest thing to our group.
        ways = [(mount.point, "") for mount in mounts[:1]]
    for point, below in ways:
        top = os.path.join(root, point.lstrip("/")) if root != "/" else point
        while below:
            yield f"{top}/{below}"
            below = below.rpartition("/")[0]
        yield top


def _below(group: str, part: str) -> str | None:
    """Return ``group`` relative to the mounted ``part``, or None when it is not inside."""
    if part == "/":
        inside = group
    elif group == part or group.startswith(part + "/"):
        inside = group[len(part) :]
    else:
        return None
    # "/../x": a group outside of our cgroup namespace; its directory is not below this mount.
    return None if ".." in inside.split("/") else inside.strip("/")


def _own_group(root: str, version: int, controller: str) -> str | None:
    for line in _text(os.path.join(root, "proc/self/cgroup")).splitlines():
        number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if version == 2 and number == "0" and not controllers and path:
            return path
        if version == 1 and controller in controllers.split(",") and path:
            return path
    return None


def _mounts(root: str) -> Iterator[_Mount]:
    for line in _text(os.path.join(root, "proc/self/mountinfo")).splitlines():
        before, dash, after = line.partition(" - ")
        where, what = before.split(" "), after.split(" ")
        if not dash or len(where) < 5 or len(what) < 3 or what[0] not in ("cgroup", "cgroup2"):
            continue
        part, point = _unescape(where[3]), _unescape(where[4])
        version = 2 if what[0] == "cgroup2" else 1
        yield _Mount(version, part, point, frozenset(what[2].split(",")) if version == 1 else frozenset())


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field


def _number(path: str) -> int | None:
    try:
        return int(_text(path))
    except ValueError:  # "max", or no such file
        return None


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:  # opened as text, CPython 3.10 to 3.13 keep some bytes of each file
            return file.read().decode(errors="surrogateescape")
    except OSError:
        return ""
