"""One turn of a server: it is loaded for a while, and what it did and used is noted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Protocol, TypeVar

from hybrid.bench.measure import own_schedule_ns
from tests.benchmarks.http_load import Load, Workload, WrongAnswer
from tests.benchmarks.peer_servers import Candidate, Running

__all__ = ["Turn", "Turning", "all_running", "take_turns"]

WARM_UP_S = 0.4


class Turning(Protocol):
    """Where the turns of a server are noted. ``problem``: why it takes none, or no more."""

    problem: str


R = TypeVar("R", bound=Turning)


class Turn(NamedTuple):
    """What one server did in one round."""

    requests: int
    wall_ns: int
    cpu_ns: int
    """Of all the server's processes."""
    load_ran_ns: int
    load_waited_ns: int

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests * 1e9 / self.wall_ns

    @property
    def load_busy(self) -> float:
        """Share of the time that the load ran."""
        return self.load_ran_ns / self.wall_ns


def take_turn(running: Running, workload: Workload, for_s: float) -> Turn:
    """Load one server once, and return what came of it. Raises: WrongAnswer."""
    with Load(running.port, workload) as load:
        begun = (time.monotonic_ns(), running.cpu_ns(), *own_schedule_ns())
        count = load.run(for_s)
        ended = (time.monotonic_ns(), running.cpu_ns(), *own_schedule_ns())
    return Turn(count, *(after - before for before, after in zip(begun, ended, strict=True)))


def take_turns(
    started: Sequence[tuple[R, Running]], workload: Workload, rounds: int, for_s: float
) -> Iterator[tuple[int, R, Turn]]:
    """Let servers take turns, forth in one round and back in the next; yield the round's number, whose turn, and it.

    Round -1 waits until a server is ready, and warms it up. Whoever answers wrongly is left out from then on, and its
    row says why.
    """
    for number in range(-1, rounds):
        for row, running in started if number % 2 else reversed(started):
            if row.problem:
                continue
            try:
                if number < 0:
                    running.wait_ready(workload)
                turn = take_turn(running, workload, WARM_UP_S if number < 0 else for_s)
            except WrongAnswer as error:
                row.problem = str(error)
                continue
            yield number, row, turn


@contextmanager
def all_running(candidates: Sequence[Candidate], app: str) -> Iterator[list[Running | None]]:
    """Start all that can be started, each with its one worker pinned; None for the others.

    Closes: all servers, whatever happens.
    """
    with ExitStack() as stack:
        servers: list[Running | None] = []
        for candidate in candidates:
            if candidate.problem:
                servers.append(None)
                continue
            running = Running(candidate, app)
            stack.callback(running.end)
            servers.append(running)
        yield servers
