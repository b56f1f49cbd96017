"""Pictures of a report, with matplotlib: an optional extra, asked for by name where it is missing."""

from __future__ import annotations

import importlib.util
import os
import textwrap
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hybrid.bench.figures import median
from hybrid.bench.report import Report, RowFigures
from hybrid.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png")
EXTRA = "hybrid[plot]"
_STYLE: Any = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "hybrid",  # the same figures give the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_KIND_COLOUR = {"loop": "#2f6f9f", "blocking": "#b5651d"}
_ROW_INCHES = 0.28


def check(path: str) -> None:
    """Raises: UsageError: ``path`` is no picture that can be written, or matplotlib is missing."""
    if os.path.splitext(path)[1].lower() not in FORMATS:
        raise UsageError(f"cannot use {path!r} for --plot: neither .svg nor .png. Give a name that ends with one.")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UsageError(f"cannot use {path!r} for --plot: {folder} is no directory to write to. Give another one.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"cannot use {path!r} for --plot: matplotlib is not installed. Run: pip install '{EXTRA}'")


def save(reports: Sequence[Report], path: str) -> None:
    """Write one picture of all that was measured: a column of panels for each number of workers."""
    panels = [name for name in _DRAW if any(_has(report, name) for report in reports)]
    rows = max((len(_rows(report, name)) for report in reports for name in panels), default=1)
    height = max(2.0, rows * _ROW_INCHES + 1.3) * max(1, len(panels))
    with _figure(7.5 * len(reports), height) as figure:
        grid: Any = figure.subplots(max(1, len(panels)), len(reports), squeeze=False)
        for column, report in enumerate(reports):
            for line, name in enumerate(panels):
                _draw(grid[line][column], report, name)
        _write(figure, path)


def save_panel(report: Report, name: str, path: str) -> None:
    """Write one panel, ``load``, ``switches`` or ``held``, as a picture of its own."""
    with _figure(7.5, max(2.0, len(_rows(report, name)) * _ROW_INCHES + 1.4)) as figure:
        _draw(figure.subplots(), report, name)
        _write(figure, path)


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def _write(figure: Figure, path: str) -> None:
    try:
        figure.savefig(path, metadata={"Date": None} if path.lower().endswith(".svg") else None)
    except OSError as error:
        raise UsageError(f"cannot write {path!r}, from --plot: {error.strerror}. Give another file.") from error


def _draw(axes: Axes, report: Report, name: str) -> None:
    rows = _rows(report, name)
    if not rows:
        axes.set_axis_off()
        return
    _DRAW[name](axes, report, rows)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.invert_yaxis()


def _label(row: RowFigures) -> str:
    number = f"{row.design.number}  " if row.design.number else ""
    return f"{number}{row.design.shown}"


def _has(report: Report, name: str) -> bool:
    return bool(_rows(report, name))


def _rows(report: Report, name: str) -> list[RowFigures]:
    if name == "held":
        return [row for row in report.rows if row.held and len(row.held.first.counts) > 1 and not row.held.bounded]
    if name == "switches":
        return [row for row in report.rows if row.light and not row.design.loses_count_of_switches]
    return [row for row in report.rows if row.load]


def _draw_load(axes: Axes, report: Report, rows: list[RowFigures]) -> None:
    """CPU per connection as dots on a logarithmic scale, for a fork costs a hundred times the rest.

    No bars: their length on such an axis would depend on where it begins.
    """
    for place, row in enumerate(rows):
        load, colour = row.load, _colour(row)
        assert load is not None
        middle, least, most = load.median_cpu_us, min(load.cpu_us), max(load.cpu_us)
        axes.plot([least, most], [place, place], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot([middle], [place], "o", color=colour, markersize=5)
        axes.annotate(f"{middle:.0f}", (most, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(f"Server CPU, full load, {report.workers} workers (dot: median; line: range of rounds)", loc="left")
    _label_below(axes, "µs of CPU for each connection, logarithmic", _left_out(report, "load"))
    _legend(axes, rows)


def _draw_switches(axes: Axes, report: Report, rows: list[RowFigures]) -> None:
    values = [median(row.light.switches) for row in rows if row.light]
    axes.barh(range(len(rows)), values, color=[_colour(row) for row in rows])
    axes.set_title(f"Context switches, light load, {report.workers} workers", loc="left")
    _label_below(axes, "context switches for each connection", _left_out(report, "switches"))
    _legend(axes, rows)


def _draw_held(axes: Axes, report: Report, rows: list[RowFigures]) -> None:
    """Each row's held connections, one part of the bar for each worker."""
    shades = ["#1f4e79", "#4f86b5", "#8fb8d8", "#c9dff0"]
    for place, row in enumerate(rows):
        assert row.held is not None
        left = 0
        for worker, count in enumerate(row.held.first.counts):
            axes.barh(place, count, left=left, color=shades[worker % len(shades)], edgecolor="white")
            left += count
    axes.set_title(f"{report.plan['connections']} connections held by {report.workers} workers", loc="left")
    _label_below(axes, "connections, one shade for each worker", _left_out(report, "held"))


def _left_out(report: Report, name: str) -> str:
    """Return which measured designs a panel does not show, and why; nothing: it shows all."""
    shown = _rows(report, name)
    reasons: dict[str, list[str]] = {}
    for row in report.rows:
        if row not in shown and (why := _why_left_out(row, name)):
            reasons.setdefault(why, []).append(row.design.shown)
    told = [f"{'; '.join(dict.fromkeys(names))} ({why})" for why, names in reasons.items()]
    return f"Left out: {', '.join(told)}." if told else ""


def _why_left_out(row: RowFigures, name: str) -> str:
    if name == "held" and row.held:
        return "a thread or a process for each: fewer were held" if len(row.held.first.counts) > 1 else "one worker"
    if name == "switches" and row.light:
        return "nobody is told of the switches of threads and children that have ended"
    return ""


def _label_below(axes: Axes, label: str, left_out: str) -> None:
    axes.set_xlabel("\n".join([label, *textwrap.wrap(left_out, 95)]), fontsize=8)


def _colour(row: RowFigures) -> str:
    return _KIND_COLOUR.get(row.design.kind, "#777777")


def _legend(axes: Axes, rows: Sequence[RowFigures]) -> None:
    from matplotlib.patches import Patch

    kinds = dict.fromkeys(row.design.kind for row in rows)
    if len(kinds) > 1:
        patches = [Patch(color=_KIND_COLOUR.get(kind, "#777777"), label=f"{kind} handler") for kind in kinds]
        axes.legend(handles=patches, loc="lower right", frameon=False)


_DRAW = {"load": _draw_load, "switches": _draw_switches, "held": _draw_held}
