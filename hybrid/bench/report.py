"""What a comparison comes to: figures without samples, small enough to be kept; tables, verdict and pictures read it.

``to_json`` and ``from_json`` are inverse, so that a page with its figures can be written again without measuring.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from hybrid.bench.accept_run import Comparison, Row
from hybrid.bench.designs import REFERENCE, Design
from hybrid.bench.figures import Latencies, Percentile, Ratio, latencies, median, paired
from hybrid.bench.load import Honesty, honesty
from hybrid.bench.scenarios import Casualties, Held, Series, Spread

VERSION = 1
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """One scenario's rounds on one design: a figure for each round, all latencies summed up."""

    cpu_us: tuple[float, ...]
    switches: tuple[float, ...]
    per_s: tuple[float, ...]
    rate: float
    latencies: Latencies
    lost: int
    honesty: Honesty

    @property
    def median_cpu_us(self) -> float:
        return median(self.cpu_us)


@dataclass(frozen=True, slots=True)
class RowFigures:
    """One design."""

    design: Design
    problem: str = ""
    load: LoadFigures | None = None
    light: LoadFigures | None = None
    burst: Spread | None = None
    held: Held | None = None
    kill: Casualties | None = None
    drain: Casualties | None = None
    blocked: Casualties | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One comparison, for one number of workers, and what it was made with."""

    workers: int
    handlers: Mapping[str, str]
    machine: Mapping[str, str]
    plan: Mapping[str, Any]
    rows: tuple[RowFigures, ...] = field(default=())

    def find(self, kind: str, name: str) -> RowFigures | None:
        """Return the first row of this kind of handler and name."""
        return next((row for row in self.rows if (row.design.kind, row.design.name) == (kind, name)), None)

    def minus_baseline_us(self, row: RowFigures, scenario: str) -> float | None:
        """Return the CPU per connection without what the baseline takes: what sharing the accepting costs."""
        baseline = next((each for each in self.rows if each.design.kind == row.design.kind and _alone(each)), None)
        mine, its = _figures(row, scenario), _figures(baseline, scenario)
        if mine is None or its is None or row is baseline:
            return None
        return mine.median_cpu_us - its.median_cpu_us

    def against_reference(self, row: RowFigures, scenario: str) -> Ratio | None:
        """Return the CPU per connection against prefork without a lock, paired round by round."""
        reference = self.find(row.design.kind, REFERENCE.get(row.design.kind, ""))
        return self.against(row, reference, scenario) if row is not reference else None

    def against(self, row: RowFigures, other: RowFigures | None, scenario: str) -> Ratio | None:
        """Return the CPU per connection of one row against another's, paired round by round."""
        mine, its = _figures(row, scenario), _figures(other, scenario)
        return paired(mine.cpu_us, its.cpu_us) if mine and its else None

    @property
    def bottlenecks(self) -> list[str]:
        """Where the load generator was the bottleneck, and how."""
        return [
            f"{row.design.name} ({row.design.kind}), {scenario}: {found.honesty.problem}"
            for row in self.rows
            for scenario in ("load", "light")
            if (found := _figures(row, scenario)) and found.honesty.problem
        ]

    @property
    def problems(self) -> list[str]:
        """The rows that should have been measured and were not."""
        return [row.design.name for row in self.rows if row.problem and row.design.kind]

    @property
    def is_crowded(self) -> bool:
        """Whether clients and servers fought for the CPUs in most of the runs under full load."""
        loads = [row.load for row in self.rows if row.load]
        return bool(loads) and sum(load.honesty.is_crowded for load in loads) * 2 > len(loads)


def _figures(row: RowFigures | None, scenario: str) -> LoadFigures | None:
    found: LoadFigures | None = getattr(row, scenario) if row is not None else None
    return found if found is not None and found.cpu_us else None


def _alone(row: RowFigures) -> bool:
    return row.design.is_baseline


def report(comparison: Comparison) -> Report:
    """Sum up what was measured."""
    plan = comparison.plan
    told = {
        **{name: getattr(plan, name) for name in ("rounds", "for_s", "concurrency", "connections", "per_s", "clients")},
        "scenarios": list(plan.scenarios),
        "request": plan.request,
        "threads": plan.threads,
        "reply": asdict(comparison.reply),
    }
    rows = tuple(_row(row) for row in comparison.rows)
    return Report(comparison.workers, dict(comparison.handlers), machine(), told, rows)


def _row(row: Row) -> RowFigures:
    return RowFigures(
        design=row.design,
        problem=row.problem,
        load=_load(row.load),
        light=_load(row.light),
        burst=row.burst,
        held=row.held,
        kill=row.kill,
        drain=row.drain,
        blocked=row.blocked,
    )


def _load(series: Series | None) -> LoadFigures | None:
    if series is None or not series.cpu_us:
        return None
    return LoadFigures(
        cpu_us=_rounded(series.cpu_us),
        switches=_rounded(series.switches),
        per_s=_rounded(series.per_s),
        rate=series.rate,
        latencies=latencies(series.samples),
        lost=series.lost,
        honesty=honesty(series.outcomes),
    )


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, _DIGITS) for value in values)


def machine() -> dict[str, str]:
    """Return what the figures depend on, as far as it names no machine."""
    try:
        loop = f"uvloop {metadata.version('uvloop')}"
    except metadata.PackageNotFoundError:
        loop = "asyncio"
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": loop,
        "kernel": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "cpus": str(len(os.sched_getaffinity(0))),
    }


# ── keeping ──


def to_json(reports: Sequence[Report]) -> str:
    """Return the reports as JSON, with the derived figures beside the measured ones."""
    told = []
    for each in reports:
        given = asdict(each)
        for row, shown in zip(each.rows, given["rows"], strict=True):
            for scenario in ("load", "light"):
                if shown[scenario]:
                    shown[scenario]["derived"] = _derived(each, row, scenario)
            for name in ("burst", "held"):
                if shown[name]:
                    shown[name] |= _variations(getattr(row, name))
        told.append(given)
    return json.dumps(_brief({"version": VERSION, "reports": told}), indent=1)


def _brief(told: Any) -> Any:
    """Return the same with times to the microsecond: no clock here knows them better."""
    if isinstance(told, dict):
        return {name: _brief(value) for name, value in told.items()}
    if isinstance(told, (list, tuple)):
        return [_brief(value) for value in told]
    return round(told, 6) if isinstance(told, float) else told


def _derived(whole: Report, row: RowFigures, scenario: str) -> dict[str, Any]:
    found = _figures(row, scenario)
    against = whole.against_reference(row, scenario)
    return {
        "cpu_us": found.median_cpu_us if found else None,
        "cpu_us_minus_baseline": whole.minus_baseline_us(row, scenario),
        "against_reference": asdict(against) if against else None,
        "bottleneck": found.honesty.problem if found else "",
    }


def _variations(found: Spread | Held) -> dict[str, Any]:
    if isinstance(found, Spread):
        return {"variation": found.variation}
    return {"variation": found.first.variation, "variation_again": found.again.variation if found.again else None}


def from_json(text: str) -> list[Report]:
    """Return the reports that a text holds. Raises: ValueError: it is of another version."""
    told = json.loads(text)
    if told["version"] != VERSION:
        raise ValueError(f"these figures are of version {told['version']}, not {VERSION}: measure again")
    return [
        Report(
            each["workers"],
            each["handlers"],
            each["machine"],
            each["plan"],
            tuple(_read_row(row) for row in each["rows"]),
        )
        for each in told["reports"]
    ]


def _read_row(given: dict[str, Any]) -> RowFigures:
    casualties = {name: Casualties(**given[name]) for name in ("kill", "drain", "blocked") if given[name]}
    return RowFigures(
        design=Design(**given["design"]),
        problem=given["problem"],
        load=_read_load(given["load"]),
        light=_read_load(given["light"]),
        burst=_read_spread(given["burst"]),
        held=_read_held(given["held"]),
        **casualties,
    )


def _read_load(given: dict[str, Any] | None) -> LoadFigures | None:
    if not given:
        return None
    summed = given["latencies"]
    percentiles = tuple(Percentile(**each) for each in summed["percentiles"])
    return LoadFigures(
        cpu_us=tuple(given["cpu_us"]),
        switches=tuple(given["switches"]),
        per_s=tuple(given["per_s"]),
        rate=given["rate"],
        latencies=Latencies(summed["count"], percentiles, summed["max_s"]),
        lost=given["lost"],
        honesty=Honesty(**given["honesty"]),
    )


def _read_held(given: dict[str, Any] | None) -> Held | None:
    if not given:
        return None
    return Held(given["asked"], given["bounded"], _spread(given["first"]), _read_spread(given["again"]))


def _spread(given: dict[str, Any]) -> Spread:
    return Spread(tuple(given["counts"]), given["lost"])


def _read_spread(given: dict[str, Any] | None) -> Spread | None:
    return _spread(given) if given else None
