"""What the kernel tells about processes: CPUs they may use, memory, threads, descriptors.

``proc`` is the directory to read, so that tests can bring their own.
Source: proc(5), sched_getaffinity(2); smaps_rollup since Linux 4.14.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """How much memory one process uses.

    ``private_bytes``: pages that only this process has: what ends with it.
    ``resident_bytes``: all its pages in memory, shared ones counted in full.
    ``pss_bytes``: shared pages divided by how many share them: what adds up over processes.
    """

    private_bytes: int
    resident_bytes: int
    pss_bytes: int


def cpu_affinity() -> int:
    """Return how many CPUs this process may run on: what ``taskset`` and cpusets leave of the machine."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        return os.cpu_count() or 1


def memory_use(pid: int, proc: str = "/proc") -> MemoryUse:
    """Return the memory use of ``pid``; one pass over its page tables (about 1 ms per 100 MB).

    Where smaps_rollup is missing, ``statm`` gives an estimate: pages of files count as shared, all others as private.

    Raises: ProcessLookupError: no such process. PermissionError: it is not ours.
    """
    sizes: dict[str, int] = {}
    try:
        with open(f"{proc}/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                name, colon, value = line.partition(b":")
                if colon and value.endswith(b" kB\n"):
                    sizes[name.decode("ascii", "replace")] = int(value[:-4]) * 1024
    except FileNotFoundError:
        return memory_estimate(pid, proc)
    private = sum(sizes.get(name, 0) for name in ("Private_Clean", "Private_Dirty", "Private_Hugetlb"))
    return MemoryUse(private, sizes.get("Rss", 0), sizes.get("Pss", 0))


def memory_estimate(pid: int, proc: str = "/proc") -> MemoryUse:
    """Return what ``statm`` says at once, however large the process is: pages of files as shared, others as private.

    What a fork shares counts as private here. ``resident_bytes`` is right, up to what the CPUs have not added up yet
    (some MB on very many), and without huge pages of hugetlbfs. Raises: ProcessLookupError: no such process.
    """
    try:
        with open(f"{proc}/{pid}/statm", "rb") as file:
            pages = file.read().split()
    except FileNotFoundError:
        raise _gone(pid) from None
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    resident, shared = int(pages[1]) * page_bytes, int(pages[2]) * page_bytes
    return MemoryUse(resident - shared, resident, resident)


def memory_private_bytes(pid: int, proc: str = "/proc") -> int:
    """Return the memory that only ``pid`` holds. Raises: as :func:`memory_use`."""
    return memory_use(pid, proc).private_bytes


def memory_resident_bytes(pid: int, proc: str = "/proc") -> int:
    """Return the memory of ``pid``, shared pages counted in full. Raises: as :func:`memory_use`."""
    return memory_use(pid, proc).resident_bytes


def memory_pss_bytes(pid: int, proc: str = "/proc") -> int:
    """Return the memory of ``pid``, shared pages divided by their sharers. Raises: as :func:`memory_use`."""
    return memory_use(pid, proc).pss_bytes


def memory_total_bytes(proc: str = "/proc") -> int | None:
    """Return the machine's memory, or None where the system does not tell."""
    try:
        with open(f"{proc}/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemTotal:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def task_count(pid: int, proc: str = "/proc") -> int:
    """Return how many threads ``pid`` has, native ones included. Raises: ProcessLookupError: no such process."""
    try:
        return len(os.listdir(f"{proc}/{pid}/task"))
    except FileNotFoundError:
        raise _gone(pid) from None


def open_descriptors(pid: int, proc: str = "/proc") -> list[tuple[int, str]]:
    """Return the open descriptors of ``pid`` with what each points to: a path, ``socket:[inode]``, ``anon_inode:…``.

    The one that is open only to read the list is not in it.

    Raises: ProcessLookupError: no such process. PermissionError: it is not ours.
    """
    directory = f"{proc}/{pid}/fd"
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        raise _gone(pid) from None
    found: list[tuple[int, str]] = []
    for name in names:
        try:
            found.append((int(name), os.readlink(f"{directory}/{name}")))
        except FileNotFoundError:  # closed meanwhile; so is the listing's own
            continue
    return sorted(found)


def _gone(pid: int) -> ProcessLookupError:
    return ProcessLookupError(f"no process {pid}")
