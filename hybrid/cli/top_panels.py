"""The upper part of ``hybrid-ctl top``: who the server is, how large and why, and four figures with their past."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text
from textual.app import RenderResult
from textual.widgets import Static

from hybrid.cli.ctl_words import UNKNOWN, bounds, count, counts, duration, milliseconds, percent, rate, size
from hybrid.cli.top_look import BUSY, FULL, LAG_S, STUCK_S, Palette, curve, nice_top

Snapshot = Mapping[str, Any]
KEPT = 400
"""Snapshots that a curve can show."""
WIDE = 100
"""Columns of a terminal from which words need not be short."""
_HTTP = ("asgi", "wsgi")


@dataclass(frozen=True, slots=True)
class Meter:
    """One figure. ``top`` fills the curve, 0: the highest seen. ``notable``, ``bad``: from where it has a colour."""

    key: str
    name: Callable[[Snapshot], str]
    value: Callable[[Snapshot], float | None]
    words: Callable[[Snapshot], str]
    top: float = 0.0
    notable: float = 0.0
    bad: float = 0.0


def _is_http(snapshot: Snapshot) -> bool:
    kind = str(snapshot["pool"].get("kind") or "").lower()
    return any(name in kind for name in _HTTP)


def _traffic(snapshot: Snapshot) -> float | None:
    value: float | None = snapshot["totals"].get("requests_per_s" if _is_http(snapshot) else "accepted_per_s")
    return value


def _total(name: str) -> Callable[[Snapshot], float | None]:
    return lambda snapshot: snapshot["totals"].get(name)


def _queue_words(snapshot: Snapshot) -> str:
    totals = snapshot["totals"]
    limit = totals.get("accept_queue_limit")
    return count(totals.get("accept_queue")) + (f" / {count(limit)}" if limit else "")


METERS = (
    Meter(
        "traffic", lambda s: "requests/s" if _is_http(s) else "accepted/s", _traffic, lambda s: rate(_traffic(s))
    ),
    Meter(
        "loops", lambda _s: "loop use", _total("loop_use"), lambda s: percent(s["totals"].get("loop_use")),
        top=1.0, notable=BUSY, bad=FULL,
    ),
    Meter(
        "connections", lambda _s: "connections", _total("connections"), lambda s: count(s["totals"].get("connections"))
    ),
    Meter("queue", lambda _s: "accept queue", _total("accept_queue"), _queue_words, notable=1.0),
)  # fmt: skip


class MeterPanel(Static):
    """A figure, large, and its curve below."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(id=f"meter-{meter.key}", classes="meter")
        self._meter = meter
        self._past: deque[float | None] = deque(maxlen=KEPT)
        self._heading, self._figure = "", UNKNOWN
        self.palette: Palette | None = None

    def take(self, snapshot: Snapshot) -> None:
        """Add the newest figure."""
        self._past.append(self._meter.value(snapshot))
        self._heading, self._figure = self._meter.name(snapshot), self._meter.words(snapshot)
        self.refresh()

    def render(self) -> RenderResult:
        """Draw the figure and as much of its past as there is room for."""
        palette, (width, height) = self.palette, self.content_size
        if palette is None or not width:
            return ""
        now = self._past[-1] if self._past else None
        colour = self._colour(now, palette)
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        figure = self._figure if len(self._heading) + len(self._figure) < width else self._figure.partition(" / ")[0]
        head.add_row(
            Text(self._heading, palette.muted, no_wrap=True),
            Text(figure, f"bold {colour or palette.plain}", no_wrap=True),
        )
        top = self._meter.top or nice_top(self._past, 10.0)
        rows = curve(self._past, width, max(1, height - 1), top)
        shown = list(self._past)[-width:]
        text = Text(no_wrap=True)
        for number, row in enumerate(rows):
            for place, cell in enumerate(row):
                past = place - (width - len(shown))
                text.append(cell, self._colour(shown[past], palette) or palette.moving if past >= 0 else "")
            text.append("\n" if number < len(rows) - 1 else "")
        panel = Table.grid(expand=True)
        panel.add_row(head)
        panel.add_row(text)
        return panel

    def _colour(self, value: float | None, palette: Palette) -> str:
        if value is None:
            return palette.muted
        if self._meter.bad and value >= self._meter.bad:
            return palette.bad
        return palette.notable if self._meter.notable and value >= self._meter.notable else ""


# ── words ──


def title(snapshot: Snapshot, palette: Palette, width: int) -> Text:
    """Return what runs, of which kind if the terminal's ``width`` allows, and where it listens."""
    pool = snapshot["pool"]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(str(pool.get("app") or "no target"), f"bold {palette.plain}")
    if pool.get("kind") and width >= WIDE:
        text.append(f" {pool['kind']}", palette.muted)
    for address in pool.get("addresses") or ():
        text.append(f"  {address}", palette.plain)
    return text


def phase(snapshot: Snapshot, palette: Palette) -> Text:
    """Return what the server is doing as a whole; a colour if that is anything but serving."""
    pool = snapshot["pool"]
    words = str(pool.get("phase") or UNKNOWN).lower()
    stage = str((pool.get("reload") or {}).get("stage") or "").lower()
    if stage not in ("", "none", "idle"):
        return Text(f"reload: {stage.replace('_', ' ')}", f"bold {palette.moving}")
    is_calm = words in ("serving", "running") and str(pool.get("readiness") or "ready").lower() == "ready"
    readiness = str(pool.get("readiness") or "").lower()
    shown = words if is_calm or not readiness or readiness == words else f"{words}, {readiness}"
    return Text(shown, f"bold {palette.plain if is_calm else palette.notable}")


def identity(snapshot: Snapshot, palette: Palette, width: int) -> Text:
    """Return pid, generation, uptime and version; short where the terminal's ``width`` is little."""
    pool, parent = snapshot["pool"], snapshot["parent"]
    up = duration(parent.get("uptime_s"))
    if width < WIDE:
        return Text(f"pid {parent.get('pid')}  gen {pool.get('generation')}  up {up}", palette.muted, no_wrap=True)
    words = (
        f"pid {parent.get('pid')}   generation {pool.get('generation')}   up {up}   hybrid {snapshot.get('version')}"
    )
    return Text(words, palette.muted, no_wrap=True)


def how_large(snapshot: Snapshot, palette: Palette, width: int) -> Text:
    """Return how many workers there are and are to be, within which bounds, and why; no wider than ``width``."""
    pool, totals = snapshot["pool"], snapshot["totals"]
    ready, target = totals.get("ready") or 0, pool.get("target") or 0
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{ready} of {target} workers", f"bold {palette.plain if ready >= target else palette.notable}")
    sized = bounds(pool)
    text.append(f"  {'fixed size' if sized == 'fixed' else f'within {sized}'}", palette.plain)
    if pool.get("standby"):
        text.append(f", {pool['standby']} on standby", palette.plain)
    why = pool.get("size_reason")
    if why and sized != "fixed":
        text.append(f"  {why}", palette.muted)
    others = Counter(str(row.get("life")).lower() for row in snapshot["workers"])
    del others["ready"]
    if others and text.cell_len + len(counts(others)) + 4 <= width:
        text.append(f"  ({counts(others)})", palette.muted)
    text.truncate(width, overflow="ellipsis")
    return text


def sums(snapshot: Snapshot, palette: Palette, width: int) -> Text:
    """Return the figures that have no curve, the most telling ones first; one that does not fit is left out."""
    totals = snapshot["totals"]
    text = Text(no_wrap=True, overflow="ellipsis")

    def put(name: str, words: str, colour: str = "") -> None:
        gap = "   " if text else ""
        if text.cell_len + len(f"{gap}{name} {words}") <= width:
            text.append(f"{gap}{name} ", palette.muted)
            text.append(words, colour or palette.plain)

    lag, wait = totals.get("lag_s"), totals.get("accept_wait_s")
    put("lag", milliseconds(lag), "" if (lag or 0) < LAG_S else palette.bad if lag >= STUCK_S else palette.notable)
    put("accept wait", milliseconds(wait), palette.notable if (wait or 0) >= LAG_S else "")
    if (waits := totals.get("run_queue")) is not None:
        put("CPU wait", percent(waits), palette.notable if waits >= 0.2 else "")
    errors = totals.get("errors_per_s")
    put("errors/s", rate(errors), palette.notable if errors else "")
    balance = totals.get("balance")
    put("balance", UNKNOWN if balance is None else f"{balance:.2f}", palette.notable if (balance or 1) < 0.8 else "")
    put("memory", size(totals.get("memory_bytes")))
    if replaced := counts(totals.get("replaced") or {}):
        put("replaced", replaced)
    return text
