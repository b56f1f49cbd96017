"""A real thread that must share its CPU: what it waited, by the kernel's account and by two clocks of its own.

A thread that only computes is either on a CPU or waiting for one: what the wall clock has more than its CPU clock, it
has waited. The children below are pinned to one CPU, so that this is much.
"""

from __future__ import annotations

import ast
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from hybrid.meters.run_queue import RunQueue
from tests.support.eventually import eventually
from tests.support.forked import forked

CPU_NS = 120_000_000
TICK_NS = 20_000_000
"""The kernel's accounts are brought up to date by its tick, 10 ms at most; before and after."""


class Seen(NamedTuple):
    """One stretch of computing: by the meter, and by the thread's own clocks."""

    meter_cpu_ns: int
    meter_waited_ns: int
    cpu_ns: int
    waited_ns: int


@contextmanager
def competitor(count: int) -> Iterator[None]:
    """Have so many processes compute on the CPUs that this one may use. Closes: them."""
    pids = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                while True:
                    pass
            pids.append(pid)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def compute(competitors: int) -> Seen:
    """Compute on one CPU, beside so many others. Runs in: a child, which is pinned by this."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    meter = RunQueue(os.getpid(), threading.get_native_id())
    with competitor(competitors):
        before, wall_ns, cpu_ns = meter.read(), time.monotonic_ns(), time.thread_time_ns()
        while time.thread_time_ns() - cpu_ns < CPU_NS:
            pass
        after, wall_ns, cpu_ns = meter.read(), time.monotonic_ns() - wall_ns, time.thread_time_ns() - cpu_ns
    meter.close()
    if before is None or after is None:
        raise AssertionError("this kernel keeps no account")
    return Seen(after.on_cpu_ns - before.on_cpu_ns, after.waiting_ns - before.waiting_ns, cpu_ns, wall_ns - cpu_ns)


@pytest.mark.parametrize("competitors", [0, 1, 2])
def test_waiting_for_a_cpu_is_measured(competitors: int) -> None:
    """With one competitor about as long as it ran, with two twice as long; with none, what else the machine does."""
    seen = Seen(*ast.literal_eval(forked(lambda: tuple(compute(competitors)))))
    assert seen.meter_cpu_ns == pytest.approx(seen.cpu_ns, abs=TICK_NS)
    assert seen.meter_waited_ns == pytest.approx(seen.waited_ns, rel=0.15, abs=TICK_NS)
    if competitors:
        assert seen.meter_waited_ns > CPU_NS / 4, "the competitor was not felt: nothing was tested"


def other_thread() -> tuple[int, int]:
    """Return what the meter of this thread gained while another one computed, and what that one used."""
    used: list[int] = []

    def work() -> None:
        began_ns = time.thread_time_ns()
        while time.thread_time_ns() - began_ns < CPU_NS:
            pass
        used.append(time.thread_time_ns() - began_ns)

    meter = RunQueue(os.getpid(), threading.get_native_id())
    before = meter.read()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    after = meter.read()
    meter.close()
    if before is None or after is None:
        raise AssertionError("this kernel keeps no account")
    return after.on_cpu_ns - before.on_cpu_ns, used[0]


def test_other_threads_do_not_count() -> None:
    """An app's executor threads may be as busy as they like: the loop's thread is measured."""
    mine_ns, theirs_ns = ast.literal_eval(forked(other_thread))
    assert theirs_ns >= CPU_NS
    assert mine_ns <= theirs_ns / 2


def test_thread_that_ended_is_unknown() -> None:
    """The accounts of one that is gone are not the last ones it had."""
    meters: list[RunQueue] = []
    thread = threading.Thread(target=lambda: meters.append(RunQueue(os.getpid(), threading.get_native_id())))
    thread.start()
    thread.join()
    gone = meters[0]
    eventually(lambda: gone.read() is None)  # the kernel ends it a moment after join() returns
    gone.close()
