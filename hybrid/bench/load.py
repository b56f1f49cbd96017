"""The load generator: several client processes that share a job, and what tells whether they were the bottleneck.

Plain processes with plain sockets: one client in one interpreter does some 20,000 connections a second, and a server
with several workers can do more than that.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hybrid.bench.figures import median, percentile
from hybrid.bench.jobs import Job, Mode, Outcome, job_line, merge, read_outcome, split
from hybrid.ground.errors import HybridError

START_AHEAD_S = 0.02
"""A job begins this much later than it is sent, so that all clients have it when it does."""
SPARE_S = 20.0
"""A client that is this late is stuck."""
BUSY = 0.9
"""Share of the time that a client runs above which it cannot do much more."""
LATE_S = 0.010
"""A schedule whose slots start this late, one in a hundred, is not kept."""

_CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "client.py")


class Clients:
    """Client processes, ready for jobs. Closes: the processes, on :meth:`close`; they end with us in any case."""

    def __init__(self, count: int) -> None:
        flags = ["-P"] if sys.version_info >= (3, 11) else []
        command = [sys.executable, *flags, _CLIENT]
        self._processes = [
            # A session of their own: Ctrl-C is for us, and we end them.
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            for _ in range(count)
        ]
        self._deadline_s = 0.0

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [process.pid for process in self._processes]

    def run(self, job: Job) -> Outcome:
        """Do a job and return what came of it. Raises: HybridError: a client died or is stuck."""
        self.start(job)
        return self.collect()

    def start(self, job: Job) -> float:
        """Let the clients begin; return when the schedule does, on the monotonic clock. Then :meth:`collect`."""
        begin_s = time.monotonic() + START_AHEAD_S
        schedule_s = job.for_s if job.mode is not Mode.HOLD else job.connections / job.per_s
        self._deadline_s = begin_s + schedule_s + job.timeout_s + SPARE_S
        parts = split(replace(job, start_s=begin_s), len(self._processes))
        for process, part in zip(self._processes, parts, strict=True):
            assert process.stdin is not None
            try:
                process.stdin.write(job_line(part))
                process.stdin.flush()
            except OSError as error:
                raise self._lost(process, "is gone") from error
        return begin_s

    def collect(self) -> Outcome:
        """Wait for all clients. Raises: HybridError: as :meth:`run`."""
        return merge([read_outcome(self._answer(process)) for process in self._processes])

    def _answer(self, process: subprocess.Popen[bytes]) -> bytes:
        stream = process.stdout
        assert stream is not None
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        if not poll.poll(max(0.0, self._deadline_s - time.monotonic()) * 1000):
            raise self._lost(process, "does not answer")
        line = stream.readline()
        if not line.endswith(b"\n"):
            raise self._lost(process, "is gone")
        return line

    def _lost(self, process: subprocess.Popen[bytes], how: str) -> HybridError:
        return HybridError(
            f"cannot make the load: client process {process.pid} {how}. "
            "Its own error is above; try fewer --connections."
        )

    def close(self) -> None:
        """End the processes and wait for them."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:  # what was not sent yet finds nobody
                        pass

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Honesty:
    """What tells whether the load generator was the bottleneck."""

    busiest: float = 0.0
    """Share of the time that the busiest client ran."""
    waiting: float = 0.0
    """Share of the time that the one that waited most was ready, and had no CPU."""
    lag_s: float = 0.0
    """How late the schedule was: one in a hundred slots was later than this."""
    no_port: int = 0

    @property
    def problem(self) -> str:
        """What is wrong with the load, in a few words; nothing if it is sound."""
        if self.no_port:
            return f"clients ran out of ports {self.no_port} times"
        if self.lag_s > LATE_S:
            return f"clients fell {self.lag_s * 1000:.0f} ms behind their schedule"
        if self.busiest > BUSY:
            return f"a client process was {self.busiest:.0%} busy"
        return ""

    @property
    def is_crowded(self) -> bool:
        """Whether clients and server fought for the CPUs, so that connections/s are the machine's, not the server's."""
        return self.busiest + self.waiting > BUSY


def honesty(outcomes: Sequence[Outcome]) -> Honesty:
    """Judge the clients by all the rounds: a single bad one is not held against them, lost ports are."""
    if not outcomes:
        return Honesty()
    lags = [found.seconds for each in outcomes if (found := percentile(sorted(each.lags_s), 0.99))]
    return Honesty(
        busiest=median([each.busiest for each in outcomes]),
        waiting=median([each.waiting for each in outcomes]),
        lag_s=median(lags) if lags else 0.0,
        no_port=sum(each.no_port for each in outcomes),
    )


def default_clients() -> int:
    """Return how many client processes to use: half of the CPUs, and two at least."""
    return max(2, len(os.sched_getaffinity(0)) // 2)
