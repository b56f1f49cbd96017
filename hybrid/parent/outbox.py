"""What is on its way from the parent to control: sent without waiting, kept for a while, and dropped if nobody reads.

A control that is stopped, or too slow, must not hold up the parent, and must not make it grow. So a message that the
channel does not take waits here; when too many wait, the oldest notice is dropped. Answers are not: each is waited for,
and there are no more of them than wishes. The state of the pool is kept once, as it was last.
"""

from __future__ import annotations

import errno
import select
import socket
from collections import deque
from dataclasses import replace

from hybrid.parent.watch import Watch
from hybrid.shared import messages
from hybrid.shared.notices import Answered, Logged, Notice, PoolState, ReloadEnded, to_json

MOST_WAITING = 512
TOO_LONG = "(too long for the channel: see the log)"
"""Instead of a detail that does not fit into one message."""

Letter = tuple[Notice, int]
"""A notice, and a descriptor of the settings in force, or -1."""


class Outbox:
    """Letters to one control process. Runs in: parent; never waits. Closes: nothing."""

    def __init__(self, channel: socket.socket, watch: Watch) -> None:
        self._channel = channel
        self._watch = watch
        self._waiting: deque[Letter] = deque()
        self._dropped = 0
        self._last_dropped = Notice()

    def put(self, notice: Notice, fd: int = -1) -> None:
        """Send ``notice`` as soon as the channel takes it. ``fd``: goes with it; must stay open."""
        if isinstance(notice, PoolState):
            self._forget_older(fd)
        self._waiting.append((notice, fd))
        if len(self._waiting) > MOST_WAITING:
            self._drop_one()
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the channel takes it."""
        while self._waiting:
            if self._dropped and not self._send(self._lost(), -1):
                break
            self._dropped = 0
            if not self._send(*self._waiting[0]):
                break
            self._waiting.popleft()
        fd = self._channel.fileno()
        if fd in self._watch:
            self._watch.change(fd, select.POLLIN | (select.POLLOUT if self._waiting else 0))

    def _send(self, notice: Notice, fd: int) -> bool:
        """Say whether it need not be sent again."""
        try:
            messages.send_bytes(self._channel, to_json(notice).encode(), (fd,) if fd >= 0 else ())
        except BlockingIOError:
            return False
        except OSError as error:  # any other: it is gone, and its exit comes next
            if error.errno == errno.EMSGSIZE and isinstance(notice, (Answered, Logged, ReloadEnded)) and notice.detail:
                return self._send(replace(notice, detail=TOO_LONG), fd)
        return True

    def _forget_older(self, fd: int) -> None:
        """Forget a state that was not sent yet; its settings, if it has any, stay."""
        if fd >= 0 or all(each < 0 for notice, each in self._waiting if isinstance(notice, PoolState)):
            self._waiting = deque(each for each in self._waiting if not isinstance(each[0], PoolState))

    def _drop_one(self) -> None:
        for index, (notice, _fd) in enumerate(self._waiting):
            if not isinstance(notice, (Answered, PoolState)):
                del self._waiting[index]
                self._dropped += 1
                self._last_dropped = notice
                return
        self._waiting.popleft()

    def _lost(self) -> Logged:
        """Return what is said instead, in the place of the last of them: readers go by numbers, which only grow."""
        last = self._last_dropped
        text = f"{self._dropped} event{'s' if self._dropped != 1 else ''} lost: control did not read"
        return Logged("warning", "parent", text, at=last.at, number=last.number)
