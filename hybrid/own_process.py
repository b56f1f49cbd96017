"""A process that is the server's while it serves: its signals, its log, its umask; and all of it given back.

Without a pool there is no parent to climb the ladder of a stop. The steps, their times and their words are the
parent's (:mod:`hybrid.parent.core`); the last one differs: nobody can kill this process and go on, so the server
leaves without what is left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import FrameType
from typing import NoReturn, Protocol

from hybrid.ground.clock import monotonic
from hybrid.ground.errors import UsageError
from hybrid.parent.events import Intent
from hybrid.parent.house import raise_descriptor_limit
from hybrid.parent.main import INTENTS
from hybrid.parent.pid_file import PidFile
from hybrid.parent.pool import StopStep
from hybrid.parent.pool_news import MARGIN_S
from hybrid.parent.ready_file import ReadyFile
from hybrid.parent.stopping import ABORT_S, CANCEL_S, LEAVE_S, STEP_WORDS, next_stop_step
from hybrid.parent.systemd import Notifier, claim_stored
from hybrid.shared.log_line import LogWriter, Style, open_log_file, reopen_log_file
from hybrid.shared.settings import Settings
from hybrid.worker import logs

POOLS = (signal.SIGHUP, signal.SIGUSR2)
"""Mean something to a pool only; their default action would end the process without a drain."""
AGAIN_S = 0.5
"""Between two interruptions of an import: time for the app's own cleaning up."""
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, *POOLS)


@contextmanager
def own_process(settings: Settings) -> Iterator[LogWriter]:
    """Make the process what the settings say, and open the log; undo it at the end, but for the descriptor limit.

    Raises: UsageError: the log cannot be opened.
    """
    with ExitStack() as undo:
        undo.callback(sys.path.__setitem__, slice(None), list(sys.path))
        wanted = settings.launch.sys_path
        sys.path[:] = [*wanted, *(entry for entry in sys.path if entry not in wanted)]
        if settings.process.umask >= 0:
            undo.callback(os.umask, os.umask(settings.process.umask))
        raise_descriptor_limit()
        fd = open_log_file(settings.log.file) if settings.log.file else 2
        if settings.log.file:
            undo.callback(os.close, fd)
        log = LogWriter(fd, Style.make(settings.log.format, settings.log.colour, fd), settings.log.level, "serve")
        undo.callback(log.close)
        yield log


@contextmanager
def own_loggers(settings: Settings, fd: int) -> Iterator[None]:
    """Point our loggers to the log, as in a worker; give them back. Raises: UsageError: ``--log-config`` is wrong."""
    loggers = [logging.getLogger(name) for name in logs.OWN_LOGGERS]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    writer: LogWriter | None = None
    try:
        writer = logs.install(settings.log, "serve", fd)
        yield
    finally:
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.propagate = propagate
            logger.setLevel(level)
        if writer is not None:
            writer.close()


@contextmanager
def own_files(settings: Settings, ready_file: ReadyFile) -> Iterator[None]:
    """Hold the pid file, and have the ready file's place; leave neither behind. Raises: UsageError: one is taken."""
    with ExitStack() as undo:
        if settings.process.pid_file:
            pid_file = PidFile(settings.process.pid_file)
            pid_file.write()
            undo.callback(pid_file.remove)
        ready_file.claim()
        undo.callback(ready_file.close)
        yield


class Leaving(Protocol):
    """The server, as a signal sees it."""

    @property
    def is_booting(self) -> bool: ...

    def leave(self, grace_s: float | None = None, *, abort: bool = False) -> None: ...

    def reopen_access_log(self, log: LogWriter, source: str) -> None: ...


class Interrupted(BaseException):
    """The import of the app was interrupted. No Exception: it goes past what the app catches.

    ``source``: the signal's name; None: the time was up.
    """

    def __init__(self, source: str | None) -> None:
        super().__init__(source)
        self.source = source


class OwnSignals:
    """What signals ask of the server: first outside the loop, then in it.

    Runs in: the process's main thread; in another one it hears nothing, and the signals stay the program's.
    """

    def __init__(self, settings: Settings, log: LogWriter, notifier: Notifier) -> None:
        self.notifier = notifier
        self.ready_file = ReadyFile(settings.process.ready_file, log)
        self.given_up: asyncio.Future[None]
        """Done when nothing is waited for any more. There is one once the loop has been entered."""
        self._settings = settings
        self._log = log
        self._server: Leaving
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_main = threading.current_thread() is threading.main_thread()
        self._interrupting = False
        self._interruption: Interrupted | None = None
        self._unraisable: Callable[[sys.UnraisableHookArgs], object] = sys.unraisablehook
        """Hears of what no finalizer can raise, while the import may be interrupted."""
        self._waiting: list[int] = []
        """What came while there was neither an import nor a loop."""
        self._step = StopStep.NONE
        self._stepped_at = 0.0
        self._patience: asyncio.TimerHandle | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether somebody has asked for the end."""
        return self._step is not StopStep.NONE

    # ── outside the loop ──

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over the process's signals; give them back."""
        if not self._is_main:
            yield
            return
        with _blocked():
            before = {number: signal.signal(number, self._note) for number in HEARD}
        # Whoever started us may have left some blocked, and the command does: see hybrid.cli.serve.
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in before.items():
                if handler is not None:  # else it was none of Python's: nobody can put it back
                    signal.signal(number, handler)

    @contextmanager
    def interrupting(self, boot_s: float) -> Iterator[None]:
        """Let a stop, or the end of ``boot_s`` seconds, end what holds up the process before there is a loop.

        What is raised in a finalizer, or where everything is caught, ends nothing: it is raised again every
        ``AGAIN_S`` seconds, and at the latest when the block ends by itself.
        Raises: Interrupted, out of whatever Python code is running.
        """
        if not self._is_main:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._on_alarm)
        hook, own_hook = sys.unraisablehook, self._on_unraisable
        self._unraisable, sys.unraisablehook = hook, own_hook
        signal.setitimer(signal.ITIMER_REAL, boot_s)
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
            if sys.unraisablehook is own_hook:  # else the app has set its own
                sys.unraisablehook = hook
            if self._interruption is not None:
                raise self._interruption

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._interrupting and INTENTS.get(signal.Signals(number)) in (Intent.STOP, Intent.STOP_NOW):
            self._interrupt(signal.Signals(number).name)
        self._waiting.append(number)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._interrupting:
            self._interrupt(None)

    def _interrupt(self, source: str | None) -> NoReturn:
        """Raise what ends the import, now and until it has ended. What came first is the reason."""
        if self._interruption is None:
            self._interruption = Interrupted(source)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        raise Interrupted(self._interruption.source)

    def _on_unraisable(self, what: sys.UnraisableHookArgs) -> None:
        """Say nothing of an interruption that a finalizer has swallowed: it comes again."""
        if not isinstance(what.exc_value, Interrupted):
            self._unraisable(what)

    # ── in the loop ──

    def enter_loop(self, loop: asyncio.AbstractEventLoop, server: Leaving) -> None:
        """Hear signals in the loop from now on. The server has begun to boot."""
        self._loop, self._server = loop, server
        self.given_up = loop.create_future()
        if self._is_main:
            with _blocked():
                for number in HEARD:
                    loop.add_signal_handler(number, self._on_signal, number)
        for came in self._waiting:
            loop.call_soon(self._on_signal, came)  # after the first step of the boot: before it nothing can leave

    def leave_loop(self) -> None:
        """Hear them outside again, before the loop is closed: in between they would have their default action."""
        if self._is_main and self._loop is not None:
            with _blocked():
                for number in HEARD:
                    self._loop.remove_signal_handler(number)
                    signal.signal(number, self._note)

    def _on_signal(self, number: int) -> None:
        which = signal.Signals(number)
        if which in POOLS:
            self._log.warning(f"{which.name}: it takes a pool to do that (--workers 1 or more)")
            if which is signal.SIGHUP:  # or whoever asked for a reload waits for its end
                self.notifier.reloading()
                self.notifier.reloaded("one process serves", "it takes a pool")
        elif INTENTS[which] is Intent.REOPEN_LOGS:
            self._reopen_logs(which.name)
        else:
            self._climb(which.name, INTENTS[which])

    def _reopen_logs(self, source: str) -> None:
        for reopen in (self._reopen_log, self._server.reopen_access_log):
            try:
                reopen(self._log, source)
            except UsageError as error:
                self._log.error(f"{source}: {error}")

    def _reopen_log(self, log: LogWriter, source: str) -> None:
        fd = reopen_log_file(log, self._settings.log.file, source)  # our loggers write to the same number
        if fd is not None:
            os.close(fd)

    def _climb(self, source: str, intent: Intent) -> None:
        """Take the next step of the stop, as the parent would."""
        assert self._loop is not None
        delay_s = 0.0 if self._server.is_booting else self._settings.timeout.drain_delay_s
        wanted = next_stop_step(self._step, intent, self._loop.time() - self._stepped_at, delay=delay_s > 0)
        if wanted != self._step:
            self._take(wanted, f"{source}: ")

    def _take(self, wanted: StopStep, source: str = "") -> None:
        """Be at the step ``wanted`` of the stop. ``source``: who asked, for the log."""
        assert self._loop is not None
        timeout = self._settings.timeout
        self._step, self._stepped_at = wanted, self._loop.time()
        grace_s = timeout.grace_s if wanted is StopStep.DRAIN else 0.0
        self._log.info(source + _STEP_WORDS[wanted].format(grace_s=grace_s, delay_s=timeout.drain_delay_s))
        self.ready_file.show(False, 0.0)
        if self._patience is not None:
            self._patience.cancel()
        if wanted is StopStep.KILL:
            self._give_up()
            return
        if wanted is StopStep.DELAY:
            patience_s, next_step = timeout.drain_delay_s, self._on_delay_over
        else:
            patience_s, next_step = self._patience_s(wanted, grace_s), self._on_late
        self.notifier.stopping("stopping")
        self.notifier.extend(patience_s + MARGIN_S)
        if wanted is not StopStep.DELAY:
            self._server.leave(grace_s, abort=wanted is StopStep.ABORT)
        self._patience = self._loop.call_later(patience_s, next_step)

    def _patience_s(self, wanted: StopStep, grace_s: float) -> float:
        """Return how long the server may take to leave."""
        if self._server.is_booting:
            return CANCEL_S + ABORT_S
        return ABORT_S if wanted is StopStep.ABORT else grace_s + CANCEL_S + LEAVE_S

    def _on_delay_over(self) -> None:
        self._take(StopStep.DRAIN)

    def _on_late(self) -> None:
        self._log.error("the server did not leave in time: going without what is left")
        self._give_up()

    def _give_up(self) -> None:
        if not self.given_up.done():
            self.given_up.set_result(None)


_STEP_WORDS = {**STEP_WORDS, StopStep.KILL: "going without what is left"}
"""There is nobody to kill."""


@contextmanager
def _blocked() -> Iterator[None]:
    """Hold signals back while their handlers change hands."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ── the service manager ──────────────────────────────────────────────────────────────────────────────────────


def with_claimed(settings: Settings, notifier: Notifier, log: LogWriter) -> Settings:
    """Return the settings without the inherited sockets that nothing binds any more. Raises: ListenError."""
    kept = claim_stored(settings, notifier, log)
    fds, names = tuple(each.fd for each in kept), tuple(each.name for each in kept)
    return replace(settings, launch=replace(settings.launch, listen_fds=fds, listen_names=names))


class Timed(Protocol):
    """Whoever has something to do now and then."""

    @property
    def is_there(self) -> bool: ...

    @property
    def deadline(self) -> float | None: ...

    def time_passed(self, now: float) -> None: ...


def keep_told(loop: asyncio.AbstractEventLoop, timed: Timed) -> None:
    """Tell ``timed``, if it is there, that the loop turns, whenever it is due; for ever."""
    if timed.is_there:
        now = monotonic()
        timed.time_passed(now)
        due = timed.deadline
        loop.call_later(_LOOK_S if due is None else max(0.0, due - now), keep_told, loop, timed)


_LOOK_S = 1.0
