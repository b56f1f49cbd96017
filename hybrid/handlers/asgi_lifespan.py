"""The ASGI application's own lifespan: told to start before the first request, and to stop after the last.

The application's call runs in a task of its own from start to stop; what it puts into ``scope["state"]`` each request
gets a copy of.

Source: ASGI specification, lifespan protocol 2.0.
"""

from __future__ import annotations

import asyncio
import traceback
from enum import Enum
from types import TracebackType
from typing import Any

from hybrid.ground.errors import BootError
from hybrid.handlers.exceptions import log


class Step(Enum):
    """How far the application has come."""

    CALLED = "called"
    """It has not asked for anything."""
    STARTING = "starting"
    """It has taken ``lifespan.startup``."""
    STARTED = "started"
    """It said that it is."""
    FAILED = "failed"
    """It said that it is not."""
    STOPPED = "stopped"
    """It said that it has shut down, well or not."""


class Unsupported(RuntimeError):
    """What ``send`` raises for a message that is none of the lifespan's: the application does not know the protocol."""


class AsgiLifespan:
    """Enter and leave it around serving. Entering returns the state; None if the application has no lifespan.

    Args: mode: ``auto``: an application that does not know the protocol is served without; ``on``: that is an error;
    ``off``: it is not asked.
    Runs in: worker, in its loop. Closes: the task in which the application runs.
    """

    def __init__(self, app: Any, mode: str, name: str) -> None:
        self._app = app
        self._mode = mode
        self._name = name
        self._state: dict[str, Any] = {}
        self._step = Step.CALLED
        self._said = ""
        self._misspoke = False
        self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> dict[str, Any] | None:
        """Start the application. Raises: BootError, with the traceback as ``detail``."""
        if self._mode == "off":
            return None
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        self._events.put_nowait({"type": "lifespan.startup"})
        task = self._task = asyncio.get_running_loop().create_task(self._run(scope), name=f"{self._name} lifespan")
        try:
            await self._until(Step.STARTED, Step.FAILED)
        except BaseException:  # the boot is given up: the worker stops, or its time is over
            task.cancel()
            await asyncio.wait([task])
            raise
        if self._step is Step.STARTED:
            return self._state
        if self._step is Step.FAILED:
            await asyncio.wait([task], timeout=1.0)  # most raise now what made them fail
            task.cancel()
            await asyncio.wait([task])
            # Starlette says a whole traceback; its last line is the reason.
            reason = (self._said.strip().splitlines() or ["it gave no reason"])[-1]
            detail = _trace(task) or (self._said.rstrip() if "\n" in self._said.strip() else "")
            raise BootError(f"{self._name} did not start: {reason}.", detail=detail)
        self._task = None
        self._go_without(task)
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        """Stop the application. What it raises is logged: the worker is going anyway."""
        task, self._task = self._task, None
        if task is None:
            return
        if not task.done():
            self._events.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait([task])
        raised = None if task.cancelled() else task.exception()
        if raised is not None:
            log.error("%s raised while shutting down: %r", self._name, raised, exc_info=raised)
        elif self._said:
            log.error("%s did not shut down: %s", self._name, self._said)

    def _go_without(self, task: asyncio.Task[Any]) -> None:
        """Serve an application that has ended without having started; or say that it failed."""
        error = None if task.cancelled() else task.exception()
        no_protocol = self._step is Step.CALLED or self._misspoke or error is None
        if self._mode == "auto" and no_protocol:
            why = f"it raised {type(error).__name__}: {error}" if error is not None else "it returned"
            log.info("%s has no lifespan (%s); --lifespan off does not ask for one", self._name, why)
            return
        what = f"it raised {type(error).__name__}: {error}" if error is not None else "it returned without a word"
        raise BootError(f"{self._name} did not start: {what}. Fix what it needs at the start.", detail=_trace(task))

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._app(scope, self._receive, self._send)
        finally:
            self._moved.set()

    async def _until(self, *steps: Step) -> None:
        """Return when the application has come so far, or has ended."""
        assert self._task is not None
        while self._step not in steps and not self._task.done():
            self._moved.clear()
            await self._moved.wait()
            await asyncio.sleep(0)  # it may have set this with its last breath

    async def _receive(self) -> dict[str, str]:
        event = await self._events.get()
        if self._step is Step.CALLED:
            self._step = Step.STARTING
        return event

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete" and self._step in (Step.CALLED, Step.STARTING):
            self._step = Step.STARTED
        elif kind == "lifespan.startup.failed" and self._step in (Step.CALLED, Step.STARTING):
            self._step, self._said = Step.FAILED, str(message.get("message", ""))
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed") and self._step is Step.STARTED:
            self._step = Step.STOPPED
            if kind == "lifespan.shutdown.failed":
                self._said = str(message.get("message", "")) or "it gave no reason"
        else:
            self._misspoke = True
            raise Unsupported(f"cannot send {kind!r} in a lifespan that is {self._step.value}")
        self._moved.set()


def _trace(task: asyncio.Task[Any]) -> str:
    error = None if task.cancelled() or not task.done() else task.exception()
    return "" if error is None else "".join(traceback.format_exception(error)).rstrip()
