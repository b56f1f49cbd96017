"""The paragraph recommends what the figures bear out, and says what they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hybrid.bench.designs import BLOCKING, LOOP
from hybrid.bench.figures import latencies
from hybrid.bench.handler_run import HandlerReport, Plan
from hybrid.bench.jobs import Reply
from hybrid.bench.load import Honesty
from hybrid.bench.report import RowFigures
from hybrid.bench.scenarios import Spread
from hybrid.bench.table import handler_table, plain
from hybrid.bench.verdict import choice, fault, handler_verdict, paragraphs, verdict
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
    assert "shared=plain took 0.68 [0.68-0.68] of that, but spreads held connections 252 152 1539 57 (CV 1.21)" in text


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
    rows = [row("shared", 22), row("passing", 30)]
    rows += [row("threads", 12, kind=BLOCKING), row("fork", 1340, kind=BLOCKING)]
    text = verdict(report(rows))
    assert "event loop, leave --accept at auto (shared)" in text
    assert "blocking handler, leave --accept at auto (threads, 1 thread)" in text
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


def test_interval_that_reaches_beyond_a_tenth_does_not_win() -> None:
    """Its upper end counts, not its middle."""
    unsure = load(20)
    unsure = replace(unsure, cpu_us=(20.0, 20.0, 20.0, 20.0, 20.0, 28.5))
    rows = [row("shared", 30, held=held(EVEN)), row("reuseport", 20, held=held(EVEN), load=unsure)]
    found = choice(report(rows), LOOP)
    assert found is not None and found.design.name == "shared"
    assert "no other model that is as sound was reliably more than 10 % cheaper" in verdict(report(rows))


def test_without_held_the_default_stays() -> None:
    """What is cheap because it is uneven would win otherwise."""
    text = verdict(report([row("shared", 30), row("reuseport", 20)]))
    assert "leave --accept at auto (shared)" in text and "the spread was not measured" in text
    assert "reuseport took 0.67 [0.67-0.67] of that, but the spread was not measured" in text
    assert "no other model" not in text


def test_only_one_model_has_nothing_to_be_compared_with() -> None:
    """Neither advice nor praise."""
    text = verdict(report([row("one-loop", 15), row("reuseport", 20)]))
    assert "only reuseport was measured (20 µs of CPU for each connection)" in text
    assert "nothing to compare it with" in text and "use --accept" not in text


def test_fault_scenarios_alone_are_judged() -> None:
    """By what they show; cost is confessed not to be known."""
    rows = [
        row("shared", 0, load=None, kill=casualties(1)),
        row("reuseport", 0, load=None, kill=casualties(78)),
    ]
    text = verdict(report(rows))
    assert "leave --accept at auto (shared): 1 of 3200 connections lost when a worker was killed" in text
    assert "reuseport loses 78 of 3200 connections when a worker is killed." in text
    assert "What a connection costs was not measured" in text and "nothing was measured" not in text


def test_default_for_blocking_handlers_is_the_one_with_many_threads() -> None:
    """The one that auto means is named as it was measured; a cheaper one that serves fewer at a time is no rival."""
    rows = [row("threads", 20, kind=BLOCKING, held=held(EVEN)), row("threads=main", 45, kind=BLOCKING)]
    many = replace(rows[1], design=replace(rows[0].design, number="", threads=8), load=load(40))
    text = verdict(report([rows[0], many, rows[1]]))
    assert "leave --accept at auto (threads, 8 threads): 40 µs" in text
    assert "threads, 1 thread took 0.50 [0.50-0.50] of that, but serves 1 connection at a time" in text


def test_comparison_has_one_figure() -> None:
    """The median of the paired ratios, also for the dearest: not the ratio of two medians."""
    dear = replace(load(0), cpu_us=(20.0, 20.0, 20.0, 30.0, 90.0, 90.0))
    cheap = replace(load(0), cpu_us=(10.0, 10.0, 10.0, 10.0, 10.0, 90.0))
    rows = [row("shared", 0, load=cheap, held=held(EVEN)), row("locked=fcntl", 0, load=dear, held=held(EVEN))]
    assert "took 2.0 times as much" in verdict(report(rows))


def test_losses_of_a_burst_count() -> None:
    """A model that drops clients when many come is not sound."""
    rows = [row("shared", 30, held=held(EVEN)), row("reuseport", 20, held=held(EVEN), burst=Spread((1, 2), 150))]
    text = verdict(report(rows))
    assert "leave --accept at auto (shared)" in text and "lost 150 connections of a burst" in text


def test_each_kind_has_its_own_paragraph() -> None:
    """And caveats a third."""
    found = paragraphs(report([row("shared", 22), row("threads", 12, kind=BLOCKING)], rounds=2))
    assert [words in part for words, part in zip(("event loop", "blocking", "2 rounds"), found, strict=True)] == [
        True
    ] * 3


def steady(plan: Plan, **more: Any) -> HandlerReport:
    """Return what became of a plan."""
    given: dict[str, Any] = {
        "reply": Reply("bytes", 6),
        "per_s": (20_000.0, 21_000.0, 19_000.0),
        "cpu_us": (20.0, 20.0, 20.0),
        "latencies": latencies([0.001] * 100),
        "lost": 0,
        "honesty": Honesty(),
        "idle": plan.idle,
        "connections": plan.connections or 64,
        **more,
    }
    return HandlerReport(plan, "stream", 2, machine={}, worker_bytes=1, connection_bytes=2600.0, **given)


def test_steady_load_says_what_one_cpu_would_do() -> None:
    """From the CPU of a message, not from what this machine happened to give."""
    text = handler_verdict(steady(Plan("app:handle")))
    assert text == "20,000 messages/s at 20.0 µs of CPU each: one CPU all to itself would serve 50,000."


def test_steady_load_confesses_and_advises() -> None:
    """Bottleneck, a rate out of reach, losses, connections that wait for a thread."""
    plan = Plan("app:handle", per_s=100_000, connections=64)
    text = handler_verdict(steady(plan, honesty=Honesty(busiest=0.97), lost=3, idle=16))
    for words in ("97% busy", "100,000 messages/s were asked for", "3 messages were lost", "serve 16 at a time"):
        assert words in text
    assert handler_verdict(steady(plan, latencies=latencies([]))).startswith("No message was answered")


def test_fewer_connections_than_usual_are_explained() -> None:
    """A blocking handler gets as many as it has threads; who asks for a number gets that, without a word."""
    words = "32 connections: as many as the workers have threads. --connections sets more."
    assert words in plain(handler_table(steady(Plan("app:handle"), connections=32)))
    assert words not in plain(handler_table(steady(Plan("app:handle", connections=32))))


def test_memory_of_a_connection_is_not_told_from_too_few() -> None:
    """Workers grow and shrink by themselves."""
    plan = Plan("app:handle")
    assert "2.5 kB" in plain(handler_table(steady(plan)))
    assert "too little to tell" in plain(handler_table(steady(plan, idle=16)))
