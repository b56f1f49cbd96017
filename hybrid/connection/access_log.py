"""The access log: a line for each request, written by the worker that served it, past the logging module.

One write(2) for each line, on a descriptor that all workers share and that appends: their lines do not interleave. As
with the error log (:mod:`hybrid.shared.log_line`) nobody waits: what a full pipe or a full disk does not take is
dropped and counted, and the error log says so, once a minute at most.
"""

from __future__ import annotations

from hybrid.connection.access_line import Entry, Line, compile_format
from hybrid.connection.failures import log
from hybrid.ground.clock import Clock, monotonic, wall
from hybrid.shared.access_settings import AccessSettings
from hybrid.shared.log_line import Outlet

__all__ = ["AccessLog", "Entry", "access_log"]

SILENCE_S = 60.0
"""Between two words in the error log about lines that were lost."""


class AccessLog:
    """Writes a line for each request. Nothing that it is told, or that happens to the file, makes it raise or wait.

    Runs in: worker, in its loop. Closes: its own second opening of a pipe or terminal, on :meth:`close`; never ``fd``.
    ``wants_response_headers``: whether an entry without those of the response would lack something.
    """

    def __init__(
        self,
        line_of: Line,
        fd: int,
        *,
        wants_response_headers: bool = False,
        clock: Clock = wall,
        timer: Clock = monotonic,
    ) -> None:
        self.wants_response_headers = wants_response_headers
        self.dropped = 0
        """Lines lost that the error log has not told of yet."""
        self._line_of = line_of
        self._outlet: Outlet | None = Outlet(fd)
        """None: closed."""
        self._clock = clock
        self._timer = timer
        self._looked_at = -1
        """The second in which we last looked what the descriptor points to."""
        self._is_losing = False
        self._quiet_until = 0.0

    def wrote(self, entry: Entry) -> None:
        """Log one request: its response has ended, or it was refused."""
        outlet = self._outlet
        if outlet is None:
            return  # an application that outlived its server; the number may be another file's by now
        now = self._clock()
        if entry.duration_s < 0 and entry.started:
            entry.duration_s = self._timer() - entry.started
        entry.began_at = now - entry.duration_s if entry.duration_s > 0 else now
        line = self._line_of(entry)
        second = int(now)
        # hot: access log, combined; looking each time costs as much as half of the write.
        if second == self._looked_at:
            taken = outlet.push(line)
        else:
            self._looked_at = second
            taken = outlet.send(line)
        if not taken or self.dropped:
            self._count(taken, now)

    def follow(self) -> None:
        """Look with the next line what the descriptor points to: it was pointed to another file."""
        self._looked_at = -1

    def close(self) -> None:
        """Let go of the file, for good; say what was lost."""
        if self.dropped:
            log.warning("access log: %d lines lost: it took no more", self.dropped)
            self.dropped = 0
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def _count(self, taken: bool, now: float) -> None:
        """Note that a line was lost, or that one was taken after others were lost; say so if it is time."""
        if not taken:
            self.dropped += 1
            if not self._is_losing and now >= self._quiet_until:
                self._is_losing = True
                self._quiet_until = now + SILENCE_S
                log.warning(
                    "access log: it takes no more, and lines are lost until it does. Let its reader go on, or make "
                    "room on its disk."
                )
        elif now >= self._quiet_until:
            log.warning("access log: %d lines lost before this moment: it took no more", self.dropped)
            self.dropped = 0
            self._is_losing = False
            self._quiet_until = now + SILENCE_S


def access_log(settings: AccessSettings, fd: int, slot: int) -> AccessLog | None:
    """Return the access log of a worker; None: nobody wants one.

    Runs in: worker, after the fork: the process is named in its lines. Args: fd: where to; it stays the caller's.
    """
    if not settings.enabled:
        return None
    line_of, wants_response_headers = compile_format(settings.format, slot)
    return AccessLog(line_of, fd, wants_response_headers=wants_response_headers)
