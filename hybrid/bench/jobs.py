"""What the bench asks of a client process and what it hears back; one line of JSON each way.

Samples travel whole, as the bytes of an ``array('d')``: percentiles are exact, and merging loses nothing.
"""

from __future__ import annotations

import base64
import json
from array import array
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum

TO_CLOSE = "close"
ONE_LINE = "line"


class Mode(Enum):
    """How a client makes load."""

    CLOSED = "closed"
    """So many connections at a time, for a while; a new one as soon as one is over."""
    OPEN = "open"
    """So many new connections a second, whether or not those before are over."""
    BURST = "burst"
    """All connections at once."""
    HOLD = "hold"
    """Open connections at a rate, and keep them without a word."""
    RELEASE = "release"
    """Close all that are held."""
    STEADY = "steady"
    """Exchange messages on so many connections, for a while."""


@dataclass(frozen=True, slots=True)
class Reply:
    """When a reply is whole: after ``size_bytes``; after a line (ONE_LINE); when the server closes (TO_CLOSE).

    With TO_CLOSE a ``size_bytes`` above 0 is what there should have been: less is a short reply.
    """

    ends: str = TO_CLOSE
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work for one client.

    ``start_s``: monotonic clock at which the schedule begins, the same for all. ``index`` of ``of``: a client takes
    every ``of``-th slot of the schedule. ``special``: a request that takes the place of a usual one every
    ``special_every_s``, by client 0 only; it is timed apart.
    """

    mode: Mode
    port: int
    start_s: float = 0.0
    for_s: float = 0.0
    connections: int = 0
    per_s: float = 0.0
    request: str = ""
    """Bytes, as Latin-1."""
    reply: Reply = Reply()
    timeout_s: float = 5.0
    special: str = ""
    special_every_s: float = 0.0
    index: int = 0
    of: int = 1

    @property
    def planned(self) -> int:
        """Connections, or messages of STEADY, in this client's part of the schedule; 0: there is none."""
        total = self.connections if self.mode is Mode.HOLD else round(self.per_s * self.for_s)
        return (total - self.index + self.of - 1) // self.of if self.mode is not Mode.BURST else self.connections

    def due_s(self, number: int) -> float:
        """Return when this client's slot ``number`` is to start, on the monotonic clock."""
        return self.start_s + (number * self.of + self.index) / self.per_s


def split(job: Job, clients: int) -> list[Job]:
    """Return the part of each client. What follows one schedule is dealt out like cards; counts are divided."""
    shares = [job.connections // clients + (index < job.connections % clients) for index in range(clients)]
    return [
        replace(
            job,
            index=index,
            of=clients,
            connections=job.connections if job.mode is Mode.HOLD else shares[index],
            special=job.special if index == 0 else "",
        )
        for index in range(clients)
    ]


def _samples() -> array[float]:
    return array("d")


@dataclass(slots=True)
class Outcome:
    """What came of a job. Times in seconds; ``latencies_s`` count from the intended start where there is a schedule."""

    latencies_s: array[float] = field(default_factory=_samples)
    special_s: array[float] = field(default_factory=_samples)
    lags_s: array[float] = field(default_factory=_samples)
    """How late each slot of the schedule was started: the client's own fault."""
    refused: int = 0
    reset: int = 0
    timed_out: int = 0
    short: int = 0
    """Ended by the server before the reply was whole."""
    no_port: int = 0
    """The client had no port left: says nothing about the server."""
    other: int = 0
    held: int = 0
    planned: int = 0
    wall_s: float = 0.0
    window_s: float = 0.0
    """STEADY: how long the load lasted, without the wait for the last replies."""
    within: int = 0
    """STEADY: replies that came while it lasted."""
    busiest: float = 0.0
    """Share of the time that the client, or of several the busiest one, ran."""
    waiting: float = 0.0
    """Share of the time that it was ready to run and waited for a CPU."""

    @property
    def per_s(self) -> float:
        """Replies a second while the load lasted."""
        return self.within / self.window_s if self.window_s else 0.0

    @property
    def completed(self) -> int:
        return len(self.latencies_s) + len(self.special_s)

    @property
    def lost(self) -> int:
        """Connections that the server failed."""
        return self.refused + self.reset + self.timed_out + self.short + self.other


def merge(outcomes: list[Outcome]) -> Outcome:
    """Return what all clients did together: the busiest one counts, for it is the one that may hold up."""
    whole = Outcome()
    for each in outcomes:
        for declared in fields(Outcome):
            name = declared.name
            mine, new = getattr(whole, name), getattr(each, name)
            setattr(whole, name, max(mine, new) if name in ("wall_s", "window_s", "busiest", "waiting") else mine + new)
    return whole


def job_line(job: Job) -> bytes:
    """Return the job as a line of JSON."""
    return json.dumps({**asdict(job), "mode": job.mode.value}).encode() + b"\n"


def read_job(line: bytes) -> Job:
    """Return the job that a line holds."""
    given = json.loads(line)
    return Job(**{**given, "mode": Mode(given["mode"]), "reply": Reply(**given["reply"])})


def outcome_line(outcome: Outcome) -> bytes:
    """Return the outcome as a line of JSON."""
    told: dict[str, object] = {}
    for declared in fields(Outcome):
        value = getattr(outcome, declared.name)
        told[declared.name] = base64.b64encode(value.tobytes()).decode() if isinstance(value, array) else value
    return json.dumps(told).encode() + b"\n"


def read_outcome(line: bytes) -> Outcome:
    """Return the outcome that a line holds."""
    outcome = Outcome()
    for name, value in json.loads(line).items():
        if isinstance(value, str):
            getattr(outcome, name).frombytes(base64.b64decode(value))
        else:
            setattr(outcome, name, value)
    return outcome
