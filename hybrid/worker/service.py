"""Serving inside one loop, from load to lifespan shutdown, in one task.

A worker process runs one service; ``hybrid.serve(..., workers=0)`` runs one in the caller's loop. It knows nothing
of processes, signals or the parent. One task from start to end, because a lifespan may hold a cancel scope, and
such a scope must be left by the task that entered it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hybrid.connection.registry import Door, Registry
from hybrid.ground.errors import BootError
from hybrid.handlers import Handler, detect, protocol_factory
from hybrid.handlers.lifespan import Lifespan, Worker
from hybrid.shared.loader import LoadedTarget, load
from hybrid.shared.machine import advance
from hybrid.shared.scoreboard import Scoreboard
from hybrid.shared.settings import Settings
from hybrid.worker.acceptors import descriptors, make_acceptor
from hybrid.worker.acceptors.acceptor import Entrance, Factory
from hybrid.worker.acceptors.intake import Intake
from hybrid.worker.drain import Drain, DrainReport
from hybrid.worker.loops import describe


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What a service was told: the part of the settings that matters inside one loop."""

    app: LoadedTarget
    interface: str
    lifespan: LoadedTarget | str
    """A name is loaded when its turn comes in the boot; empty: none."""
    accept: str
    backlog: int
    limit_connections: int | str
    worker: Worker

    @classmethod
    def of(cls, settings: Settings, app: LoadedTarget, worker: Worker) -> ServicePlan:
        """Take what matters from the settings."""
        return cls(
            app=app,
            interface=settings.app.interface,
            lifespan=settings.app.lifespan,
            accept=settings.bind.accept,
            backlog=settings.bind.backlog,
            limit_connections=settings.worker.limit_connections,
            worker=worker,
        )


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
        self.registry = Registry(scoreboard.row(slot))
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        limit = plan.limit_connections
        self._intake = Intake(
            self.registry, scoreboard, descriptors.connection_limit() if limit == "auto" else int(limit)
        )
        self._handler: Handler | None = None
        self._task: asyncio.Task[Any] | None = None
        self._leave: asyncio.Future[Drain] = self._loop.create_future()
        self._drain: Drain | None = None
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
            self._handler = detect(await self._plan.app.complete(), self._plan.interface, self._plan.app.name)
            note_step("lifespan")
            async with self._lifespan(self._plan.lifespan) as state:
                if self.stage is Stage.LEAVING:  # told to, and the lifespan swallowed the cancellation
                    return None
                note_step("listen")
                try:
                    await self._accept(listeners, self._handler, state)
                    self._advance(StageEvent.BOOTED)
                    on_ready()
                    return await self._until_left()
                finally:
                    await self._intake.leave()
        except asyncio.CancelledError:
            if self.stage is not Stage.LEAVING or self._drain is not None:
                raise  # somebody else's wish
            return None
        finally:
            for listener in listeners:
                listener.close()
            self._advance(StageEvent.ENDED)
            self.registry.flush()

    def _lifespan(self, lifespan: LoadedTarget | str) -> Lifespan:
        if isinstance(lifespan, LoadedTarget):
            return Lifespan(lifespan.obj, self._plan.worker, lifespan.name)
        return Lifespan(load(lifespan).obj if lifespan else None, self._plan.worker, lifespan)

    async def _accept(self, listeners: Sequence[socket.socket], handler: Handler, state: Any) -> None:
        if descriptors.room() <= 0:
            raise BootError(
                f"cannot accept connections: {descriptors.in_use()} of {descriptors.soft_limit()} descriptors are in "
                "use before the first one. Raise RLIMIT_NOFILE (ulimit -n)."
            )

        def factory_for(door: Door) -> Factory:
            return protocol_factory(handler, door, self._loop, state)

        for listener in listeners:
            make_acceptor(self._plan.accept, Entrance(listener, self._plan.backlog, factory_for), self._intake)
        await self._intake.start()

    async def _until_left(self) -> DrainReport:
        drain = await self._leave
        self._plan.worker.draining = True
        if self._last:
            await self._intake.take_what_waits()
        await self._intake.leave()
        return await drain.run()

    # ── while it runs ──

    def look(self) -> None:
        """Look at what no event tells: a worker is gone, or takes nothing any more."""
        self._intake.beat()

    def leave(self, grace_s: float, *, abort: bool = False, last: bool = False) -> None:
        """End the service: connections get ``grace_s`` seconds; ``abort`` cuts them. Again: the sooner counts.

        ``last``: nobody goes on accepting, so what waits in the queue is taken first.
        """
        if self.stage is Stage.BOOTING and self._task is not None:
            self._advance(StageEvent.LEAVE)
            self._task.cancel()
        elif self.stage is Stage.SERVING:
            self._advance(StageEvent.LEAVE)
            self._last = last and not abort
            self._drain = Drain(self.registry, grace_s, abort=abort)
            self._leave.set_result(self._drain)
        elif self._drain is not None:
            self._drain.shorten(grace_s, abort)

    def park(self) -> None:
        """Accept no more; go on serving what is open."""
        self._intake.park()

    def unpark(self) -> None:
        """Accept again."""
        self._intake.unpark()

    def flush(self) -> None:
        """Write the counters into the scoreboard."""
        self.registry.flush()

    @property
    def kind(self) -> str:
        """What is served, in words: ``stream handler``."""
        return f"{self._handler.kind.value} handler" if self._handler else "nothing yet"

    @property
    def description(self) -> str:
        """Loop and way of accepting, for the boot line."""
        ways = dict.fromkeys(f"{acceptor.name} ({acceptor.mode})" for acceptor in self._intake.acceptors)
        return f"loop {describe(self._loop)}, accept {', '.join(ways)}"

    def _advance(self, event: StageEvent) -> None:
        self.stage = advance(STAGES, self.stage, event)
