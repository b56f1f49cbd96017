"""A file that is there while the server is ready: what a readiness probe looks for, with ``test -e`` and no more.

Its modification time says that the parent's loop turns: the loop sets it, every :data:`BEAT_S`, as long as the file is
there. A probe that finds it older than a minute has found a parent that hangs.

Like a pid file it is locked while it is there, so that what a killed server left behind is told from another server's.

Source: Kubernetes, "Configure Liveness, Readiness and Startup Probes" (exec probes).
"""

from __future__ import annotations

from hybrid.ground.errors import UsageError
from hybrid.parent.pid_file import PidFile
from hybrid.shared.log_line import LogWriter

BEAT_S = 5.0


class ReadyFile:
    """One ready file, from :meth:`claim` to :meth:`close`; without a path, every call does nothing.

    Runs in: parent, or the process of ``--workers 0``. While it serves, nothing here raises: a file that cannot be
    written is an error in the log, once, and is tried again. Closes: its descriptor.
    """

    def __init__(self, path: str, log: LogWriter) -> None:
        self._file = PidFile(path, "--ready-file", is_ours=True) if path else None
        self._log = log
        self._is_shown = False
        self._beat_at = 0.0
        self._said = ""
        """What went wrong last."""

    @property
    def is_there(self) -> bool:
        """Whether there is a file to keep."""
        return self._file is not None

    def claim(self) -> None:
        """Take away what a dead server has left there, and see that it can be written: before anything is served.

        Raises: UsageError: it cannot, or is another server's, or no ready file.
        """
        if self._file is not None:
            self._file.write()
            self._file.remove()

    def take_over(self) -> None:
        """Go on with the file of the program that was in this process before us, if it has left one."""
        if self._file is not None and self._file.exists():
            self._is_shown = True
            self._refresh()

    def show(self, is_ready: bool, now: float) -> None:
        """Let the file be there if the server ``is_ready``. ``now``: monotonic seconds."""
        if self._file is None or is_ready is self._is_shown:
            return
        self._is_shown = is_ready
        if is_ready:
            self._beat_at = now + BEAT_S
            self._refresh()
        else:
            self._file.remove()

    @property
    def deadline(self) -> float | None:
        """When :meth:`time_passed` is due. Monotonic seconds."""
        return self._beat_at if self._is_shown else None

    def time_passed(self, now: float) -> None:
        """Show that the loop turns, if it is time. Called by the loop, as it does."""
        if self._is_shown and self._beat_at <= now:
            self._beat_at = now + BEAT_S
            self._refresh()

    def close(self) -> None:
        """Take the file away. May be called twice; never raises."""
        self._is_shown = False
        if self._file is not None:
            self._file.remove()

    def _refresh(self) -> None:
        assert self._file is not None
        try:
            self._file.refresh()
        except UsageError as error:
            self._complain(str(error))
        except OSError as error:
            self._complain(f"cannot set the time of --ready-file {self._file.path}: {error.strerror}")
        else:
            self._said = ""

    def _complain(self, what: str) -> None:
        if what != self._said:
            self._said = what
            self._log.error(what)
