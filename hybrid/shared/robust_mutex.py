"""A mutex in shared memory that survives the death of its holder.

Python has no name for it, so it is called in the C library. Between lock and unlock the holder must stay in the same
thread. When a process dies that holds it, the next one to acquire is told (EOWNERDEAD) and makes it consistent: there
is no data behind the lock that could be half written, only the right to accept.

Source: pthread_mutexattr_setrobust(3), pthread_mutex_consistent(3); set_robust_list(2).
"""

from __future__ import annotations

import ctypes
import errno
import os

MUTEX_BYTES = 64
"""Room for a pthread_mutex_t: 40 bytes on x86-64, 48 on 64-bit ARM."""
_PROCESS_SHARED = 1
_ROBUST = 1


class RobustMutex:
    """The mutex in ``memory``, which is shared by all who use it and outlives them.

    Runs in: any process; one calls :meth:`initialise` before the others begin.
    """

    def __init__(self, memory: memoryview) -> None:
        self._place = ctypes.c_char.from_buffer(memory)
        self._address = ctypes.c_void_p(ctypes.addressof(self._place))
        self._libc = ctypes.CDLL(None)  # lets go of the interpreter's lock while it waits

    def initialise(self) -> None:
        """Make it, unlocked. Raises: OSError: the C library has no robust mutexes."""
        attributes = ctypes.create_string_buffer(MUTEX_BYTES)
        self._check(self._libc.pthread_mutexattr_init(attributes))
        self._check(self._libc.pthread_mutexattr_setpshared(attributes, _PROCESS_SHARED))
        self._check(self._libc.pthread_mutexattr_setrobust(attributes, _ROBUST))
        self._check(self._libc.pthread_mutex_init(self._address, attributes))
        self._check(self._libc.pthread_mutexattr_destroy(attributes))

    def acquire(self) -> None:
        """Wait for it. Raises: OSError: it is broken; nobody can have it any more."""
        code = self._libc.pthread_mutex_lock(self._address)
        if code == errno.EOWNERDEAD:
            code = self._libc.pthread_mutex_consistent(self._address)
        self._check(code)

    def release(self) -> None:
        """Let the next one have it. Raises: OSError: this thread does not hold it."""
        self._check(self._libc.pthread_mutex_unlock(self._address))

    @staticmethod
    def _check(code: int) -> None:
        if code:
            raise OSError(code, os.strerror(code))
