"""Every rule in every scenario, with several seeds: the figures of docs/explanation/sizing.md."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.simulation.ours import Ours
from tests.simulation.pool import Outcome, Policy, Pool
from tests.simulation.rivals import Autoscaler, Backlog, Busyness, Regulator, Spare, Static
from tests.simulation.scenarios import SCENARIOS, Scenario

SEEDS = (101, 102, 103)
"""Not those that the constants of our rule were chosen with (1, 2, 7 and 11)."""

RULES: dict[str, Callable[[], Policy]] = {
    "httpd, spare servers": Spare,
    "uWSGI, busyness": Busyness,
    "uWSGI, backlog": Backlog,
    "autoscaler on raw loop use": Autoscaler,
    "PID on raw loop use": Regulator,
    "hybrid": Ours,
    "hybrid, 1 standby": lambda: Ours(1),
    "hybrid, 2 standbys": lambda: Ours(2),
}
"""The rules that find the size by themselves, in the order of the table."""

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
"""Static sizes that are tried, up to the most of the scenario."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one rule in one scenario: means over the seeds, in seconds."""

    p50_s: float
    p95_s: float
    p99_s: float
    workers: float
    processes: float
    actions: float


def scenario(name: str) -> Scenario:
    """Return a scenario by its name."""
    return next(each for each in SCENARIOS if each.name == name)


def rule(name: str) -> Policy:
    """Return a rule by its name in the table; ``static N`` is the size N."""
    return Static(int(name.removeprefix("static "))) if name.startswith("static ") else RULES[name]()


def rules(of: Scenario) -> list[str]:
    """Return the names of all that is tried in a scenario."""
    return [f"static {size}" for size in SIZES if size <= of.most] + list(RULES)


def play(case: tuple[str, str, int]) -> Outcome:
    """Run one case: scenario, rule, seed."""
    where, who, seed = case
    return Pool(scenario(where), rule(who), seed).run()


def mean(outcomes: Sequence[Outcome]) -> Figures:
    """Return the means over several seeds."""
    return Figures(
        *(
            statistics.fmean(getattr(outcome, name) for outcome in outcomes)
            for name in ("p50_s", "p95_s", "p99_s", "workers", "processes", "actions")
        )
    )


def run_all() -> Mapping[str, Mapping[str, Figures]]:
    """Run everything, in as many processes as there are CPUs; by scenario and rule."""
    cases = [(each.name, who, seed) for each in SCENARIOS for who in rules(each) for seed in SEEDS]
    with multiprocessing.Pool() as workers:
        outcomes = dict(zip(cases, workers.map(play, cases, chunksize=4), strict=True))
    return {
        each.name: {who: mean([outcomes[each.name, who, seed] for seed in SEEDS]) for who in rules(each)}
        for each in SCENARIOS
    }
