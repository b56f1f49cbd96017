"""What a worker that is asked "where are you?" leaves for the parent: two answers in one memfd.

::

    0           8 bytes: how long the report is; written last, so that a report that is there is whole
    16          the report: the line to blame, a newline, then stacks and tasks as text    by a thread with the GIL
    STACKS_AT   faulthandler's lines, as they come                                          by a signal handler in C

The first is asked for through a pipe, and is the better one: it needs the GIL, so nothing moves while it is written,
it names threads and tasks, and no system call of the user's is interrupted. The second works when nobody can get the
GIL, because code in C keeps it. Only then it is asked for: a signal handler that walks other threads' stacks while
these run can crash (python/cpython#116008), and a GIL that nobody can get is one under which nobody runs.

The parent makes both and gives the worker its ends. It keeps the pipe's writing end for itself, so that no worker can
make it wait there; the memfd is one open file to both, so that the parent says where faulthandler's next line goes.

Source: memfd_create(2), pipe(7), signal(7) on real-time signals; CPython ``faulthandler.register``.
"""

from __future__ import annotations

import os
import signal

SIGNAL = signal.SIGRTMAX - 5
"""Asks for the stacks in C. A real-time signal, because users have none of those by habit; its default action would
end the process, so the parent looks first whether it is caught."""

SIGNAL_ALONE = signal.SIGRTMAX - 6
"""Asks for the main thread's only: faulthandler tells of the hundred newest threads, and that is the oldest."""

STACKS_AT = 65536
REPORT_BYTES = 32768
"""Of a report, and of what is logged of faulthandler's lines, at most. A log that is a pipe takes 64 KiB at once."""
STACKS_BYTES = 1 << 20
"""Of faulthandler's lines that are read: the main thread's come last."""
_BODY_AT = 16


def create() -> tuple[int, int, int]:
    """Return the memfd, and the pipe's reading and writing end; all CLOEXEC. Runs in: parent. Raises: OSError."""
    dump_fd = os.memfd_create("hybrid-stacks", os.MFD_CLOEXEC)
    try:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        os.close(dump_fd)
        raise
    return dump_fd, read, write


def ask(dump_fd: int, wake_fd: int) -> None:
    """Forget earlier answers, and ask for a report. Runs in: parent; never waits. Raises: OSError: nobody hears it."""
    os.ftruncate(dump_fd, 0)
    os.lseek(dump_fd, STACKS_AT, os.SEEK_SET)
    os.write(wake_fd, b"?")


def write_report(dump_fd: int, text: str) -> None:
    """Answer with a report. Runs in: worker, with the GIL. Raises: OSError."""
    data = text.encode(errors="backslashreplace")[:REPORT_BYTES]
    os.pwrite(dump_fd, data, _BODY_AT)
    os.pwrite(dump_fd, len(data).to_bytes(8, "little"), 0)


def read_report(dump_fd: int) -> str | None:
    """Return the report; None: it has not come. Runs in: parent. Never raises on what it reads."""
    length = int.from_bytes(os.pread(dump_fd, 8, 0), "little")
    if not length:
        return None
    return os.pread(dump_fd, min(length, REPORT_BYTES), _BODY_AT).decode(errors="replace")


def read_stacks(dump_fd: int) -> str:
    """Return what faulthandler has written; empty: nothing. Runs in: parent. Never raises on what it reads."""
    data = os.pread(dump_fd, STACKS_BYTES, STACKS_AT).rstrip(b"\0")
    return data.decode(errors="replace").strip("\n")


def cut(text: str, most: int = REPORT_BYTES) -> str:
    """Return whole lines of ``text``, as many as ``most`` bytes hold."""
    data = text.encode(errors="replace")
    return text if len(data) <= most else data[:most].decode(errors="ignore").rpartition("\n")[0] + "\n…"
