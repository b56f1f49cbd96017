"""Writes what the documentation takes from the code: ``python -m tests.docs.generate`` (or ``make docs``).

A page says where: between ``<!-- diagram: NAME -->`` and ``<!-- end -->`` stands the picture of a table of states.
The reference of options is written whole. Tests fail while a page is not what this writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from hybrid.cli import reference
from hybrid.connection import tls_stages
from hybrid.connection.phases import PHASES
from hybrid.control import metric_table
from hybrid.ground.states import LIFE
from hybrid.parent import dispatch, health, reload_stages
from hybrid.shared.machine import mermaid
from hybrid.shared.models import MODELS
from hybrid.worker import service
from hybrid.worker.acceptors import acceptor
from tests.docs.ctl_tables import with_tables
from tests.docs.pages import ROOT, pages

OPTIONS_PAGE = "docs/reference/options.md"

DIAGRAMS: dict[str, Mapping[tuple[Any, Any], Enum]] = {
    "worker": LIFE,
    "health": health.HEALTH,
    "service": service.STAGES,
    "acceptor": acceptor.STAGES,
    "taker": dispatch.STAGES,
    "reload": reload_stages.STAGES,
    "connection": PHASES,
    "tls": tls_stages.STAGES,
}
"""Tables of states, by the name that pages use."""

_MODELS = re.compile(r"(?P<open><!-- models -->\n).*?(?P<close><!-- end -->)", re.DOTALL)
_METRICS = re.compile(r"(?P<open><!-- metrics -->\n).*?(?P<close><!-- end -->)", re.DOTALL)
_SECTION = re.compile(r"(?P<open><!-- diagram: (?P<name>[\w-]+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)


def with_diagrams(text: str) -> str:
    """Return a page's text with every diagram as the code has it. Raises: KeyError: a name that is none."""

    def section(match: re.Match[str]) -> str:
        picture = mermaid(DIAGRAMS[match["name"]])
        return f"{match['open']}```mermaid\n{picture}```\n{match['close']}"

    return _SECTION.sub(section, text)


def models_table() -> str:
    """Return the table of the ways of accepting, as the page about them has it."""
    rows = [
        "| `--accept` | the textbook's term | loop | blocking | without a pool (`--workers 0`) |",
        "|---|---|---|---|---|",
    ]
    for name, model in MODELS.items():
        marks = ("yes" if fits else "–" for fits in (model.loop, model.threaded, not model.needs_pool))
        rows.append(f"| `{name}` | {model.term} | {' | '.join(marks)} |")
    return "\n".join(rows) + "\n"


def with_models(text: str) -> str:
    """Return a page's text with the table of the ways of accepting as the code has it."""
    return _MODELS.sub(lambda match: f"{match['open']}{models_table()}{match['close']}", text)


def metrics_table() -> str:
    """Return the table of the metrics, as the page about them has it."""
    rows = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    for spec in metric_table.every_spec():
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        rows.append(f"| `{spec.shown}` | {spec.kind} | {labels} | {spec.meaning} |")
    return "\n".join(rows) + "\n"


def with_metrics(text: str) -> str:
    """Return a page's text with the table of the metrics as the code has it."""
    return _METRICS.sub(lambda match: f"{match['open']}{metrics_table()}{match['close']}", text)


def up_to_date(text: str) -> str:
    """Return a page's text with all that it takes from the code."""
    return with_tables(with_metrics(with_models(with_diagrams(text))))


def diagrams_in(text: str) -> list[str]:
    """Return the names of the diagrams that a page has."""
    return [match["name"] for match in _SECTION.finditer(text)]


def main() -> None:
    """Write every page that is not up to date."""
    wanted = {page.path: up_to_date(page.text) for page in pages()}
    wanted[OPTIONS_PAGE] = reference.page()
    for path, text in wanted.items():
        file = ROOT / path
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"written: {path}")


if __name__ == "__main__":
    main()
