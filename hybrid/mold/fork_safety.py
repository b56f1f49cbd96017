"""Tell whether importing the app left something that does not survive a fork.

A thread is gone in the child, with whatever lock it held; a socket, an epoll set or an io_uring is shared between all
workers, who then read each other's answers. So a mold may have one thread and no such descriptor that the import
opened; otherwise each worker has to import the app itself.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from dataclasses import dataclass

_REMEDY = "Open it in the lifespan, which runs once per worker, or use --preload off"
_THREAD_REMEDY = "Start it in the lifespan, which runs once per worker, or use --preload off"

_ANONYMOUS = {"anon_inode:[eventpoll]": "an epoll set", "anon_inode:[io_uring]": "an io_uring"}

_THREAD_EXIT_S = 0.1
"""A joined thread is still in /proc for an instant: CPython's join returns before the kernel's thread has gone."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The descriptors that were open before the import, and what each was."""

    descriptors: frozenset[tuple[int, str]]


def snapshot() -> Snapshot:
    """Return what is open now. Runs in: mold, before the import."""
    return Snapshot(frozenset(_descriptors()))


def check(before: Snapshot) -> list[str]:
    """Return one sentence for each thing that would not survive a fork; empty when forking is safe.

    Runs in: mold, in its main thread, after the import. Changes nothing: in particular it makes no event loop.
    """
    return [*_threads(), *_loops(), *_opened(before)]


def _threads() -> list[str]:
    deadline = time.monotonic() + _THREAD_EXIT_S
    while True:
        native = _native_threads()
        known = {thread.native_id: thread for thread in threading.enumerate()}
        # What threading knows will not go away by waiting; what only the kernel knows may be on its way out.
        if not native - known.keys() or time.monotonic() > deadline:
            break
        time.sleep(0.002)
    found = []
    for number in sorted(native):
        thread = known.get(number)
        if thread is not None:
            found.append(f"thread {thread.name!r} is running{_target_of(thread)}. {_THREAD_REMEDY}.")
        else:
            name = _native_name(number)
            found.append(f"thread {name!r} (tid {number}) is running, not started by Python. {_THREAD_REMEDY}.")
    return found


def _native_threads() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")} - {os.getpid()}


def _native_name(number: int) -> str:
    try:
        with open(f"/proc/self/task/{number}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return "?"


def _target_of(thread: threading.Thread) -> str:
    """Say which function a thread runs, if its name does not."""
    target = getattr(thread, "_target", None)
    where = getattr(target, "__module__", None)
    return f" ({where}.{getattr(target, '__qualname__', '')})" if target is not None and where else ""


def _loops() -> list[str]:
    """Look for a loop that is running or current, without asyncio's getters: they make one, or warn."""
    events = sys.modules.get("asyncio.events")
    if events is None:
        return []
    running = events._get_running_loop()
    if running is not None:
        return [
            f"an event loop is running ({_class_of(running)}). Import nothing from inside a loop, or use --preload off."
        ]
    policy = getattr(events, "_event_loop_policy", None)
    loop = getattr(getattr(policy, "_local", None), "_loop", None)
    if loop is None or loop.is_closed():
        return []
    return [
        f"an event loop was made and set as the current one ({_class_of(loop)}). "
        "Leave that to the worker, which makes its own, or use --preload off."
    ]


def _class_of(obj: object) -> str:
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


def _opened(before: Snapshot) -> list[str]:
    found = []
    for number, link in sorted(_descriptors()):
        if (number, link) in before.descriptors:
            continue
        if link.startswith("socket:"):
            found.append(f"socket {number}{_ends_of(number)} is open. {_REMEDY}.")
        elif link in _ANONYMOUS:
            found.append(f"descriptor {number}, {_ANONYMOUS[link]}, is open. {_REMEDY}.")
    return found


def _descriptors() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:  # the one that listed the directory
            pass
    return found


def _ends_of(number: int) -> str:
    """Say what a socket is connected to, or bound to."""
    try:
        with socket.socket(fileno=os.dup(number)) as twin:
            try:
                return f" to {_address(twin.getpeername())}"
            except OSError:
                address = _address(twin.getsockname())
                return f" bound to {address}" if address else ""
    except OSError:
        return ""


def _address(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], str):
        host, port = address[0], address[1]
        return "" if port == 0 else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):
        return "@" + address.lstrip(b"\0").decode(errors="replace")
    return str(address) if address else ""
