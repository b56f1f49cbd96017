"""A new program in the parent's place: same process, same children, same sockets (SIGUSR2).

First a throw-away child runs the new program on the real state, and says whether it could take over; nothing has
changed until then. Then every signal is blocked, what they had already told is taken in, the state is written down,
and execve(2) puts the new program in our place; it unblocks the signals when its handlers stand, so none is lost.
Children stay children, descriptors stay open, and the queues of the listening sockets wait.

Source: execve(2); signal(7) (the mask and pending signals survive an exec).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from hybrid.ground.clock import monotonic
from hybrid.ground.errors import HybridError
from hybrid.parent import events as ev
from hybrid.parent import handover
from hybrid.parent.children import Children, wait_for
from hybrid.parent.handover import Handover
from hybrid.parent.house import House
from hybrid.parent.spawn import EVERY_SIGNAL, fork_exec
from hybrid.parent.watch import Watch
from hybrid.shared import boot_report
from hybrid.shared.boot_report import Report
from hybrid.shared.start import parent_command, settings_memfd


class Upgrade:
    """The exec of a new parent, and the child that tries it first.

    Runs in: parent. Closes: the child's descriptors. ``state``: returns what is to be handed over, as it is now.
    """

    def __init__(self, house: House, children: Children, watch: Watch, state: Callable[[], Handover]) -> None:
        self._house = house
        self._children = children
        self._watch = watch
        self._state = state
        self.is_due = False
        """Whether the exec comes next, when nothing is left to be decided."""
        self.deadline: float | None = None
        """When :meth:`time_passed` is due; None: nobody tries. Monotonic seconds."""
        self._trial = -1
        """The pidfd of the child that tries."""

    # ── trying it ──

    def check(self) -> None:
        """Start the child that tries; what comes of it is an event."""
        opened: list[int] = []
        try:
            state = self._state()
            opened += [handover.write(state), boot_report.create()]
            command = parent_command(self._house.settings, "check", *map(str, opened))
            pid = fork_exec(command, (*opened, state.scoreboard), None, opened[1])
            pidfd = os.pidfd_open(pid)
        except (OSError, HybridError) as error:
            for fd in opened:
                os.close(fd)
            reason = getattr(error, "strerror", None) or str(error)
            self._children.events.append(ev.UpgradeChecked(Report(error=f"cannot try the new program: {reason}")))
            return
        self._children.others.add(pid)
        self._watch.add(pidfd, lambda: self._on_checked(pid, pidfd, opened))
        self._trial, self.deadline = pidfd, monotonic() + self._house.settings.timeout.boot_s

    def time_passed(self) -> None:
        """Lose patience with the child that tries, if that is due; its end is what comes of it."""
        if self.deadline is not None and self.deadline <= monotonic():
            self.deadline = None
            boot_s = self._house.settings.timeout.boot_s
            self._house.log.error(f"the new program did not get ready within {boot_s:g} s (--boot-timeout): SIGKILL")
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._trial, signal.SIGKILL)

    def _on_checked(self, pid: int, pidfd: int, opened: list[int]) -> None:
        left = wait_for(os.P_PIDFD, pidfd)
        if left is None:
            return
        report = boot_report.read(opened[1])
        if not report.error and (left.code or left.signal):
            report = Report(error=f"the new program {left} when it was tried")
        self.deadline = None
        self._children.others.discard(pid)
        self._watch.drop(pidfd)
        for fd in (pidfd, *opened):
            os.close(fd)
        self._children.events.append(ev.UpgradeChecked(report))

    # ── doing it ──

    def carry_out(self) -> None:
        """Become the new program; returns if that fails, with everything as it was, or if a signal came meanwhile.

        It stays due in the latter case.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, EVERY_SIGNAL)
        try:
            if not self._house.wakeup.is_empty():
                return  # their handlers have run: nobody would tell the new program
            self.is_due = False
            self._exec()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _exec(self) -> None:
        made: list[int] = []
        inherited: list[int] = []
        try:
            state = self._state()
            made += [settings_memfd(self._house.settings), handover.write(state)]
            command = parent_command(self._house.settings, *map(str, made))
            for fd in (*state.descriptors(), *made):
                os.set_inheritable(fd, True)
                inherited.append(fd)
            os.execv(command[0], command)
        except (OSError, HybridError) as error:
            for fd in inherited:
                os.set_inheritable(fd, False)
            for fd in made:
                os.close(fd)
            reason = getattr(error, "strerror", None) or str(error)
            self._children.events.append(ev.UpgradeChecked(Report(error=f"cannot become the new program: {reason}")))
