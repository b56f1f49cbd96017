"""Serving in the process that asked: ``hybrid.serve(..., workers=0)``, and ``hybrid-serve --workers 0``.

No parent, no pool, no fork: one :class:`~hybrid.worker.service.Service` in the caller's loop. For development, for
tests, for systems without the pool's kernel features, and for a service that only wants the handler API.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hybrid import __version__
from hybrid.ground.clock import monotonic_ns
from hybrid.ground.errors import ExitCode, HybridError, UsageError
from hybrid.ground.states import Life
from hybrid.handlers.exceptions import install_exception_handler
from hybrid.handlers.lifespan import Worker
from hybrid.parent.house import raise_descriptor_limit
from hybrid.parent.pid_file import PidFile
from hybrid.shared import listeners as sockets
from hybrid.shared.loader import LoadedTarget, load
from hybrid.shared.log_line import LogWriter, Style, open_log_file
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.status import WorkerStatus, statuses
from hybrid.worker import logs
from hybrid.worker.loops import close_loop, new_loop
from hybrid.worker.service import Service, ServicePlan


class InLoopServer:
    """A server in the running loop.

    Runs in: the caller's loop. Closes: its sockets and connections, on leaving ``async with``. Never touches the
    caller's signal handlers, logging or loop settings.
    """

    def __init__(self, settings: Settings, handler: Any = None) -> None:
        self._settings = settings
        self._handler = handler
        self.addresses: tuple[str, ...] = ()
        """What the server listens on, in the grammar of ``bind``; port 0 is replaced by the real one."""
        self.pid = os.getpid()
        self._listeners: list[sockets.Listener] = []
        self._scoreboard: Scoreboard | None = None
        self._service: Service | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> InLoopServer:
        bind, target = self._settings.bind, self._settings.app.target
        app = load(target, self._settings.app.factory) if self._handler is None else LoadedTarget(self._handler, target)
        self._listeners = sockets.open_listeners(
            bind.bind, bind.backlog, bind.uds_mode, self._settings.launch.listen_fds
        )
        self.addresses = tuple(listener.address for listener in self._listeners)
        self._scoreboard = Scoreboard.create(1, monotonic_ns())
        row = self._scoreboard.use_slot(0)
        row[Cell.PID], row[Cell.LIFE] = self.pid, Life.STARTING
        worker = Worker(slot=0, generation=0, pid=self.pid, addresses=self.addresses)
        self._service = Service(ServicePlan.of(self._settings, app, worker), self._scoreboard, 0)
        ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._run(self._service, lambda: ready.set_result(None)))
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await self._task  # raises what the boot failed with
        row[Cell.LIFE] = Life.READY
        return self

    async def _run(self, service: Service, on_ready: Callable[[], None]) -> None:
        """Be the one task of the service; close everything at its end."""
        try:
            await service.run([listener.socket.dup() for listener in self._listeners], lambda step: None, on_ready)
        finally:
            for listener in self._listeners:
                listener.close()
            if self._scoreboard is not None:
                self._scoreboard.close()
                self._scoreboard = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        await self.drain()

    @property
    def description(self) -> str:
        """What is served, and how, for a boot line."""
        assert self._service is not None, "the server was not entered"
        return f"{self._service.kind} {self._settings.app.target}, {self._service.description}"

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """The one worker that this process is; none after the server has ended."""
        if self._scoreboard is None or self._service is None:
            return ()
        self._service.flush()
        return statuses(self._scoreboard)

    async def drain(self, grace_s: float | None = None) -> None:
        """Stop accepting, let open connections finish within ``grace_s`` seconds, cut the rest; wait for the end.

        ``grace_s``: None: the configured one. Called again with less: the rest is cancelled sooner.
        """
        self.leave(grace_s)
        await self.wait_closed()

    def leave(self, grace_s: float | None = None, *, abort: bool = False) -> None:
        """Begin what :meth:`drain` waits for. ``abort``: cut connections at once."""
        if self._service is not None and self._scoreboard is not None:
            self._scoreboard.row(0)[Cell.LIFE] = Life.DRAINING
            for listener in self._listeners:
                listener.close()
            grace_s = self._settings.timeout.grace_s if grace_s is None else grace_s
            self._service.leave(grace_s, abort=abort, last=True)

    async def wait_closed(self) -> int:
        """Wait until the server has ended; return the exit code, as a pool would."""
        if self._task is not None:
            await asyncio.shield(self._task)
        return ExitCode.OK


# ── hybrid-serve --workers 0 ─────────────────────────────────────────────────────────────────────────────────


def serve_here(settings: Settings) -> int:
    """Serve in this process until told to stop; return the exit code.

    Runs in: the command's own process. Takes over its signals and logging, as a worker would.
    """
    process = settings.process
    if process.user or process.group:
        raise UsageError("--user and --group need a pool, whose parent keeps the privilege. Use --workers 1, or su.")
    sys.path[:] = [*settings.launch.sys_path, *(entry for entry in sys.path if entry not in settings.launch.sys_path)]
    if process.umask >= 0:
        os.umask(process.umask)
    if process.chdir:
        os.chdir(process.chdir)
    raise_descriptor_limit()
    fd = open_log_file(settings.log.file) if settings.log.file else 2
    log = LogWriter(fd, Style.make(settings.log.format, settings.log.colour, fd), settings.log.level, "serve")
    pid_file = PidFile(process.pid_file) if process.pid_file else None
    loop = new_loop(settings.worker.loop)
    asyncio.set_event_loop(loop)
    try:
        logs.install(settings.log, "serve", fd)
        if pid_file is not None:
            pid_file.write()
        return loop.run_until_complete(_serve_until_told(settings, log))
    except HybridError as error:
        log.write("error", str(error), error.detail)
        return error.exit_code
    finally:
        if pid_file is not None:
            pid_file.remove()
        close_loop(loop)


async def _serve_until_told(settings: Settings, log: LogWriter) -> int:
    server = InLoopServer(settings)
    loop = asyncio.get_running_loop()
    install_exception_handler(loop)
    stop_step = 0

    def on_stop() -> None:
        nonlocal stop_step
        stop_step += 1
        log.info(("", "stopping: open connections may finish", "cancelling handlers", "cutting")[min(stop_step, 3)])
        server.leave(None if stop_step == 1 else 0.0, abort=stop_step > 2)

    def on_reopen() -> None:
        if settings.log.file:
            try:
                fresh = open_log_file(settings.log.file)
            except UsageError as error:
                log.error(f"SIGUSR1: {error}")
                return
            log.reopen(fresh)
            os.close(fresh)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    loop.add_signal_handler(signal.SIGQUIT, lambda: server.leave(0.0, abort=True))
    loop.add_signal_handler(signal.SIGUSR1, on_reopen)
    async with server:
        log.info(f"hybrid {__version__} serves {server.description} on {', '.join(server.addresses)}")
        log.info("in this process, without a pool (--workers 0): no second core, nobody replaces it when it dies")
        _say_ready(settings.process.ready_fd, server)
        return await server.wait_closed()


def _say_ready(fd: int, server: InLoopServer) -> None:
    if fd >= 0:
        said = {"event": "ready", "addresses": server.addresses, "pid": server.pid, "workers": 0}
        os.write(fd, json.dumps(said).encode() + b"\n")
        os.close(fd)
