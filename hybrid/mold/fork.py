"""Fork a process that is not our child but our parent's: twice, with the middle one gone at once.

The parent of the mold is a subreaper, so it adopts the orphan and can reap it; the mold has no children, and
its own death takes no worker with it.

Source: fork(2), prctl(2) PR_SET_CHILD_SUBREAPER; the double fork of APUE §8.6.
"""

from __future__ import annotations

import atexit
import os
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from hybrid.shared import boot_report

_ANSWER = struct.Struct("<iI")
EVERY_SIGNAL = signal.valid_signals()


def fork_sibling(body: Callable[[], int], report_fd: int) -> int:
    """Run ``body`` in a new process that our parent adopts; return its pid.

    Runs in: mold (and ``body`` in the new process, which leaves with the code it returns). Nobody else can have
    reaped the pid: the parent reaps no stranger while a fork is outstanding.
    Raises: OSError: no process, memory or descriptor left (EAGAIN, ENOMEM, EMFILE).
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    # A signal between fork and the child's own handlers would run the mold's, in the wrong process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, EVERY_SIGNAL)
    try:
        middle = os.fork()
        if middle == 0:
            os.close(read)
            _fork_again(body, write, report_fd)
    except OSError:
        os.close(read)
        os.close(write)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(write)
    answer = os.read(read, _ANSWER.size)
    os.close(read)
    os.waitpid(middle, 0)
    if len(answer) != _ANSWER.size:
        raise OSError(0, "the process between mold and worker was killed")
    error, pid = _ANSWER.unpack(answer)
    if error:
        raise OSError(error, os.strerror(error))
    return int(pid)


def _fork_again(body: Callable[[], int], write: int, report_fd: int) -> NoReturn:
    """Fork the worker, tell the mold its pid, leave. Runs in: the middle process."""
    try:
        pid = os.fork()
        if pid == 0:
            os.close(write)
            _become(body, report_fd)
        os.write(write, _ANSWER.pack(0, pid))
    except OSError as error:
        os.write(write, _ANSWER.pack(error.errno or 1, 0))
    finally:
        os._exit(0)


def _become(body: Callable[[], int], report_fd: int) -> NoReturn:
    """Run the worker and leave as a program does, without ever unwinding into the mold's frames."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        code = body()
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException as error:  # noqa: BLE001  # the last frame of this process: report, whatever it is
        traceback.print_exc()
        step = boot_report.read(report_fd).step
        boot_report.write(
            report_fd, boot_report.Report(step, f"{type(error).__name__}: {error}", traceback.format_exc())
        )
    finally:
        leave_process(code)


def leave_process(code: int) -> NoReturn:
    """Join non-daemon threads, run atexit, flush, and end the process. Never returns."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter itself calls first at its end
        atexit._run_exitfuncs()
    except BaseException:  # noqa: BLE001  # an exit function that raises must not keep the process
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, or None under pythonw-like starts
    os._exit(code)
