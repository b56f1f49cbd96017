"""Where this worker is: the stack of every thread, and the asyncio tasks; told to the parent when it asks.

A thread of its own tells it (:mod:`hybrid.worker.watchdog`), because the loop, which is asked about, may be blocked.
That thread needs the GIL; where code in C keeps it, faulthandler tells the stacks from a signal handler.

The signal is caught, not ignored, and its handler interrupts nothing that can be restarted (SA_RESTART); programs that
the app starts inherit neither, as a caught signal is reset by exec.

Source: :mod:`hybrid.shared.stack_dump`, which says who writes what; CPython ``faulthandler.register``.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

from hybrid.shared import stack_dump
from hybrid.shared.log_line import escape
from hybrid.shared.places import Place, to_blame

MOST_THREADS = 50
MOST_FRAMES = 50
"""Of one stack that are shown: the innermost."""
MOST_TASKS = 50
"""Lines of tasks that are shown."""
LOOKED_AT = 5000
"""Tasks, to count those that wait in the same line; and frames, to find the user's behind a library's."""

_COMPILED = frozenset(("hybrid.handlers.asgi_exchange", "hybrid.handlers.asgi_websocket"))
"""Modules of ours that may be compiled, and run the user's coroutines."""
_Task = asyncio.Task[Any]
_MOLD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "mold") + os.sep
"""Where the frames begin that a worker was forked from: the same below every main thread."""


class Stacks:
    """What this worker tells of itself.

    Runs in: worker; :meth:`answer` in the watchdog's thread. ``loop``: whose tasks are told, once there is one.
    """

    def __init__(self, dump_fd: int, wake_fd: int) -> None:
        self.wake_fd = wake_fd
        self.loop: asyncio.AbstractEventLoop | None = None
        self._dump_fd = dump_fd
        faulthandler.register(stack_dump.SIGNAL, file=dump_fd, all_threads=True, chain=False)
        faulthandler.register(stack_dump.SIGNAL_ALONE, file=dump_fd, all_threads=False, chain=False)

    def answer(self) -> bool:
        """Take the question and answer it; False when nobody will ask any more. Raises: nothing."""
        try:
            if not os.read(self.wake_fd, 4096):
                return False
            stack_dump.write_report(self._dump_fd, report(self.loop))
        except Exception:  # noqa: BLE001  # whatever the app's objects do: the thread has more to watch
            return _is_open(self.wake_fd)
        return True

    def close(self) -> None:
        """Tell nothing any more. Runs in: a child that keeps nothing of the worker's, as its only thread."""
        faulthandler.unregister(stack_dump.SIGNAL)
        faulthandler.unregister(stack_dump.SIGNAL_ALONE)
        os.close(self._dump_fd)
        os.close(self.wake_fd)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def report(loop: asyncio.AbstractEventLoop | None) -> str:
    """Return the line to blame, and below it the stacks and the tasks. Runs in: any thread but the main one."""
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    main = threading.main_thread().ident
    stacks = sorted(frames.items(), key=lambda item: item[0] != main)  # the main thread first: the loop runs in it
    lines = [""]
    for ident, frame in stacks[:MOST_THREADS]:
        places = _stack(frame)
        lines += [f"{_thread_name(ident)}, most recent call first:", *(f"  {each}" for each in places[:MOST_FRAMES])]
        if len(places) > MOST_FRAMES:
            lines.append(f"  … and {len(places) - MOST_FRAMES} more")
        if ident == main:
            lines[0] = str(to_blame(places) or "")
    if len(stacks) > MOST_THREADS:
        lines.append(f"and {len(stacks) - MOST_THREADS} more threads")
    text, tasks = "\n".join(lines), "\n".join(_tasks(loop))
    return f"{stack_dump.cut(text, stack_dump.REPORT_BYTES - len(tasks.encode(errors='replace')) - 20)}\n{tasks}"


def _thread_name(ident: int) -> str:
    # Not by threading.enumerate(): it takes a lock, which a thread that is blocked may hold.
    thread = threading._active.get(ident)  # type: ignore[attr-defined]  # what current_thread() looks in
    return f"thread {escape(thread.name)}" if thread is not None else f"thread {ident}"


def _stack(frame: FrameType | None) -> list[Place]:
    places: list[Place] = []
    while frame is not None and len(places) < LOOKED_AT and not frame.f_code.co_filename.startswith(_MOLD):
        places.append(_place(frame))
        frame = frame.f_back
    return places


def _place(frame: FrameType) -> Place:
    code = frame.f_code
    return Place(code.co_filename, frame.f_lineno or 0, getattr(code, "co_qualname", code.co_name))


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────


def _tasks(loop: asyncio.AbstractEventLoop | None) -> Iterator[str]:
    """Yield a line for each kind of task: how many of them wait in the same line. Those that run come first."""
    if loop is None:
        yield "asyncio tasks: none, there is no loop yet"
        return
    try:
        everyone, current = asyncio.all_tasks(loop), asyncio.current_task(loop)
    except Exception as error:  # noqa: BLE001  # they come and go faster than they can be listed; or the app has its own
        yield f"asyncio tasks: not available: {type(error).__name__}"
        return
    yield f"asyncio tasks: {len(everyone)}"
    if current is not None:
        name, coroutine, _where = _look(current)
        yield f"  running: {name} {coroutine}"  # where: the first line of all
    kinds: Counter[str] = Counter()
    names: dict[str, str] = {}
    for task in islice(everyone, LOOKED_AT):
        if task is not current:
            name, coroutine, where = _look(task)
            kinds[coroutine + where] += 1
            names.setdefault(coroutine + where, name)
    shown = kinds.most_common(MOST_TASKS)
    for where, count in shown:
        yield f"  {f'{count} × ' if count > 1 else ''}{names[where]} {where}"
    rest = len(everyone) - (current in everyone) - sum(count for _where, count in shown)
    if rest > 0:
        yield f"  and {rest} more"


def _look(task: _Task) -> tuple[str, str, str]:
    """Return a task's name, its coroutine, and the line in it, or below it, that is the user's."""
    try:
        coroutine = task.get_coro()
        place = to_blame(_awaiting(coroutine))
        name = escape(str(getattr(coroutine, "__qualname__", type(coroutine).__name__)))
        return escape(task.get_name()), f"{name}()", f" at {place}" if place is not None else ""
    except Exception as error:  # noqa: BLE001  # of a kind of the app's: it costs nobody else's line
        return type(task).__name__, f"cannot be looked at: {type(error).__name__}", ""


def _awaiting(coroutine: Any) -> list[Place]:
    """Return the lines that a coroutine waits in, the innermost first."""
    places: list[Place] = []
    while len(places) < MOST_FRAMES:
        # Only the interpreter's own kinds: an awaitable of the app's may do anything when it is looked at.
        if isinstance(coroutine, CoroutineType):
            frame, coroutine = coroutine.cr_frame, coroutine.cr_await
        elif isinstance(coroutine, GeneratorType):
            frame, coroutine = coroutine.gi_frame, coroutine.gi_yieldfrom
        elif isinstance(coroutine, AsyncGeneratorType):
            frame, coroutine = coroutine.ag_frame, coroutine.ag_await
        elif type(coroutine).__module__ in _COMPILED:
            coroutine = _inside(coroutine)
            continue
        else:
            break
        if frame is None:
            break
        places.append(_place(frame))
    return places[::-1]


def _inside(compiled: object) -> object:
    """Return the coroutine that one of ours waits for, which has no frames when compiled; None: it waits for none.

    Its variables are all that can be seen of it: among them is what it awaits, or that one's iterator.
    """
    for held in gc.get_referents(compiled):
        if isinstance(held, CoroutineType):
            return held
        if type(held).__name__ == "coroutine_wrapper":  # of coroutine.__await__()
            return next(iter(gc.get_referents(held)), None)
    return None
