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


def cpu_ns(pid: int, proc: str = "/proc") -> int:
    """Return how long all threads of ``pid`` together have run, in ns. Raises: OSError: no such process."""
    fields = _whole(f"{proc}/{pid}/stat").rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


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
    return _meminfo(b"MemTotal:", proc)


def memory_available_bytes(proc: str = "/proc") -> int | None:
    """Return what the machine can still give without swapping, or None where the system does not tell."""
    return _meminfo(b"MemAvailable:", proc)


def _meminfo(name: bytes, proc: str) -> int | None:
    try:
        with open(f"{proc}/meminfo", "rb") as file:
            for line in file:
                if line.startswith(name):
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


@dataclass(frozen=True, slots=True)
class ThreadState:
    """What one thread is doing, and what it has had of the CPUs since it began."""

    letter: str
    """As proc(5) has it: R runs or could, S sleeps, D waits for a disk, T is stopped, t is traced, Z is dead."""
    on_cpu_ns: int
    waiting_ns: int
    """Runnable, and not running. 0 where the kernel does not account for it."""


def thread_state(pid: int, tid: int, proc: str = "/proc") -> ThreadState | None:
    """Return what thread ``tid`` of ``pid`` is doing; None: it is gone, or nobody tells. Raises: nothing."""
    place = f"{proc}/{pid}/task/{tid}"
    try:
        fields = _whole(f"{place}/stat").rpartition(b")")[2].split()
        letter, ticks = fields[0].decode("ascii"), int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return None
    try:
        on_cpu_ns, waiting_ns, times = map(int, _whole(f"{place}/schedstat").split())
    except (OSError, ValueError):
        times = 0
    if not times:  # without the accounting the kernel prints zeros
        on_cpu_ns, waiting_ns = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"), 0
    return ThreadState(letter, on_cpu_ns, waiting_ns)


def catches(pid: int, number: int, proc: str = "/proc") -> bool:
    """Return whether ``pid`` has a handler for signal ``number``; False, too, where the system does not tell."""
    try:
        for line in _whole(f"{proc}/{pid}/status").splitlines():
            if line.startswith(b"SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except (OSError, ValueError, IndexError):
        pass
    return False


def _whole(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(65536)
