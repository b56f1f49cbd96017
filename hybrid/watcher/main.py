"""The file watcher: watches the app's directories and tells the parent of every batch of changes that counts.

One thread. The library waits; at each of its steps it asks :class:`Lead` whether to go on, which is when the channel
to the parent is looked at: its end is the end of the watcher. No code of the app's is imported here, so nothing but the
file system decides what is seen.

Source: https://watchfiles.helpmanual.io (watch, stop_event); inotify(7).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping

from hybrid.ground.errors import ExitCode
from hybrid.shared import messages, settings
from hybrid.shared.log_line import LogWriter, Style
from hybrid.shared.messages import Log, Op, Record
from hybrid.shared.settings import Settings
from hybrid.watcher.filters import filters, wanted_name, watched_directories
from hybrid.watcher.tree import Stamp, differences, is_other_tree, scan, stamp

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
    """The channel to the parent, as what the library asks at each of its steps whether to stop.

    Closes: descriptors that came through it. Args: begun: called when the library has begun: from then on every
    change is seen; returns whether to stop at once.
    """

    def __init__(self, channel: socket.socket, log: LogWriter, begun: Callable[[], bool]) -> None:
        self.is_over = False
        """The parent is gone."""
        self.is_watching = False
        self._channel = channel
        self._log = log
        self._begun = begun

    def is_set(self) -> bool:
        """Return whether to stop; do what the parent asks for meanwhile."""
        if not self.is_watching:
            self.is_watching = True
            if self._begun():
                return True
        try:
            record, descriptors, is_open = messages.receive(self._channel)
        except BlockingIOError:
            return False
        except OSError:
            record, descriptors, is_open = None, [], False
        if record is not None and record.op is Op.REOPEN_LOGS and record.a == Log.ERROR and descriptors:
            self._log.reopen(descriptors[0])
        for fd in descriptors:
            os.close(fd)
        self.is_over = not is_open
        return self.is_over


class Watcher:
    """Watches, and tells. Runs in: watcher."""

    def __init__(self, settings: Settings, channel: socket.socket, log: LogWriter) -> None:
        self._channel = channel
        self._log = log
        self._roots = watched_directories(settings, os.getcwd())
        self._filters = filters(settings.reload, self._roots)
        self._tree = scan(self._filters)
        self._files = dict(self._tree.files)
        """As they were when they were last told of."""
        self._is_polling: bool | None = None
        """None: as WATCHFILES_FORCE_POLLING says, else by inotify."""
        self._has_begun = False

    def run(self) -> int:
        """Watch until the parent is gone; return the exit code."""
        try:
            import watchfiles  # noqa: F401  # whether it is there
        except ImportError as error:
            self._log.error(f"cannot watch files: {error}. Install the library: pip install watchfiles.")
            return ExitCode.USAGE
        try:
            while not self._watch():
                self._tree = scan(self._filters)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the parent is gone
        except (RuntimeError, OSError) as error:
            self._log.error(f"cannot watch {', '.join(self._roots)}: {error}")
            return ExitCode.UNEXPECTED
        return ExitCode.OK

    def _watch(self) -> bool:
        """Tell of each batch until the parent is gone (True), or until other directories have to be watched.

        Raises: OSError, RuntimeError: the file system cannot be watched. What the library's own part in Rust meets is
        a RuntimeError of a class that it does not show.
        """
        from watchfiles import watch

        missing = [root for root in self._roots if root not in self._tree.directories]
        if missing:
            raise FileNotFoundError(errno.ENOENT, "it is gone, or cannot be read", missing[0])
        lead = Lead(self._channel, self._log, self._begun)
        batches = watch(
            *sorted(self._tree.directories),
            watch_filter=None,
            recursive=False,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            stop_event=lead,
            rust_timeout=0,
            force_polling=self._is_polling,
        )
        try:
            for batch in batches:
                paths = {path for _change, path in batch}
                self._tell({path: stamp(path) for path in paths if wanted_name(path, self._filters)})
                if is_other_tree(paths, self._tree.directories, self._filters):
                    return False
        except FileNotFoundError:
            return False  # a directory went meanwhile
        except (RuntimeError, OSError) as error:
            if lead.is_watching or self._is_polling:
                raise
            self._log.warning(LIMIT.format(error=str(error).partition(" about ")[0].rstrip(".")))
            self._is_polling = True
            return False
        return lead.is_over

    def _begun(self) -> bool:
        """Look at what has happened while nothing was watched; return whether other directories came or went."""
        now = scan(self._filters)
        if now.directories != self._tree.directories:
            return True
        if not self._has_begun:
            self._has_begun = True
            self._log.info(f"watching {', '.join(self._roots)}")
        self._tell({path: now.files.get(path) for path in differences(self._files, now.files)})
        return False

    def _tell(self, changed: Mapping[str, Stamp | None]) -> None:
        """Say in the log what has changed, and to the parent that something has."""
        for path, found in changed.items():
            if found is None:
                self._files.pop(path, None)
            else:
                self._files[path] = found
        names = sorted({wanted_name(path, self._filters) for path in changed})
        if not names:
            return
        self._log.info(f"{summary(names)} changed: reloading")
        try:
            messages.send(self._channel, Record(Op.CHANGED, a=len(names)))
        except BlockingIOError:
            pass  # it has many of these to read already


def summary(files: list[str]) -> str:
    """Return a few of the files, and how many more there are, for a log line."""
    more = len(files) - NAMED
    return ", ".join(files[:NAMED]) + (f" and {more} more" if more > 0 else "")
