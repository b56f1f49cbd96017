"""What /proc says, of real processes and of trees made for the test."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import pytest

from hybrid.shared import procfs

NO_PROCESS = 2**22 + 1
"""Above the largest pid the kernel gives."""

ROLLUP = """\
55c141b65000-7ffdb8c05000 ---p 00000000 00:00 0                          [rollup]
Rss:                1740 kB
Pss:                 376 kB
Pss_Dirty:           112 kB
Shared_Clean:       1580 kB
Private_Clean:        48 kB
Private_Dirty:       112 kB
Private_Hugetlb:    2048 kB
Swap:                  0 kB
"""


def test_affinity_is_what_the_kernel_allows() -> None:
    """taskset's mask counts, not the machine's CPUs."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert procfs.cpu_affinity() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert procfs.cpu_affinity() == len(allowed)


def test_rollup_is_read(tmp_path: Path) -> None:
    """Private memory is clean, dirty and huge pages that nobody else has."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps_rollup").write_text(ROLLUP)
    proc = str(tmp_path)
    assert procfs.memory_use(7, proc) == procfs.MemoryUse((48 + 112 + 2048) * 1024, 1740 * 1024, 376 * 1024)
    assert procfs.memory_private_bytes(7, proc) == (48 + 112 + 2048) * 1024
    assert procfs.memory_resident_bytes(7, proc) == 1740 * 1024
    assert procfs.memory_pss_bytes(7, proc) == 376 * 1024


def test_memory_is_estimated_where_there_is_no_rollup(tmp_path: Path) -> None:
    """Without smaps_rollup the pages that are not of files count as private."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("1000 300 100 5 0 200 0\n")
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    assert procfs.memory_use(7, str(tmp_path)) == procfs.MemoryUse(200 * page_bytes, 300 * page_bytes, 300 * page_bytes)


def test_estimate_does_not_walk_the_pages(tmp_path: Path) -> None:
    """The rollup is not even looked for; of a real process nothing that is private is missing."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps_rollup").write_text(ROLLUP)
    (tmp_path / "7" / "statm").write_text("1000 300 100 5 0 200 0\n")
    assert procfs.memory_estimate(7, str(tmp_path)).resident_bytes == 300 * os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(ProcessLookupError):
        procfs.memory_estimate(NO_PROCESS)
    private = procfs.memory_private_bytes(os.getpid())
    assert procfs.memory_estimate(os.getpid()).resident_bytes > private * 7 // 8


def test_memory_that_is_touched_becomes_private() -> None:
    """4 MB written here are seen as 4 MB more that only this process has."""
    before = procfs.memory_private_bytes(os.getpid())
    with mmap.mmap(-1, 4 << 20) as memory:
        memory.write(b"x" * (4 << 20))
        grown = procfs.memory_private_bytes(os.getpid()) - before
    assert 4 << 20 <= grown < 12 << 20


def test_threads_are_counted() -> None:
    """A thread counts from its start to its end."""
    before = procfs.task_count(os.getpid())
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert procfs.task_count(os.getpid()) == before + 1
    stop.set()
    thread.join()


def test_open_descriptors_are_listed_with_what_they_are(tmp_path: Path) -> None:
    """A file is its path, a pipe a pipe; the descriptor that reads the list is not in it."""
    before = dict(procfs.open_descriptors(os.getpid()))
    read, write = os.pipe()
    with open(tmp_path / "file", "w") as file:
        new = {fd: link for fd, link in procfs.open_descriptors(os.getpid()) if fd not in before}
        assert new.keys() == {read, write, file.fileno()}
        assert new[file.fileno()] == str(tmp_path / "file")
        assert new[read].startswith("pipe:")
    os.close(read)
    os.close(write)
    assert dict(procfs.open_descriptors(os.getpid())) == before


def test_process_that_is_gone_is_a_lookup_error() -> None:
    """Every question about a dead process raises the same thing."""
    for ask in (procfs.memory_use, procfs.task_count, procfs.open_descriptors):
        with pytest.raises(ProcessLookupError):
            ask(NO_PROCESS)


@pytest.mark.parametrize(
    ("text", "total"), [("MemTotal:  2048 kB\n", 2 << 20), ("nonsense\n", None), ("MemTotal:\n", None)]
)
def test_machine_memory_is_read_or_unknown(text: str, total: int | None, tmp_path: Path) -> None:
    """A meminfo that says nothing is unknown, not an error."""
    (tmp_path / "meminfo").write_text(text)
    assert procfs.memory_total_bytes(str(tmp_path)) == total


def test_machine_memory_is_unknown_without_proc(tmp_path: Path) -> None:
    """A system without /proc is unknown, not an error."""
    assert procfs.memory_total_bytes(str(tmp_path)) is None
