"""What the parent owns: sockets, scoreboard, life pipe, log, pid file; and what it says to whoever waits for it.

Built before the first child, in an order in which a failure undoes what was done before it.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress

from hybrid import __version__
from hybrid.ground.clock import monotonic_ns
from hybrid.ground.errors import ExitCode, HybridError, UsageError
from hybrid.ground.states import Readiness
from hybrid.parent.doors import FLAGS, Doors
from hybrid.parent.grace import check_grace, platform_grace_s
from hybrid.parent.handover import Handover, HeldChild, HeldListener, HeldQueues
from hybrid.parent.pid_file import PidFile
from hybrid.parent.pool import Pool
from hybrid.parent.ready_file import ReadyFile
from hybrid.parent.signals import Wakeup
from hybrid.parent.systemd import Notifier, claim_stored, log_inherited
from hybrid.shared import listeners as sockets
from hybrid.shared import messages, metrics_folder
from hybrid.shared.access_file import open_access_file, reopen_access_file
from hybrid.shared.boot_report import Report
from hybrid.shared.doors import DoorKind
from hybrid.shared.log_line import LEVELS, LogWriter, Style, open_log_file, reopen_log_file
from hybrid.shared.metrics_folder import MetricsFolder
from hybrid.shared.privileges import Identity, resolve_user
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import MOST_SLOTS, Settings

Held = tuple[HeldChild, ...]
_SAID_BYTES = 50_000
"""Of a failure's message and detail, told in one message to whoever waits."""


class House:
    """Everything that outlives a child. Closes: all of it, on :meth:`close`, in reverse order."""

    def __init__(self, settings: Settings, settings_fd: int, log_fd: int = -1) -> None:
        """Open the log. ``log_fd``: of a log file that is open already; the house closes it."""
        self.settings = settings
        self.settings_fd = settings_fd
        self.served = Report()
        """What the first worker that became ready said it serves."""
        self._undo = ExitStack()
        self.log = self._open_log(log_fd)
        self.host: socket.socket | None = None
        if settings.launch.host_fd >= 0:
            self.host = socket.socket(fileno=settings.launch.host_fd)
            self.host.set_inheritable(False)
            self._undo.callback(self.host.close)
        self._pid_file: PidFile | None = None
        self.doors = Doors(self.log, os.environ)
        self.news: tuple[str, ...] = ()
        """The last notices of the program before us in this process, and then of ours, for the one after us."""
        self.reopen_failure = ""
        """Why a log file could not be opened anew the last time; empty: all could."""
        self.ready_file = ReadyFile(settings.process.ready_file, self.log)
        self._undo.callback(self.ready_file.close)
        self.identity: Identity | None = None
        # A program that started us is the service, and says itself when it is ready.
        self._environ = os.environ if self.host is None else {}
        self._platform_grace_s: int | None = None
        self.notifier = Notifier.from_environment(self._environ, os.getpid(), self.log)
        self._undo.callback(self.notifier.close)

    def build(self) -> None:
        """Make what can fail. Raises: HybridError: says what, and how to mend it; call :meth:`close` then."""
        process, bind = self.settings.process, self.settings.bind
        if process.ready_fd >= 0:
            self._adopt_ready_fd(process.ready_fd)
        # First: a SIGTERM that comes while files are made must not leave them behind.
        self.wakeup = Wakeup()
        self._undo.callback(self.wakeup.close)
        unblock_signals()
        if process.umask >= 0:
            os.umask(process.umask)
        if process.chdir:
            os.chdir(process.chdir)
        raise_descriptor_limit()
        if process.user or process.group:
            self.identity = resolve_user(process.user, process.group)
        self.access_fd = open_access_file(self.settings.access)
        if self.settings.access.path:
            self._undo.callback(os.close, self.access_fd)
        if process.pid_file:
            self._pid_file = PidFile(process.pid_file)
            self._pid_file.write()
            self._undo.callback(self._pid_file.remove)
        self.ready_file.claim()
        self._platform_grace_s = platform_grace_s(self._environ)
        check_grace(self.settings.timeout, self._platform_grace_s, self.log)
        inherited, is_shared = claim_stored(self.settings, self.notifier, self.log), bind.accept == "reuseport"
        self.listeners = sockets.open_listeners(bind.bind, bind.backlog, bind.uds_mode, inherited, share_port=is_shared)
        self._undo.callback(self.close_listeners)
        log_inherited(self.listeners, self.log)
        self.life_read, self._life_write = os.pipe2(os.O_CLOEXEC)
        self._undo.callback(os.close, self.life_read)
        self._undo.callback(os.close, self._life_write)
        if metrics_folder.is_wanted(self.settings.control.metrics_bind):
            self._undo.callback(MetricsFolder.make(self.identity).close)
        self._undo.callback(self.doors.close)
        self.doors.open(self.settings)
        self.scoreboard = Scoreboard.create(MOST_SLOTS, monotonic_ns())
        self._undo.callback(self.scoreboard.close)
        if bind.accept == "locked=robust":
            self.scoreboard.make_mutex()

    def take_over(self, held: Handover) -> None:
        """Have what the program before us in this process had. Raises: HybridError: it does not fit."""
        for fd in held.descriptors():
            os.set_inheritable(fd, False)
        self.wakeup = Wakeup()
        self._undo.callback(self.wakeup.close)
        process = self.settings.process
        if process.user or process.group:
            self.identity = resolve_user(process.user, process.group)
        self.access_fd = held.access
        if self.settings.access.path:
            self._undo.callback(os.close, self.access_fd)
        if held.pid_file >= 0:
            self._pid_file = PidFile(process.pid_file)
            self._pid_file.take_over(held.pid_file)
            self._undo.callback(self._pid_file.remove)
        self.ready_file.take_over()
        with suppress(UsageError):  # the start has heeded it or not; a program that takes over ends nothing for it
            self._platform_grace_s = platform_grace_s(self._environ)
        self.listeners = [
            sockets.Listener(socket.socket(fileno=each.fd), each.address, each.file, each.adopted, each.name)
            for each in held.listeners
        ]
        self._undo.callback(self.close_listeners)
        self._take_over_doors(held)
        self.life_read, self._life_write = held.life
        self._undo.callback(os.close, self.life_read)
        self._undo.callback(os.close, self._life_write)
        if (folder := MetricsFolder.take_over()) is not None:
            self._undo.callback(folder.close)
        self.scoreboard = Scoreboard.attach(held.scoreboard)
        self.scoreboard.go_on(len(held.pool.slots))
        self._undo.callback(self.scoreboard.close)
        self.served = held.served
        unblock_signals()

    def _take_over_doors(self, held: Handover) -> None:
        self._undo.callback(self.doors.close)
        self.doors.take_over(held.doors)
        self.news = held.news
        if not held.doors:  # that program had none to leave, or knew of none
            try:
                self.doors.open(self.settings)
            except HybridError as error:
                self.log.error(str(error))

    def held(self, pool: Pool, queues: HeldQueues, children: tuple[Held, Held]) -> Handover:
        """Return what a successor has to take over, with what others hold."""
        molds, workers = children
        return Handover(
            pool=pool,
            settings=self.settings,
            scoreboard=self.scoreboard.fd,
            life=(self.life_read, self._life_write),
            log=self.log.fd if self.settings.log.file else -1,
            access=self.access_fd,
            host=self.host.fileno() if self.host is not None else -1,
            pid_file=self._pid_file.fd if self._pid_file is not None else -1,
            listeners=tuple(
                HeldListener(each.fileno(), each.address, each.file, each.adopted, each.name) for each in self.listeners
            ),
            queues=queues,
            molds=molds,
            workers=workers,
            served=self.served,
            doors=self.doors.held(),
            news=self.news,
        )

    def adopt(self, settings: Settings) -> None:
        """Live by ``settings`` from now on: those of another generation. What needs a restart is as before in them."""
        self.settings = settings
        self.log.least = LEVELS[settings.log.level]
        check_grace(settings.timeout, self._platform_grace_s, self.log)

    def close(self) -> None:
        """Undo everything, the last first."""
        self._undo.close()

    def store_listeners(self) -> None:
        """Have the service manager keep our sockets, if it does such a thing; it then needs their files, too.

        Not with ``reuseport``: each worker has a queue of its own, and one that is kept gets its share of those who
        come while nobody accepts.
        """
        if self.settings.bind.accept != "reuseport":
            self.listeners = self.notifier.store(self.listeners)

    def close_listeners(self) -> None:
        """Close our copies and remove our socket files. May be called twice."""
        for listener in self.listeners:
            listener.close()

    @property
    def addresses(self) -> tuple[str, ...]:
        """What we listen on, in the grammar of ``--bind``; port 0 is replaced by the real one."""
        return tuple(listener.address for listener in self.listeners)

    # ── the log ──

    def _open_log(self, fd: int) -> LogWriter:
        log = self.settings.log
        if fd < 0:
            fd = open_log_file(log.file) if log.file else 2
        if log.file:
            self._undo.callback(os.close, fd)
        return LogWriter(fd, Style.make(log.format, log.colour, fd), log.level, "parent")

    def reopen_logs(self, source: str) -> dict[messages.Log, int]:
        """Open the files of the logs anew and use them; return a descriptor of each, the caller's, for the children.

        One that is no file, or cannot be opened, is missing. ``source``: who asked, for the log.
        """
        reopenings: dict[messages.Log, Callable[[], int | None]] = {
            messages.Log.ERROR: lambda: reopen_log_file(self.log, self.settings.log.file, source),
            messages.Log.ACCESS: lambda: reopen_access_file(self.settings.access, self.access_fd, self.log, source),
        }
        fresh: dict[messages.Log, int | None] = {}
        failures = []
        for which, reopen in reopenings.items():
            try:
                fresh[which] = reopen()
            except UsageError as error:
                self.log.error(f"{source}: {error}")
                failures.append(str(error))
        self.reopen_failure = " ".join(failures)
        return {which: fd for which, fd in fresh.items() if fd is not None}

    # ── whoever waits for us ──

    def announce(self, size_reason: str, workers: int, seconds: float, preload: bool) -> None:
        """Say that the server is ready: a few log lines, and a JSON line to whoever waits."""
        served, log = self.served, self.log
        count = f"{workers} worker{'s' if workers != 1 else ''}"
        how = ", app preloaded" if preload else ", app imported by each worker"
        log.info(f"hybrid {__version__} serves {served.kind} {served.name} on {', '.join(self.addresses)}")
        standby = self.settings.worker.standby
        more = f", {standby} to stand by" if standby else ""
        log.info(f"{count} ({self._size(size_reason)}){more}, {served.detail}{how}")
        log.info(f"ready in {seconds:.2f} s; parent pid {os.getpid()}")
        self.scoreboard.readiness = Readiness.READY
        doors = {FLAGS[kind][2:]: self.doors.addresses(kind) for kind in DoorKind if self.doors.addresses(kind)}
        for name, addresses in doors.items():
            log.write("debug" if name == "control" else "info", f"--{name}: {', '.join(addresses)}")
        said = {"event": "ready", "addresses": self.addresses, "pid": os.getpid(), "workers": workers}
        self._tell({**said, "doors": doors})

    def _size(self, reason: str) -> str:
        is_asked = reason == "as asked" and self.settings.launch.workers_source
        return asked_size(self.settings) if is_asked else reason

    def tell_failure(self, code: ExitCode, message: str, detail: str, number: int = 0) -> None:
        """Say that the server could not boot, to whoever waits. ``number``: the errno behind it."""
        self.notifier.failed(message, number)
        while len(json.dumps([message, detail])) > _SAID_BYTES:
            # The end of a traceback says most; the beginning of a message does.
            message, detail = message[: max(200, len(message) // 2)], detail[len(detail) // 2 + 1 :]
        self._tell({"event": "failed", "exit_code": int(code), "error": message, "detail": detail})

    def _tell(self, what: dict[str, object]) -> None:
        line = json.dumps(what).encode() + b"\n"
        if self.host is not None:
            scoreboard = (self.scoreboard.fd,) if hasattr(self, "scoreboard") else ()
            try:
                messages.send_bytes(self.host, line, scoreboard)
            except OSError:
                pass  # it is gone: its end of file comes next
        if self._ready_fd >= 0:
            tell_ready_fd(self._ready_fd, line, self.log)
            self._ready_fd = -1

    _ready_fd = -1

    def _adopt_ready_fd(self, fd: int) -> None:
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise UsageError(
                f"--ready-fd {fd}: {error.strerror}. Pass an open descriptor, such as --ready-fd 3 with 3>file."
            ) from error
        self._ready_fd = fd


def asked_size(settings: Settings) -> str:
    """Return the number of workers that was asked for, and where, for the boot line."""
    source, workers = settings.launch.workers_source, settings.worker.workers
    return f"{source}{workers}" if source.endswith("=") else f"{source}: {workers}"


def tell_ready_fd(fd: int, line: bytes, log: LogWriter) -> None:
    """Write a line to whoever waits at ``--ready-fd``, without waiting for him. Closes: ``fd``."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    try:
        if not poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, "nobody reads it")  # a full pipe must not hold up the server
        os.write(fd, line)
    except OSError as error:
        log.warning(f"--ready-fd {fd}: {error.strerror}; nobody was told")
    os.close(fd)


def raise_descriptor_limit() -> None:
    """Raise RLIMIT_NOFILE to its hard limit, for us and every child. Source: getrlimit(2)."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def unblock_signals() -> None:
    """Hear every signal: whoever started us may have left some blocked, and a mask survives exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
