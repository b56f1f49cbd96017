"""From the figures to a paragraph: which way of accepting, for this kind of handler, on this machine, and why. Pure.

The default stays unless another one is cheaper by more than a tenth, for certain (the whole interval is below 0.9), and
was seen not to be worse at what matters more: losing nobody, and spreading connections that stay. Two rows are compared
by the median of their paired ratios, as in the tables, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hybrid.bench.designs import BLOCKING, LOOP
from hybrid.bench.figures import LEAST_ROUNDS, Ratio, median
from hybrid.bench.report import Report, RowFigures
from hybrid.bench.scenarios import Casualties

if TYPE_CHECKING:
    from hybrid.bench.handler_run import HandlerReport

DEFAULT = {LOOP: "shared", BLOCKING: "threads"}
UNEVEN = 0.1
"""A coefficient of variation above which held connections are not spread evenly."""
WORTH = 0.9
"""A share of the default's cost above which changing is not worth it."""
_HANDLER = {LOOP: "a handler that runs in the event loop", BLOCKING: "a blocking handler"}


def verdict(report: Report) -> str:
    """Return the paragraphs as one text."""
    return "\n\n".join(paragraphs(report))


def paragraphs(report: Report) -> list[str]:
    """Return a paragraph for each kind of handler, and one with what to bear in mind."""
    kinds = [kind for kind in (LOOP, BLOCKING) if any(row.design.kind == kind for row in report.rows)]
    found = [*(_of_kind(report, kind) for kind in kinds), " ".join(_caveats(report))]
    return [paragraph for paragraph in found if paragraph]


def scenario_of(row: RowFigures) -> str:
    """Return the scenario that a row's cost is taken from: full load, else light load, else none."""
    return "load" if row.load else "light" if row.light else ""


def cost_us(row: RowFigures) -> float:
    """Return the CPU per connection that rows are ranked by; infinite if it was not measured."""
    found = row.load or row.light
    return found.median_cpu_us if found else float("inf")


def lost(row: RowFigures) -> int:
    """Return how many connections it lost in all scenarios together."""
    found = (row.load, row.light, row.burst, row.kill, row.drain, row.blocked)
    return sum(each.lost for each in found if each)


def fault(row: RowFigures, default: RowFigures | None) -> str:
    """Return what speaks against a row however cheap it is, compared with the default; nothing: nothing does."""
    threads, wanted = row.design.threads, default.design.threads if default else 0
    if 0 < threads < wanted:
        return f"serves {threads} connection{'s' if threads > 1 else ''} at a time in each worker instead of {wanted}"
    if row.held and not threads:  # where each takes a thread that waits, they fill up whatever the spread
        spreads = [row.held.first, *([row.held.again] if row.held.again else [])]
        worst = max(spreads, key=lambda spread: spread.variation)
        if worst.variation > UNEVEN:
            return f"spreads held connections {' '.join(map(str, worst.counts))} (CV {worst.variation:.2f})"
    return _losses(row, default)


def _losses(row: RowFigures, default: RowFigures | None) -> str:
    for name, words in (("kill", "a worker is killed"), ("drain", "a worker leaves")):
        mine, its = getattr(row, name), getattr(default, name, None)
        if mine and mine.lost > (its.lost if its else 0) + 5:
            return f"loses {mine.lost} of {mine.planned} connections when {words}"
    blocked, its = row.blocked, default.blocked if default else None
    if blocked and blocked.stalled > (its.stalled if its else 0) + 20:
        return f"lets {blocked.stalled} of {blocked.planned} clients wait when a worker is blocked"
    for name, words in (("load", "under load"), ("light", "under light load"), ("burst", "of a burst")):
        mine, its = getattr(row, name), getattr(default, name, None)
        if mine and mine.lost > (its.lost if its else 0) + 10:
            return f"lost {mine.lost} connections {words}"
    return ""


def default_of(rows: Sequence[RowFigures], kind: str) -> RowFigures | None:
    """Return the row that auto means: of several numbers of threads the greatest."""
    found = [row for row in rows if (row.design.kind, row.design.name) == (kind, DEFAULT[kind])]
    return max(found, key=lambda row: row.design.threads, default=None)


def choice(report: Report, kind: str) -> RowFigures | None:
    """Return the row to recommend for this kind of handler; None: nothing was measured of it."""
    rows = _candidates(report, kind)
    default = default_of(rows, kind)
    sound = [row for row in rows if not fault(row, default)]
    if default is None or default not in sound:
        return min(sound or ([default] if default else rows), key=lambda row: (cost_us(row), lost(row)), default=None)
    worth = [row for row in sound if row.held and _is_cheaper(report, row, default)]
    return min(worth, key=cost_us, default=default)


def _is_cheaper(report: Report, row: RowFigures, default: RowFigures) -> bool:
    """Whether it took less than the default by more than a tenth, for certain."""
    against = report.against(row, default, scenario_of(default)) if row is not default else None
    return against is not None and against.high <= WORTH and _rounds(report) >= LEAST_ROUNDS


def _candidates(report: Report, kind: str) -> list[RowFigures]:
    measured = ("load", "light", "burst", "held", "kill", "drain", "blocked")
    return [
        row
        for row in report.rows
        if row.design.kind == kind and not row.design.is_baseline and any(getattr(row, name) for name in measured)
    ]


def _rounds(report: Report) -> int:
    return int(report.plan["rounds"])


def _of_kind(report: Report, kind: str) -> str:
    rows = _candidates(report, kind)
    best, default = choice(report, kind), default_of(rows, kind)
    alone = [row.design.name for row in report.rows if row.design.kind == kind and not row.problem]
    if best is None and alone:
        return f"For {_HANDLER[kind]} only {alone[0]}, a baseline, was measured: there is nothing to compare it with."
    if best is None:
        return f"For {_HANDLER[kind]} nothing was measured."
    if len(rows) == 1:
        why = fault(best, None)
        sentences = [
            f"For {_HANDLER[kind]} only {best.design.shown} was measured{_in_brackets(_figures(best))}: there is "
            f"nothing to compare it with.{f' It {why}.' if why else ''}"
        ]
    else:
        sentences = [_recommendation(report, rows, best, default), *_others(report, rows, best, default)]
    if not scenario_of(best):
        sentences.append("What a connection costs was not measured: that takes load or light.")
    return " ".join(sentences)


def _others(report: Report, rows: Sequence[RowFigures], best: RowFigures, default: RowFigures | None) -> Iterator[str]:
    """Yield why those that look better are not chosen, and what the dearest took."""
    if not scenario_of(best):
        faults = ((row, fault(row, default)) for row in rows if row is not best)
        yield from (f"{row.design.shown} {why}." for row, why in faults if why)
        return
    cheaper = sorted((row for row in rows if cost_us(row) < cost_us(best) and row is not best), key=cost_us)
    for row in cheaper[:3]:
        against = report.against(row, best, scenario_of(best))
        why = fault(row, default)
        if not why and not row.held and default is best and _is_cheaper(report, row, best):
            why = "the spread was not measured: that takes held"
        if why and against:
            yield f"{row.design.shown} took {_interval(against)} of that, but {why}."
    dearest = max((row for row in rows if scenario_of(row)), key=cost_us, default=best)
    times = report.against(dearest, best, scenario_of(best))
    if dearest is not best and times and times.median > 1.5:
        yield f"The dearest, {dearest.design.name} ({dearest.design.term}), took {times.median:.1f} times as much."


def _recommendation(report: Report, rows: Sequence[RowFigures], best: RowFigures, default: RowFigures | None) -> str:
    kind = best.design.kind
    if best is default:
        what = f"leave --accept at auto ({best.design.shown})"
    else:
        what = f"use --accept {best.design.accept}"
        if best.design.threads:
            what += f" --threads {best.design.threads}"
        if default is None:
            what = f"{DEFAULT[kind]}, the default, was not measured; of what was, {what}"
    reasons = _figures(best)
    if best is not default and default is not None:
        against = report.against(best, default, scenario_of(default))
        if against:
            reasons.append(f"{_interval(against)} of what {default.design.shown} took")
        if fault(default, None):
            reasons.append(f"{default.design.shown} {fault(default, None)}")
    if best is default and fault(best, None):
        reasons.append(f"it {fault(best, None)}, and the others are no better")
    elif best is default and scenario_of(best):
        unproven = any(_is_cheaper(report, row, best) and not fault(row, best) for row in rows)
        if not unproven:
            reasons.append("no other model that is as sound was reliably more than 10 % cheaper")
    if not best.held:
        reasons.append("the spread was not measured")
    return f"For {_HANDLER[kind]}, {what}: {', '.join(reasons)}."


def _figures(row: RowFigures) -> list[str]:
    """Return what was measured of a row, in words."""
    found = []
    if scenario_of(row):
        found.append(f"{cost_us(row):.0f} µs of CPU for each connection")
    if row.held and not row.design.threads and not fault(row, None):
        found.append(f"held connections are spread with a CV of {row.held.first.variation:.3f}")
    if scenario_of(row):
        return found
    for name, words in (("kill", "a worker was killed"), ("drain", "one left")):
        each: Casualties | None = getattr(row, name)
        if each:
            found.append(f"{each.lost} of {each.planned} connections lost when {words}")
    if row.blocked:
        found.append(f"{row.blocked.stalled} of {row.blocked.planned} clients held up by a blocked worker")
    if row.burst and row.burst.lost:
        found.append(f"{row.burst.lost} connections of a burst lost")
    return found


def _in_brackets(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""


def _interval(found: Ratio) -> str:
    return f"{found.median:.2f} [{found.low:.2f}-{found.high:.2f}]"


def _caveats(report: Report) -> list[str]:
    sentences = []
    if _rounds(report) < LEAST_ROUNDS and any(row.load or row.light for row in report.rows):
        rounds = f"{_rounds(report)} round{'s' if _rounds(report) > 1 else ''}"
        sentences.append(f"That is from {rounds}: measure at least {LEAST_ROUNDS} to believe a small difference.")
    if report.bottlenecks:
        sentences.append(
            f"The load generator was the bottleneck in {len(report.bottlenecks)} of the runs "
            f"({report.bottlenecks[0]}): do not trust connections/s and latencies there; CPU per connection stands."
        )
    elif report.is_crowded:
        sentences.append(
            "Clients and servers shared the CPUs and used all of them: connections/s is what this machine gives to "
            "both together; CPU per connection is the figure to compare."
        )
    if report.problems:
        count = len(report.problems)
        ways = f"{count} way{'s' if count > 1 else ''} of accepting"
        sentences.append(f"{ways} could not be measured; the table says why.")
    return sentences


def handler_verdict(found: HandlerReport) -> str:
    """Return the paragraph on a handler under steady load."""
    per_s = median(found.per_s)
    if not found.latencies.count:
        return f"No message was answered; {found.lost} were lost. Try a longer --timeout, or fewer --connections."
    sentences = [
        f"{per_s:,.0f} messages/s at {median(found.cpu_us):.1f} µs of CPU each: one CPU all to itself would serve "
        f"{1e6 / median(found.cpu_us):,.0f}."
    ]
    problem = found.honesty.problem
    if problem:
        sentences.append(
            f"The load generator was the bottleneck ({problem}): the server can do more, or sooner, than this shows. "
            "Use more --clients, or a lower --rate."
        )
    elif found.honesty.is_crowded:
        sentences.append("Clients and server used all of the CPUs between them: on a machine of its own it does more.")
    if found.plan.per_s and per_s < 0.95 * found.plan.per_s:
        sentences.append(f"{found.plan.per_s:,.0f} messages/s were asked for: more than this server keeps up with.")
    if found.lost:
        sentences.append(f"{found.lost} messages were lost.")
    most = found.serves_at_a_time
    if most and found.connections > most:
        sentences.append(
            f"Of {found.connections} connections the workers serve {most} at a time, one for each thread, and the "
            "others wait: use more --threads, or fewer --connections."
        )
    return " ".join(sentences)
