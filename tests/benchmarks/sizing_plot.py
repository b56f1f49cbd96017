"""The picture of :mod:`tests.benchmarks.sizing_steps`, with matplotlib: the load, the size and the waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Summary = dict[str, Any]
"""What JSON has of one case."""

SECOND, CLIENTS, P50, P99, SERVING, PARKED = range(6)
"""Columns of a case's seconds."""
_STYLE: Any = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "hybrid",  # the same figures give the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_COLOURS = {"serving": "#2f6f9f", "parked": "#b7cfe0", "p50": "#6b8e4e", "p99": "#b5651d", "load": "#888888"}
_COLOURS |= {"more": "#2f6f9f", "fewer": "#6b8e4e", "barred": "#b5651d"}
_HOW = {1: "more", -1: "fewer", 0: "barred"}
_TOP = 8.4
"""Of the workers' axis: six of them, and room for why."""


def save(cases: Sequence[Summary], path: Path) -> None:
    """Write the picture. Raises: ImportError: matplotlib is missing; it is the extra ``plot``."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.2 * len(cases), 6.4), layout="constrained")
        grid: Any = figure.subplots(3, len(cases), sharex="col", sharey="row", squeeze=False)
        for column, case in enumerate(cases):
            _draw_load(grid[0][column], case)
            _draw_size(grid[1][column], case)
            _draw_waits(grid[2][column], case)
        grid[0][0].set_ylim(0, 1.1 * max(max(_column(case, CLIENTS)) for case in cases))
        grid[0][0].set_ylabel("clients a second")
        grid[1][0].set_ylabel("workers")
        grid[1][-1].legend(loc="center right", frameon=False)
        grid[2][0].set_ylabel("they waited, ms")
        grid[2][0].legend(loc="upper left", frameon=False)
        figure.savefig(path, metadata={"Date": None})


def _column(case: Summary, which: int) -> list[float]:
    return [row[which] for row in case["seconds"]]


def _draw_load(axes: Axes, case: Summary) -> None:
    axes.step(_column(case, SECOND), _column(case, CLIENTS), where="post", color=_COLOURS["load"], linewidth=1)
    axes.set_title(f"a handler that {case['name']} ({case['line']} s)", loc="left")


def _draw_size(axes: Axes, case: Summary) -> None:
    seconds, serving, parked = (_column(case, each) for each in (SECOND, SERVING, PARKED))
    total = [one + other for one, other in zip(serving, parked, strict=True)]
    axes.fill_between(seconds, total, step="post", color=_COLOURS["parked"], label="and parked", linewidth=0)
    axes.fill_between(seconds, serving, step="post", color=_COLOURS["serving"], label="serve", linewidth=0)
    for decision in case["decisions"]:
        colour = _COLOURS[_HOW[(decision["target"] > decision["before"]) - (decision["target"] < decision["before"])]]
        at = (decision["at_s"], _TOP)
        axes.annotate(decision["reason"], at, fontsize=6, rotation=90, ha="center", va="top", color=colour)
    axes.set_ylim(0, _TOP)


def _draw_waits(axes: Axes, case: Summary) -> None:
    for which, name in ((P50, "p50"), (P99, "p99")):
        axes.plot(_column(case, SECOND), _column(case, which), color=_COLOURS[name], label=name, linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel("seconds")
