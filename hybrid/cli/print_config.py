"""``--print-config``: each value and where it came from, as a table."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid.cli.resolve import Resolved
from hybrid.shared.handed import paired
from hybrid.shared.option_values import show
from hybrid.shared.options import COMMAND, DEFAULT, Option, all_options

_ALIASES = ("--host", "--port", "--uds")
_NOTHING = "-"


def table(resolved: Resolved) -> str:
    """Return the table: the options by group, each with its value and origin."""
    rows = [(option, _value(option, resolved), _origin(option, resolved)) for option in _shown(resolved)]
    key_width = max(len(option.key) for option, _, _ in rows)
    value_width = min(40, max(len(value) for _, value, _ in rows))
    lines = [f"Configuration file: {resolved.file or 'none'}"]
    title = ""
    for option, value, origin in rows:
        if option.title != title:
            title = option.title
            lines += ["", title]
        lines.append(f"  {option.key:<{key_width}}  {value:<{value_width}}  {origin}")
    return "\n".join(lines) + "\n"


def _shown(resolved: Resolved) -> Iterator[Option]:
    """Yield what the table lists: an alias of --bind only where it was given, because ``bind`` holds the result."""
    for option in all_options():
        if option.group != COMMAND and (option.flag not in _ALIASES or option.flag in resolved.sources):
            yield option


def _value(option: Option, resolved: Resolved) -> str:
    return show(option, getattr(getattr(resolved.settings, option.group), option.field)) or _NOTHING


def _origin(option: Option, resolved: Resolved) -> str:
    if option.flag == "--bind":
        made_from = [str(origin) for origin in resolved.bind_origins]
        launch = resolved.settings.launch
        if not all(each.is_stored for each in paired(launch.listen_fds, launch.listen_names)):
            made_from.append("env LISTEN_FDS")
        return " and ".join(made_from) or str(DEFAULT)
    origin = resolved.sources.get(option.flag, DEFAULT)
    if option.flag in _ALIASES and origin not in resolved.bind_origins:
        return f"{origin} (not used: bind has another origin)"
    return str(origin)
