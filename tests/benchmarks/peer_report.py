"""What :mod:`tests.benchmarks.peers` measured, for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.http_workloads import BARS, WORKLOADS
from tests.benchmarks.measure import Bar, Ratio, ratio, scheduler
from tests.benchmarks.peer_turn import Turn

__all__ = ["Row", "against", "as_json", "machine", "markdown", "missed", "table", "verdicts"]


_QUIET = 0.05
"""With more waiting than that, figures of different rounds say little, and ratios less than they seem to."""
_NEAR = 1.2
"""A ratio so many times above or below its bar wants MANY_ROUNDS."""
MANY_ROUNDS = 15


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
        self.load_busy.append(turn.load_busy)
        self.load_waited.append(turn.load_waited_ns / turn.wall_ns)
        self.per_s.append(turn.per_s)


def against(row: Row, other: Row) -> Ratio | None:
    """Return what one costs in terms of another, by rounds; None if either has no figure or a wrong answer."""
    if row is other or row.problem or other.problem or not row.cpu_us:
        return None
    return ratio([mine / its for mine, its in zip(row.cpu_us, other.cpu_us, strict=True)])


def verdicts(workload: str, rows: Sequence[Row]) -> list[tuple[Bar, Ratio | None, str]]:
    """Return each bar of a workload for which both servers have a row, what was measured, and what that comes to."""
    by_name = {row.name: row for row in rows}
    found: list[tuple[Bar, Ratio | None, str]] = []
    for bar in BARS.get(workload, ()):
        if bar.candidate in by_name and bar.against in by_name:
            row = by_name[bar.candidate]
            paired = against(row, by_name[bar.against])
            found.append((bar, paired, _verdict(bar, paired, len(row.cpu_us))))
    return found


def _verdict(bar: Bar, paired: Ratio | None, rounds: int) -> str:
    if paired is None:
        return "not measured"
    if paired.median <= bar.limit:
        told = "reached" if bar.is_aim else "kept"
    else:
        told = "not reached" if bar.is_aim else "MISSED"
    if rounds < MANY_ROUNDS and bar.limit / _NEAR <= paired.median <= bar.limit * _NEAR:
        return f"{told}, but so near to it takes {MANY_ROUNDS} rounds"
    return f"{told}, but the interval has it inside" if paired.low <= bar.limit < paired.high else told


def missed(workload: str, rows: Sequence[Row]) -> bool:
    """Return whether a bar of the workload is missed."""
    return any(told.startswith("MISSED") for _, _, told in verdicts(workload, rows))


def table(workload: str, rows: Sequence[Row], subjects: Sequence[Row]) -> str:
    """Return what the rows hold, for the terminal. ``subjects``: who is compared with each of the others."""
    known = WORKLOADS[workload]
    rounds = max(len(row.cpu_us) for row in rows)
    heads = f"{'CPU µs':>9} {'least':>7} {'busy':>6} {'load':>6} {'per s':>8}"
    heads += "".join(f"   {subject.name + ' x this':22}" for subject in subjects)
    lines = [
        f"\n{workload}: {known.what}; {known.connections} connections, {rounds} rounds, {scheduler()}",
        f"  {'':24} {heads}".rstrip(),
    ]
    for row in rows:
        if row.problem:
            lines.append(f"  {row.name:24} {row.problem}")
            continue
        figures = f"{statistics.median(row.cpu_us):9.2f} {min(row.cpu_us):7.2f} {statistics.median(row.busy):6.0%}"
        figures += f" {statistics.median(row.load_busy):6.0%} {statistics.median(row.per_s):8.0f}"
        figures += "".join(f"   {against(subject, row) or ''!s:22}" for subject in subjects)
        lines.append(f"  {row.name:24} {figures}".rstrip())
    for bar, paired, told in verdicts(workload, rows):
        word = "aim" if bar.is_aim else "bar"
        found = f"{paired} ".lstrip() if paired else ""
        lines.append(f"  {word}: {bar.candidate} <= {bar.limit:.2f} x {bar.against}: {found}{told}")
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
        "scheduler": scheduler(),
    }


def markdown(results: Mapping[str, Sequence[Row]], subjects: Sequence[str]) -> str:
    """Return all workloads as one table: a line for each subject, a column for each other that has figures."""
    others: dict[str, str] = {}
    for row in (row for rows in results.values() for row in rows if row.cpu_us and row.name not in subjects):
        others[row.name] = row.version
    heads = ["", "", "CPU µs", *(f"x {name} {version}".strip() for name, version in others.items()), "bar"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for workload, rows in results.items():
        by_name = {row.name: row for row in rows}
        for subject in subjects:
            ours = by_name[subject]
            cells = [WORKLOADS[workload].what, subject, _cost(ours)]
            cells += [_cell(ours, by_name.get(name)) for name in others]
            cells.append("; ".join(_short(*each) for each in verdicts(workload, rows) if each[0].candidate == subject))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cost(row: Row) -> str:
    if row.problem or not row.cpu_us:
        return "–"
    return f"{statistics.median(row.cpu_us):.1f} ({min(row.cpu_us):.1f}–{max(row.cpu_us):.1f})"


def _cell(ours: Row, other: Row | None) -> str:
    paired = against(ours, other) if other else None
    if not paired or not other:
        return "–"
    return f"**{paired.median:.2f}** [{paired.low:.2f}–{paired.high:.2f}] of {statistics.median(other.cpu_us):.1f}"


def _short(bar: Bar, _: Ratio | None, told: str) -> str:
    return f"{bar.limit:.2f} x {bar.against}: {told.replace('MISSED', '**missed**')}"


def as_json(results: Mapping[str, Sequence[Row]], subjects: Sequence[str]) -> dict[str, Any]:
    """Return everything that was measured, rounds included."""
    workloads: dict[str, Any] = {}
    for workload, rows in results.items():
        ours = [row for row in rows if row.name in subjects]
        bars = [
            {"of": bar.candidate, "against": bar.against, "limit": bar.limit, "aim": bar.is_aim, "verdict": told}
            for bar, _, told in verdicts(workload, rows)
        ]
        servers = {row.name: _figures(row, ours) for row in rows}
        workloads[workload] = {"servers": servers, "bars": bars, "missed": missed(workload, rows)}
    return {"subjects": list(subjects), "workloads": workloads}


def _figures(row: Row, subjects: Sequence[Row]) -> dict[str, Any]:
    ratios = {subject.name: paired for subject in subjects if (paired := against(subject, row))}
    return {
        "version": row.version,
        "problem": row.problem,
        "cpu_us": row.cpu_us,
        "busy": row.busy,
        "load_busy": row.load_busy,
        "load_waited": row.load_waited,
        "per_s": row.per_s,
        "x_this": {name: [paired.median, paired.low, paired.high] for name, paired in ratios.items()},
    }
