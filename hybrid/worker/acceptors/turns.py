"""Whose turn it is to accept: the locks around accept.

A turn is a context manager that a thread holds while it waits for a connection and takes it. Without one the kernel's
wait queue is the lock.

==================  =====================================================================================
:class:`Mutex`      one thread of this worker at a time
:class:`FileLock`   one thread of all workers, by a POSIX record lock on the scoreboard's file
:class:`Robust`     one thread of all workers, by a robust mutex in the scoreboard's memory
==================  =====================================================================================

The last two survive the SIGKILL of their holder: the kernel drops the record lock with the process, and hands the
mutex to the next waiter with EOWNERDEAD. Looked at and rejected, because they wait for ever then: a semaphore
(``multiprocessing.Lock``), an eventfd or a pipe with a token in it. And ``flock`` on an inherited descriptor excludes
nobody: it belongs to the open file, which all workers share.

Source: UNP ch. 30, "TCP Preforked Server, File Locking Around accept" and "Thread Locking Around accept"; fcntl(2)
F_SETLKW; pthread_mutexattr_setrobust(3).
"""

from __future__ import annotations

import errno
import fcntl
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType

from hybrid.shared.scoreboard import Scoreboard

_AGAIN_S = 0.01

Turn = AbstractContextManager[None]
"""A lock around accept."""


class Mutex:
    """One thread of this worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._lock.release()


class FileLock(Mutex):
    """One thread of all workers that share the scoreboard.

    A record lock belongs to the process, so the threads of one exclude each other by the mutex first. It is dropped
    when the process closes any descriptor of the file, which no worker does before its end.
    """

    def __init__(self, scoreboard: Scoreboard) -> None:
        super().__init__()
        self._fd = scoreboard.fd

    def __enter__(self) -> None:
        super().__enter__()
        try:
            self._lock_file()
        except BaseException:
            super().__exit__(None, None, None)
            raise

    def _lock_file(self) -> None:
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX, 1)
                return
            except OSError as error:
                if error.errno not in (errno.EDEADLK, errno.ENOLCK):
                    raise
                time.sleep(_AGAIN_S)  # the kernel's memory is short, or it took strangers' locks for a circle

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1)
        super().__exit__(kind, error, frames)


class Robust:
    """One thread of all workers that share the scoreboard."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._mutex = scoreboard.mutex()

    def __enter__(self) -> None:
        self._mutex.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._mutex.release()
