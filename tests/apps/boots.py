"""Lifespans that go wrong, each in its way. ``MARK`` in the environment names a file to append to at each entry."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hybrid import Worker


def mark(word: str) -> None:
    """Leave a word for the test."""
    path = os.environ.get("MARK")
    if path:
        with open(path, "a") as file:
            file.write(f"{word}\n")


@asynccontextmanager
async def fails(worker: Worker) -> AsyncIterator[None]:
    """Fail, the same in every worker."""
    mark("entered")
    if worker.slot >= 0:
        raise ConnectionError("no database today")
    yield


@asynccontextmanager
async def fails_after_first(worker: Worker) -> AsyncIterator[None]:
    """Let the first generation of workers in, and nobody after them, as long as the mark exists."""
    if _is_marked():
        raise ConnectionError("no database any more")
    yield


@asynccontextmanager
async def hangs(worker: Worker) -> AsyncIterator[None]:
    """Wait for what never comes."""
    mark("entered")
    await asyncio.Event().wait()
    yield


@asynccontextmanager
async def ignores_cancel(worker: Worker) -> AsyncIterator[None]:
    """Swallow the cancellation and start up all the same."""
    mark("entered")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        mark("cancelled")
    yield
    mark("left")


@asynccontextmanager
async def holds_loop(worker: Worker) -> AsyncIterator[None]:
    """Wait for what never comes, without letting the loop turn."""
    mark("entered")
    _sleep_for_ever()
    yield


@asynccontextmanager
async def slow_to_leave(worker: Worker) -> AsyncIterator[None]:
    """Start like others, never finish."""
    yield
    mark("leaving")
    await asyncio.Event().wait()


def _is_marked() -> bool:
    return os.path.exists(os.environ["MARK"])


def _sleep_for_ever() -> None:
    while True:
        time.sleep(60)
