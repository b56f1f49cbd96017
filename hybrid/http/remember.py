"""How the tables of what was read before stay small."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(table: dict[K, V], key: K, value: V, most: int) -> None:
    """Note ``value`` in a table of at most so many entries; a full one is emptied: peers choose what comes."""
    if len(table) >= most:
        table.clear()
    table[key] = value
