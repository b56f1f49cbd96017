"""Which settings a reload changes: all but those that the parent itself lives by."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from hybrid.shared.settings import Settings


def merge(now: Settings, fresh: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings of the next generation, and the flags whose new values need a restart.

    Runs in: parent. ``fresh``: what the command line, the environment and the files say now.
    """
    kept: list[str] = []
    groups: dict[str, Any] = {}
    for group in fields(Settings):
        if "title" in group.metadata:
            whole = bool(group.metadata["restart"])
            groups[group.name] = _merged(getattr(now, group.name), getattr(fresh, group.name), whole, kept)
    return replace(fresh, **groups, launch=replace(now.launch, sys_path=fresh.launch.sys_path)), tuple(kept)


def _merged(now: Any, fresh: Any, whole: bool, kept: list[str]) -> Any:
    """Return ``fresh`` with the values of ``now`` where a reload changes nothing; note the flags in ``kept``."""
    stays = [each for each in fields(now) if whole or each.metadata["restart"]]
    kept += [each.metadata["flag"] for each in stays if getattr(now, each.name) != getattr(fresh, each.name)]
    return replace(fresh, **{each.name: getattr(now, each.name) for each in stays})
