"""What /proc says, of real processes and of trees made for the test."""

from __future__ import annotations

import mmap
import os
import signal
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
    """32 MB written here are seen as so much more that only this process has, give or take what else comes and goes."""
    before = procfs.memory_private_bytes(os.getpid())
    with mmap.mmap(-1, 32 << 20) as memory:
        memory.write(b"x" * (32 << 20))
        grown = procfs.memory_private_bytes(os.getpid()) - before
    assert 24 << 20 <= grown < 48 << 20


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


# ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────


def make_thread(root: Path, stat: str, schedstat: str | None) -> None:
    """Make a tree with thread 8 of process 7."""
    place = root / "7/task/8"
    place.mkdir(parents=True)
    (place / "stat").write_text(stat)
    if schedstat is not None:
        (place / "schedstat").write_text(schedstat)


def test_thread_state_of_a_real_thread() -> None:
    """One that asks is running, and has used its CPU for a while."""
    state = procfs.thread_state(os.getpid(), threading.get_native_id())
    assert state is not None and state.letter == "R" and state.on_cpu_ns > 0


def test_thread_state_is_read_past_an_odd_name(tmp_path: Path) -> None:
    """The name in the middle of the line is the process's own choice: it may hold anything."""
    make_thread(tmp_path, "8 (a) R 1 (b) D 1 2 3 4 5 6 7 8 9 10 11 12 13\n", "500 600 7\n")
    assert procfs.thread_state(7, 8, str(tmp_path)) == procfs.ThreadState("D", 500, 600)


@pytest.mark.parametrize("schedstat", [None, "0 0 0\n", "nonsense\n"])
def test_thread_state_without_accounts_is_in_ticks(tmp_path: Path, schedstat: str | None) -> None:
    """A kernel that keeps none: user and system time, and no waiting."""
    make_thread(tmp_path, "8 (x) S 1 2 3 4 5 6 7 8 9 10 3 4 13\n", schedstat)
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert procfs.thread_state(7, 8, str(tmp_path)) == procfs.ThreadState("S", 7 * tick_ns, 0)


@pytest.mark.parametrize("stat", ["", "8 (x) S 1\n", "8 (x) S a b c d e f g h i j k l\n", ") \xff"])
def test_thread_state_of_what_is_none_is_none(tmp_path: Path, stat: str) -> None:
    """Whatever is there is no reason to fail; nor is it if nothing is."""
    make_thread(tmp_path, stat, "1 2 3\n")
    assert procfs.thread_state(7, 8, str(tmp_path)) is None
    assert procfs.thread_state(NO_PROCESS, NO_PROCESS) is None


def test_caught_signals_are_told() -> None:
    """One with a handler is caught; one that is ignored, or has its default, is not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        assert procfs.catches(os.getpid(), signal.SIGUSR1)
        assert not procfs.catches(os.getpid(), signal.SIGUSR2)
        assert not procfs.catches(os.getpid(), signal.SIGRTMAX - 1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not procfs.catches(NO_PROCESS, signal.SIGUSR1)
