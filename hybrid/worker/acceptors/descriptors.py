"""How many descriptors are left.

A worker without descriptors cuts clients off: libuv, on EMFILE, accepts with a spare descriptor and closes. So
the worker stops accepting while there still are a few.

Looked at and rejected: the number of the accepted socket (the lowest free one) says how many are in use only as
long as nothing holds higher ones; listing /proc/self/fd costs 0.75 µs per open descriptor.
"""

from __future__ import annotations

import os
import resource

_DIRECTORY = "/proc/self/fd"
_UNLIMITED = 1 << 30


def soft_limit() -> int:
    """Return RLIMIT_NOFILE's soft limit: the kernel hands out numbers below it."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def in_use() -> int:
    """Return how many descriptors this process has open.

    Costs 3 µs, however many are open, on Linux ≥ 6.2; on older kernels as much as listing them all.
    Source: proc(5): the size of /proc/pid/fd is the number of open descriptors since Linux 6.2.
    """
    try:
        return os.stat(_DIRECTORY).st_size or len(os.listdir(_DIRECTORY)) - 1
    except OSError:  # no /proc: the lowest free number is at most this
        return _lowest_free()


def reserve(limit: int) -> int:
    """Return how many descriptors to keep for what is no connection: log files, lookups, the app's own."""
    return min(64, max(8, limit // 16))


def room() -> int:
    """Return how many connections fit before the reserve is touched; zero or less when it is."""
    limit = soft_limit()
    return limit - reserve(limit) - in_use()


def fit(count: int) -> bool:
    """Return whether ``count`` more can be opened, whatever the reserve. With few to have, a handful is enough."""
    limit = soft_limit()
    return in_use() + min(count, limit // 4) < limit


def connection_limit() -> int:
    """Return what ``--limit-connections auto`` means here and now: each connection may need one descriptor."""
    return max(1, room())


def _lowest_free() -> int:
    try:
        fd = os.dup(0)
    except OSError:
        return soft_limit()
    os.close(fd)
    return fd
