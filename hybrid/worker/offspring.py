"""What the app forks, such as a pool of processes, keeps no listening socket of the worker's.

Such a child may outlive the worker, and the server: a worker that is killed ends none of its children. Its copy of a
listening socket would keep the address taken, and queue clients whom nobody serves.

By the file, not by the number: acceptors have duplicates, some of them the event loop's own. And a number is pointed to
/dev/null, not closed: whoever believes that it is his must not close another file by it.

A program that the app starts needs none of this: all is CLOEXEC.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import partial

_DESCRIPTORS = "/proc/self/fd"


def keep_queues_from_children(listeners: Sequence[socket.socket]) -> None:
    """Have each process that is forked from now on leave ``listeners`` alone. Runs in: worker, at its start."""
    files = frozenset(_file(listener.fileno()) for listener in listeners)
    os.register_at_fork(after_in_child=partial(_let_go, files))


def _let_go(files: frozenset[tuple[int, int]]) -> None:
    """Point every descriptor of ``files`` to where nobody calls. Runs in: a child, first of all. Raises: nothing."""
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for name in os.listdir(_DESCRIPTORS):
            try:
                if _file(int(name)) in files:
                    os.dup2(null, int(name), inheritable=False)
            except OSError:  # the directory's own
                continue
        os.close(null)
    except OSError:
        pass  # no descriptor left, or no /proc: the child lives on with its copies


def _file(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
