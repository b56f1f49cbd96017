"""Serving in the process that asked: ``workers=0`` in a program, ``--workers 0`` on the command line.

No parent, no pool, no fork: one :class:`~hybrid.worker.service.Service` in a loop of this process. For development, for
tests, for systems without the pool's kernel features, and for a service that only wants the handler API.

Two ways to live here. ``hybrid.serve`` makes a guest in the caller's loop, which changes nothing of the process.
``hybrid.run`` and the command own the process while they serve (:func:`run_here`): signals, log, pid file, loop.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from hybrid import __version__
from hybrid.connection.access_log import AccessLog, access_log
from hybrid.ground.clock import monotonic, monotonic_ns
from hybrid.ground.errors import BootError, ExitCode, HybridError, UsageError
from hybrid.ground.states import Life
from hybrid.handlers.exceptions import install_exception_handler
from hybrid.handlers.lifespan import Worker
from hybrid.handlers.protocol import ProtocolHandler
from hybrid.own_process import Interrupted, OwnSignals, keep_told, own_files, own_loggers, own_process, with_claimed
from hybrid.parent.grace import check_grace, platform_grace_s
from hybrid.parent.house import asked_size, tell_ready_fd
from hybrid.parent.pool_news import MARGIN_S
from hybrid.parent.systemd import Notifier, log_inherited
from hybrid.shared import listeners as sockets
from hybrid.shared import models
from hybrid.shared.access_file import open_access_file, reopen_access_file
from hybrid.shared.handed import clear_environment, paired
from hybrid.shared.keywords import speaking_keywords
from hybrid.shared.loader import LoadedTarget, given, load
from hybrid.shared.log_line import LogWriter
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.status import WorkerStatus, replacements, statuses
from hybrid.shared.tls_context import ServerTls, server_tls
from hybrid.worker.drain import ABORT_S, CANCEL_S, DrainReport
from hybrid.worker.loops import close_loop, new_loop
from hybrid.worker.service import LIFESPAN_WORDS, Service, ServicePlan, Stage


def not_entered(what: str) -> UsageError:
    """Return the error about a server that is asked for ``what`` before it was entered."""
    return UsageError(f"cannot {what}: the server has not been entered. Write: async with hybrid.serve(...) as server:")


def entered_twice() -> UsageError:
    """Return the error about a server that is entered again."""
    return UsageError(
        "cannot enter this server again: it serves once, from entering to leaving. Make another with hybrid.serve(...)."
    )


class InLoopServer:
    """A server in the running loop.

    Runs in: the caller's loop. Closes: its sockets and connections, on leaving ``async with``. Never touches the
    caller's signal handlers, logging or loop settings.
    """

    def __init__(self, settings: Settings, handler: Any = None, lifespan: Any = None) -> None:
        self._settings = settings
        self._handler = handler
        self._lifespan = lifespan
        self._app: LoadedTarget | None = None
        self._step = "load"
        self._addresses: tuple[str, ...] = ()
        self._listeners: list[sockets.Listener] = []
        self._scoreboard: Scoreboard | None = None
        self._access_fd = -1
        self._access_log: AccessLog | None = None
        self._tls: ServerTls | None = None
        self._service: Service | None = None
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[DrainReport | None] | None = None

    async def __aenter__(self) -> InLoopServer:
        with speaking_keywords():
            self._load()
            self._open()
            if not await self._wait_ready():
                raise BootError("the server was told to stop before it was ready. Make another with hybrid.serve(...).")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        await self.drain()

    # ── the boot, in three steps ──

    def _load(self) -> None:
        """Import what is served, and read the certificate.

        Raises: UsageError: it was entered before, or needs a pool, or there is no TLS with this certificate; LoadError.
        """
        models.check_pool(self._settings.bind.accept, 0)
        if self._app is not None:
            raise entered_twice()
        target, factory = self._settings.app.target, self._settings.app.factory
        self._tls = server_tls(self._settings.tls)
        if isinstance(self._handler, ProtocolHandler):
            target = getattr(self._handler.factory, "__qualname__", target)
        self._app = load(target, factory) if self._handler is None else given(self._handler, target, factory)
        if self._settings.app.lifespan and self._settings.app.lifespan not in LIFESPAN_WORDS:
            load(self._settings.app.lifespan)  # here, where an import may still hold everybody up; then it is cached

    def _open(self) -> None:
        """Listen, and begin to boot. Raises: ListenError; UsageError: the access log cannot be opened."""
        assert self._app is not None
        bind, launch, loop = self._settings.bind, self._settings.launch, asyncio.get_running_loop()
        handed = paired(launch.listen_fds, launch.listen_names)
        self._listeners = sockets.open_listeners(bind.bind, bind.backlog, bind.uds_mode, handed)
        try:
            self._addresses = tuple(listener.address for listener in self._listeners)
            self._scoreboard = Scoreboard.create(1, monotonic_ns())
            if bind.accept == "locked=robust":
                self._scoreboard.make_mutex()
            row = self._scoreboard.use_slot(0)
            row[Cell.PID], row[Cell.LIFE] = os.getpid(), Life.STARTING
            self._access_fd = open_access_file(self._settings.access)
            self._access_log = access_log(self._settings.access, self._access_fd, 0)
            worker = Worker(addresses=self._addresses)
            plan = ServicePlan.of(self._settings, self._app, worker, self._access_log, self._tls)
            if self._lifespan is not None:
                name = getattr(self._lifespan, "__qualname__", type(self._lifespan).__name__)
                plan = replace(plan, lifespan=LoadedTarget(self._lifespan, name))
            self._service = Service(plan, self._scoreboard, 0)
        except BaseException:
            self._close()
            raise
        self._ready = loop.create_future()
        self._task = loop.create_task(self._run(self._service))

    async def _wait_ready(self) -> bool:
        """Wait until connections are accepted; False: it was told to leave before. Raises: LoadError, BootError."""
        assert self._task is not None and self._ready is not None
        boot_s = self._settings.timeout.boot_s
        try:
            one: set[asyncio.Future[Any]] = {self._ready, self._task}
            await asyncio.wait(one, timeout=boot_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._give_up()
            raise
        if self._ready.done():
            return True
        if not self._task.done():
            await self._give_up()
            raise not_ready(boot_s, self._step)
        self._task.result()  # raises what the boot failed with
        return False

    async def _give_up(self) -> None:
        """End a boot that nobody waits for any more; one that ignores its cancellation is left to the loop."""
        assert self._task is not None
        self.leave(0.0, abort=True)
        await asyncio.wait({self._task}, timeout=CANCEL_S + ABORT_S)
        if self._task.done() and not self._task.cancelled():
            self._task.exception()  # taken note of: what is raised is that the time was up

    async def _run(self, service: Service) -> DrainReport | None:
        """Be the one task of the service; close everything at its end."""
        try:
            return await service.run(
                [listener.socket.dup() for listener in self._listeners], self._note_step, self._note_ready
            )
        finally:
            self._close()

    def _note_step(self, step: str) -> None:
        self._step = step

    def _note_ready(self) -> None:
        assert self._scoreboard is not None and self._ready is not None
        self._scoreboard.row(0)[Cell.LIFE] = Life.READY
        self._ready.set_result(None)

    def _close(self) -> None:
        for listener in self._listeners:
            listener.close()
        if self._scoreboard is not None:
            self._scoreboard.close()
            self._scoreboard = None
        if self._access_log is not None:
            self._access_log.close()
            self._access_log = None
        if self._access_fd >= 0 and self._settings.access.path:
            os.close(self._access_fd)
        self._access_fd = -1

    # ── while it serves ──

    @property
    def addresses(self) -> tuple[str, ...]:
        """What the server listens on, in the grammar of ``bind``; port 0 is replaced by the real one."""
        self._check_entered("read addresses")
        return self._addresses

    @property
    def pid(self) -> int:
        """This process."""
        self._check_entered("read pid")
        return os.getpid()

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """The one worker that this process is; none after the server has ended."""
        self._check_entered("read workers")
        if self._scoreboard is None or self._service is None:
            return ()
        self._service.flush()
        return statuses(self._scoreboard)

    @property
    def replaced(self) -> dict[str, int]:
        """How many workers had to be replaced, by why: none ever, the one worker is this process."""
        self._check_entered("read replaced")
        return replacements(self._scoreboard) if self._scoreboard is not None else {}

    @property
    def _boot_lines(self) -> tuple[str, str]:
        """What is served where, and how: for a log."""
        assert self._service is not None and self._app is not None
        served = f"{self._service.kind} {self._app.name} on {', '.join(self._addresses)}"
        return f"hybrid {__version__} serves {served}", self._service.description

    @property
    def is_booting(self) -> bool:
        """Whether it accepts nothing yet."""
        return self._service is not None and self._service.stage in (Stage.NEW, Stage.BOOTING)

    async def drain(self, grace_s: float | None = None) -> None:
        """Stop accepting, let open connections finish within ``grace_s`` seconds, cut the rest; wait for the end.

        ``grace_s``: None: the configured one. Called again with less: the rest is cancelled sooner.
        """
        self._check_entered("drain")
        self.leave(grace_s)
        await self.wait_closed()

    def leave(self, grace_s: float | None = None, *, abort: bool = False) -> None:
        """Begin what :meth:`drain` waits for. ``abort``: cut connections at once."""
        self._check_entered("leave")
        if self._service is not None and self._scoreboard is not None:
            self._scoreboard.row(0)[Cell.LIFE] = Life.DRAINING
            for listener in self._listeners:
                listener.close()
            grace_s = self._settings.timeout.grace_s if grace_s is None else grace_s
            self._service.leave(grace_s, abort=abort, last=True)

    def reopen_access_log(self, log: LogWriter, source: str) -> None:
        """Open the access log's file anew, if it has one; say so in ``log``, and who asked. Raises: UsageError."""
        if self._access_log is not None:
            fd = reopen_access_file(self._settings.access, self._access_fd, log, source)
            if fd is not None:
                self._access_log.follow()
                os.close(fd)

    async def wait_closed(self) -> int:
        """Wait until the server has ended; return the exit code, as a pool would."""
        self._check_entered("wait")
        if self._task is not None:
            await asyncio.shield(self._task)
        return ExitCode.OK

    @property
    def _drained(self) -> DrainReport | None:
        """What the drain met, once the server has ended; None: it has not, or it never served."""
        return self._task.result() if self._task is not None and self._task.done() else None

    def _check_entered(self, what: str) -> None:
        if self._app is None:
            raise not_entered(what)


def not_ready(boot_s: float, step: str) -> BootError:
    """Return the error about a boot that took too long."""
    return BootError(
        f"the server was not ready within {boot_s:g} s (step: {step}). "
        "Mend what it waits for, or give it more time with --boot-timeout."
    )


# ── a process of our own: hybrid.run(workers=0), hybrid-serve --workers 0 ────────────────────────────────────


def serve_here(settings: Settings) -> int:
    """Serve in this process until told to stop; return the exit code. Runs in: the command's own process.

    Raises: UsageError: there is no log yet to write the error to.
    """
    if settings.process.user or settings.process.group:
        raise UsageError("--user and --group need a pool, whose parent keeps the privilege. Use --workers 1, or su.")
    if settings.process.chdir:
        os.chdir(settings.process.chdir)
    ready_fd = settings.process.ready_fd
    if ready_fd >= 0:
        os.set_inheritable(ready_fd, False)
    with own_process(settings) as log:
        notifier = Notifier.from_environment(os.environ, os.getpid(), log)
        clear_environment()
        try:
            check_grace(settings.timeout, platform_grace_s(os.environ), log)
            settings = with_claimed(settings, notifier, log)
            _live(settings, log, InLoopServer(settings), notifier)
        except HybridError as error:
            code, detail = error.exit_code, error.detail
            log.error(str(error), detail)
            notifier.failed(str(error))
            if ready_fd >= 0:
                said = {"event": "failed", "exit_code": int(code), "error": str(error), "detail": detail}
                tell_ready_fd(ready_fd, json.dumps(said).encode() + b"\n", log)
            return code
        finally:
            notifier.close()
    return ExitCode.OK


def run_here(settings: Settings, handler: Any, lifespan: Any) -> None:
    """Serve in this process until told to stop, then leave it as it was. Runs in: a program's own process.

    Args: handler, lifespan: None: by the name in the settings, if any.
    Raises: HybridError: in the words of a caller who writes keywords.
    """
    with speaking_keywords(), own_process(settings) as log:
        _live(settings, log, InLoopServer(settings, handler, lifespan), Notifier("", log))


def _live(settings: Settings, log: LogWriter, server: InLoopServer, notifier: Notifier) -> None:
    """Load, serve until told to stop. Raises: HybridError: the boot failed."""
    started = monotonic()
    signals = OwnSignals(settings, log, notifier)
    notifier.extend(2 * settings.timeout.boot_s + MARGIN_S)  # once for the import, once for the rest
    with ExitStack() as undo:
        undo.enter_context(signals.listening())
        undo.enter_context(own_loggers(settings, log.fd))
        undo.enter_context(own_files(settings, signals.ready_file))
        try:
            with signals.interrupting(settings.timeout.boot_s):
                server._load()
        except Interrupted as interrupted:
            if interrupted.source is None:
                raise not_ready(settings.timeout.boot_s, "load") from None
            log.info(f"{interrupted.source}: stopping; nothing is served yet")
        else:
            loop = new_loop(settings.worker.loop)
            asyncio.set_event_loop(loop)
            undo.callback(asyncio.set_event_loop, None)
            undo.callback(close_loop, loop)
            undo.callback(signals.leave_loop)
            loop.run_until_complete(_serve(settings, log, server, signals, started))
        log.info("stopped")


async def _serve(settings: Settings, log: LogWriter, server: InLoopServer, signals: OwnSignals, started: float) -> None:
    loop = asyncio.get_running_loop()
    install_exception_handler(loop)
    server._open()
    log_inherited(server._listeners, log)
    signals.enter_loop(loop, server)
    keep_told(loop, signals.notifier)
    keep_told(loop, signals.ready_file)

    async def serve() -> None:
        if await server._wait_ready():
            first, how = server._boot_lines
            log.info(first)
            log.info(
                f"no pool ({asked_size(settings)}): one core, and nobody replaces this process when it dies; {how}"
            )
            log.info(f"ready in {monotonic() - started:.2f} s; pid {server.pid}")
            said = {"event": "ready", "addresses": server.addresses, "pid": server.pid, "workers": 0}
            if settings.process.ready_fd >= 0:
                tell_ready_fd(settings.process.ready_fd, json.dumps(said).encode() + b"\n", log)
            signals.ready_file.show(not signals.is_stopping, monotonic())
            signals.notifier.ready(f"one process serves on {', '.join(server.addresses)}")
            await server.wait_closed()

    serving = loop.create_task(serve())
    await asyncio.wait({serving, signals.given_up}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        return  # what is left is cancelled with the loop
    serving.result()
    left = server._drained
    if left is not None and left.open:
        log.info(f"drained: {left.open} connections were open, {left.cancelled} were cancelled, {left.aborted} cut")
