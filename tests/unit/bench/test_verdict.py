"""The paragraph recommends what the figures bear out, and says what they do not."""

from __future__ import annotations

from hybrid.bench.designs import BLOCKING, LOOP
from hybrid.bench.load import Honesty
from hybrid.bench.report import RowFigures
from hybrid.bench.verdict import choice, fault, verdict
from tests.unit.bench.reports import EVEN, LOPSIDED, casualties, design, held, load, report, row


def test_default_stays_when_nothing_is_much_cheaper() -> None:
    """A few per cent are not worth an option."""
    rows = [row("shared", 22, held=held(EVEN)), row("reuseport", 20.5, held=held(EVEN))]
    text = verdict(report(rows))
    assert "leave --accept at auto (shared): 22 µs of CPU" in text and "CV of 0.000" in text


def test_cheaper_but_uneven_is_named_and_not_chosen() -> None:
    """Held connections decide what a worker has to do."""
    rows = [row("shared", 22, held=held(EVEN)), row("shared=plain", 15, held=held(LOPSIDED))]
    text = verdict(report(rows))
    assert "leave --accept at auto (shared)" in text
    assert "shared=plain took 0.68 of that, but spreads held connections 252 152 1539 57 (CV 1.21)" in text


def test_uneven_only_after_a_replacement_counts_too() -> None:
    """A pool in which workers die must find its balance again."""
    assert "CV" in fault(row("locked=fcntl", 22, held=held(EVEN, LOPSIDED)), None)


def test_much_cheaper_and_sound_wins() -> None:
    """With its own reason."""
    rows = [row("shared", 30, held=held(EVEN)), row("reuseport", 20, held=held(EVEN))]
    text = verdict(report(rows))
    assert "use --accept reuseport: 20 µs" in text and "0.67 [0.67-0.67] of what shared took" in text


def test_much_cheaper_in_too_few_rounds_does_not_win() -> None:
    """And the paragraph says how many it takes."""
    rows = [row("shared", 30), row("reuseport", 20)]
    few = report(rows, rounds=2)
    found = choice(few, LOOP)
    assert found is not None and found.design.name == "shared"
    assert "from 2 rounds: measure at least 6" in verdict(few)


def test_uneven_default_loses_to_an_even_one() -> None:
    """Whatever it costs; both facts are told."""
    rows = [row("shared", 20, held=held(LOPSIDED)), row("passing", 30, held=held(EVEN))]
    text = verdict(report(rows))
    assert "use --accept passing" in text and "shared spreads held connections" in text


def test_model_that_loses_connections_is_not_chosen() -> None:
    """Kill, drain, and a blocked worker: compared with what the default loses."""
    default = row("shared", 30, kill=casualties(1), blocked=casualties(0))
    assert "loses 78 of 3200 connections when a worker is killed" in fault(
        row("reuseport", 20, kill=casualties(78)), default
    )
    assert "lets 389 of 3200 clients wait" in fault(row("reuseport", 20, blocked=casualties(stalled=389)), default)
    assert fault(row("reuseport", 20, kill=casualties(4)), default) == ""


def test_each_kind_of_handler_has_its_own_sentence() -> None:
    """The textbook's run has two."""
    rows = [row("shared", 22), row("threads", 12, kind=BLOCKING), row("fork", 1340, kind=BLOCKING)]
    text = verdict(report(rows))
    assert "event loop, leave --accept at auto (shared)" in text
    assert "blocking handler, leave --accept at auto (threads)" in text
    assert "The dearest, fork (concurrent server, one child per client), took 111.7 times as much." in text


def test_bottleneck_is_confessed() -> None:
    """In the paragraph, with what still stands."""
    rows = [row("shared", 22, load=load(22, Honesty(busiest=0.97)))]
    text = verdict(report(rows))
    assert "The load generator was the bottleneck in 1 of the runs" in text and "97% busy" in text
    assert "CPU per connection stands" in text


def test_crowded_machine_is_confessed() -> None:
    """Connections/s are then the machine's."""
    rows = [row("shared", 22, load=load(22, Honesty(busiest=0.5, waiting=0.45)))]
    assert "shared the CPUs and used all of them" in verdict(report(rows))


def test_nothing_measured_is_said() -> None:
    """A refused model gives no advice."""
    refused = RowFigures(design(LOOP, "shared"), problem="no such way of accepting")
    text = verdict(report([refused]))
    assert "nothing was measured" in text and "1 way of accepting could not be measured" in text
