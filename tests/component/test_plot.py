"""The pictures of ``hybrid-bench`` say what is on their axes, which rows they show, and which they leave out."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from hybrid.bench import plot
from hybrid.bench.designs import BLOCKING
from hybrid.bench.report import Report
from hybrid.bench.scenarios import Held, Spread
from tests.unit.bench.reports import EVEN, held, load, report, row

pytestmark = pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")

ONES = Held(400, True, Spread((1, 1, 1, 1)), None)
WHOLE: Report = report(
    [
        row("iterative", 10, kind=BLOCKING, light=load(10), held=held(Spread((1,)))),
        row("fork", 1340, kind=BLOCKING, light=load(1340), held=Held(400, True, Spread((8, 7, 13, 36)), None)),
        row("threads", 12, kind=BLOCKING, light=load(12), held=ONES),
        row("threads=main", 20, kind=BLOCKING, light=load(20), held=ONES),
        row("shared", 22, light=load(22), held=held(EVEN)),
    ]
)


def words(tmp_path: Path, name: str) -> str:
    """Return the text of a panel."""
    path = tmp_path / "panel.svg"
    plot.save_panel(WHOLE, name, str(path))
    found = re.findall(r"<text[^>]*>([^<]*)</text>|<tspan[^>]*>([^<]*)</tspan>", path.read_text(encoding="utf-8"))
    return " ".join(" ".join(one or two for one, two in found).split())


def test_cost_is_shown_by_dots_on_a_logarithmic_axis(tmp_path: Path) -> None:
    """A bar on it would have a length that means nothing; rows are told apart by their threads."""
    said = words(tmp_path, "load")
    assert "µs of CPU for each connection, logarithmic" in said
    for label in ("threads, 1 thread", "threads=main, 8 threads", "iterative"):
        assert label in said


def test_switches_name_the_designs_whose_are_not_counted(tmp_path: Path) -> None:
    """They are not zero."""
    said = words(tmp_path, "switches")
    assert "context switches for each connection" in said
    assert "Left out: fork (nobody is told of the switches of threads and children that have ended)." in said


def test_held_names_the_designs_without_a_spread(tmp_path: Path) -> None:
    """With each reason."""
    said = words(tmp_path, "held")
    assert "connections, one shade for each worker" in said
    assert "iterative (one worker)" in said
    assert "fork; threads, 1 thread; threads=main, 8 threads (a thread or a process for each: fewer were held)" in said
