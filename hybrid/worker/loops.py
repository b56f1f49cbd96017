"""Which event loop a worker runs, by name."""

from __future__ import annotations

import asyncio
from types import ModuleType

from hybrid.ground.errors import UsageError
from hybrid.meters.libuv_idle import LibuvIdle
from hybrid.meters.loop_use import IdleClock, TimedSelector

LEFTOVERS_S = 1.0
"""For tasks that the app started and left running, once they are cancelled."""


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new loop of kind ``name``: ``uvloop``, ``asyncio``, or ``auto`` (uvloop where it is installed).

    Runs in: worker, after the fork: a loop made before it would share its epoll with every sibling.
    Raises: UsageError: uvloop was asked for and is not installed.
    """
    uvloop = _uvloop(name)
    if uvloop is None:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def new_measured_loop(name: str) -> tuple[asyncio.AbstractEventLoop, IdleClock | None]:
    """Return a new loop as :func:`new_loop` does, with a clock that runs while it waits; None: it cannot be had.

    Runs in: worker, after the fork. Raises: UsageError, as :func:`new_loop`.
    """
    uvloop = _uvloop(name)
    if uvloop is None:
        selector = TimedSelector()
        return asyncio.SelectorEventLoop(selector), selector
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop, LibuvIdle.of(loop, uvloop.loop)


def import_loop(name: str) -> None:
    """Import what loops of kind ``name`` come from, and make none. Runs in: mold, so that its workers share it.

    What is not installed stays out: the worker says so.
    """
    try:
        _uvloop(name)
    except UsageError:
        pass


def _uvloop(name: str) -> ModuleType | None:
    """Return the package that loops of kind ``name`` come from; None: asyncio."""
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError as error:
        if name == "uvloop":
            raise UsageError(f"--loop uvloop: {error}. Install uvloop, or use --loop asyncio.") from error
        return None
    package: ModuleType = uvloop
    return package


def describe(loop: asyncio.AbstractEventLoop) -> str:
    """Return the loop's name and version for the boot line."""
    module = type(loop).__module__.partition(".")[0]
    if module == "uvloop":
        from uvloop._version import __version__

        return f"uvloop {__version__}"
    return "asyncio"


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what the app left running, let generators end, close the loop. Runs in: worker, outside the loop."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=LEFTOVERS_S))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
