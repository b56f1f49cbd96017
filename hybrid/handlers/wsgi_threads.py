"""The threads in which WSGI applications run, and how they and the loop hand work to each other.

Both ways there is a deque, and a sleeper is woken only if nobody is awake already who will look at it:

- loop to threads: a job is appended; one idle thread is woken, unless one is on its way. A thread that takes a job and
  sees more wakes the next one. So a burst of requests that are answered at once costs two wake-ups, not one for each,
  and requests that wait for a database still get all the threads there are.
- thread to loop: what was said is appended; the loop is woken by the first word since it last listened.

Why each order of steps is as it is: docs/decisions/0013-wsgi-threads.md.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, Protocol

from hybrid.connection.failures import log
from hybrid.ground.errors import BootError
from hybrid.http.framing import StartMemo


class Job(Protocol):
    """What a thread does: a request to its end. Never raises."""

    def run(self, seat: Seat) -> None: ...


_forks = 0


def _note_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_note_fork)


def _end_copy() -> None:
    """End a copy of the worker, which an application made and returned in: it must not serve as well."""
    log.error("an application called os.fork and returned in the child: the child ends")
    os._exit(1)


class Bell:
    """Lets a thread sleep until something is true that the loop makes true; two, if an application has one of its own.

    Each sleeper has its own sleep: of two that share one, the other would be woken, and would lie down again.
    """

    __slots__ = ("_forks", "_sleepers")

    def __init__(self) -> None:
        self._forks = _forks
        self._sleepers: list[SimpleQueue[None]] = []

    def wait(self, is_true: Callable[[], bool]) -> None:
        """Return when ``is_true`` does. Runs in: the thread."""
        if is_true():
            return
        if _forks != self._forks:
            _end_copy()  # it has no loop that would ring
        sleep: SimpleQueue[None] = SimpleQueue()
        self._sleepers.append(sleep)
        try:
            while not is_true():  # once more: the loop may have changed it before it could see that we sleep
                sleep.get()
        finally:
            self._sleepers.remove(sleep)

    def ring(self) -> None:
        """Have everybody who sleeps look again. Runs in: the loop, after what it changed."""
        if self._sleepers:
            for sleep in tuple(self._sleepers):
                sleep.put(None)


class SaidMemo:
    """The last ordinary head of a response in the application's words, and in ours.

    hot: WSGI hello; an application that says the same again costs one comparison, 0.2 µs instead of 1.3 (CPython 3.11).
    """

    __slots__ = ("_misses", "code", "headers", "pairs", "status")

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.code = 0
        self.pairs: list[tuple[bytes, bytes]] = []
        self._misses = 0

    def offer(self, status: str, headers: list[tuple[str, str]], code: int, pairs: list[tuple[bytes, bytes]]) -> None:
        """Keep it, if it is its turn, and nobody can change it afterwards."""
        self._misses += 1
        if self._misses % 8 == 1 and all(type(header) is tuple for header in headers):
            self.status, self.headers, self.code, self.pairs = status, list(headers), code, pairs


class Seat:
    """What belongs to one thread: lent to each job that runs in it."""

    __slots__ = ("bell", "lock", "memo", "said")

    def __init__(self) -> None:
        self.bell = Bell()
        self.lock = threading.Lock()
        """Held by the thread itself, which sleeps on it when there is nothing to do."""
        self.lock.acquire()
        self.memo = StartMemo()
        """Of responses: each thread has its own, for it is read and written in several steps."""
        self.said = SaidMemo()


class Threads:
    """A fixed number of threads, one job after another in each; jobs wait in order while all are busy.

    Runs in: worker; every call in its loop, but for :meth:`tell`, which is for the threads.
    Closes: nothing; threads end by themselves after :meth:`end`.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._loop = asyncio.get_running_loop()
        self._context: Context = copy_context()
        self._jobs: deque[Job] = deque()
        self._idle: list[threading.Lock] = []
        """Of threads that sleep; the last one went to sleep last, and what it needs is still in the caches."""
        self._is_waking = False
        """Whether a thread was woken and has not looked at the jobs yet."""
        self._is_over = False
        self._words: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._is_rung = False
        """Whether the loop was woken, and has not begun to listen."""
        self._forks = _forks

    def start(self) -> None:
        """Start them all. Raises: BootError: the system does not have so many for us."""
        for number in range(self.count):
            # Daemons: one that never returns must not keep the worker from leaving.
            thread = threading.Thread(target=self._work, args=(Seat(),), name=f"hybrid-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self.end()
                raise BootError(
                    f"cannot start thread {number + 1} of {self.count}: {error}. "
                    "Lower --threads, or raise RLIMIT_NPROC (ulimit -u) or the cgroup's pids.max."
                ) from error

    def end(self) -> None:
        """Have each thread end when it has nothing to do. Nobody waits for it."""
        self._is_over = True
        while self._idle:
            self._wake()

    def give(self, job: Job) -> None:
        """Have a thread do it, after all that were given before."""
        self._jobs.append(job)
        if not self._is_waking:
            self._wake()

    def take_back(self, job: Job) -> bool:
        """Return whether no thread has taken it; then none will."""
        try:
            self._jobs.remove(job)
        except ValueError:
            return False
        return True

    def _wake(self) -> None:
        """Wake a thread that sleeps, if one does. Runs in: any thread."""
        try:
            lock = self._idle.pop()
        except IndexError:
            return  # all are busy, or about to look
        self._is_waking = True
        lock.release()

    def _work(self, seat: Seat) -> None:
        """Be one thread."""
        # hot: WSGI hello; see the decision.
        jobs, lock = self._jobs, seat.lock
        while True:
            try:
                job = jobs.popleft()
            except IndexError:
                if self._is_over:
                    return
                self._idle.append(lock)
                if (jobs or self._is_over) and self._gets_up(lock):  # given before we could be seen to sleep
                    continue
                lock.acquire()
                self._is_waking = False  # before the look at the jobs: who gives one from now on wakes another
                continue
            if jobs and not self._is_waking:
                self._wake()
            job.run(seat)
            if _forks != self._forks:
                _end_copy()

    def _gets_up(self, lock: threading.Lock) -> bool:
        """Whether nobody has woken us meanwhile."""
        try:
            self._idle.remove(lock)
        except ValueError:
            return False
        return True

    def tell(self, what: Callable[[Any], None], about: Any) -> None:
        """Have the loop call ``what(about)``, after all that was told before. Runs in: a thread of these."""
        self._words.append((what, about))
        if not self._is_rung:
            self._is_rung = True
            try:
                self._loop.call_soon_threadsafe(self._listen, context=self._context)
            except RuntimeError:
                pass  # the loop is closed: an application that outlived its server

    def _listen(self) -> None:
        """Do what was told."""
        self._is_rung = False  # first of all: what is told from now on rings again
        words = self._words
        for _ in range(len(words)):  # no more than were there: connections have their turn, too
            what, about = words.popleft()
            try:
                what(about)
            except Exception:  # noqa: BLE001  (it would lose the words behind it)
                log.exception("a request's end failed")
        if words and not self._is_rung:
            self._is_rung = True
            self._loop.call_soon(self._listen, context=self._context)
