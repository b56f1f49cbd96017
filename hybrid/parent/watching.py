"""The parent's side of ``--reload``: starts the file watcher, hears it, starts another when it dies.

The watcher is a process of its own (:mod:`hybrid.watcher`) because it borrows a library; all that the parent learns
is that something changed, as a record without text.

An upgrade of the parent starts another: the old one's channel ends with the old program, and so does the old one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from hybrid.ground.clock import Clock, monotonic
from hybrid.ground.errors import HybridError
from hybrid.parent.children import Children
from hybrid.parent.edition import Edition
from hybrid.parent.house import House
from hybrid.parent.spawn import Child, start_watcher
from hybrid.shared import messages
from hybrid.shared.messages import Op

STABLE_S = 10.0
"""A watcher that lived this long did not die of its start."""
LONGEST_WAIT_S = 30.0


def backoff_s(failures: int) -> float:
    """Return how long to wait after the ``failures``-th quick death in a row: 1 s, doubled, 30 s at most."""
    return float(min(LONGEST_WAIT_S, 2.0 ** min(failures - 1, 10)))


class Watching:
    """The file watcher, if there is to be one.

    Runs in: parent. Closes: the watcher's descriptors, when it has been reaped.
    Args: edition: returns the settings in force, for a watcher that is started. on_change: called once for each batch
    of changes.
    """

    def __init__(
        self, house: House, children: Children, edition: Callable[[], Edition], on_change: Callable[[], None]
    ) -> None:
        self.deadline: float | None = None
        """When :meth:`time_passed` is due; None: nothing waits. Monotonic seconds."""
        self._house = house
        self._children = children
        self._edition = edition
        self._on_change = on_change
        self._clock: Clock = monotonic
        self._child: Child | None = None
        self._is_wanted = house.settings.reload.enabled
        self._since = 0.0
        self._failures = 0

    @property
    def is_over(self) -> bool:
        """Whether no watcher is left that has to be reaped."""
        return self._child is None

    def start(self) -> None:
        """Start the watcher, if one is wanted."""
        if not self._is_wanted:
            return
        edition, self.deadline, self._since = self._edition(), None, self._clock()
        try:
            child = start_watcher(edition.fd, self._house.log.fd, edition.settings, self._house.identity)
        except (OSError, HybridError) as error:
            self._failed(f"cannot start the file watcher: {getattr(error, 'strerror', None) or error}")
            return
        self._child = child
        self._children.attend(child, self._hear, self._reap)

    def time_passed(self) -> None:
        """Start the watcher again, if that is due."""
        if self.deadline is not None and self.deadline <= self._clock():
            self.start()

    def end(self) -> None:
        """Want no watcher any more; it is reaped later. SIGKILL, because it holds nothing. May be called twice."""
        self._is_wanted, self.deadline = False, None
        if self._child is not None:
            self._child.kill(signal.SIGKILL)

    def _hear(self) -> None:
        child = self._child
        assert child is not None
        try:
            record, descriptors, is_open = messages.receive(child.channel)
        except BlockingIOError:
            return
        for fd in descriptors:
            os.close(fd)
        if not is_open:
            self._children.watch.drop(child.channel.fileno())  # its exit comes through the pidfd
        elif record is not None and record.op is Op.CHANGED and self._is_wanted:
            self._on_change()

    def _reap(self) -> None:
        assert self._child is not None
        parted = self._children.part(self._child)
        if parted is None:
            return
        left, report = parted
        self._child = None
        if self._is_wanted:
            if self._clock() - self._since >= STABLE_S:
                self._failures = 0
            self._failed(report.error or f"the file watcher {left}")

    def _failed(self, what: str) -> None:
        self._failures += 1
        wait_s = backoff_s(self._failures)
        self.deadline = self._clock() + wait_s
        self._house.log.error(f"{what.rstrip('.')}; another starts in {wait_s:g} s. Changes are not seen meanwhile")
