"""What :mod:`tests.benchmarks.peers` measured, as a table for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.benchmarks.http_workloads import BARS, WORKLOADS
from tests.benchmarks.measure import Bar, Ratio, ratio

__all__ = ["Row", "Turn", "against", "as_json", "machine", "markdown", "missed", "table"]


_QUIET = 0.05
"""With more waiting than that, figures of different rounds say little, and ratios less than they seem to."""


class Turn(NamedTuple):
    """What one server did in one round."""

    requests: int
    wall_ns: int
    cpu_ns: int
    """Of all the server's processes."""
    load_ran_ns: int
    load_waited_ns: int


@dataclass(slots=True)
class Row:
    """What one server did in each round. ``problem``: why there are no figures, or no more of them."""

    name: str
    version: str
    problem: str = ""
    cpu_us: list[float] = field(default_factory=list)
    """Per request."""
    busy: list[float] = field(default_factory=list)
    """Share of the time that the server ran."""
    load_busy: list[float] = field(default_factory=list)
    """Share of the time that the load ran; near 1 it was the load that set the pace."""
    load_waited: list[float] = field(default_factory=list)
    """Share of the time that the load waited for its CPU, because others ran there."""
    per_s: list[float] = field(default_factory=list)

    def add(self, turn: Turn) -> None:
        """Note one round."""
        self.cpu_us.append(turn.cpu_ns / 1000 / turn.requests)
        self.busy.append(turn.cpu_ns / turn.wall_ns)
        self.load_busy.append(turn.load_ran_ns / turn.wall_ns)
        self.load_waited.append(turn.load_waited_ns / turn.wall_ns)
        self.per_s.append(turn.requests * 1e9 / turn.wall_ns)


def against(row: Row, other: Row) -> Ratio | None:
    """Return what one costs in terms of another, by rounds; None if either has no figure or a wrong answer."""
    if row is other or row.problem or other.problem or not row.cpu_us:
        return None
    return ratio([mine / its for mine, its in zip(row.cpu_us, other.cpu_us, strict=True)])


def _verdict(bar: Bar | None, row: Row, other: Row) -> str:
    """Return whether the bar of a workload holds; empty if it is not about these two."""
    paired = against(row, other)
    if bar is None or paired is None or (bar.candidate, bar.against) != (row.name, other.name):
        return ""
    return f"<= {bar.limit:.2f}: {'OK' if paired.median <= bar.limit else 'MISSED'}"


def missed(workload: str, rows: Sequence[Row]) -> bool:
    """Return whether a bar of the workload is missed."""
    return any(_verdict(BARS.get(workload), row, other).endswith("MISSED") for row in rows for other in rows)


def table(workload: str, rows: Sequence[Row], subject: Row) -> str:
    """Return what the rows hold, for the terminal. ``subject``: who is compared with each of the others."""
    known = WORKLOADS[workload]
    heads = f"{'CPU µs':>9} {'least':>7} {'busy':>6} {'load':>6} {'per s':>8}"
    lines = [
        f"\n{workload}: {known.what}; {known.connections} connections, {max(len(row.cpu_us) for row in rows)} rounds",
        f"  {'':24} {heads}   {subject.name} x this [95 % of the median]",
    ]
    for row in rows:
        if row.problem:
            lines.append(f"  {row.name:24} {row.problem}")
            continue
        figures = f"{statistics.median(row.cpu_us):9.2f} {min(row.cpu_us):7.2f} {statistics.median(row.busy):6.0%}"
        figures += f" {statistics.median(row.load_busy):6.0%} {statistics.median(row.per_s):8.0f}"
        paired = against(subject, row)
        told = f"   {paired}  {_verdict(BARS.get(workload), subject, row)}" if paired else ""
        lines.append(f"  {row.name:24} {figures}{told}".rstrip())
    waited = statistics.median([share for row in rows for share in row.load_waited] or [0.0])
    if waited > _QUIET:
        lines.append(f"  not a quiet machine: the load waited for its CPU {waited:.0%} of the time")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Return what the figures depend on, apart from the servers."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "uvloop": f"uvloop {importlib.metadata.version('uvloop')}",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "cpu": f"{len(models)} x {models[0]}" if models else platform.machine(),
    }


def markdown(results: Mapping[str, Sequence[Row]], subject: str) -> str:
    """Return all workloads as one table: a line each, a column for each of the others."""
    first = next(iter(results.values()))
    others = [row for row in first if row.name != subject]
    heads = ["", f"{subject}, µs", *(f"x {row.name} {row.version}".strip() for row in others), "bar"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for workload, rows in results.items():
        by_name = {row.name: row for row in rows}
        ours = by_name[subject]
        cells = [f"{WORKLOADS[workload].what}"]
        cells.append(f"{statistics.median(ours.cpu_us):.1f}" if ours.cpu_us and not ours.problem else "–")
        cells += [_cell(ours, by_name[row.name]) for row in others]
        cells.append("".join(_verdict(BARS.get(workload), ours, row) for row in rows))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(ours: Row, other: Row) -> str:
    paired = against(ours, other)
    return f"**{paired.median:.2f}** [{paired.low:.2f}–{paired.high:.2f}]" if paired else "–"


def as_json(results: Mapping[str, Sequence[Row]], subject: str) -> dict[str, Any]:
    """Return everything that was measured, rounds included."""
    workloads: dict[str, Any] = {}
    for workload, rows in results.items():
        ours = next(row for row in rows if row.name == subject)
        servers: dict[str, Any] = {}
        for row in rows:
            paired = against(ours, row)
            servers[row.name] = {
                "version": row.version,
                "problem": row.problem,
                "cpu_us": row.cpu_us,
                "busy": row.busy,
                "load_busy": row.load_busy,
                "load_waited": row.load_waited,
                "per_s": row.per_s,
                "subject_x_this": [paired.median, paired.low, paired.high] if paired else None,
            }
        bar = BARS.get(workload)
        workloads[workload] = {"servers": servers, "bar": bar.limit if bar else None, "missed": missed(workload, rows)}
    return {"machine": machine(), "subject": subject, "workloads": workloads}
