"""Tables show what was measured and mark what is unsure; a report survives JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hybrid.bench.designs import BLOCKING, LOOP, Design
from hybrid.bench.figures import latencies
from hybrid.bench.load import Honesty
from hybrid.bench.report import LoadFigures, RowFigures, from_json, to_json
from hybrid.bench.scenarios import Held, Spread
from hybrid.bench.table import Table, markdown, percentiles, plain, rich_table, tables
from tests.unit.bench.reports import EVEN, LOPSIDED, casualties, held, load, report, row

ROWS = [
    row("iterative", 10, kind=BLOCKING),
    row("fork", 1340, kind=BLOCKING),
    row("threads", 12, kind=BLOCKING),
    row("one-loop", 15),
    row("shared=plain", 18, held=held(LOPSIDED), burst=LOPSIDED),
    row("shared", 22, held=held(EVEN), burst=EVEN, kill=casualties(1), drain=casualties(), blocked=casualties()),
    RowFigures(Design("thread", "", "thread", "", "one thread per client"), problem="cannot serve this"),
]
WHOLE = report(ROWS)


def cells(table: Table, name: str) -> dict[str, str]:
    """Return a row's cells by column."""
    found = next(row for row in table.rows if row[1].split(",")[0] == name)
    return dict(zip(table.columns, found, strict=True))


def test_cost_is_shown_without_the_baseline_of_its_kind() -> None:
    """The textbook subtracts the iterative server; a loop has one loop to compare with."""
    table = tables(WHOLE)["load"]
    assert cells(table, "threads")["− base"] == "+2.0"
    assert cells(table, "shared")["− base"] == "+7.0"
    assert cells(table, "iterative")["− base"] == "–"


def test_ratio_is_formed_with_prefork_without_lock() -> None:
    """Each kind with its own."""
    table = tables(WHOLE)["load"]
    assert cells(table, "shared")["× no lock [95 %]"] == "1.22 [1.22-1.22]"
    assert cells(table, "shared=plain")["× no lock [95 %]"] == "–"
    assert cells(table, "fork")["× no lock [95 %]"].startswith("111.67")


def test_uncounted_switches_are_marked() -> None:
    """Of a child that ended nobody is told."""
    table = tables(WHOLE)["load"]
    assert cells(table, "fork")["switches"] == "≥ 3.00" and cells(table, "shared")["switches"] == "3.00"
    assert any("have ended are not counted" in note for note in table.notes)


def test_few_samples_are_marked() -> None:
    """p99 of 200 samples is a guess; of 50 it is unknown."""
    table = tables(report([row("shared", 20, load=load(20, samples=200))]))["load"]
    assert cells(table, "shared")["p99 ms"].startswith("~") and any(note.startswith("~") for note in table.notes)
    table = tables(report([row("shared", 20, load=load(20, samples=50))]))["load"]
    assert cells(table, "shared")["p99 ms"] == "–"


def test_bottleneck_is_marked_in_the_row() -> None:
    """And explained below."""
    table = tables(report([row("shared", 20, load=load(20, Honesty(lag_s=0.05)))]))["load"]
    assert cells(table, "shared")["conn/s"].endswith("!") and any(note.startswith("!") for note in table.notes)


def test_few_rounds_are_marked() -> None:
    """The brackets then hold the range."""
    assert any("Fewer than 6" in note for note in tables(report(ROWS, rounds=5))["load"].notes)
    assert not any("Fewer than 6" in note for note in tables(WHOLE)["load"].notes)


def test_distribution_is_shown_with_its_variation() -> None:
    """Before and after a replacement."""
    table = tables(WHOLE)["held"]
    assert plain(table).count("252 152 1539 57") == 2 and "1.208" in plain(table)


def test_spread_of_one_connection_for_each_worker_has_no_variation() -> None:
    """It could not be anything else. Rows that hold fewer are explained, and what became of a fork's children."""
    ones = Held(400, True, Spread((1, 1, 1, 1)), Spread((1, 1, 1, 1)))
    children = Held(400, True, Spread((8, 7, 13, 36)), Spread((2, 9, 15, 38)))
    table = tables(report([row("threads", 12, kind=BLOCKING, held=ones)]))["held"]
    assert table.rows[0][3:] == ("1 1 1 1 *", "–", "1 1 1 1", "–")
    assert "filled up again" in " ".join(table.notes) and "fork" not in " ".join(table.notes)
    table = tables(report([row("fork", 1340, kind=BLOCKING, held=children)]))["held"]
    assert table.rows[0][3:] == ("8 7 13 36 *", "0.736", "2 9 15 38", "0.844")
    assert "children of the killed worker live on" in " ".join(table.notes)


def at(rate: float) -> LoadFigures:
    """Return rounds at a rate."""
    return replace(load(20), rate=rate)


def test_slower_rows_are_named_in_the_title() -> None:
    """A latency is of a rate: which row had which is said; with its kind where there are two."""
    rows = [row("fork", 1340, kind=BLOCKING, light=at(38.2)), row("threads", 12, kind=BLOCKING, light=at(500))]
    assert tables(report(rows))["light"].title == "500 new connections a second (fork: 38), 4 workers"
    rows += [row("passing", 20, light=at(440)), row("shared", 20, light=at(500))]
    title = tables(report(rows))["light"].title
    assert title == "500 new connections a second (fork, blocking: 38; passing, loop: 440), 4 workers"
    assert tables(report([rows[1]]))["light"].title == "500 new connections a second, 4 workers"


def test_marks_of_the_load_table_are_explained() -> None:
    """Dashes, losses, and each kind's baseline; the head says what the brackets hold."""
    notes = " ".join(tables(WHOLE)["load"].notes)
    assert "− base: less what iterative (blocking) or one-loop (loop) takes." in notes
    assert "lost: connections that were refused, reset, cut short or timed out." in notes
    few = tables(report([row("shared", 20, load=load(20, samples=50))], rounds=5))["load"]
    assert "– for p50 or p99: too few samples." in few.notes and "× no lock [range]" in few.columns
    burst = tables(WHOLE)["burst"].notes
    assert "lost: clients that got no whole reply: refused, reset, cut short or timed out." in burst


def test_what_was_not_measured_has_a_table() -> None:
    """With the reason."""
    assert tables(WHOLE)["problems"].rows == (("–", "thread", "–", "cannot serve this"),)


def test_tables_without_figures_are_left_out() -> None:
    """No empty headings."""
    assert list(tables(report([row("shared", 20)]))) == ["load"]


def test_all_percentiles_are_printed_and_the_unknown_ones_too() -> None:
    """HDR's list."""
    text = plain(percentiles(latencies([0.001 * number for number in range(1, 2001)])))
    assert "99%         1980.000  20" in text
    assert "99.90%      1998.000  2: too few to be sure" in text
    assert "99.99%      –         too few samples" in text
    assert "max         2000.000" in text


def test_every_form_holds_every_cell() -> None:
    """Plain, Markdown, rich."""
    table = tables(WHOLE)["load"]
    for row_ in table.rows:
        assert "| " + " | ".join(row_) + " |" in markdown(table)
        assert all(cell in plain(table) for cell in row_)
    assert rich_table(table).row_count == len(table.rows)


def test_report_survives_json() -> None:
    """A page can be written again without measuring."""
    text = to_json([WHOLE])
    (again,) = from_json(text)
    assert tables(again) == tables(WHOLE) and to_json([again]) == text


def test_json_has_the_derived_figures() -> None:
    """Whoever reads it need not know how they are formed."""
    told = json.loads(to_json([WHOLE]))["reports"][0]["rows"]
    shared = next(row for row in told if row["design"]["name"] == "shared")
    assert shared["load"]["derived"]["against_reference"]["median"] == pytest.approx(22 / 18)
    assert shared["held"]["variation"] == 0.0 and shared["design"]["kind"] == LOOP


def test_figures_of_another_version_are_refused() -> None:
    """Rather than misread."""
    with pytest.raises(ValueError, match="measure again"):
        from_json(json.dumps({"version": 0, "reports": []}))
