"""The tables of a report, as rows of text, and how they are shown: plain text, Markdown, or rich's on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid.bench.designs import Design
from hybrid.bench.figures import LEAST_ROUNDS, SHARES, Latencies, median
from hybrid.bench.jobs import ONE_LINE
from hybrid.bench.report import LoadFigures, Report, RowFigures
from hybrid.bench.scenarios import BLOCKED_PER_S, LIGHT_PER_S, STRIKE_PER_S, Casualties, Spread

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from hybrid.bench.handler_run import HandlerReport

NOTHING = "–"
GROWTH_BYTES = 1 << 18
"""Growth of the workers below which it may as well be something else's."""
_DESIGN = ("#", "accept", "handler")


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, the columns' names, the rows, and what has to be said below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def tables(report: Report) -> dict[str, Table]:
    """Return all tables of a report that has figures for them, by scenario."""
    found = {
        "load": _load(report, "load", f"{report.plan['concurrency']} connections at a time, one after another"),
        "light": _load(report, "light", _light_title(report)),
        "burst": _burst(report),
        "held": _held(report),
        "faults": _faults(report),
        "problems": _problems(report),
    }
    return {name: table for name, table in found.items() if table.rows}


def unshown(report: Report) -> str:
    """Return why scenarios that were asked for have no table; nothing: all have one."""
    several = ("burst", "held", "kill", "drain", "blocked")
    asked = [name for name in report.plan.get("scenarios", ()) if name in several]
    ran = [row for row in report.rows if not row.problem]
    if not asked or not ran or any(report.workers > 1 and not row.design.is_baseline for row in ran):
        return ""
    they = "they take" if len(asked) > 1 else "it takes"
    names = " and ".join(dict.fromkeys(row.design.shown for row in ran))
    have = "have" if len({row.design.shown for row in ran}) > 1 else "has"
    return f"Nothing is shown for {' and '.join(asked)}: {they} two workers, and {names} {have} one."


def _design(design: Design) -> tuple[str, str, str]:
    return design.number or NOTHING, design.shown, design.kind


def _light_title(report: Report) -> str:
    """Return the rate, and which row had a lower one because it would not have kept it."""
    shown = [row for row in report.rows if row.light]
    several = len({row.design.kind for row in shown}) > 1
    slower = [
        f"{row.design.shown}{f', {row.design.kind}' if several else ''}: {row.light.rate:.0f}"
        for row in shown
        if row.light and round(row.light.rate) < LIGHT_PER_S
    ]
    named = f" ({'; '.join(slower)})" if slower else ""
    return f"{LIGHT_PER_S:.0f} new connections a second{named}"


def _load(report: Report, scenario: str, title: str) -> Table:
    holds = "95 %" if report.plan["rounds"] >= LEAST_ROUNDS else "range"
    columns = (*_DESIGN, "CPU µs", "− base", f"× no lock [{holds}]", "conn/s", "p50 ms", "p99 ms", "switches", "lost")
    rows = []
    for row in report.rows:
        found: LoadFigures | None = getattr(row, scenario)
        if found is not None:
            rows.append((*_design(row.design), *_load_cells(report, row, found, scenario)))
    return Table(f"{title}, {report.workers} workers", columns, tuple(rows), _load_notes(report, scenario))


def _load_cells(report: Report, row: RowFigures, found: LoadFigures, scenario: str) -> tuple[str, ...]:
    minus = report.minus_baseline_us(row, scenario)
    ratio = report.against_reference(row, scenario)
    least = "≥ " if row.design.loses_count_of_switches else ""
    mark = " !" if found.honesty.problem else ""
    return (
        f"{found.median_cpu_us:.1f}",
        NOTHING if minus is None else f"{minus:+.1f}",
        NOTHING if ratio is None else str(ratio).strip(),
        f"{median(found.per_s):,.0f}{mark}",
        _ms(found.latencies, 0.5),
        _ms(found.latencies, 0.99),
        f"{least}{median(found.switches):.2f}",
        str(found.lost) if found.lost else "0",
    )


def _ms(found: Latencies, share: float) -> str:
    for each in found.percentiles:
        if each.share == share:
            return f"{'' if each.is_sure else '~'}{each.seconds * 1000:.2f}"
    return NOTHING


def _load_notes(report: Report, scenario: str) -> tuple[str, ...]:
    shown = [row for row in report.rows if getattr(row, scenario)]
    notes = ["CPU µs: of the whole server, for each connection; switches: context switches, likewise."]
    baselines = [f"{row.design.name} ({row.design.kind})" for row in shown if row.design.is_baseline]
    if baselines:
        notes.append(f"− base: less what {' or '.join(baselines)} takes.")
    notes.append("lost: connections that were refused, reset, cut short or timed out.")
    if report.plan["rounds"] < LEAST_ROUNDS:
        notes.append(f"Fewer than {LEAST_ROUNDS} rounds: the brackets hold the range, not an interval of 95 %.")
    if any(row.design.loses_count_of_switches for row in shown):
        notes.append("≥: the switches of threads and children that have ended are not counted.")
    cells = [_ms(getattr(row, scenario).latencies, 0.99) for row in shown]
    if any(cell.startswith("~") for cell in cells):
        notes.append("~: fewer than 10 samples lie beyond it.")
    if NOTHING in (*cells, *(_ms(getattr(row, scenario).latencies, 0.5) for row in shown)):
        notes.append("– for p50 or p99: too few samples.")
    if any(getattr(row, scenario).honesty.problem for row in shown):
        notes.append("!: the load generator was the bottleneck; see below.")
    return tuple(notes)


def _counts(spread: Spread) -> tuple[str, str]:
    return " ".join(map(str, spread.counts)), f"{spread.variation:.3f}"


def _burst(report: Report) -> Table:
    rows = [
        (*_design(row.design), *_counts(row.burst), str(row.burst.lost))
        for row in report.rows
        if row.burst and len(row.burst.counts) > 1
    ]
    notes = (
        "CV: standard deviation ÷ mean.",
        "lost: clients that got no whole reply: refused, reset, cut short or timed out.",
    )
    title = f"Burst of {report.plan['connections']} connections: who accepted how many"
    return Table(title, (*_DESIGN, "per worker", "CV", "lost"), tuple(rows), notes)


def _held(report: Report) -> Table:
    rows = []
    for row in report.rows:
        if row.held and len(row.held.first.counts) > 1:
            again, variation_again = _counts(row.held.again) if row.held.again else (NOTHING, NOTHING)
            limit = " *" if row.held.bounded else ""
            first, variation = _counts(row.held.first)
            if row.design.threads == 1:  # one for each worker: it could not be uneven
                variation = variation_again = NOTHING
            rows.append((*_design(row.design), first + limit, variation, again, variation_again))
    notes = ["A worker was killed and replaced, then half as many more connections were opened."]
    if any(row.held and row.held.bounded for row in report.rows):
        notes.append(
            "*: fewer were held, for each takes a thread (there are workers × threads) or a process; after the "
            "replacement they were filled up again to what fits."
        )
        if any(row.held and row.design.accept == "fork" for row in report.rows):
            notes.append("With fork the children of the killed worker live on, and are not counted.")
    title = f"{report.plan['connections']} connections held, opened at {report.plan['per_s']:g}/s"
    return Table(title, (*_DESIGN, "per worker", "CV", "after one was replaced", "CV"), tuple(rows), tuple(notes))


def _faults(report: Report) -> Table:
    rows = []
    for row in report.rows:
        found = (row.kill, row.drain, row.blocked)
        if any(found):
            rows.append((*_design(row.design), *(cell for each in found for cell in _casualties(each))))
    notes = [
        f"At {STRIKE_PER_S:.0f} connections/s a worker, frozen 150 ms, is killed, or drained; at {BLOCKED_PER_S:.0f}/s "
        "a request blocks its worker for 0.5 s, every 0.6 s. Less where the server would not keep up: then / rate.",
        "lost: refused, reset, cut short or timed out. waited: served after more than 100 ms.",
    ]
    if any(each and each.behind for row in report.rows for each in (row.kill, row.drain, row.blocked)):
        notes.append("!: the clients fell behind their schedule.")
    columns = (*_DESIGN, "kill: lost", "waited", "drain: lost", "waited", "blocked: lost", "waited")
    return Table("A worker that goes, or stands still", columns, tuple(rows), tuple(notes))


def _casualties(found: Casualties | None) -> tuple[str, str]:
    if found is None:
        return NOTHING, NOTHING
    slower = f" / {found.per_s:.0f}" if found.per_s not in (STRIKE_PER_S, BLOCKED_PER_S) else ""
    behind = " !" if found.behind else ""
    return f"{found.lost} of {found.planned}{slower}{behind}", str(found.stalled)


def _problems(report: Report) -> Table:
    rows = [(*_design(row.design)[:2], row.design.kind or NOTHING, row.problem) for row in report.rows if row.problem]
    return Table("Not measured", (*_DESIGN, "why"), tuple(rows))


def percentiles(found: Latencies) -> Table:
    """Return all percentiles, as an HDR histogram prints them, and how far they can be trusted."""
    known = {each.share: each for each in found.percentiles}
    rows = []
    for share in SHARES:
        each = known.get(share)
        if each is None:
            rows.append((f"{share:.2%}".replace(".00", ""), NOTHING, "too few samples"))
        else:
            beyond = f"{each.beyond}" if each.is_sure else f"{each.beyond}: too few to be sure"
            rows.append((f"{share:.2%}".replace(".00", ""), f"{each.seconds * 1000:.3f}", beyond))
    rows.append(("max", f"{found.max_s * 1000:.3f}", ""))
    return Table(f"Latency of {found.count:,} replies", ("percentile", "ms", "samples beyond"), tuple(rows))


def handler_table(found: HandlerReport) -> Table:
    """Return the figures of a handler under steady load."""
    plan, mark = found.plan, " !" if found.honesty.problem else ""
    pace = f"{plan.per_s:g} messages/s asked for" if plan.per_s else "as fast as they are answered"
    rows = [
        ("messages/s", f"{median(found.per_s):,.0f}{mark}"),
        ("CPU per message, whole server", f"{median(found.cpu_us):.1f} µs"),
        ("lost", str(found.lost)),
        ("memory of a worker (PSS)", f"{found.worker_bytes / 2**20:.1f} MB"),
    ]
    if found.idle:
        rows.append((f"memory of a connection ({found.idle} idle)", _connection_memory(found)))
    title = f"{plan.target} ({found.kind}), {found.workers} workers, {found.connections} connections, {pace}"
    notes = [f"{plan.rounds} rounds of {plan.for_s:g} s; a reply is {_reply_words(found)}."]
    if found.is_capped:
        notes.append(f"{found.connections} connections: as many as the workers have threads. --connections sets more.")
    if found.serves_at_a_time:
        notes.append(f"Of {plan.idle} idle connections the workers took {found.idle}: one for each thread.")
    if not plan.per_s:
        notes.append("The server sets the pace: --rate shows what clients wait who come whether or not it has time.")
    return Table(title, ("", ""), tuple(rows), tuple(notes))


def _connection_memory(found: HandlerReport) -> str:
    """Return the figure, if the workers grew by more than they do by themselves."""
    if found.connection_bytes * found.idle < GROWTH_BYTES:
        return "too little to tell; hold more with --idle"
    return f"{found.connection_bytes / 1024:.1f} kB"


def _reply_words(found: HandlerReport) -> str:
    return "a line" if found.reply.ends == ONE_LINE else f"{found.reply.size_bytes} bytes"


# ── showing ──


def plain(table: Table) -> str:
    """Return the table as text in columns."""
    widths = [max(map(len, column)) for column in zip(*table.rows, table.columns, strict=True)]
    lines = [table.title]
    for row in (table.columns, *table.rows):
        lines.append("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)))
    return "\n".join(line.rstrip() for line in [*lines, *(f"  {note}" for note in table.notes)]) + "\n"


def markdown(table: Table) -> str:
    """Return the table as Markdown, without its title."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows]
    return "\n".join(lines) + "\n\n" + " ".join(table.notes) + "\n" if table.notes else "\n".join(lines) + "\n"


def rich_table(table: Table) -> RichTable:
    """Return the table as rich's, for a terminal."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=Text(table.title), caption=Text("\n".join(table.notes)), box=box.SIMPLE_HEAD,
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    for name in table.columns:
        shown.add_column(Text(name), justify="left" if name in ("accept", "handler", "per worker") else "right")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown
