"""The threads of a worker that wait for connections, and serve them.

Each thread does one thing after another: it serves what was given to the crew; if nothing was, and the crew accepts
for itself, it waits for its turn, takes a connection, gives up the turn, and serves that one.

::

    RESTING ──open──► TURNING ──has the lock──► WATCHING ──took one──► SERVING ──► TURNING …
       ▲                                            │                    │
       └───────────────── the crew is shut ─────────┴────────────────────┘

The loop opens and shuts the crew, gives, and ends it; it never waits for a thread but in :meth:`Crew.settled`, and
threads never touch the loop but by ``call_soon_threadsafe``. A thread that waits for its turn holds nothing and has
accepted nothing, so nobody waits for it: it looks again once it has the lock.

Source: UNP ch. 30, "TCP Prethreaded Server, per-Thread accept" and "Main-Thread accept".
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from hybrid.ground.errors import BootError
from hybrid.shared.accept4 import EXHAUSTED
from hybrid.worker.acceptors.turns import Turn
from hybrid.worker.acceptors.watch import Watch

_logger = logging.getLogger("hybrid.error")
_PATIENCE_S = 1.0
"""For the loop to shut a crew that has found no descriptors; then it tries again."""


class Job(Protocol):
    """What a thread serves: a connection that has been counted."""

    def serve(self) -> None: ...


Admit = Callable[[socket.socket], "Job | None"]


def serve(job: Job) -> None:
    """Serve it to its end, whatever its handler raises. Runs in: a thread that serves."""
    try:
        job.serve()
    except SystemExit:
        _logger.error("a blocking handler called sys.exit: it ended its connection, not the worker")
    except BaseException:
        _logger.exception("a blocking handler raised what no handler should; it ended its connection")


class Duty(IntEnum):
    """What a thread of the crew does now."""

    RESTING = 0
    """Waits to be given something, or for the crew to be opened."""
    TURNING = 1
    """Waits for the lock around accept; holds nothing."""
    WATCHING = 2
    """Waits for a connection, or has just taken one that is not counted yet."""
    SERVING = 3
    """Is in the handler."""


class Forks:
    """How often this process is a copy of a copy: os.fork counts, as seen by the child."""

    count = 0

    def note(self) -> None:
        """Count one. Runs in: the child, right after a fork."""
        self.count += 1


forks = Forks()
os.register_at_fork(after_in_child=forks.note)


class Mode(IntEnum):
    """What the crew as a whole may do."""

    SHUT = 0
    """Serves what it is given; accepts nothing."""
    OPEN = 1
    """Accepts for itself as well."""
    ENDED = 2
    """Serves what it was given; a thread with nothing to do leaves."""


class Crew:
    """A fixed number of threads.

    Runs in: worker; every call but ``Job.serve`` and ``admit`` in its loop.
    Closes: what it waits on, on :meth:`end`, and every connection, by serving it.

    Args: count: threads; turn: the lock around accept, if any; admit: makes a job of a connection that a thread took,
    and has counted it when it returns (None: somebody else serves it); on_exhausted: called in the loop when a thread
    found no descriptor.
    """

    def __init__(
        self,
        count: int,
        turn: Turn | None,
        admit: Callable[[socket.socket], Job | None],
        on_exhausted: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._count = count
        self._turn = turn
        self._admit = admit
        self._on_exhausted = on_exhausted
        self._changed = threading.Condition()
        self._mode = Mode.SHUT
        self._given: deque[Job] = deque()
        self._duties = [Duty.RESTING] * count
        self._settling: deque[asyncio.Future[None]] = deque()
        self._bell = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._watches = [Watch(self._bell) for _ in range(count if turn is None else 1)]
        except OSError as error:
            os.close(self._bell)
            raise BootError(
                f"cannot make ready for {count} threads: {error.strerror}. Each takes a descriptor: "
                "lower --threads, or raise RLIMIT_NOFILE (ulimit -n)."
            ) from error
        self._living = 0
        self._forks = forks.count
        self._givers = 0

    @property
    def description(self) -> str:
        """How many there are, for the boot line."""
        return f"{self._count} thread{'s' if self._count != 1 else ''}"

    # ── the loop's side ──

    def start(self) -> None:
        """Start the threads; they rest. Raises: BootError: the system does not have so many for us."""
        for number in range(self._count):
            # Daemons: one whose handler never returns must not keep the worker from leaving.
            thread = threading.Thread(target=self._work, args=(number,), name=f"hybrid-{number}", daemon=True)
            with self._changed:
                self._living += 1
            try:
                thread.start()
            except RuntimeError as error:
                with self._changed:
                    self._living -= 1
                self._leave_open(Mode.ENDED)
                self._close_after_the_last()
                raise BootError(
                    f"cannot start thread {number + 1} of {self._count}: {error}. "
                    "Lower --threads, or raise RLIMIT_NPROC (ulimit -u) or the cgroup's pids.max."
                ) from error

    def watch(self, listener: socket.socket) -> None:
        """Accept on ``listener`` too, while open."""
        for watch in self._watches:
            watch.add(listener)

    def unwatch(self, listener: socket.socket) -> None:
        """Accept on it no longer."""
        for watch in self._watches:
            watch.remove(listener)

    def renew(self) -> None:
        """Have every sleeper look at the queues again."""
        for watch in self._watches:
            watch.renew()

    def open(self) -> None:
        """Accept."""
        with self._changed:
            if self._mode is Mode.SHUT:
                self._mode = Mode.OPEN
                os.eventfd_read(self._bell)
                self._changed.notify_all()

    def shut(self) -> None:
        """Accept no more, but for what a thread was woken for already."""
        self._leave_open(Mode.SHUT)

    def join(self) -> None:
        """Take note of one more who gives, and who will call :meth:`end`."""
        self._givers += 1

    def give(self, job: Job) -> None:
        """Have a thread serve ``job``, as soon as one is free. It has been counted."""
        with self._changed:
            self._given.append(job)
            self._changed.notify()

    async def settled(self) -> None:
        """Return when no thread can have a connection that is not counted. The crew is shut."""
        waiter = self._loop.create_future()
        self._settling.append(waiter)
        self._look_settled()
        await waiter

    def end(self) -> None:
        """Let threads leave that have nothing to serve, once everybody who gives has said so."""
        self._givers -= 1
        if self._givers > 0:
            return
        self._leave_open(Mode.ENDED)
        self._close_after_the_last()

    def _leave_open(self, mode: Mode) -> None:
        with self._changed:
            if self._mode is Mode.ENDED:
                return
            if self._mode is Mode.OPEN:
                os.eventfd_write(self._bell, 1)
            self._mode = mode
            self._changed.notify_all()

    # ── the threads' side ──

    def _work(self, number: int) -> None:
        """Be one thread, until the crew has ended."""
        watch = self._watches[number % len(self._watches)]
        try:
            while (job := self._next(number, watch)) is not None:
                serve(job)
                if forks.count != self._forks:  # in a copy of the worker, which must not accept as well
                    _logger.error("a blocking handler called os.fork and returned in the child: the child ends")
                    os._exit(1)
        finally:
            self._gone(number)

    def _next(self, number: int, watch: Watch) -> Job | None:
        """Return what this thread serves next; None: nothing more will come."""
        # hot: without a lock while the crew is open, and in one function. One thread's duty is written by that thread
        # alone, and every store is seen in order: either the loop sees WATCHING, or the thread that the crew is shut.
        duties = self._duties
        while True:
            if self._given or self._mode is not Mode.OPEN:
                job = self._rest(number)
                if job is not None or self._is_over():
                    return job
                continue
            try:
                if self._turn is None:
                    duties[number] = Duty.WATCHING
                    sock = watch.take(self._is_open) if self._is_open() else None
                else:
                    sock = self._take_turn(number, watch, self._turn)
            except OSError as error:
                self._failed(number, error)
                continue
            job = None if sock is None else self._admit(sock)
            duties[number] = Duty.SERVING
            if self._settling:
                self._look_settled()
            if job is not None:
                return job

    def _rest(self, number: int) -> Job | None:
        """Wait for something to do while the crew is shut; return what was given, if that was it."""
        self._turn_to(number, Duty.RESTING)
        with self._changed:
            while not self._given and self._mode is Mode.SHUT:
                self._changed.wait()
            return self._given.popleft() if self._given else None

    def _take_turn(self, number: int, watch: Watch, turn: Turn) -> socket.socket | None:
        self._duties[number] = Duty.TURNING
        with turn:
            self._duties[number] = Duty.WATCHING
            return watch.take(self._is_open) if self._is_open() else None

    def _is_open(self) -> bool:
        return self._mode is Mode.OPEN

    def _is_over(self) -> bool:
        return self._mode is Mode.ENDED and not self._given

    def _turn_to(self, number: int, duty: Duty) -> None:
        self._duties[number] = duty
        if self._settling:
            self._look_settled()

    def _look_settled(self) -> None:
        """Wake who waits for the threads to have settled, if they have. Any thread; twice is as good as once."""
        while self._settling and Duty.WATCHING not in self._duties:
            try:
                waiter = self._settling.popleft()
            except IndexError:
                return  # another thread was quicker
            self._loop.call_soon_threadsafe(_set, waiter)

    def _failed(self, number: int, error: OSError) -> None:
        """Leave the queue to others until the loop has looked: no descriptors, or a listener that is broken."""
        if error.errno not in EXHAUSTED:
            _logger.error("cannot accept: %s", error)
        self._loop.call_soon_threadsafe(self._on_exhausted)
        self._turn_to(number, Duty.RESTING)
        with self._changed:
            self._changed.wait_for(lambda: self._mode is not Mode.OPEN, _PATIENCE_S)

    def _gone(self, number: int) -> None:
        self._turn_to(number, Duty.RESTING)
        with self._changed:
            self._living -= 1
        self._close_after_the_last()

    def _close_after_the_last(self) -> None:
        """Close what was waited on, once, when the crew has ended and nobody is left of it. Any thread."""
        with self._changed:
            if self._living or self._mode is not Mode.ENDED or self._bell < 0:
                return
            for watch in self._watches:
                watch.close()
            os.close(self._bell)
            self._bell = -1


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
