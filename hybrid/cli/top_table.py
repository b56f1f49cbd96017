"""The workers of ``hybrid-ctl top``: a table with a row for each, the columns that fit, and the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text
from textual.widgets import DataTable

from hybrid.cli.ctl_words import UNKNOWN, count, milliseconds, rate, short_duration, size
from hybrid.cli.top_look import LAG_S, STUCK_S, Palette, bar

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``rank``: 0 is always shown, others as there is room, 1 first. ``key``: what rows are sorted by."""

    name: str
    width: int
    cell: Callable[[Row, Palette], Text]
    key: Callable[[Row], Any]
    rank: int = 0
    is_left: bool = False


def _figure(text: str, colour: str = "") -> Text:
    return Text(text, colour, justify="right")


def _of(name: str, words: Callable[[Any], str]) -> Callable[[Row, Palette], Text]:
    return lambda row, _palette: _figure(words(row.get(name)))


def _most(name: str) -> Callable[[Row], Any]:
    """Return a key that puts the greatest first, and what is unknown last."""
    return lambda row: (row.get(name) is None, -(row.get(name) or 0))


def _state(row: Row, palette: Palette) -> Text:
    life = str(row.get("life") or UNKNOWN).lower()
    if life == "ready" and (row.get("heartbeat_age_s") or 0) >= STUCK_S:
        return Text("blocked", f"bold {palette.bad}")
    colours = {
        "ready": palette.plain, "starting": palette.moving, "parked": palette.muted, "draining": palette.notable,
        "killing": palette.bad, "exited": palette.bad,
    }  # fmt: skip
    return Text(life, colours.get(life, palette.plain))


def _pid(row: Row, _palette: Palette) -> Text:
    return _figure(str(row.get("pid") or UNKNOWN))


def _lag(row: Row, palette: Palette) -> Text:
    lag = row.get("lag_s")
    colour = "" if lag is None or lag < LAG_S else palette.bad if lag >= STUCK_S else palette.notable
    return _figure(milliseconds(lag), colour)


def _share(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share * 100:.0f}%"


def _waits(row: Row, palette: Palette) -> Text:
    share = row.get("run_queue")
    return _figure(_share(share), palette.notable if (share or 0) >= 0.2 else "")


def _connections(row: Row, palette: Palette) -> Text:
    held, limit = row.get("connections") or 0, row.get("limit") or 0
    return _figure(count(row.get("connections")), palette.notable if limit and held >= limit * 0.9 else "")


def _errors(row: Row, palette: Palette) -> Text:
    return _figure(count(row.get("errors")), palette.notable if row.get("errors_per_s") else "")


def _use(width: int) -> Callable[[Row, Palette], Text]:
    return lambda row, palette: bar(row.get("loop_use"), width, palette)


def columns_for(width: int) -> tuple[Column, ...]:
    """Return the columns that fit into ``width``; the bar takes what is left."""
    room = width - _SCROLLBAR - sum(each.width + _PADDING for each in _COLUMNS if not each.rank)
    chosen = set()
    for column in sorted((each for each in _COLUMNS if each.rank), key=lambda each: each.rank):
        if room - (column.width + _PADDING) < _SPARE:
            break
        room -= column.width + _PADDING
        chosen.add(column.name)
    found = [each for each in _COLUMNS if not each.rank or each.name in chosen]
    bar_width = min(_LONGEST_BAR, _BAR + max(0, room))
    return tuple(
        replace(each, width=bar_width, cell=_use(bar_width)) if each.name == "loop use" else each for each in found
    )


_BAR = 13
_LONGEST_BAR = 60
_PADDING = 2
_SCROLLBAR = 1
_SPARE = 5
"""By how much the bar is to be longer before another column is shown."""
_COLUMNS = (
    Column("slot", 4, _of("slot", count), lambda row: row["slot"]),
    Column("pid", 7, _pid, lambda row: row.get("pid") or 0),
    Column("state", 8, _state, lambda row: str(row.get("life")), is_left=True),
    Column("loop use", _BAR, _use(_BAR), _most("loop_use"), is_left=True),
    Column("CPU wait", 8, _waits, _most("run_queue"), rank=2),
    Column("lag", 6, _lag, _most("lag_s")),
    Column("conn", 6, _connections, _most("connections")),
    Column("req/s", 6, _of("requests_per_s", rate), _most("requests_per_s")),
    Column("acc/s", 6, _of("accepted_per_s", rate), _most("accepted_per_s"), rank=1),
    Column("errors", 6, _errors, _most("errors"), rank=3),
    Column("memory", 7, _of("memory_bytes", size), _most("memory_bytes")),
    Column("gen", 4, _of("generation", count), _most("generation"), rank=4),
    Column("accepted", 11, _of("accepted", count), _most("accepted"), rank=6),
    Column("requests", 13, _of("requests", count), _most("requests"), rank=5),
    Column("age", 4, _of("age_s", short_duration), _most("age_s")),
)


class WorkersTable(DataTable[Text]):
    """The table. Keeps the cursor on its worker while rows come, go and change places."""

    def __init__(self) -> None:
        super().__init__(id="workers", cursor_type="row", cell_padding=1, cursor_foreground_priority="renderable")
        self._columns_now: tuple[Column, ...] = ()
        self._order = "slot"

    @property
    def order(self) -> str:
        """The name of the column that rows are sorted by."""
        return self._order

    @property
    def selected_slot(self) -> int | None:
        """The slot of the worker under the cursor."""
        if not self.row_count:
            return None
        key = self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value
        return None if key is None else int(key)

    def sort_by_next(self, rows: Sequence[Row], palette: Palette) -> str:
        """Sort by the next column to the right; return its name."""
        names = [each.name for each in self._columns_now if each.name != "state"]
        place = names.index(self._order) if self._order in names else -1
        self._order = names[(place + 1) % len(names)]
        self._columns_now = ()  # the heads say by what
        self.show(rows, palette)
        return self._order

    def show(self, rows: Sequence[Row], palette: Palette) -> None:
        """Show the workers as they are now."""
        columns = columns_for(self.app.size.width)
        if [(each.name, each.width) for each in columns] != [(each.name, each.width) for each in self._columns_now]:
            self._lay_out(columns, palette)
        selected = self.selected_slot
        wanted = sorted(rows, key=lambda row: row["slot"])
        if order := next((each.key for each in columns if each.name == self._order), None):
            wanted.sort(key=order)
        slots = [str(row["slot"]) for row in wanted]
        if slots != [str(key.value) for key in self.rows_in_order()]:
            self._fill(wanted, palette)
            if str(selected) in slots:
                self.move_cursor(row=slots.index(str(selected)), animate=False)
            return
        for row in wanted:
            for column in columns:
                self.update_cell(str(row["slot"]), column.name, column.cell(row, palette))

    def forget_layout(self) -> None:
        """Draw everything anew at the next look: the colours have changed."""
        self._columns_now = ()

    def rows_in_order(self) -> list[Any]:
        """Return the rows' keys, from the top."""
        return [each.key for each in self.ordered_rows]

    def _lay_out(self, columns: tuple[Column, ...], palette: Palette) -> None:
        self.clear(columns=True)
        for column in columns:
            chosen = column.name == self._order
            label = Text(
                column.name,
                f"bold {palette.plain}" if chosen else palette.muted,
                justify="left" if column.is_left else "right",
            )
            if chosen:
                label.stylize("underline")
            self.add_column(label, width=column.width, key=column.name)
        self._columns_now = columns

    def _fill(self, rows: Sequence[Row], palette: Palette) -> None:
        self.clear()
        for row in rows:
            self.add_row(*(column.cell(row, palette) for column in self._columns_now), key=str(row["slot"]))
