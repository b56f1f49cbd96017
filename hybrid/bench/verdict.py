"""From the figures to one paragraph: which way of accepting, for this handler, on this machine, and why. Pure.

The default stays unless another one is cheaper by more than a tenth, for certain, and is not worse at what matters
more: losing nobody, and spreading connections that stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.bench.designs import BLOCKING, LOOP
from hybrid.bench.figures import LEAST_ROUNDS, median
from hybrid.bench.report import Report, RowFigures

if TYPE_CHECKING:
    from hybrid.bench.handler_run import HandlerReport

DEFAULT = {LOOP: "shared", BLOCKING: "threads"}
UNEVEN = 0.1
"""A coefficient of variation above which held connections are not spread evenly."""
WORTH = 0.9
"""A share of the default's cost above which changing is not worth it."""
_HANDLER = {LOOP: "a handler that runs in the event loop", BLOCKING: "a blocking handler"}


def verdict(report: Report) -> str:
    """Return the paragraph."""
    kinds = [kind for kind in (LOOP, BLOCKING) if any(row.design.kind == kind for row in report.rows)]
    sentences = [sentence for kind in kinds for sentence in _of_kind(report, kind)]
    return " ".join([*sentences, *_caveats(report)])


def scenario_of(row: RowFigures) -> str:
    """Return the scenario that a row's cost is taken from: full load, else light load, else none."""
    return "load" if row.load else "light" if row.light else ""


def cost_us(row: RowFigures) -> float:
    """Return the CPU per connection that rows are ranked by; infinite if it was not measured."""
    found = row.load or row.light
    return found.median_cpu_us if found else float("inf")


def fault(row: RowFigures, default: RowFigures | None) -> str:
    """Return what speaks against a row however cheap it is, compared with the default; nothing: nothing does."""
    if row.design.kind == LOOP and row.held:
        spreads = [row.held.first, *([row.held.again] if row.held.again else [])]
        worst = max(spreads, key=lambda spread: spread.variation)
        if worst.variation > UNEVEN:
            return f"spreads held connections {' '.join(map(str, worst.counts))} (CV {worst.variation:.2f})"
    for name, words in (("kill", "a worker is killed"), ("drain", "a worker leaves")):
        mine, its = getattr(row, name), getattr(default, name, None)
        if mine and mine.lost > (its.lost if its else 0) + 5:
            return f"loses {mine.lost} of {mine.planned} connections when {words}"
    mine, its = row.blocked, default.blocked if default else None
    if mine and mine.stalled > (its.stalled if its else 0) + 20:
        return f"lets {mine.stalled} of {mine.planned} clients wait when a worker is blocked"
    if row.load and row.load.lost > 10:
        return f"lost {row.load.lost} connections under load"
    return ""


def choice(report: Report, kind: str) -> RowFigures | None:
    """Return the row to recommend for this kind of handler; None: nothing was measured of it."""
    rows = _candidates(report, kind)
    default = next((row for row in rows if row.design.name == DEFAULT[kind]), None)
    sound = [row for row in rows if not fault(row, default)]
    if not sound:
        return default if default is not None else min(rows, key=cost_us, default=None)
    best = min(sound, key=cost_us)
    if default is None or default not in sound or best is default:
        return best
    against = report.against(best, default, scenario_of(default))
    worth = against is not None and against.median <= WORTH and against.high < 1 and _rounds(report) >= LEAST_ROUNDS
    return best if worth else default


def _candidates(report: Report, kind: str) -> list[RowFigures]:
    return [
        row
        for row in report.rows
        if row.design.kind == kind and not row.design.is_baseline and (row.load or row.light or row.held)
    ]


def _rounds(report: Report) -> int:
    return int(report.plan["rounds"])


def _of_kind(report: Report, kind: str) -> list[str]:
    best = choice(report, kind)
    if best is None:
        return [f"For {_HANDLER[kind]} nothing was measured."]
    rows = _candidates(report, kind)
    default = next((row for row in rows if row.design.name == DEFAULT[kind]), None)
    sentences = [_recommendation(report, best, default, kind)]
    cheaper = sorted((row for row in rows if cost_us(row) < cost_us(best) and row is not best), key=cost_us)
    for row in cheaper[:2]:
        against = report.against(row, best, scenario_of(best))
        why = fault(row, default)
        if why and against:
            sentences.append(f"{row.design.name} took {against.median:.2f} of that, but {why}.")
    dearest = max((row for row in rows if scenario_of(row)), key=cost_us, default=None)
    if dearest is not None and dearest is not best and cost_us(dearest) > 1.5 * cost_us(best):
        sentences.append(
            f"The dearest, {dearest.design.name} ({dearest.design.term}), took {cost_us(dearest) / cost_us(best):.1f} "
            "times as much."
        )
    return sentences


def _recommendation(report: Report, best: RowFigures, default: RowFigures | None, kind: str) -> str:
    name = best.design.name
    if best is default:
        what = f"For {_HANDLER[kind]}, leave --accept at auto ({name})"
    else:
        what = f"For {_HANDLER[kind]}, use --accept {best.design.accept}"
        if best.design.threads:
            what += f" --threads {best.design.threads}"
    reasons = []
    if scenario_of(best):
        reasons.append(f"{cost_us(best):.0f} µs of CPU for each connection")
    if best is not default and default is not None:
        against = report.against(best, default, scenario_of(default))
        if against and scenario_of(best):
            of = f"{against.median:.2f} [{against.low:.2f}-{against.high:.2f}]"
            reasons.append(f"{of} of what {default.design.name} took")
        if fault(default, None):
            reasons.append(f"{default.design.name} {fault(default, None)}")
    if kind == LOOP and best.held and not fault(best, default):
        reasons.append(f"held connections are spread with a CV of {best.held.first.variation:.3f}")
    if best is default and scenario_of(best):
        reasons.append("nothing as sound was cheaper by more than a tenth, for certain")
    return f"{what}: {', '.join(reasons)}."


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
