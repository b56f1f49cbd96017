"""What ``hybrid-ctl`` prints for people: paragraphs and tables, with rich on a terminal, plain text elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid.cli.ctl_notices import line_of
from hybrid.cli.ctl_words import (
    UNKNOWN,
    bounds,
    count,
    counts,
    duration,
    milliseconds,
    percent,
    printable,
    rate,
    short_duration,
    size,
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under names. ``left``: how many of the columns, from the first on, are text; the others are figures.

    ``spare``: columns that a terminal which is too narrow goes without, the first one first.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 0
    spare: tuple[str, ...] = ()

    def widths(self) -> list[int]:
        """Return how wide each column is."""
        return [max(map(len, column)) for column in zip(*self.rows, self.columns, strict=True)]

    def within(self, width: int, gap: int) -> Table:
        """Return the table without the spare columns for which there is no room, ``gap`` between two."""
        if not self.spare or sum(self.widths()) + gap * len(self.columns) <= width:
            return self
        place = self.columns.index(self.spare[0])
        rows = (self.columns, *self.rows)
        columns, *others = (row[:place] + row[place + 1 :] for row in rows)
        return Table(columns, tuple(others), self.left, self.spare[1:]).within(width, gap)


Part = Table | str

WORKER_COLUMNS = (
    "slot", "state", "pid", "gen", "age", "loop", "CPU wait", "lag", "conn", "limit", "req/s", "acc/s", "errors",
    "memory",
)  # fmt: skip
_SPARE = ("limit", "acc/s", "gen", "errors", "CPU wait")
_GAP = 3
"""Between two columns of rich's, with the edge."""


def show(parts: Iterator[Part] | Sequence[Part]) -> None:
    """Print parts to stdout."""
    if not (sys.stdout.isatty() and os.environ.get("TERM") != "dumb"):
        for part in parts:
            sys.stdout.write((printable(part) if isinstance(part, str) else plain(part)) + "\n")
        sys.stdout.flush()
        return
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(
            printable(part) if isinstance(part, str) else _rich(part.within(console.width, _GAP)), markup=False
        )


def plain(table: Table) -> str:
    """Return the table as text in columns."""
    widths = table.widths()
    lines = []
    for row in (table.columns, *table.rows):
        cells = [
            f"{cell:<{width}}" if number < table.left else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(printable(line) for line in lines if line)


def _rich(table: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    has_heads = any(table.columns)
    shown = RichTable(box=box.SIMPLE_HEAD if has_heads else None, pad_edge=False, show_header=has_heads)
    for number, name in enumerate(table.columns):
        last = number == len(table.columns) - 1 and number < table.left  # text that may be long
        shown.add_column(Text(name), justify="left" if number < table.left else "right", no_wrap=not last)
    for row in table.rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    return shown


# ── what is shown of each answer ──


def status(snapshot: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of ``hybrid-ctl status``."""
    pool, totals, parent = snapshot["pool"], snapshot["totals"], snapshot["parent"]
    kind = f" ({pool['kind']})" if pool.get("kind") else ""
    yield (
        f"{pool.get('app') or 'no target'}{kind}, on {', '.join(pool.get('addresses') or ['nothing'])}\n"
        f"hybrid {snapshot['version']}, pid {parent['pid']}, up {duration(parent.get('uptime_s'))}; "
        f"{pool['phase']}, {pool['readiness']}, generation {pool['generation']}"
    )
    if failure := (pool.get("reload") or {}).get("failure"):
        yield f"The last reload failed: {failure}"
    yield Table(("", ""), tuple(_facts(pool, totals)), left=2)
    if snapshot.get("workers"):
        yield ""
        yield from workers(snapshot)


def _facts(pool: Mapping[str, Any], totals: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sized = bounds(pool)
    size_words = f"{totals['ready']} ready of {pool['target']}"
    if sized != "fixed":
        size_words += f", sized within {sized}"
    if pool.get("standby"):
        size_words += f", {pool['standby']} on standby"
    yield "workers", size_words
    if sized != "fixed" and pool.get("size_reason"):
        yield "last decision", str(pool["size_reason"])
    reload = pool.get("reload") or {}
    if reload.get("stage") and reload["stage"] not in ("none", "idle"):
        yield "reload", f"{reload['stage']}, asked by {reload.get('source') or 'somebody'}"
    yield (
        "connections",
        f"{count(totals.get('connections'))}, {rate(totals.get('accepted_per_s'))} new/s" + _balance(totals),
    )
    yield "requests", f"{rate(totals.get('requests_per_s'))}/s, {rate(totals.get('errors_per_s'))} errors/s"
    yield "loops", f"{percent(totals.get('loop_use'))} used, {percent(totals.get('run_queue'))} waiting for a CPU"
    yield "accept queue", _queue(totals)
    yield "memory", f"{size(totals.get('memory_bytes'))} of the workers' own"
    if replaced := counts(totals.get("replaced") or {}):
        yield "replaced", replaced


def _balance(totals: Mapping[str, Any]) -> str:
    balance = totals.get("balance")
    return "" if balance is None else f", balance {balance:.2f}"


def _queue(totals: Mapping[str, Any]) -> str:
    if totals.get("accept_queue") is None:
        return UNKNOWN
    limit = totals.get("accept_queue_limit")
    of = f" of {count(limit)}" if limit else ""
    wait = totals.get("accept_wait_s")
    return f"{count(totals['accept_queue'])}{of} waiting" + (f", for {milliseconds(wait)}" if wait else "")


def workers(answer: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of ``hybrid-ctl workers``."""
    rows = answer["workers"]
    if rows:
        yield Table(WORKER_COLUMNS, tuple(_worker(row) for row in rows), left=2, spare=_SPARE)
    else:
        yield "no workers"


def _worker(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row["slot"]), str(row["life"]).lower(), str(row["pid"] or UNKNOWN), str(row["generation"]),
        short_duration(row.get("age_s")), percent(row.get("loop_use")), percent(row.get("run_queue")),
        milliseconds(row.get("lag_s")), count(row.get("connections")), count(row.get("limit")),
        rate(row.get("requests_per_s")), rate(row.get("accepted_per_s")), count(row.get("errors")),
        size(row.get("memory_bytes")),
    )  # fmt: skip


def config(answer: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of ``hybrid-ctl config``: every setting by its group."""
    groups = answer.get("settings", answer)
    rows = []
    for group, values in groups.items():
        if isinstance(values, Mapping):
            rows += [(f"{group}.{name}", _value(value)) for name, value in values.items()]
        else:
            rows.append((group, _value(values)))
    yield Table(("setting", "value"), tuple(rows), left=2)


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or UNKNOWN
    return UNKNOWN if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)


def dump(answer: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of ``hybrid-ctl dump``."""
    yield str(answer.get("stacks") or answer.get("text") or "").rstrip("\n")


def done(answer: Mapping[str, Any]) -> Iterator[Part]:
    """Yield what an answer says in one line; nothing to say is "done"."""
    yield str(answer.get("text") or "done")


def event(notice: Mapping[str, Any]) -> Iterator[Part]:
    """Yield an event's line."""
    yield line_of(notice)
