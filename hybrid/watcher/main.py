"""The file watcher: watches the app's directories and tells the parent of every batch of changes that counts.

One thread. The library waits; at each of its steps it asks :class:`Lead` whether to go on, which is when the channel
to the parent is looked at: its end is the end of the watcher. No code of the app's is imported here, so nothing but the
file system decides what is seen.

Source: https://watchfiles.helpmanual.io (watch, stop_event); inotify(7).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable

from hybrid.ground.errors import ExitCode
from hybrid.shared import messages, settings
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.messages import Log, Op, Record
from hybrid.shared.settings import Settings
from hybrid.watcher.filters import changed_files, filters, watched_directories

STEP_MS = 50
"""How often the library wakes up; and without a change for that long, a batch is whole."""
DEBOUNCE_MS = 1600
"""A batch is told of after that long, also if changes go on."""
NAMED = 3
"""Files of a batch that the log names."""
LIMIT = (
    "cannot have the kernel report changes ({error}); looking at every file again and again instead. "
    "Watch less with --reload-dir, or raise fs.inotify.max_user_watches and max_user_instances"
)


def main(argv: list[str]) -> int:
    """Watch until the parent is gone. Runs in: watcher."""
    if len(argv) != 2:
        sys.stderr.write("usage: python -m hybrid.watcher ORDERS   (JSON, as the parent passes it)\n")
        return ExitCode.USAGE
    orders = json.loads(argv[1])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _ignore)  # Ctrl-C reaches the whole group; only the parent decides
    told = settings.from_json(os.pread(orders["settings"], 1 << 24, 0).decode())
    os.close(orders["report"])  # it was for a start that failed
    channel = socket.socket(fileno=orders["channel"])
    channel.setblocking(False)
    log = LogWriter(
        orders["log"], Style.make(told.log.format, told.log.colour, orders["log"]), told.log.level, "watcher"
    )
    _set_title("hybrid: watcher")
    return Watcher(told, channel, log).run()


def _ignore(number: int, frame: object) -> None:
    """Do nothing."""


def _set_title(title: str) -> None:
    import setproctitle

    setproctitle.setproctitle(title)


class Lead:
    """The channel to the parent, as what the library asks at each step whether to stop.

    Closes: descriptors that came through it. Args: said: the log line for when the library has begun.
    """

    def __init__(self, channel: socket.socket, log: LogWriter, said: str) -> None:
        self._channel = channel
        self._log = log
        self._said = said
        self.is_watching = False
        """The library has begun: from here on every change is seen."""

    def is_set(self) -> bool:
        """Return whether the parent is gone; do what it asks for meanwhile."""
        if not self.is_watching:
            self.is_watching = True
            self._log.info(self._said)
        try:
            record, descriptors, is_open = messages.receive(self._channel)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if record is not None and record.op is Op.REOPEN_LOGS and record.a == Log.ERROR and descriptors:
            self._log.reopen(descriptors[0])
        for fd in descriptors:
            os.close(fd)
        return not is_open


class Watcher:
    """Watches, and tells. Runs in: watcher."""

    def __init__(self, settings: Settings, channel: socket.socket, log: LogWriter) -> None:
        self._channel = channel
        self._log = log
        self._directories = watched_directories(settings, os.getcwd())
        self._filters = filters(settings.reload, self._directories)

    def run(self) -> int:
        """Watch until the parent is gone; return the exit code."""
        try:
            import watchfiles  # noqa: F401  # whether it is there
        except ImportError as error:
            self._log.error(f"cannot watch files: {error}. Install the library: pip install 'hybrid[reload]'.")
            return ExitCode.USAGE
        # What the library's own part in Rust meets is a RuntimeError of a class that it does not show.
        lead = Lead(self._channel, self._log, f"watching {', '.join(self._directories)}")
        try:
            try:
                self._watch(lead, force_polling=None)
            except (RuntimeError, OSError) as error:
                if lead.is_watching or isinstance(error, (FileNotFoundError, BrokenPipeError, ConnectionResetError)):
                    raise
                self._log.warning(LIMIT.format(error=str(error).rstrip(".")))
                self._watch(lead, force_polling=True)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the parent is gone
        except (RuntimeError, OSError) as error:
            self._log.error(f"cannot watch {', '.join(self._directories)}: {error}")
            return ExitCode.UNEXPECTED
        return ExitCode.OK

    def _watch(self, lead: Lead, force_polling: bool | None) -> None:
        """Tell of each batch. Args: force_polling: None: as WATCHFILES_FORCE_POLLING says, else by inotify."""
        from watchfiles import watch

        batches = watch(
            *self._directories,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            stop_event=lead,
            rust_timeout=0,
            force_polling=force_polling,
            ignore_permission_denied=True,
        )
        for batch in batches:
            self._tell(path for _change, path in batch)

    def _tell(self, paths: Iterable[str]) -> None:
        files = changed_files(paths, self._filters)
        if not files:
            return
        self._log.info(f"{summary(files)} changed: reloading")
        try:
            messages.send(self._channel, Record(Op.CHANGED, a=len(files)))
        except BlockingIOError:
            pass  # it has many of these to read already


def summary(files: list[str]) -> str:
    """Return a few of the files, and how many more there are, for a log line."""
    more = len(files) - NAMED
    return ", ".join(files[:NAMED]) + (f" and {more} more" if more > 0 else "")
