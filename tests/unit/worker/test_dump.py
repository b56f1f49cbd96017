"""What a worker tells of itself: the line to blame, every thread, the tasks; bounded, whatever the app does."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

from hybrid.shared import stack_dump
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.places import read_stacks
from hybrid.worker import dump, watchdog
from hybrid.worker.dump import Stacks
from tests.support.eventually import eventually

Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def told(loop: asyncio.AbstractEventLoop | None) -> str:
    """Return a report, made by another thread, as in a worker."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(dump.report(loop)), name="asks")
    thread.start()
    thread.join()
    return found[0]


async def waits_here(event: asyncio.Event) -> None:
    await event.wait()


@contextmanager
def waiting(count: int, work: Work = waits_here) -> Iterator[asyncio.AbstractEventLoop]:
    """Have so many tasks that wait in the same line, in a loop that does not turn."""
    loop = asyncio.new_event_loop()
    try:
        event = asyncio.Event()
        tasks = [loop.create_task(work(event), name=f"waiter-{number}") for number in range(count)]
        loop.run_until_complete(asyncio.sleep(0))
        yield loop
        event.set()
        loop.run_until_complete(asyncio.gather(*tasks))
    finally:
        loop.close()


def test_report_begins_with_the_line_to_blame() -> None:
    """Where the main thread is, in the user's code; its stack is the first."""
    first, second, *rest = told(None).split("\n")
    assert f"{__file__}:" in first and first.endswith(" in told")
    assert second == "thread MainThread, most recent call first:"
    assert rest[-1] == "asyncio tasks: none, there is no loop yet"
    assert not any("thread asks" in line for line in rest), "who reports is no news"


def test_every_thread_is_told() -> None:
    """By name, with its own stack."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="a pool's")
    thread.start()
    try:
        assert "\nthread a pool's, most recent call first:\n" in told(None)
    finally:
        release.set()
        thread.join()


def test_users_line_is_found_behind_a_library_that_is_deep() -> None:
    """A copy of deep data: what is shown is the library's stack, what is blamed is who called it."""
    data: list[object] = []
    for _ in range(100):
        data = [data]
    found: list[str] = []

    def ask() -> None:
        while not found:
            report = dump.report(None)
            if "  … and " in report:
                found.append(report)

    thread = threading.Thread(target=ask)
    thread.start()
    while not found:
        copy.deepcopy(data)
    thread.join()
    first, _, *stack = found[0].split("\n")
    assert first.endswith(" in test_users_line_is_found_behind_a_library_that_is_deep")
    assert "copy.py" in stack[0] and stack[dump.MOST_FRAMES].startswith("  … and ")


def test_tasks_that_wait_in_the_same_line_are_one_line() -> None:
    """How many, one of their names, the coroutine, and the line in the user's code."""
    with waiting(3) as loop:
        lines = told(loop).split("\n")
    assert "asyncio tasks: 3" in lines
    assert lines[-1].startswith("  3 × waiter-")
    assert " waits_here() at " in lines[-1] and lines[-1].endswith(" in waits_here")


async def test_task_that_runs_is_told_first() -> None:
    """It is the one that blocks."""
    event = asyncio.Event()
    task = asyncio.create_task(waits_here(event))
    await asyncio.sleep(0)
    lines = told(asyncio.get_running_loop()).split("\n")
    event.set()
    await task
    running = lines[lines.index("asyncio tasks: 2") + 1]
    assert running.startswith("  running: Task-") and "test_task_that_runs_is_told_first()" in running


def test_name_of_a_task_stays_on_its_line() -> None:
    """It may be a client's: a path, say."""
    with waiting(1) as loop:
        (task,) = asyncio.all_tasks(loop)
        task.set_name("x\n[parent] error")
        assert told(loop).split("\n")[-1].startswith("  x\\n[parent] error waits_here() at ")


def test_task_that_cannot_be_looked_at_costs_nobody_else() -> None:
    """A kind of task of the app's own, that raises."""

    class Odd(asyncio.Task[None]):
        def get_coro(self) -> NoReturn:
            raise ZeroDivisionError

    with waiting(2) as loop:
        odd = Odd(asyncio.sleep(0), loop=loop)
        lines = told(loop).split("\n")
        loop.run_until_complete(odd)
    assert "  Odd cannot be looked at: ZeroDivisionError" in lines
    assert any(line.startswith("  2 × waiter-") for line in lines)


def test_many_tasks_are_bounded() -> None:
    """Ten thousand connections, in as many lines of code as there may be: 50 lines, and the rest as a number."""
    source = "\n".join(f"async def at{n}(event):\n    await event.wait()" for n in range(100))
    made: dict[str, Work] = {}
    exec(compile(source, "/srv/made.py", "exec"), made)
    kinds = [made[f"at{n}"] for n in range(100)]
    with waiting(2000, lambda event: kinds.pop()(event) if len(kinds) > 1 else kinds[0](event)) as loop:
        lines = told(loop).split("\n")
    told_of = lines[lines.index("asyncio tasks: 2000") + 1 :]
    assert len(told_of) == dump.MOST_TASKS + 1
    assert told_of[0].startswith("  1901 × ") and told_of[-1] == "  and 50 more"


def test_deep_stacks_and_many_threads_are_bounded() -> None:
    """A report fits into what the parent reads, and its tasks are still in it."""
    release = threading.Event()

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        else:
            release.wait()

    threads = [threading.Thread(target=dive, args=(200,)) for _ in range(60)]
    for thread in threads:
        thread.start()
    try:
        with waiting(1) as loop:
            report = told(loop)
    finally:
        release.set()
        for thread in threads:
            thread.join()
    assert len(report.encode()) <= stack_dump.REPORT_BYTES
    assert "\n…\nasyncio tasks: 1\n" in report


def test_awaitable_that_lies_is_not_asked() -> None:
    """Only the interpreter's own coroutines are looked into: any other object might do anything."""

    class Odd:
        def __await__(self) -> Iterator[object]:
            return iter(())

        @property
        def cr_await(self) -> object:
            raise AssertionError("looked at")

        cr_frame = gi_frame = gi_yieldfrom = ag_await = cr_await

    assert dump._awaiting(Odd()) == []


# ── asked from outside ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked() -> Iterator[tuple[Stacks, int, int]]:
    """A worker's stacks, with the parent's ends: the memfd, and the pipe to ask through."""
    dump_fd, read, wake = stack_dump.create()
    stacks = Stacks(os.dup(dump_fd), read)
    yield stacks, dump_fd, wake
    stacks.close()
    os.close(dump_fd)
    os.close(wake)


def test_question_is_answered(asked: tuple[Stacks, int, int]) -> None:
    """One question, one report; and when nobody can ask any more, that is told."""
    stacks, dump_fd, wake = asked
    stack_dump.ask(dump_fd, wake)
    assert stacks.answer()
    assert stack_dump.read_report(dump_fd) is not None


def test_end_of_the_questions_is_told() -> None:
    """The parent is gone: its end of the pipe is closed."""
    dump_fd, read, wake = stack_dump.create()
    stacks = Stacks(dump_fd, read)
    os.close(wake)
    assert not stacks.answer()
    stacks.close()


def test_report_that_fails_stops_nothing(asked: tuple[Stacks, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has an orphan to end as well."""
    stacks, dump_fd, wake = asked
    monkeypatch.setattr(dump, "report", lambda _loop: 1 / 0)
    stack_dump.ask(dump_fd, wake)
    assert stacks.answer()
    assert stack_dump.read_report(dump_fd) is None


def test_signal_writes_the_stacks_in_c(asked: tuple[Stacks, int, int]) -> None:
    """What is asked for when nobody gets the GIL."""
    _stacks, dump_fd, wake = asked
    stack_dump.ask(dump_fd, wake)
    signal.raise_signal(stack_dump.SIGNAL)
    found, _text = read_stacks(stack_dump.read_stacks(dump_fd))
    assert found[0].function == "test_signal_writes_the_stacks_in_c"


def test_signal_does_not_interrupt_what_can_be_restarted(asked: tuple[Stacks, int, int]) -> None:
    """A read of the app's that blocks goes on: SA_RESTART, below any code that would do it again."""
    import ctypes

    _stacks, dump_fd, wake = asked
    read, write = os.pipe()
    buffer, libc = ctypes.create_string_buffer(1), ctypes.CDLL(None, use_errno=True)
    stack_dump.ask(dump_fd, wake)
    # By another process: a thread that ran Python while its frames are told of could end this one (faulthandler).
    who = (str(os.getpid()), str(threading.get_native_id()), hex(read), str(int(stack_dump.SIGNAL)))
    command = (sys.executable, "-c", DISTURB, *who, str(dump_fd), str(stack_dump.STACKS_AT), str(write))
    with subprocess.Popen(command, pass_fds=(dump_fd, write)) as disturber:
        assert libc.read(read, buffer, 1) == 1
        assert buffer.raw == b"!" and disturber.wait(10) == 0
    os.close(read)
    os.close(write)


DISTURB = """
import os, sys, time
pid, tid, read, number, dump, at, write = (each if each.startswith("0x") else int(each) for each in sys.argv[1:])
deadline = time.monotonic() + 10

def until(check):
    while not check():
        if time.monotonic() > deadline:
            os.write(write, b"?")
            sys.exit(1)
        os.sched_yield()

until(lambda: open(f"/proc/{pid}/task/{tid}/syscall").read().split()[1:2] == [read])
os.kill(pid, number)
until(lambda: os.pread(dump, 1, at).strip(b"\\0"))
os.write(write, b"!")
"""
"""Waits until a thread reads from a descriptor, sends a signal, waits for its stack, and lets it read a byte."""


def test_watchdog_answers_and_goes_on(asked: tuple[Stacks, int, int]) -> None:
    """Question after question; the end of the pipe leaves it with the life pipe alone."""
    stacks, dump_fd, wake = asked
    life_read, life_write = os.pipe()
    log = LogWriter(2, Style.TEXT, "info", "worker 0")
    watcher = threading.Thread(target=watchdog._watch, args=(life_read, 600.0, log, stacks))
    watcher.start()
    for _ in range(3):
        stack_dump.ask(dump_fd, wake)
        eventually(lambda: stack_dump.read_report(dump_fd))
    assert watcher.is_alive()
    os.close(life_read)  # as a process that leaves does; it is seen at the next question
    stack_dump.ask(dump_fd, wake)
    watcher.join()
    os.close(life_write)
