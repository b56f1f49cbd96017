"""Threads take jobs in order, and the loop hears what they tell in order; nobody sleeps while there is work."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest

from hybrid.ground.errors import BootError
from hybrid.handlers.wsgi_threads import Bell, SaidMemo, Seat, Threads
from tests.support.connections import on_both_loops
from tests.support.eventually import eventually, eventually_async

PATIENCE_S = 5.0


class Job:
    """Does what it is told, in a thread."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def run(self, seat: Seat) -> None:
        """Do it."""
        self._work()


@pytest.fixture(autouse=True)
def hasty() -> Iterator[None]:
    """Let threads take turns at nearly every step: what is wrong with their order shows sooner."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@asynccontextmanager
async def threads(count: int) -> AsyncIterator[Threads]:
    """Return started ones; all have ended with the block."""
    before = set(threading.enumerate())
    pool = Threads(count)
    pool.start()
    try:
        yield pool
    finally:
        pool.end()
        await eventually_async(lambda: set(threading.enumerate()) <= before)


@on_both_loops
async def test_every_job_is_done_and_heard_of_in_order() -> None:
    """One thread: in the order in which they were given; whatever the moment at which they come."""
    heard: list[int] = []
    async with threads(1) as pool:
        for number in range(2000):
            pool.give(Job(lambda number=number: pool.tell(heard.append, number)))  # type: ignore[misc]
            if number % 7 == 0:
                await asyncio.sleep(0)
        await eventually_async(lambda: len(heard) == 2000)
    assert heard == list(range(2000))


@on_both_loops
async def test_no_job_is_left_while_threads_sleep() -> None:
    """Many threads that go to sleep and are woken all the time: each job is done, once."""
    done: list[int] = []
    async with threads(8) as pool:
        for number in range(3000):
            pool.give(Job(lambda number=number: done.append(number)))  # type: ignore[misc]
            if number % 3 == 0:
                await asyncio.sleep(0)
        await eventually_async(lambda: len(done) == 3000)
        assert sorted(done) == list(range(3000))


@on_both_loops
async def test_jobs_that_wait_get_all_threads() -> None:
    """A burst is given in one go, and one thread is woken: it wakes the next, and so on."""
    barrier = threading.Barrier(6)
    passed: list[int] = []

    def wait() -> None:
        barrier.wait(PATIENCE_S)
        passed.append(1)

    async with threads(6) as pool:
        for _ in range(6):
            pool.give(Job(wait))
        await eventually_async(lambda: len(passed) == 6)


@on_both_loops
async def test_job_given_while_a_thread_lies_down_is_done() -> None:
    """Whoever gave it saw nobody asleep, and woke nobody: the thread looks once more."""
    done: list[str] = []
    pool = Threads(1)

    class Bed(list[Any]):
        def append(self, lock: object) -> None:
            if not done and not pool._jobs:
                pool._jobs.append(Job(lambda: done.append("done")))
            super().append(lock)

    pool._idle = Bed()
    before = set(threading.enumerate())
    pool.start()
    try:
        await eventually_async(lambda: done == ["done"])
    finally:
        pool.end()
        await eventually_async(lambda: set(threading.enumerate()) <= before)


def test_bell_that_rings_while_a_thread_lies_down_is_heard() -> None:
    """What is waited for came true behind the first look, when nobody slept who could be woken."""
    bell, looks = Bell(), iter([False, True, True])
    thread = threading.Thread(target=bell.wait, args=(lambda: next(looks),), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@on_both_loops
async def test_job_can_be_taken_back_until_it_is_begun() -> None:
    """Then it is never done; one that a thread has is not given back."""
    gate = threading.Event()
    done: list[str] = []

    def hold() -> None:
        done.append("begun")
        gate.wait(PATIENCE_S)

    async with threads(1) as pool:
        first, second = Job(hold), Job(lambda: done.append("second"))
        pool.give(first)
        await eventually_async(lambda: bool(done))
        pool.give(second)
        assert not pool.take_back(first) and pool.take_back(second) and not pool.take_back(second)
        gate.set()
    assert done == ["begun"]


@on_both_loops
async def test_word_that_raises_costs_no_other_word(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the words behind it are heard."""
    heard: list[int] = []

    def fail(_: int) -> None:
        raise RuntimeError("on purpose")

    async with threads(1) as pool:
        pool.give(Job(lambda: pool.tell(fail, 1)))
        pool.give(Job(lambda: pool.tell(heard.append, 2)))
        await eventually_async(lambda: heard == [2])
    assert "on purpose" in caplog.text


async def test_too_many_threads_fail_the_boot() -> None:
    """What the system said, and what to change; those that were started end."""
    before = set(threading.enumerate())
    pool = Threads(3)
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with patch.object(threading.Thread, "start", limited), pytest.raises(BootError, match=r"thread 3 of 3.*--threads"):
        pool.start()
    await eventually_async(lambda: set(threading.enumerate()) <= before)


async def test_word_after_the_end_of_the_loop_is_lost() -> None:
    """An application that outlived its server raises nothing for it."""
    loop = asyncio.new_event_loop()
    made: list[Threads] = []

    async def make() -> None:
        made.append(Threads(1))

    await asyncio.to_thread(lambda: loop.run_until_complete(make()))
    loop.close()
    made[0].tell(print, "never")


def test_bell_wakes_who_sleeps() -> None:
    """Whenever what is waited for comes true, before or after the sleep."""
    bell = Bell()
    state = {"round": 0}
    seen: list[int] = []

    def follow() -> None:
        for number in range(1, 501):
            bell.wait(lambda number=number: state["round"] >= number)  # type: ignore[misc]
            seen.append(number)

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(1, 501):
        state["round"] = number
        bell.ring()
        if number % 5 == 0:
            eventually(lambda number=number: len(seen) == number)  # type: ignore[misc]
    thread.join(PATIENCE_S)
    assert seen == list(range(1, 501))


def test_bell_wakes_everybody() -> None:
    """An application may read in a thread of its own while it writes: what is heard by one is meant for the other."""
    bell = Bell()
    looks, states = [0, 0], [False, False]

    def look(number: int) -> bool:
        looks[number] += 1
        return states[number]

    threads = [threading.Thread(target=bell.wait, args=(partial(look, number),), daemon=True) for number in (0, 1)]
    for number, thread in enumerate(threads):
        thread.start()
        eventually(lambda number=number: looks[number] >= 2)  # type: ignore[misc]
    for number in (1, 0):
        states[number] = True
        bell.ring()
        threads[number].join(PATIENCE_S)
        assert not threads[number].is_alive()


def test_memo_keeps_nothing_that_can_change() -> None:
    """Headers that are lists could be changed behind its back."""
    memo = SaidMemo()
    memo.offer("200 OK", [["a", "b"]], 200, [(b"a", b"b")])  # type: ignore[list-item]
    assert memo.status == ""
    memo = SaidMemo()
    headers = [("a", "b")]
    memo.offer("200 OK", headers, 200, [(b"a", b"b")])
    headers.append(("c", "d"))
    assert (memo.status, memo.headers, memo.pairs) == ("200 OK", [("a", "b")], [(b"a", b"b")])
