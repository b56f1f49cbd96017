"""Figures and events in the words that ``hybrid-ctl`` shows people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

UNKNOWN = "–"
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")
_UNITS = ("B", "kB", "MB", "GB", "TB")


def printable(text: str) -> str:
    """Return the text without what a terminal would obey: names, stacks and logs may hold what strangers have sent."""
    return text.translate(_CONTROLS)


def duration(seconds: float | None) -> str:
    """Return a time in one or two units: ``0.3 s``, ``12 s``, ``3 min 20 s``, ``5 h 2 min``, ``3 d 4 h``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit} {rest} {part}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def short_duration(seconds: float | None) -> str:
    """Return a time in at most four characters: ``0s``, ``59s``, ``12m``, ``5h``, ``120d``."""
    if seconds is None:
        return UNKNOWN
    for unit_s, unit, until_s in ((1, "s", 60), (60, "m", 3600), (3600, "h", 86400 * 2)):
        if seconds < until_s:
            return f"{max(0, int(seconds)) // unit_s}{unit}"
    return f"{int(seconds) // 86400}d"


def milliseconds(seconds: float | None) -> str:
    """Return a short time, of a lag or a wait: ``0.2ms``, ``35ms``, ``1.5s``."""
    if seconds is None:
        return UNKNOWN
    if seconds >= 0.9995:
        return f"{seconds:.1f}s" if seconds < 99.95 else f"{seconds:.0f}s"
    thousandth = seconds * 1000
    return f"{thousandth:.1f}ms" if thousandth < 9.95 else f"{thousandth:.0f}ms"


def size(number: float | None) -> str:
    """Return a number of bytes: ``512 B``, ``34 MB``, ``1.2 GB``."""
    if number is None:
        return UNKNOWN
    value = float(number)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1000
    raise AssertionError("the last unit takes all")


def rate(number: float | None) -> str:
    """Return a rate or a count: ``0``, ``0.4``, ``12``, ``1 234``, ``12.3k``, ``4.5M``."""
    if number is None:
        return UNKNOWN
    if number >= 999_500:
        return f"{number / 1e6:.1f}M"
    if number >= 9_999.5:
        return f"{number / 1000:.1f}k"
    if 0 < number < 9.95 and number != int(number):
        return f"{number:.1f}"
    return count(number)


def count(number: float | None) -> str:
    """Return a whole number with thin gaps: ``1 234 567``."""
    return UNKNOWN if number is None else f"{round(number):,}".replace(",", " ")


def percent(share: float | None) -> str:
    """Return a share as ``46 %``."""
    return UNKNOWN if share is None else f"{share * 100:.0f} %"


def clock(unix_s: float) -> str:
    """Return the time of day here."""
    return time.strftime("%H:%M:%S", time.localtime(unix_s))


def bounds(pool: Mapping[str, Any]) -> str:
    """Return what sets the size: ``2..8``, or ``fixed``."""
    least, most = pool.get("least"), pool.get("most")
    return "fixed" if least == most else f"{least}..{most}"


def counts(numbers: Mapping[str, int]) -> str:
    """Return ``3 died, 1 memory``, without those that are 0."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
