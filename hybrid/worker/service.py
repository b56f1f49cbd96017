"""Serving inside one loop, from load to lifespan shutdown, in one task.

A worker process runs one service; ``hybrid.serve(..., workers=0)`` runs one in the caller's loop. It knows nothing
of processes, signals or the parent. One task from start to end, because a lifespan may hold a cancel scope, and
such a scope must be left by the task that entered it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hybrid.connection.access_log import AccessLog
from hybrid.connection.addresses import common_address
from hybrid.connection.farewell import Farewell
from hybrid.connection.load import Load
from hybrid.connection.registry import Door, Registry, ThreadRegistry
from hybrid.ground.build import kind
from hybrid.ground.errors import BootError, LoadError
from hybrid.handlers import Handler, Kind, detect, protocol_factory
from hybrid.handlers.asgi_lifespan import AsgiLifespan
from hybrid.handlers.http_shared import HttpShared
from hybrid.handlers.lifespan import Lifespan, Worker
from hybrid.handlers.threaded import BlockingEndpoint
from hybrid.handlers.wsgi_threads import Threads
from hybrid.layers.tls import secured
from hybrid.shared import models
from hybrid.shared.access_settings import AccessSettings
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.loader import LoadedTarget, load
from hybrid.shared.machine import advance
from hybrid.shared.proxy_settings import ProxySettings
from hybrid.shared.scoreboard import Cell, Scoreboard
from hybrid.shared.settings import Settings
from hybrid.shared.tls_context import ServerTls
from hybrid.shared.websocket_settings import WebSocketSettings
from hybrid.worker.acceptors import descriptors, make_acceptors
from hybrid.worker.acceptors.acceptor import Factory, Site
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.drain import Drain, DrainReport
from hybrid.worker.loops import describe

AUTO_THREADS = {Kind.THREADED: 16, Kind.WSGI: 8}
"""What ``--threads auto`` means. An idle one costs some 30 kB; each serves one connection at a time, or one request: a
thread that has a request computes more than one that has a connection, and often holds one to a database."""
AUTO_LIMITS = {"thread": 512, "fork": 128}
"""What ``--limit-connections auto`` means where each connection takes a thread, or a process, of its own."""

LIFESPAN_WORDS = ("auto", "on", "off")
"""What ``--lifespan`` may be for an ASGI application, which has its own."""
THREADS_TAKEN = "all threads are taken (raise --threads, or --workers)"
_log = logging.getLogger("hybrid.error")


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What a service was told: the part of the settings that matters inside one loop."""

    app: LoadedTarget
    interface: str
    lifespan: LoadedTarget | str
    """A name is loaded when its turn comes in the boot; empty: none."""
    accept: str
    backlog: int
    threads: int | str
    limit_connections: int | str
    worker: Worker
    warnings: tuple[str, ...] = ()
    """Of what was asked for and has no effect; said once, by the first worker."""
    http: HttpSettings = field(default_factory=HttpSettings)
    proxy: ProxySettings = field(default_factory=ProxySettings)
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    access_log: AccessLog | None = None
    """Closed by whoever made it, after the service has ended."""
    tls: ServerTls | None = None
    """None: no TLS."""
    is_timed: bool = False
    """Whether it is counted how long requests take."""
    is_pooled: bool = False
    """Whether other workers may serve the same at the same time."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        app: LoadedTarget,
        worker: Worker,
        access_log: AccessLog | None = None,
        tls: ServerTls | None = None,
    ) -> ServicePlan:
        """Take what matters from the settings; ``tls`` was made from them before."""
        return cls(
            tls=tls,
            app=app,
            interface=settings.app.interface,
            lifespan=settings.app.lifespan,
            accept=settings.bind.accept,
            backlog=settings.bind.backlog,
            threads=settings.worker.threads,
            limit_connections=settings.worker.limit_connections,
            worker=worker,
            warnings=_without_effect(settings),
            http=settings.http,
            websocket=settings.websocket,
            proxy=settings.proxy,
            access_log=access_log,
            is_timed=bool(settings.control.metrics_bind),
            is_pooled=settings.worker.workers != 0,
        )


def _without_effect(settings: Settings) -> tuple[str, ...]:
    """Return what to say of options that need another one."""
    found = list(settings.recycling.without_effect)
    if settings.recycling.has_limits and settings.worker.workers == 0:
        found.append("--max-requests, --max-lifetime and --max-memory have no effect without a pool")
    access, default = settings.access, AccessSettings()
    if not access.enabled and (access.file != default.file or access.format != default.format):  # gunicorn's needs none
        found.append("--access-log-file and --access-log-format have no effect without --access-log")
    return tuple(found)


class Stage(Enum):
    """Where a service is in its life."""

    NEW = "new"
    BOOTING = "booting"
    """Loading, entering the lifespan, opening the listeners."""
    SERVING = "serving"
    LEAVING = "leaving"
    """Accepts nothing more; connections end, then the lifespan."""
    LEFT = "left"


class StageEvent(Enum):
    """What moves a service from one :class:`Stage` to the next."""

    RUN = "run"
    BOOTED = "booted"
    LEAVE = "leave"
    ENDED = "ended"
    """Everything is undone, after a leave or a failed boot."""


STAGES: dict[tuple[Stage, StageEvent], Stage] = {
    (Stage.NEW, StageEvent.RUN): Stage.BOOTING,
    (Stage.BOOTING, StageEvent.BOOTED): Stage.SERVING,
    (Stage.BOOTING, StageEvent.LEAVE): Stage.LEAVING,
    (Stage.BOOTING, StageEvent.ENDED): Stage.LEFT,
    (Stage.SERVING, StageEvent.LEAVE): Stage.LEAVING,
    (Stage.SERVING, StageEvent.ENDED): Stage.LEFT,
    (Stage.LEAVING, StageEvent.ENDED): Stage.LEFT,
}


class Service:
    """Serves one handler on some listeners.

    Runs in: worker, or the caller of ``hybrid.serve(..., workers=0)``; in its loop. Closes: the listeners it is
    given, every connection, the lifespan.
    """

    def __init__(self, plan: ServicePlan, scoreboard: Scoreboard, slot: int) -> None:
        self.stage = Stage.NEW
        self._plan = plan
        self._scoreboard = scoreboard
        self._slot = slot
        self._loop = asyncio.get_running_loop()
        self._load: Load | None = None
        """None until listeners can have requests."""
        self._intake: Intake | None = None
        """None until the kind of the handler is known."""
        self._handler: Handler | None = None
        self._pool: Threads | None = None
        """Of a WSGI application; None: it is another kind, or not known yet."""
        self._task: asyncio.Task[Any] | None = None
        self._leave: asyncio.Future[Drain] = self._loop.create_future()
        self._drain: Drain | None = None
        self._farewell = Farewell()
        self._last = False

    async def run(
        self, listeners: Sequence[socket.socket], note_step: Callable[[str], None], on_ready: Callable[[], None]
    ) -> DrainReport | None:
        """Boot, serve until :meth:`leave`, drain; return what the drain met, None if it never served.

        Args: note_step: hears what the boot is doing; on_ready: called once, when connections are accepted.
        Raises: LoadError, BootError, ListenError: the boot failed; everything is undone.
        """
        self._advance(StageEvent.RUN)
        self._task = asyncio.current_task()
        try:
            note_step("load")
            handler = detect(await self._plan.app.complete(), self._plan.interface, self._plan.app.name)
            accept = models.resolve(self._plan.accept, threaded=handler.kind is Kind.THREADED)
            self._handler, self._intake = handler, self._make_intake(handler, accept)
            if self._plan.worker.seat == 0:
                for warning in self._plan.warnings:
                    _log.warning("%s", warning)
            note_step("lifespan")
            async with self._lifespan(handler, self._plan.lifespan) as state:
                if self.stage is Stage.LEAVING:  # told to, and the lifespan swallowed the cancellation
                    return None
                note_step("listen")
                try:
                    if handler.kind is Kind.WSGI:
                        self._pool = Threads(self._threads)
                        self._pool.start()
                    make_acceptors(accept, self._site(listeners, accept, handler, state), self._intake)
                    self._check_descriptors()  # threads take some
                    await self._intake.start()
                    self._advance(StageEvent.BOOTED)
                    on_ready()
                    return await self._until_left(self._intake)
                finally:
                    await self._intake.leave()
                    if self._pool is not None:
                        self._pool.end()
        except asyncio.CancelledError:
            if self.stage is not Stage.LEAVING or self._drain is not None:
                raise  # somebody else's wish
            return None
        finally:
            for listener in listeners:
                listener.close()
            self._advance(StageEvent.ENDED)
            self.flush()

    def _lifespan(self, handler: Handler, lifespan: LoadedTarget | str) -> Lifespan | AsgiLifespan:
        if handler.kind is Kind.ASGI and (lifespan or "auto") in LIFESPAN_WORDS:
            return AsgiLifespan(handler.target, str(lifespan or "auto"), handler.name)
        if lifespan in LIFESPAN_WORDS:
            raise LoadError(
                f"cannot use --lifespan {lifespan}: it is for ASGI applications, and {handler.name!r} is a "
                f"{handler.kind.title}. Give a context manager, module:attr, or leave it out."
            )
        if isinstance(lifespan, LoadedTarget):
            return Lifespan(lifespan.obj, self._plan.worker, lifespan.name)
        return Lifespan(load(lifespan).obj if lifespan else None, self._plan.worker, lifespan)

    def _make_intake(self, handler: Handler, accept: str) -> Intake:
        row = self._scoreboard.row(self._slot)
        registry = ThreadRegistry(row, self._loop) if handler.kind is Kind.THREADED else Registry(row)
        limit = self._plan.limit_connections
        threads = self._threads if handler.kind is Kind.THREADED else 0  # each may take a descriptor
        most = max(1, descriptors.connection_limit() - threads)
        if limit == "auto":
            limit = min(most, AUTO_LIMITS.get(accept, most))
        if handler.kind in AUTO_THREADS:
            row[Cell.THREADS] = min(int(limit), self._threads) if accept != "thread" else int(limit)
        if handler.kind is Kind.THREADED and accept in ("passing", "threads=main", "reuseport"):
            # What waits for a thread waits where another worker can take it.
            return Intake(registry, self._scoreboard, min(int(limit), self._threads), THREADS_TAKEN)
        if handler.kind not in AUTO_THREADS and self._plan.threads != "auto" and self._plan.worker.seat == 0:
            _log.warning(
                "--threads %s has no effect: %s handlers run in the event loop", self._plan.threads, handler.kind.value
            )
        return Intake(registry, self._scoreboard, int(limit))

    @property
    def _threads(self) -> int:
        """How many threads run blocking code: more than the limit of connections would never be used."""
        threads, limit = self._plan.threads, self._plan.limit_connections
        kind = self._handler.kind if self._handler is not None else Kind.THREADED
        count = AUTO_THREADS.get(kind, 1) if threads == "auto" else int(threads)
        return count if limit == "auto" else min(count, int(limit))

    def _site(self, listeners: Sequence[socket.socket], accept: str, handler: Handler, state: Any) -> Site:
        """Return what the acceptors get: this worker's listeners, and what makes of a connection what is served."""

        shared = HttpShared.of(self._plan.http, self._plan.proxy, self._plan.access_log, self._plan.websocket)
        shared.server, shared.farewell = common_address(listeners), self._farewell
        shared.threads, shared.multiprocess = self._pool, self._plan.is_pooled
        self._load = shared.load
        if self._plan.is_timed and handler.kind.speaks_http:
            self._load.time_requests()

        tls = self._plan.tls
        if tls is not None and handler.kind.speaks_http:
            tls.context.set_alpn_protocols(["http/1.1"])

        def plain_factory_for(door: Door) -> Factory:
            return protocol_factory(handler, door, self._loop, state, shared)

        def factory_for(door: Door) -> Factory:
            return plain_factory_for(door) if tls is None else secured(plain_factory_for, tls, door, self._loop)

        def endpoint_for(door: Door) -> BlockingEndpoint:
            return BlockingEndpoint(handler.target, handler.name, door, tls)

        threaded = handler.kind is Kind.THREADED
        own, foreign = tuple(listeners), {}
        if accept == "reuseport":
            each = len(self._plan.worker.addresses)
            queues = {first // each: own[first : first + each] for first in range(0, len(own), each)}
            own = queues.pop(self._plan.worker.seat % len(queues))  # more workers than at the start share them
            foreign = queues
        return Site(
            own,
            self._plan.backlog,
            factory_for=None if threaded else factory_for,
            endpoint_for=endpoint_for if threaded else None,
            threads=self._threads,
            foreign=foreign,
        )

    @staticmethod
    def _check_descriptors() -> None:
        if descriptors.room() <= 0:
            raise BootError(
                f"cannot accept connections: {descriptors.in_use()} of {descriptors.soft_limit()} descriptors are in "
                "use before the first one. Raise RLIMIT_NOFILE (ulimit -n), or lower --threads if there are many."
            )

    async def _until_left(self, intake: Intake) -> DrainReport:
        drain = await self._leave
        self._plan.worker.draining = True
        if self._last:
            await intake.take_what_waits()
        await intake.leave()
        return await drain.run()

    # ── while it runs ──

    def leave(self, grace_s: float, *, abort: bool = False, last: bool = False) -> None:
        """End the service: connections get ``grace_s`` seconds; ``abort`` cuts them. Again: the sooner counts.

        ``last``: nobody goes on accepting, so what waits in the queue is taken first, and all connections are told at
        once; else each in its turn.
        """
        if self.stage is Stage.BOOTING and self._task is not None:
            self._advance(StageEvent.LEAVE)
            self._task.cancel()
        elif self.stage is Stage.SERVING and self._intake is not None:
            self._advance(StageEvent.LEAVE)
            self._last = last and not abort
            self._drain = Drain(self._intake.registry, self._farewell)
            self._drain.shorten(grace_s, abort=abort, last=last)
            self._leave.set_result(self._drain)
        elif self._drain is not None:
            self._drain.shorten(grace_s, abort=abort, last=last)

    def park(self) -> None:
        """Accept no more; go on serving what is open."""
        if self._intake is not None:
            self._intake.park()

    def unpark(self) -> None:
        """Accept again."""
        if self._intake is not None:
            self._intake.unpark()

    def look(self) -> None:
        """Look at once at what the heartbeat looks at: another worker is gone, or takes nothing any more."""
        if self._intake is not None and self.stage is Stage.SERVING:
            self._intake.beat()

    def flush(self) -> None:
        """Write the counters into the scoreboard."""
        if self._intake is not None:
            self._intake.registry.flush()
            if self._load is not None:
                self._load.flush(self._intake.registry.row)

    @property
    def requests(self) -> int:
        """HTTP requests ever given to the application."""
        return self._load.begun if self._load is not None else 0

    @property
    def uses(self) -> int:
        """How often the handler was used: requests where it speaks HTTP, else connections that were accepted."""
        if self._handler is not None and self._handler.kind.speaks_http:
            return self.requests
        return self._intake.registry.accepted if self._intake is not None else 0

    @property
    def kind(self) -> str:
        """What is served, in words: ``stream handler``."""
        return self._handler.kind.title if self._handler else "nothing yet"

    @property
    def description(self) -> str:
        """Loop and way of accepting, for the boot line."""
        acceptors = self._intake.acceptors if self._intake is not None else []
        ways = dict.fromkeys(f"{acceptor.name} ({acceptor.mode})" for acceptor in acceptors)
        threads = f", {self._pool.count} threads" if self._pool is not None else ""
        return f"loop {describe(self._loop)}, hot path {kind()}, accept {', '.join(ways)}{threads}"

    def _advance(self, event: StageEvent) -> None:
        self.stage = advance(STAGES, self.stage, event)
