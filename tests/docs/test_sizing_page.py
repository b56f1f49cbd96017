"""The page about sizing: its tables are what the simulation gives, and its bars are met."""

from __future__ import annotations

import pytest

from tests.docs.sizing import BAR, BAR_STANDBY, PAGE, SECTIONS, best, fewest, kept, with_figures
from tests.simulation.run import RULES, SEEDS, mean, play
from tests.simulation.scenarios import SCENARIOS, Scenario

FAST = [each for each in SCENARIOS if each.fast]
MISSED_WITH_STANDBY = {"blocking"}
"""The page says so."""


def test_page_is_what_the_kept_figures_give() -> None:
    """Nobody edits a table by hand; ``make simulate ARGS=--keep`` writes them from the figures."""
    text = PAGE.read_text()
    assert with_figures(text, kept()) == text
    assert all(f"<!-- sizing: {name} -->" in text for name in SECTIONS)


@pytest.mark.parametrize(
    ("where", "who"),
    [("overcommitted", "hybrid"), ("overcommitted", "static 3"), ("I/O-bound", "hybrid"), ("blocking", "hybrid"),
     ("blocking", "autoscaler on raw loop use")],
)  # fmt: skip
def test_simulation_gives_the_kept_figures(where: str, who: str) -> None:
    """After a change of a rule or of the model, ``make simulate`` is to be run: the page must not tell of the past."""
    got, said = mean([play((where, who, seed)) for seed in SEEDS]), kept()[where][who]
    assert got.p99_s == pytest.approx(said.p99_s, rel=0.02, abs=0.0002)
    assert got.workers == pytest.approx(said.workers, rel=0.02)


@pytest.mark.parametrize("scenario", FAST, ids=lambda each: each.name)
def test_bars_are_met(scenario: Scenario) -> None:
    """With a fast boot: near the best static size, nearer with a standby, and with the fewest workers that do it."""
    of = kept()[scenario.name]
    bar = best(of)[1].p99_s
    assert of["hybrid"].p99_s <= BAR * bar
    assert of["hybrid, 1 standby"].p99_s <= (BAR if scenario.name in MISSED_WITH_STANDBY else BAR_STANDBY) * bar
    assert "hybrid" in fewest(of)


def test_every_rule_is_in_every_scenario() -> None:
    """No rival is left out where it would do well."""
    assert all(set(RULES) <= set(kept()[each.name]) for each in SCENARIOS)
