"""Run functions in forked children: as another user, or against each other. No child outlives its test."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NOBODY = 65534
LONGEST_S = 20

Release = Callable[[], object]


def forked(work: Callable[[], object], uid: int | None = None) -> str:
    """Return ``str(work())`` as computed in a child; fail with the child's traceback if it raised.

    ``uid``: become that user, its group alone, first. Needs root.
    """
    read, write = os.pipe()

    def child() -> int:
        os.close(read)
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            os.write(write, str(work()).encode())
            return 0
        except BaseException:  # noqa: BLE001  # it goes to the test, which fails with it
            os.write(write, traceback.format_exc().encode())
            return 1

    pid = _fork(child)
    os.close(write)
    try:
        with open(read, "rb") as file:
            said = file.read().decode()
    except BaseException:  # the test's time is up
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    status = os.waitpid(pid, 0)[1]
    if status:
        raise AssertionError(f"the child left with status {status}:\n{said}")
    return said


@contextmanager
def rivals(attempt: Callable[[], Release | None], count: int) -> Iterator[list[int]]:
    """Let ``count`` children attempt the same thing at once; yield the pids of those that got it.

    ``attempt`` returns what gives it up again, which winners call when the block ends, or None for "lost".
    """
    start_read, start_write = os.pipe()
    stop_read, stop_write = os.pipe()
    said_read, said_write = os.pipe()

    def child() -> int:
        for fd in (start_write, stop_write):
            os.close(fd)
        os.read(start_read, 1)
        release = attempt()
        os.write(said_write, b"%8d" % (os.getpid() if release else 0))
        os.read(stop_read, 1)
        if release:
            release()
        return 0

    pids = [_fork(child) for _ in range(count)]
    os.close(said_write)
    os.close(start_write)  # go
    try:
        answers = [int(os.read(said_read, 8)) for _ in pids]
        yield [pid for pid in answers if pid]
    finally:
        for fd in (stop_write, start_read, stop_read, said_read):
            os.close(fd)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    assert statuses == [0] * count


def _fork(child: Callable[[], int]) -> int:
    """Fork; the child runs ``child``, exits with what it returns, and is ended by SIGALRM if it hangs."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LONGEST_S)
        code = child()
    except BaseException:  # noqa: BLE001  # the child must not return into the test
        traceback.print_exc()
    finally:
        os._exit(code)
