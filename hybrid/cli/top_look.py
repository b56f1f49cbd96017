"""How ``hybrid-ctl top`` looks: two themes, what a colour means, bars and curves of block characters.

A colour says one thing: blue is what moves, yellow is "look at this", red is "somebody waits or is lost". What is as it
should be has none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.theme import Theme

BUSY = 0.75
"""Share of a loop's time from which it is worth a look."""
FULL = 0.92
"""Share of a loop's time from which clients wait for it."""
LAG_S = 0.1
STUCK_S = 1.0
_LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a theme, by what they mean."""

    plain: str
    muted: str
    moving: str
    notable: str
    bad: str
    track: str


DARK = Palette("#e6edf3", "#8d96a0", "#58a6ff", "#e3b341", "#ff7b72", "#2b323b")
LIGHT = Palette("#1f2328", "#59636e", "#0a5bc4", "#8a5a00", "#c4202b", "#d5dbe1")
PALETTES = {"hybrid-dark": DARK, "hybrid-light": LIGHT}


def theme(name: str, *, background: str, raised: str, chosen: str, dark: bool) -> Theme:
    """Return textual's theme with the colours of the palette of the same name, and of what lies behind them."""
    palette = PALETTES[name]
    return Theme(
        name,
        primary=palette.moving,
        secondary=palette.muted,
        accent=palette.moving,
        foreground=palette.plain,
        background=background,
        surface=background,
        panel=raised,
        boost=raised,
        success=palette.moving,
        warning=palette.notable,
        error=palette.bad,
        dark=dark,
        variables={
            "block-cursor-background": chosen,
            "block-cursor-foreground": palette.plain,
            "footer-background": raised,
            "footer-key-foreground": palette.moving,
            "footer-description-foreground": palette.muted,
            "border": palette.track,
            "block-cursor-text-style": "none",
        },
    )


THEMES = (
    theme("hybrid-dark", background="#0d1117", raised="#161b22", chosen="#1f3a5f", dark=True),
    theme("hybrid-light", background="#ffffff", raised="#f3f5f7", chosen="#d6e6fb", dark=False),
)


def theme_of(asked: str) -> str:
    """Return the theme's name for ``--theme``; nothing was asked: what the terminal says in COLORFGBG, else dark.

    COLORFGBG is ``15;0``: foreground and background, by ANSI number; rxvt, Konsole and others set it.
    """
    if not asked:
        background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
        asked = "light" if background in ("7", "15") else "dark"
    return f"hybrid-{asked}"


def colour_of_use(use: float | None, palette: Palette) -> str:
    """Return the colour of a loop that is used so much."""
    if use is None:
        return palette.muted
    return palette.bad if use >= FULL else palette.notable if use >= BUSY else palette.moving


def bar(share: float | None, width: int, palette: Palette) -> Text:
    """Return a bar with its figure: ``━━━━━╸────  46%``, as wide as ``width``."""
    room = width - 5
    if share is None:
        return Text(" " * room + "    –", palette.muted)
    halves = round(min(1.0, max(0.0, share)) * room * 2)
    filled = "━" * (halves // 2) + "╸" * (halves % 2)
    colour = colour_of_use(share, palette)
    text = Text(filled, colour)
    text.append("━" * (room - len(filled)), palette.track)
    text.append(f"{share * 100:4.0f}%", palette.plain if colour == palette.moving else colour)
    return text


def curve(values: Sequence[float | None], width: int, height: int, top: float) -> list[str]:
    """Return the newest values as ``height`` rows of columns, the newest at the right; ``top`` fills all rows.

    A value above 0 is seen, however small it is; an unknown one is a gap.
    """
    shown = list(values)[-width:]
    eighths = [
        0 if not value else max(1, min(height * 8, round(value / top * height * 8))) if top > 0 else 0
        for value in shown
    ]
    rows = []
    for row in range(height - 1, -1, -1):
        cells = [_LEVELS[min(8, max(0, level - row * 8))] for level in eighths]
        rows.append("".join(cells).rjust(width))
    return rows


def nice_top(values: Sequence[float | None], least: float) -> float:
    """Return a round number that all values are below: what a curve without a natural top is scaled to."""
    highest = max((value for value in values if value is not None), default=0.0)
    scale = least
    while scale < highest:
        for factor in (2, 5, 10):
            if scale * factor >= highest:
                return scale * factor
        scale *= 10
    return scale
