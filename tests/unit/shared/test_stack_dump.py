"""Two answers in one memfd: neither disturbs the other, and whatever is in there is read."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.shared import stack_dump
from hybrid.shared.stack_dump import REPORT_BYTES, STACKS_AT

Ends = tuple[int, int, int]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A memfd, and the two ends of a pipe."""
    ends = stack_dump.create()
    yield ends
    for fd in ends:
        os.close(fd)


def test_nothing_is_there_before_the_answer(ends: Ends) -> None:
    """A question alone is no answer."""
    dump_fd, read, wake = ends
    stack_dump.ask(dump_fd, wake)
    assert stack_dump.read_report(dump_fd) is None and stack_dump.read_stacks(dump_fd) == ""
    assert os.read(read, 10) == b"?"


def test_both_answers_are_read(ends: Ends) -> None:
    """The report has its place; faulthandler writes on where the parent has put the file's offset."""
    dump_fd, _read, wake = ends
    stack_dump.ask(dump_fd, wake)
    os.write(dump_fd, b"Current thread\n")
    stack_dump.write_report(dump_fd, "app.py:1 in f\nthread é\udc80")
    os.write(dump_fd, b"  File\n")
    assert stack_dump.read_report(dump_fd) == "app.py:1 in f\nthread é\\udc80"
    assert stack_dump.read_stacks(dump_fd) == "Current thread\n  File"


def test_question_forgets_earlier_answers(ends: Ends) -> None:
    """What is read is never an old answer."""
    dump_fd, _read, wake = ends
    stack_dump.ask(dump_fd, wake)
    os.write(dump_fd, b"long " * 100)
    stack_dump.write_report(dump_fd, "old")
    stack_dump.ask(dump_fd, wake)
    os.write(dump_fd, b"new")
    assert stack_dump.read_report(dump_fd) is None and stack_dump.read_stacks(dump_fd) == "new"


def test_answers_are_bounded(ends: Ends) -> None:
    """A long report does not reach into the stacks, and neither is read to its end."""
    dump_fd, _read, wake = ends
    stack_dump.ask(dump_fd, wake)
    stack_dump.write_report(dump_fd, "é" * 10**6)
    os.write(dump_fd, b"x" * (2 << 20))
    report = stack_dump.read_report(dump_fd)
    assert report is not None and len(report) <= REPORT_BYTES < STACKS_AT
    assert len(stack_dump.read_stacks(dump_fd)) == stack_dump.STACKS_BYTES


def test_question_that_nobody_reads_is_an_error_and_no_wait(ends: Ends) -> None:
    """The parent asks and asks; it never waits for the worker to read."""
    dump_fd, _read, wake = ends
    with pytest.raises(BlockingIOError):
        for _ in range(100_000):
            stack_dump.ask(dump_fd, wake)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100), st.sampled_from([0, 8, 16, STACKS_AT]))
def test_anything_is_read(ends: Ends, data: bytes, where: int) -> None:
    """A worker can write what it likes: what is read is text."""
    dump_fd, read, wake = ends
    stack_dump.ask(dump_fd, wake)
    os.read(read, 10)
    os.pwrite(dump_fd, data, where)
    assert isinstance(stack_dump.read_report(dump_fd), (str, type(None)))
    assert isinstance(stack_dump.read_stacks(dump_fd), str)


def test_cut_keeps_whole_lines() -> None:
    """What does not fit is seen to be missing."""
    assert stack_dump.cut("one\ntwo\n", 100) == "one\ntwo\n"
    assert stack_dump.cut("one\ntwo\nthree", 10) == "one\ntwo\n…"
