"""One simulated worker: a loop that takes connections from the queue all workers share, one in each turn."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from tests.simulation.machine import Clock, Cpu

TICK_S = 0.25
"""How often a worker tells what it measured, as in hybrid.worker.meter."""


class Step(Enum):
    """What a request does next."""

    COMPUTE = 0
    AWAIT = 1  # the loop is free meanwhile
    BLOCK = 2  # the loop is held, no CPU is used


@dataclass(slots=True)
class Request:
    """One request: when it came, and what is left of it, last step first."""

    came_at: float
    steps: list[tuple[Step, float]]


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker has told of itself, all since it began."""

    at: float
    busy_s: float = 0.0
    waited_s: float = 0.0
    on_cpu_s: float = 0.0
    taken: float = 0.0


class Stand(Enum):
    """Where a worker is in its life."""

    BOOTING = 0  # about to serve; or being unparked
    RESERVING = 1  # boots straight into the park
    SERVING = 2
    PARKED = 3  # takes no more, keeps what it holds, can serve again at once
    LEAVING = 4  # takes no more and goes when it is empty


class Line:
    """The queue of the listening socket, the workers that wait at it, and the times of what was served."""

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        self.idle: deque[Worker] = deque()
        self.took: list[tuple[float, float]] = []  # when it came, how long it took

    def came(self, request: Request) -> None:
        """Queue a request and wake who has been idle for longest."""
        self.waiting.append(request)
        while self.idle:
            worker = self.idle.popleft()
            worker.listed = False
            if worker.stand is Stand.SERVING and not worker.turning:
                worker.turn()
                return


class Worker:
    """A process with one event loop: in each turn it does all that is ready, then takes one from the line."""

    def __init__(self, machine: tuple[Clock, Cpu, Line], stand: Stand, first_tick_s: float = TICK_S) -> None:
        clock, cpu, line = machine
        self.stand = stand
        self.parked_at = 0.0
        self.held = 0
        self.listed = False
        self.turning = False
        self.held_s = 0.0
        self.lag_s = 0.0
        self.before = self.told = Told(clock.now)
        self.due_at = clock.now
        self._clock, self._cpu, self._line = clock, cpu, line
        self._ready: deque[Request] = deque()
        self._batch: deque[Request] = deque()
        self._busy_s = self._waited_s = self._on_cpu_s = 0.0
        self._taken = 0
        self._since = self._wait_since = self._held_since = self._step_since = 0.0
        self._current: Request | None = None
        self._telling = False
        self._first_tick_s = first_tick_s

    # ── what it tells ────────────────────────────────────────────────────────────────────────────────────────

    def ready(self) -> None:
        """Serve, or be parked: booted, or unparked."""
        self.stand = Stand.PARKED if self.stand is Stand.RESERVING else Stand.SERVING
        if not self._telling:
            self._telling = True
            self.before = self.told = Told(self._clock.now)
            self.due_at = self._clock.now + self._first_tick_s
            self._clock.at(self.due_at, self._tick)
        if not self.turning:
            self.turn()

    def in_use_s(self) -> float:
        """Return how long it has held at least one request, in all."""
        return self.held_s + (self._clock.now - self._held_since if self.held else 0.0)

    def busy_s(self) -> float:
        """Return how long its loop has been busy, in all, to the moment."""
        return self._busy_s + (self._clock.now - self._since if self.turning else 0.0)

    def _tick(self) -> None:
        self.due_at = self._clock.now
        if not self.turning:
            self._tell()

    def _tell(self) -> None:
        self.lag_s = self._clock.now - self.due_at
        self.before, self.told = (
            self.told,
            Told(self._clock.now, self._busy_s, self._waited_s, self._on_cpu_s, self._taken),
        )
        self.due_at = self._clock.now + TICK_S
        if self.stand is not Stand.LEAVING or self.held:
            self._clock.at(self.due_at, self._tick)

    # ── what it does ─────────────────────────────────────────────────────────────────────────────────────────

    def turn(self) -> None:
        """Turn the loop once: all that is ready, and one that waits in line."""
        self._batch, self._ready = self._ready, self._batch
        if self.stand is Stand.SERVING and self._line.waiting:
            self._batch.append(self._line.waiting.popleft())
            self._taken += 1
            if not self.held:
                self._held_since = self._clock.now
            self.held += 1
        if not self._batch:
            if self.stand is Stand.SERVING and not self.listed:
                self.listed = True
                self._line.idle.append(self)
            return
        self.turning = True
        self._since = self._clock.now
        self._next()

    def _next(self) -> None:
        if not self._batch:
            now = self._clock.now
            self.turning = False
            self._busy_s += now - self._since
            if self.due_at <= now:
                self._tell()
            self.turn()
            return
        self._current = self._batch.popleft()
        self._step()

    def _step(self) -> None:
        request = self._current
        assert request is not None
        if not request.steps:
            self._line.took.append((request.came_at, self._clock.now - request.came_at))
            self.held -= 1
            if not self.held:
                self.held_s += self._clock.now - self._held_since
            self._next()
            return
        step, for_s = request.steps.pop()
        if step is Step.COMPUTE:
            self._cpu.advance(self._clock.now)
            self._wait_since, self._step_since = self._cpu.waited, self._clock.now
            self._cpu.run(for_s, self._computed)
        elif step is Step.BLOCK:
            self._clock.at(self._clock.now + for_s, self._step)
        else:
            self._clock.at(self._clock.now + for_s, lambda: self._again(request))
            self._next()

    def _computed(self) -> None:
        waited_s = self._cpu.waited - self._wait_since
        self._waited_s += waited_s
        self._on_cpu_s += self._clock.now - self._step_since - waited_s
        self._step()

    def _again(self, request: Request) -> None:
        self._ready.append(request)
        if not self.turning:
            self.turn()
