"""Writes the measured parts of ``docs/explanation/accepting.md``: ``make accepting``.

``python -m tests.docs.accepting`` measures (some five minutes), keeps the figures in
``docs/explanation/accepting.json``, and writes tables, verdict and pictures from them. With ``--keep`` it measures
nothing and writes from the kept figures.

The prose stands in the page; a part that is written stands between ``<!-- accepting: NAME -->`` and ``<!-- end -->``.
A test fails while the page is not what the kept figures give.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace

from hybrid.bench import accept_run, plot
from hybrid.bench.designs import BLOCKING, LOOP
from hybrid.bench.load import default_clients
from hybrid.bench.report import Report, from_json, report, to_json
from hybrid.bench.scenarios import SCENARIOS
from hybrid.bench.table import markdown, tables
from hybrid.bench.verdict import paragraphs
from tests.docs.pages import ROOT

PAGE = ROOT / "docs/explanation/accepting.md"
FIGURES = ROOT / "docs/explanation/accepting.json"
PICTURES = {"load": "accepting-cpu.svg", "switches": "accepting-switches.svg", "held": "accepting-held.svg"}
"""Panels, and the files beside the page that they are written to."""
PLAN = accept_run.Plan(scenarios=SCENARIOS, rounds=9, for_s=0.5, clients=default_clients())
WIDTH = 120

_SECTION = re.compile(r"(?P<open><!-- accepting: (?P<name>[\w ]+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)


def of_kind(whole: Report, kind: str) -> Report:
    """Return the part of a report that is about one kind of handler."""
    return replace(whole, rows=tuple(row for row in whole.rows if row.design.kind == kind))


def conditions(whole: Report) -> str:
    """Return how and where the figures were made."""
    machine, plan = whole.machine, whole.plan
    text = (
        f"{whole.workers} workers; {plan['rounds']} rounds of {plan['for_s']:g} s, the designs in turn; "
        f"{plan['clients']} client processes on the same machine. {machine['python']}, {machine['loop']}, "
        f"{machine['kernel']}, {machine['cpus']} CPUs."
    )
    return textwrap.fill(text, WIDTH) + "\n"


def _table(name: str, kind: str = "") -> Callable[[Report], str]:
    def write(whole: Report) -> str:
        found = tables(of_kind(whole, kind) if kind else whole)[name]
        return f"**{found.title}**\n\n{markdown(found)}"

    return write


def _verdict(whole: Report) -> str:
    quoted = ("\n".join(f"> {line}" for line in textwrap.wrap(each, WIDTH - 2)) for each in paragraphs(whole))
    return "\n>\n".join(quoted) + "\n"


SECTIONS: dict[str, Callable[[Report], str]] = {
    "conditions": conditions,
    "blocking load": _table("load", BLOCKING),
    "blocking light": _table("light", BLOCKING),
    "loop load": _table("load", LOOP),
    "loop light": _table("light", LOOP),
    "burst": _table("burst"),
    "held": _table("held"),
    "faults": _table("faults"),
    "verdict": _verdict,
}


def sections_in(text: str) -> list[str]:
    """Return the names of the parts that a page has."""
    return [match["name"] for match in _SECTION.finditer(text)]


def with_sections(text: str, whole: Report) -> str:
    """Return the page with every part as the figures give it. Raises: KeyError: a name that is none."""

    def section(match: re.Match[str]) -> str:
        return f"{match['open']}\n{SECTIONS[match['name']](whole)}\n{match['close']}"

    return _SECTION.sub(section, text)


def kept() -> Report:
    """Return the kept figures."""
    (whole,) = from_json(FIGURES.read_text(encoding="utf-8"))
    return whole


def keep(whole: Report) -> None:
    """Keep the figures, a row to a line."""
    text = to_json([whole])
    FIGURES.write_text(re.sub(r"\n {5,}|\n {4}(?=[}\]])", " ", text) + "\n", encoding="utf-8")


def measure() -> Report:
    """Measure everything."""
    (workers,) = PLAN.workers
    return report(accept_run.compare(PLAN, workers, lambda step: print(step, flush=True), accept_run.survey(PLAN)))


def main() -> None:
    """Measure unless told not to; write figures, pictures and page."""
    if "--keep" not in sys.argv[1:]:
        plot.check(str(FIGURES.with_suffix(".svg")))
        keep(measure())
    whole = kept()
    for panel, file in PICTURES.items():
        plot.save_panel(whole, panel, str(PAGE.with_name(file)))
    PAGE.write_text(with_sections(PAGE.read_text(encoding="utf-8"), whole), encoding="utf-8")


if __name__ == "__main__":
    main()
