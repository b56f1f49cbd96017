"""Signals as bytes in a pipe that the parent's poll loop reads.

Source: signal.set_wakeup_fd; UNP §5.9 (the self-pipe idea). CPython < 3.14 has no signalfd.
"""

from __future__ import annotations

import os
import select
import signal

HEARD = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGCHLD,
)


class Wakeup:
    """The pipe. Closes: both ends, on :meth:`close`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # A full pipe still wakes the loop, and a storm of one signal is one wish: nothing to warn about.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, _take_note)

    def fileno(self) -> int:
        return self._read

    def take(self) -> list[int]:
        """Return the signals that came since the last call, each once, in order of arrival."""
        try:
            return list(dict.fromkeys(os.read(self._read, 65536)))
        except BlockingIOError:
            return []

    def is_empty(self) -> bool:
        """Return whether every signal whose handler has run was taken."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Hear no more signals."""
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)


def _take_note(number: int, frame: object) -> None:
    """Do nothing: CPython writes to the wake-up pipe only for signals that have a handler."""
