"""Writes the tables of ``docs/explanation/sizing.md``: ``make simulate``.

``python -m tests.docs.sizing`` simulates (a minute or two), keeps the figures in ``docs/explanation/sizing.json``, and
writes the tables from them. With ``--keep`` it simulates nothing and writes from the kept figures.

The prose stands in the page; a part that is written stands between ``<!-- sizing: NAME -->`` and ``<!-- end -->``. A
test fails while the page is not what the kept figures give, another when a few simulations do not give these figures.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict

from tests.docs.pages import ROOT
from tests.simulation.run import RULES, Figures, run_all
from tests.simulation.scenarios import SCENARIOS, Scenario

PAGE = ROOT / "docs/explanation/sizing.md"
FIGURES = ROOT / "docs/explanation/sizing.json"
BAR = 1.6
"""How much above that of the best static size the 99th percentile may be."""
BAR_STANDBY = 1.3

All = Mapping[str, Mapping[str, Figures]]

_SECTION = re.compile(r"(?P<open><!-- sizing: (?P<name>[\w ]+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)


def statics(of: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return the figures of the static sizes."""
    return {who: figures for who, figures in of.items() if who.startswith("static ")}


def best(of: Mapping[str, Figures]) -> tuple[str, Figures]:
    """Return the static size with the lowest 99th percentile."""
    return min(statics(of).items(), key=lambda each: each[1].p99_s)


def leanest(of: Mapping[str, Figures]) -> tuple[str, Figures]:
    """Return the smallest static size that meets the bar."""
    bar = BAR * best(of)[1].p99_s
    return min((each for each in statics(of).items() if each[1].p99_s <= bar), key=lambda each: each[1].workers)


def fewest(of: Mapping[str, Figures]) -> list[str]:
    """Return the rules that meet the bar with the fewest workers, of those that find the size by themselves.

    A tenth of a worker is no difference. Ours counts once, without standbys.
    """
    bar = BAR * best(of)[1].p99_s
    meet = [who for who in RULES if of[who].p99_s <= bar and "standby" not in who]
    least = min(of[who].workers for who in meet)
    return [who for who in meet if of[who].workers < least + 0.1]


def _cell(figures: Figures, of: Mapping[str, Figures]) -> str:
    meets = figures.p99_s <= BAR * best(of)[1].p99_s
    time = f"{figures.p99_s * 1e3:.0f}"
    return f"{f'**{time}**' if meets else time} · {figures.workers:.1f}"


def _row(name: str, cells: Callable[[Scenario], str]) -> str:
    return f"| {name} | " + " | ".join(cells(each) for each in SCENARIOS) + " |"


def table(every: All) -> str:
    """Return the table of all rules: 99th percentile in ms, and how many workers served on the average."""

    def cores(each: Scenario) -> str:
        return _cell(every[each.name][f"static {each.cores}"], every[each.name])

    lines = [
        _row("p99 in ms · workers", lambda each: each.name),
        "|---|" + "---|" * len(SCENARIOS),
        _row("best static size, of all", lambda each: _cell(best(every[each.name])[1], every[each.name])),
        _row("smallest static size that will do", lambda each: _cell(leanest(every[each.name])[1], every[each.name])),
        _row("static: one for each core", cores),
    ]
    for who in RULES:
        lines.append(_row(who, lambda each, who=who: _cell(every[each.name][who], every[each.name])))  # type: ignore[misc]  # mypy cannot infer a lambda's default
    return "\n".join(lines) + "\n"


def bars(every: All) -> str:
    """Return how far ours is from the best static size, what it keeps beside the workers, and how often it acts."""
    lines = [
        "| scenario | p99, of the best | with 1 standby | with 2 | processes, parked ones too | steps a minute "
        "| fewest workers, of the rules in bold |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in SCENARIOS:
        of = every[each.name]
        ratios = [of[who].p99_s / best(of)[1].p99_s for who in ("hybrid", "hybrid, 1 standby", "hybrid, 2 standbys")]
        lines.append(
            f"| {each.name} | {ratios[0]:.2f} | {ratios[1]:.2f} | {ratios[2]:.2f} | {of['hybrid'].processes:.1f}"
            f" | {of['hybrid'].actions * 60 / each.for_s:.1f} | {'; '.join(fewest(of))} |"
        )
    return "\n".join(lines) + "\n"


def scenarios(_every: All) -> str:
    """Return what the scenarios are."""
    return "\n".join(f"- **{each.name}**: {each.says}; at most {each.most} workers" for each in SCENARIOS) + "\n"


SECTIONS: dict[str, Callable[[All], str]] = {"scenarios": scenarios, "table": table, "bars": bars}


def with_figures(text: str, every: All) -> str:
    """Return a page's text with its tables as the figures give them. Raises: KeyError: a name that is none."""
    return _SECTION.sub(lambda match: f"{match['open']}\n{SECTIONS[match['name']](every)}\n{match['close']}", text)


def kept() -> All:
    """Return the kept figures."""
    found = json.loads(FIGURES.read_text())
    return {where: {who: Figures(**figures) for who, figures in of.items()} for where, of in found.items()}


def keep(every: All) -> None:
    """Write the figures down, a rule a line."""
    places = []
    for where, of in every.items():
        rows = (
            f"    {json.dumps(who)}: {json.dumps({name: round(value, 4) for name, value in asdict(figures).items()})}"
            for who, figures in of.items()
        )
        places.append(f"  {json.dumps(where)}: {{\n" + ",\n".join(rows) + "\n  }")
    FIGURES.write_text("{\n" + ",\n".join(places) + "\n}\n")


def main() -> None:
    """Simulate unless told otherwise, and write the page."""
    if "--keep" not in sys.argv[1:]:
        keep(run_all())
    PAGE.write_text(with_figures(PAGE.read_text(), kept()))


if __name__ == "__main__":
    main()
