"""The thread that ends an orphan, and that says where a blocked loop is.

When the parent dies, the worker's loop sees the end of the life pipe and drains. A loop that is blocked sees
nothing, and the orphan would hold its connections and the listening socket for ever. So a thread watches the pipe
too, and ends the process when the drain is overdue. It never writes a heartbeat: that is the loop's word.

For the same reason it is this thread that answers when the parent asks for the worker's stacks:
:mod:`hybrid.worker.dump`.

The documented limit: code that holds the GIL for ever stops this thread as well.

Source: pipe(7), poll(2): the reading end is hung up (POLLHUP) when the last write end is closed.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import time

from hybrid.shared.log_line import LogWriter
from hybrid.worker.dump import Stacks

AFTER_GRACE_S = 5.0


def start(life_fd: int, grace_s: float, log: LogWriter, stacks: Stacks | None = None) -> None:
    """Watch ``life_fd`` until its end, then give the process ``grace_s`` + 5 s to leave by itself; tell its ``stacks``.

    Runs in: worker, in a daemon thread of its own. The low-level start keeps the thread out of
    ``threading.enumerate()``, where it would be waited for at exit.
    """
    _thread.start_new_thread(_watch, (life_fd, grace_s + AFTER_GRACE_S, log, stacks))


def _watch(life_fd: int, patience_s: float, log: LogWriter, stacks: Stacks | None = None) -> None:
    # Not by read(2): libuv makes the pipe non-blocking, for every process that shares it.
    poll = select.poll()
    poll.register(life_fd, 0)  # nobody writes; only the end counts, and that is always reported
    if stacks is not None:
        poll.register(stacks.wake_fd, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if ready.get(life_fd, 0) & select.POLLNVAL:
            return  # closed under us: the process is leaving
        if life_fd in ready:
            break
        if stacks is not None and not stacks.answer():
            poll.unregister(stacks.wake_fd)
    time.sleep(patience_s)
    # A log that takes nothing any more, its reader gone with the parent perhaps, must not keep us: it never raises.
    log.error("the parent is gone and the loop did not drain in time: leaving by SIGKILL")
    os.kill(os.getpid(), signal.SIGKILL)
