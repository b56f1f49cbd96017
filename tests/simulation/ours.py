"""The rule under test, fed from a simulated pool as the parent feeds it."""

from __future__ import annotations

from hybrid.parent.sizer import LOOK_NS, SECOND, fit_cores
from hybrid.parent.sizing import Decision, Memory, Observation, SizingSettings, decide
from tests.simulation.pool import Pool
from tests.simulation.scenarios import Scenario
from tests.simulation.worker import Stand


class Ours:
    """``hybrid.parent.sizing.decide``, as often as the parent looks."""

    every_s = LOOK_NS / SECOND
    parks = True

    def __init__(self, standby: int = 0, **constants: float) -> None:
        self.standby = standby
        self.decisions: list[tuple[float, Decision]] = []
        self._constants = constants
        self._memory = Memory()

    def first(self, scenario: Scenario) -> int:
        """Begin with two."""
        self._settings = SizingSettings(
            1, scenario.most, self.standby, float(scenario.cores), **self._constants
        )  # fmt: skip
        return 2

    def target(self, pool: Pool) -> int:
        """Observe, decide, remember."""
        seen = pool.seen()
        observation = Observation(
            now=pool.clock.now,
            window_s=self.every_s,
            busy=seen.busy,
            run_queue=seen.run_queue,
            on_cpu=seen.on_cpu,
            accepted=seen.accepted,
            queue=len(pool.line.waiting),
            lag_s=seen.lag_s,
            serving=pool.number(Stand.SERVING),
            booting=pool.number(Stand.BOOTING),
            parked=pool.number(Stand.PARKED),
            boot_s=pool.scenario.boot_s,
        )
        size = self._memory.target or observation.serving + observation.booting
        observation = fit_cores(observation, size, self._settings.cores)
        decision = decide(observation, self._settings, self._memory)
        self._memory = decision.memory
        if decision.target != observation.serving + observation.booting:
            self.decisions.append((pool.clock.now, decision))
        return decision.target
