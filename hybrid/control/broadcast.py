"""Snapshots for everybody who watches, out of one sampling loop.

However many read (pages, programs at ``/events``), a snapshot is made once and shared. While nobody reads
nothing runs. Times to look are multiples of the reader's period on the loop's clock, so that readers with the same
period, or one that is a multiple of the other, share theirs.

A reader that is slow misses snapshots, and never makes one wait: it is always given the latest.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable

from hybrid.control.sampler import Sampler
from hybrid.control.snapshot import StateView, snapshot

SHORTEST_S = 0.25
"""Between two snapshots: workers write their figures no more often."""
LONGEST_S = 3600.0
EVERY_S = 1.0


class Frame:
    """One snapshot, and the text that is made of it at most once."""

    def __init__(self, content: dict[str, object]) -> None:
        self.snapshot = content
        self._json = ""

    @property
    def json(self) -> str:
        """Return the snapshot as JSON, in one line."""
        if not self._json:
            self._json = json.dumps(self.snapshot, separators=(",", ":"))
        return self._json


class Reader:
    """Iterates over the frames that one reader is due, for ever: ``async for frame in reader``.

    Closes: itself, when it is closed; the loop that made the frames ends with the last reader.
    """

    def __init__(self, broadcast: Broadcast, every_s: float) -> None:
        self.every_s = every_s
        self.due = 0.0
        self._broadcast = broadcast
        self._frame: Frame | None = None
        self._failure: BaseException | None = None
        self._news = asyncio.Event()

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Frame:
        """Return the latest frame that was not read yet; wait for one.

        Raises: StopAsyncIteration: the reader was closed. Whatever ended the loop that makes the frames.
        """
        await self._news.wait()
        self._news.clear()
        frame, self._frame = self._frame, None
        if frame is not None:
            return frame
        self._news.set()  # it stays closed
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    def offer(self, frame: Frame, now: float) -> None:
        """Take a frame if one is due, in place of one that was not read."""
        if now >= self.due:
            self.due = (math.floor(now / self.every_s) + 1) * self.every_s
            self._frame = frame
            self._news.set()

    def fail(self, failure: BaseException) -> None:
        """Let the reader know that there will be no more."""
        self._failure = failure
        self._news.set()

    def close(self) -> None:
        """Read no more. May be called twice."""
        self._broadcast.leave(self)
        self._frame = None
        self._news.set()


class Broadcast:
    """Makes snapshots for as long as somebody reads.

    Runs in: control, in its loop. Closes: the task, with the last reader.
    """

    def __init__(self, state: StateView, sampler: Sampler) -> None:
        self._make: Callable[[], dict[str, object]] = lambda: snapshot(state, sampler)
        self._readers: set[Reader] = set()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Whether anything is sampled."""
        return self._task is not None

    def read(self, every_s: float = EVERY_S) -> Reader:
        """Return a reader, due at once and then every ``every_s`` seconds. Whoever reads closes it."""
        reader = Reader(self, min(max(every_s, SHORTEST_S), LONGEST_S))
        self._readers.add(reader)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="broadcast")
        return reader

    def leave(self, reader: Reader) -> None:
        """Take out a reader; with the last one the sampling ends."""
        self._readers.discard(reader)
        if not self._readers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                frame, now = Frame(self._make()), loop.time()
                for reader in self._readers:
                    reader.offer(frame, now)
                wait_s = max(0.0, min(reader.due for reader in self._readers) - loop.time())
                try:
                    await asyncio.wait_for(self._wake.wait(), wait_s)
                except asyncio.TimeoutError:
                    pass
        except Exception as error:  # noqa: BLE001  # readers must not wait for ever: each is told, and raises it
            readers, self._readers, self._task = self._readers, set(), None
            for reader in readers:
                reader.fail(error)
