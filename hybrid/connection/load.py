"""How many requests a worker has, and how long they take."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from time import monotonic_ns

from hybrid.shared.scoreboard import BUCKETS, Cell, Row

UNLIMITED = 1 << 60
"""More requests than ever begin. A whole number: to compare one with a float takes twice as long."""
TIMED_PER_FLUSH = 250
"""Requests that are timed between two flushes, about; of more, some are timed for all."""


@dataclass(slots=True)
class Latencies:
    """How long the requests of one worker took that were answered: a histogram, and the sum.

    ``counts[k]``: those that took less than 2**k ns, and are in no place before it. Nanoseconds are counted by how many
    bits they have: no search for the place.

    The clock is what timing costs, so of very many requests every n-th is timed, at random, and stands also for those
    that were answered since the one before: all are counted, always.
    """

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    total_ns: int = 0
    weighed: int = 0
    """Answered requests that are in ``counts``."""
    last_ns: int = 0
    """How long the last one took that was timed."""

    def add(self, took_ns: int, answered: int) -> None:
        """Count all that were answered since the last one, each as long as this one; ``answered``: until now."""
        weight = answered - self.weighed
        if weight > 0:
            self.weighed = answered
            self.last_ns = took_ns
            self.total_ns += took_ns * weight
            self.counts[took_ns.bit_length()] += weight


@dataclass(slots=True)
class Load:
    """The requests of one worker, on all its listeners.

    Two counts that only grow say both how many were begun and how many run: counting the former costs nothing more.
    """

    ceiling: int = UNLIMITED
    """Up to here ``begun`` may come; above it the answer is 503. As many as may run, and one for each that ended."""
    begun: int = 0
    """Requests ever given to the application."""
    answered: int = 0
    """Of those, the ones with a whole answer. Not: a WebSocket, and whose client left before."""
    client_errors: int = 0
    """Responses of 400 to 499, whoever gave them."""
    server_errors: int = 0
    """Responses of 500 and above."""
    timed_at: int = UNLIMITED
    """When ``begun`` is here, or beyond, a request is timed."""
    latencies: Latencies | None = None
    """None: nobody wants to know (no ``--metrics-bind``)."""
    _most: int = field(init=False)
    """Requests that may run at a time."""
    _stride: int = 1
    """Of so many requests one is timed."""
    _flushed: int = 0
    """``begun`` at the last flush."""

    def __post_init__(self) -> None:
        self._most = self.ceiling

    @property
    def in_flight(self) -> int:
        """Requests whose application has not returned."""
        return self.begun - (self.ceiling - self._most)

    def turned_away(self) -> None:
        """Take back a request that was counted as begun, will be as ended and answered, and is no application's."""
        self.begun -= 1
        self.ceiling -= 1
        self.answered -= 1

    def went_wrong(self, status: int) -> None:
        """Count a response by its status; one below 400 is no error."""
        if status >= 500:
            self.server_errors += 1
        elif status >= 400:
            self.client_errors += 1

    # ── time ──

    def time_requests(self) -> None:
        """Count from now on how long requests take."""
        self.latencies = Latencies(weighed=self.answered)
        self.timed_at = 0

    def start_clock(self) -> int:
        """Return when the request begins that is to be timed; choose the next one. Monotonic ns, never 0."""
        now_ns = monotonic_ns()
        if self._stride > 1:
            # At random, or a page that always loads eight files would be timed by one of them. The clock is no worse
            # a die than another: between two requests it makes hundreds of steps.
            self.timed_at = self.begun + 1 + now_ns % (2 * self._stride - 1)
        return now_ns

    def stop_clock(self, begun_ns: int) -> None:
        """Take note that a request is answered which was timed. ``begun_ns``: what :meth:`start_clock` said of it."""
        latencies = self.latencies
        if latencies is not None:
            latencies.add(monotonic_ns() - begun_ns, self.answered)

    def flush(self, row: Row) -> None:
        """Write the counts into the scoreboard; a few times a second is enough."""
        row[Cell.REQUESTS], row[Cell.IN_FLIGHT] = self.begun, self.in_flight
        row[Cell.CLIENT_ERRORS], row[Cell.SERVER_ERRORS] = self.client_errors, self.server_errors
        latencies = self.latencies
        if latencies is None:
            return
        self._stride = max(1, (self.begun - self._flushed) // TIMED_PER_FLUSH)
        self._flushed = self.begun
        # At most a stride away from where it was, whatever the stride is now.
        self.timed_at = 0 if self._stride == 1 else self.begun + 1
        latencies.add(latencies.last_ns, self.answered)
        if row[Cell.LATENCY_NS] != latencies.total_ns:
            row.cells[Cell.LATENCIES : Cell.LATENCIES + BUCKETS] = memoryview(array("Q", latencies.counts))
            row[Cell.LATENCY_NS] = latencies.total_ns
