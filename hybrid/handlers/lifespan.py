"""What surrounds a worker's service: the user's async context manager, entered once per worker."""

from __future__ import annotations

import inspect
import os
import traceback
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from hybrid.ground.errors import BootError, LoadError
from hybrid.handlers.exceptions import log


@dataclass(slots=True)
class Worker:
    """The worker, as the user's lifespan sees it.

    ``slot``: its number among all workers that are alive; that of one that crashed is its replacement's.
    ``generation``: which load of the code. ``addresses``: what it listens on. ``draining``: becomes true when it has
    been asked to finish. ``seat``: which of the pool's workers it is, 0 to n-1; whoever takes over from it, after a
    reload, too, has the same, so for a while there may be two of them.
    """

    slot: int = 0
    generation: int = 0
    pid: int = field(default_factory=os.getpid)
    addresses: tuple[str, ...] = ()
    draining: bool = False
    seat: int = 0


class Lifespan:
    """The user's ``lifespan(worker)``, to be entered and left by the same task (cancel scopes are bound to it).

    ``target`` may be a function made by ``contextlib.asynccontextmanager``, the async generator function itself, or a
    class whose objects are async context managers; None for none.

    Runs in: worker. Raises: LoadError, at once, for anything else.
    """

    def __init__(self, target: object, worker: Worker, name: str = "lifespan") -> None:
        self._name = name
        self._entered: AbstractAsyncContextManager[Any] | None = None
        self._worker = worker
        self._target = None if target is None else _context_function(target, name)

    async def __aenter__(self) -> Any:
        """Enter it and return what it yields: what connections have as ``state``.

        Raises: BootError with the traceback as ``detail``.
        """
        if self._target is None:
            return None
        try:
            context = self._target(self._worker)
            if not hasattr(context, "__aenter__"):
                if inspect.iscoroutine(context):
                    context.close()  # it would warn that it was never awaited
                raise TypeError(f"it returned {context!r}, which is no async context manager")
            state = await context.__aenter__()
        except (Exception, SystemExit) as error:
            raise _boot_error(self._name, error) from error
        self._entered = context
        return state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        """Leave it. An error of the user's code is logged: the worker is going anyway."""
        context, self._entered = self._entered, None
        if context is None:
            return
        try:
            await context.__aexit__(kind, error, frames)
        except Exception as raised:  # noqa: BLE001  (the user's code; logged)
            if raised is not error:
                log.error("%s raised while shutting down", self._name, exc_info=raised)


def _context_function(target: Any, name: str) -> Any:
    """Return a callable that takes the worker and returns an async context manager."""
    if inspect.isasyncgenfunction(target):
        return asynccontextmanager(target)
    what = ""
    if inspect.iscoroutinefunction(target):
        what = "it is a coroutine function without a yield"
    elif inspect.isgeneratorfunction(target) or inspect.isgeneratorfunction(getattr(target, "__wrapped__", None)):
        what = "it is a plain generator function"
    elif isinstance(target, type) and not hasattr(target, "__aenter__"):
        what = f"class {target.__name__} has no __aenter__"
    elif not callable(target):
        what = f"it is a {type(target).__name__} object, which cannot be called"
    elif not _takes_worker(target):
        what = "it does not take one argument, the worker"
    if what:
        raise LoadError(
            f"cannot use {name!r} as lifespan: {what}. "
            "Write async def lifespan(worker) with one yield, under contextlib.asynccontextmanager."
        )
    return target


def _takes_worker(target: Any) -> bool:
    try:
        inspect.signature(target).bind(None)
    except TypeError:
        return False
    except ValueError:  # written in C: it does not say
        return True
    return True


def _boot_error(name: str, error: BaseException) -> BootError:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in (
        __file__,
        asynccontextmanager.__code__.co_filename,
    ):
        frames = frames.tb_next
    if isinstance(error, RuntimeError) and frames is None and "didn't yield" in str(error):
        return BootError(f"{name} failed: it ended without a yield. Let it yield once, between start and stop.")
    said = " ".join(traceback.format_exception_only(type(error), error)[-1].split())
    return BootError(
        f"{name} failed: {said}. Fix what it needs at the start.",
        detail="".join(traceback.format_exception(type(error), error, frames)).rstrip(),
    )
