"""One line per event, written with one write(2), by processes that share a log and must not wait for it.

Text, a detail indented below its event::

    2026-11-23 07:09:20.123 [worker 3] error   handler failed for 127.0.0.1:41234
        Traceback (most recent call last):
        ...

JSON, one object per line, times in UTC::

    {"time": "2026-11-23T07:09:20.123Z", "level": "error", "who": "worker 3", "message": "…", "detail": "…"}

**Nobody forges a line.** Whatever is not printable in a message is escaped (newlines, ANSI sequences, bidirectional
overrides), so a client's bytes in it stay inside their line; in a detail newlines are kept, and no line of it
begins in the first column.

**Nobody waits.** The parent answers for all workers, so it drops a line rather than wait for a reader that hangs,
counts what it dropped and says so in the next line that goes through. O_NONBLOCK on the shared stderr is no way:
the flag belongs to the open file, hence to the user's shell and to every process there. Instead a pipe or terminal
is opened a second time through /proc, non-blocking for us alone; a socket takes MSG_DONTWAIT. Where that is not
allowed (after a change of user) poll(2) is asked first and at most PIPE_BUF bytes go out, which blocks only if
another process takes the room in between. A regular file is written directly: its writes end, and have no such flag.

Source: pipe(7) on PIPE_BUF and O_NONBLOCK; open(2) on O_NONBLOCK and /proc/self/fd; https://no-color.org.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from hybrid.ground.clock import Clock, wall
from hybrid.ground.errors import UsageError

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
NAMES: dict[int, str] = {weight: name for name, weight in LEVELS.items()}
"""Names and weights; the weights are those of the logging module."""

PIPE_BUF_BYTES = select.PIPE_BUF
_INDENT = "    "
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}


class Style(Enum):
    """How a line looks."""

    TEXT = "text"
    COLOUR = "colour"
    """Text with ANSI colours."""
    JSON = "json"

    @staticmethod
    def make(form: str, colour: str, fd: int) -> Style:
        """Return what ``--log-format`` and ``--log-colour`` mean for ``fd``.

        ``auto`` colours on a terminal, unless NO_COLOR is set or TERM is ``dumb``.
        """
        if form == "json":
            return Style.JSON
        if colour == "auto":
            wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and os.isatty(fd)
        else:
            wanted = colour == "always"
        return Style.COLOUR if wanted else Style.TEXT


@dataclass(frozen=True, slots=True)
class LogEvent:
    """What happened. ``seconds``: wall clock. ``detail``: may span lines, a traceback; empty: none."""

    seconds: float
    who: str
    level: str
    message: str
    detail: str = ""


def format_line(event: LogEvent, style: Style) -> bytes:
    """Return the event as the bytes to write, the closing newline included."""
    if style is Style.JSON:
        return _json(event)
    whole, milliseconds = divmod(int(event.seconds * 1000), 1000)
    stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(whole))}.{milliseconds:03d}"
    message = escape(event.message)
    if style is Style.COLOUR:
        level = f"{_COLOURS.get(event.level, '')}{event.level:<7}{_PLAIN}"
        text = f"{_DIM}{stamp} [{event.who}]{_PLAIN} {level} {message}\n"
    else:
        text = f"{stamp} [{event.who}] {event.level:<7} {message}\n"
    if event.detail:
        text += "".join(f"{_INDENT}{_escape_detail(line)}\n" for line in event.detail.rstrip("\n").split("\n"))
    return text.encode()


def escape(text: str) -> str:
    """Return ``text`` with everything that is not printable written as an escape: it stays on its line."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _escape_detail(line: str) -> str:
    return "\t".join(escape(part) for part in line.split("\t"))  # source lines in a traceback keep their tabs


def _json(event: LogEvent) -> bytes:
    whole, milliseconds = divmod(int(event.seconds * 1000), 1000)
    fields = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z",
        "level": event.level,
        "who": event.who,
        "message": event.message,
    }
    if event.detail:
        fields["detail"] = event.detail
    # ASCII only: what json leaves as it is (U+2028, DEL, C1 controls) can break a line or colour a terminal.
    return json.dumps(fields, ensure_ascii=True).encode() + b"\n"


def open_log_file(path: str, flag: str = "--log-file") -> int:
    """Open ``path`` for appending, creating it with 0640; return the descriptor, close-on-exec.

    A named pipe must have a reader. Args: flag: the option that named it. Raises: UsageError: it cannot be opened.
    """
    # O_NONBLOCK for the opening only: without it a named pipe that nobody reads would hold us here.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o640)
    except OSError as error:
        raise UsageError(
            f"cannot open the log file {path}: {error.strerror}. Name a file that this user may write, in a directory "
            f"that exists, or change {flag}."
        ) from error
    os.set_blocking(fd, True)
    return fd


def reopen_log_file(log: LogWriter, path: str, source: str) -> int | None:
    """Let ``log`` write to ``path`` opened anew, and say so in it, and who asked: ``source``.

    Returns: a descriptor of the file, the caller's, for whoever else shall follow; None: ``path`` is empty, the log is
    stderr. Raises: UsageError: the file cannot be opened, and the old one stays.
    """
    if not path:
        log.info(f"{source}: the log is stderr; nothing to reopen")
        return None
    fd = open_log_file(path)
    log.reopen(fd)
    log.info(f"{source}: log file reopened")
    return fd


class LogWriter:
    """Writes events to a descriptor; never raises, never waits. See the head of this module.

    Runs in: parent, mold, worker; made after the fork. ``level``: the least important that is written.
    Closes: its own second opening of a pipe or terminal, on :meth:`close`; never ``fd``.
    """

    def __init__(self, fd: int, style: Style, level: str, who: str, clock: Clock = wall) -> None:
        self.fd = fd
        self.style = style
        self.who = who
        self.dropped = 0
        """Events dropped since the last line that went through."""
        self.least = LEVELS[level]
        """The weight below which nothing is written."""
        self.also: Callable[[LogEvent], None] | None = None
        """Told of each event as well, also of one that the log did not take."""
        self._clock = clock
        self._outlet = Outlet(fd)

    def write(self, level: str, message: str, detail: str = "") -> None:
        """Write one event, if ``level`` is wanted."""
        if LEVELS[level] >= self.least:
            self.write_event(LogEvent(self._clock(), self.who, level, message, detail))

    def debug(self, message: str, detail: str = "") -> None:
        """Write an event that only a search for a fault needs."""
        self.write("debug", message, detail)

    def info(self, message: str, detail: str = "") -> None:
        """Write an event that is as it should be."""
        self.write("info", message, detail)

    def warning(self, message: str, detail: str = "") -> None:
        """Write an event that somebody should look at."""
        self.write("warning", message, detail)

    def error(self, message: str, detail: str = "") -> None:
        """Write an event that cost something."""
        self.write("error", message, detail)

    def write_event(self, event: LogEvent) -> None:
        """Write one event whatever its level; drop it when the log takes nothing."""
        if self.also is not None:
            self.also(event)
        line = format_line(event, self.style)
        if self.dropped:
            lost = (
                f"{self.dropped} log line{'s' if self.dropped > 1 else ''} lost before this one: the log took no more"
            )
            line = format_line(LogEvent(event.seconds, self.who, "warning", lost), self.style) + line
        if self._outlet.send(line):
            self.dropped = 0
        else:
            self.dropped += 1

    def reopen(self, fd: int) -> None:
        """Let the log's descriptor number point to what ``fd`` points to, so that every holder of the number follows.

        The caller still owns ``fd``. Raises: OSError: ``fd`` is not open.
        """
        if fd != self.fd:
            os.dup2(fd, self.fd, inheritable=os.get_inheritable(self.fd))

    def close(self) -> None:
        """Close what was opened here. ``fd`` stays open: it is not ours."""
        self._outlet.close()


class Outlet:
    """Sends bytes to a descriptor without waiting. Follows when the number is pointed to another file.

    Not to another socket: where the app has closed the number, the next client is given it.

    Closes: its own second opening, on :meth:`close`; never the descriptor.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file: tuple[int, int] = (-1, -1)
        self._regular = False
        self._own_fd = -1
        self._socket: socket.socket | None = None
        self._rest = b""
        self._first = _identity(fd)

    def send(self, data: bytes) -> bool:
        """Say whether ``data`` was taken; False when nothing could be, for whatever reason.

        What was cut in the middle (a full disk, a full pipe) is finished before anything else is sent.
        """
        try:
            self._follow()
        except OSError:
            return False
        return self.push(data)

    def push(self, data: bytes) -> bool:
        """As :meth:`send`, to what the number pointed to at the last ``send``: it saves the look, an fstat(2)."""
        try:
            if self._rest:
                self._rest = self._rest[self._take(self._rest) :]
                if self._rest:
                    return False
            sent = self._take(data)
        except OSError:  # EAGAIN, EPIPE, ENOSPC, EIO, EBADF: there is nowhere to say it
            return False
        if sent:
            self._rest = data[sent:]
        return sent > 0

    def close(self) -> None:
        """Forget what was opened; the next send opens it again."""
        if self._own_fd >= 0:
            os.close(self._own_fd)
        if self._socket is not None:
            self._socket.close()
        self._own_fd, self._socket, self._regular = -1, None, False
        self._file, self._rest = (-1, -1), b""

    def _follow(self) -> None:
        """Look what the number points to now: SIGUSR1, or the app itself, may have pointed it elsewhere."""
        try:
            found = os.fstat(self._fd)
        except OSError:
            self.close()  # closed under us: a reader must get its end of file, so hold nothing open
            raise
        if (found.st_dev, found.st_ino) == self._file:
            return
        self.close()
        if stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) != self._first:
            raise OSError(errno.ENOTSUP, "another socket")
        if stat.S_ISREG(found.st_mode):
            self._regular = True
        elif stat.S_ISSOCK(found.st_mode):
            self._socket = socket.socket(fileno=os.dup(self._fd))
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self._own_fd = os.open(f"/proc/self/fd/{self._fd}", flags)
            except OSError:  # another user's pipe, or no /proc
                self._own_fd = -1
        self._file = (found.st_dev, found.st_ino)

    def _take(self, data: bytes) -> int:
        """Return how many bytes were taken. Raises: OSError."""
        if self._regular:
            return os.write(self._fd, data)
        if self._own_fd >= 0:
            return os.write(self._own_fd, data)
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        sent = 0
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while sent < len(data) and any(mask & select.POLLOUT for _fd, mask in poll.poll(0)):
            sent += os.write(self._fd, data[sent : sent + PIPE_BUF_BYTES])
        return sent


def _identity(fd: int) -> tuple[int, int]:
    """Return what tells the file behind ``fd`` from others."""
    try:
        found = os.fstat(fd)
    except OSError:
        return (-1, -1)
    return (found.st_dev, found.st_ino)
