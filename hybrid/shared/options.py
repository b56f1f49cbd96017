"""The declarations of :mod:`hybrid.shared.settings` as one list, and where a given value came from.

Not imported by the parent: it reads finished settings only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cache
from typing import Any

from hybrid.shared import settings

ENVIRONMENT_PREFIX = "HYBRID_"
COMMAND = "command"
"""Group of the options that the resolver uses up itself."""


@dataclass(frozen=True, slots=True)
class Option:
    """One declared option, as every door sees it."""

    group: str
    """Attribute of Settings that holds it, or :data:`COMMAND`."""
    title: str
    field: str
    default: Any
    flag: str
    help: str
    more: str
    aliases: tuple[str, ...]
    choices: tuple[str, ...]
    env: tuple[str, ...]
    parse: str
    metavar: str
    doors: str
    secret: bool
    restart: bool
    """A reload does not change it."""

    @property
    def key(self) -> str:
        """Name in a configuration file: ``graceful-timeout``."""
        return self.flag.lstrip("-").lower()

    @property
    def keyword(self) -> str:
        """Name as a Python keyword argument: ``graceful_timeout``."""
        return self.key.replace("-", "_")

    @property
    def env_name(self) -> str:
        """Our own environment name: ``HYBRID_GRACEFUL_TIMEOUT``."""
        return ENVIRONMENT_PREFIX + self.keyword.upper()

    @property
    def is_switch(self) -> bool:
        """On or off: takes no value on the command line."""
        return isinstance(self.default, bool)

    @property
    def repeatable(self) -> bool:
        """Holds several values."""
        return isinstance(self.default, tuple)


class Level(IntEnum):
    """Who said it; the higher one wins."""

    DEFAULT = 0
    FILE = 1
    FOREIGN = 2
    """An environment variable that other servers read too: PORT, WEB_CONCURRENCY."""
    ENVIRONMENT = 3
    """A HYBRID_ variable."""
    COMMAND_LINE = 4
    KEYWORD = 5


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from."""

    level: Level
    name: str
    """What was written there: ``--workers``, ``WEB_CONCURRENCY``, ``workers``."""
    path: str = ""
    """Of the file, at level FILE."""

    def __str__(self) -> str:
        """Return the origin as ``--print-config`` shows it."""
        if self.level is Level.COMMAND_LINE:
            return f"cli {self.name}"
        if self.level in (Level.ENVIRONMENT, Level.FOREIGN):
            return f"env {self.name}"
        if self.level is Level.FILE:
            return f"file {self.path}"
        return "default" if self.level is Level.DEFAULT else f"keyword {self.name}"

    @property
    def place(self) -> str:
        """Return where that stands; nothing for a keyword: the caller knows."""
        if self.level is Level.COMMAND_LINE:
            return "the command line"
        if self.level in (Level.ENVIRONMENT, Level.FOREIGN):
            return "the environment"
        return self.path

    @property
    def phrase(self) -> str:
        """Return the origin as an error message says it, where the option is named apart."""
        if self.level in (Level.ENVIRONMENT, Level.FOREIGN):
            return f"from {self.name} in the environment"
        return f"from {self.place}"


DEFAULT = Origin(Level.DEFAULT, "default")


@dataclass(frozen=True, slots=True)
class Value:
    """A checked value and its origin."""

    value: Any
    origin: Origin = DEFAULT


@cache
def all_options() -> tuple[Option, ...]:
    """Return every declared option, in the order of the declarations."""
    groups = [(each.name, each.metadata["title"], each.default_factory) for each in fields(settings.Settings)
              if "title" in each.metadata]  # fmt: skip
    groups.append((COMMAND, "Command", settings.CommandSettings))
    return tuple(
        Option(group=name, title=title, field=declared.name, default=declared.default, **declared.metadata)
        for name, title, kind in groups
        for declared in fields(kind)  # type: ignore[arg-type]  # a default_factory here is always a dataclass
    )


def options_for(door: str) -> tuple[Option, ...]:
    """Return the options that come in through ``door``: c(ommand line), e(nvironment), f(ile) or k(eyword)."""
    return tuple(option for option in all_options() if door in option.doors)


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return ``" Did you mean …?"`` for the known name that is most like ``name``, or nothing.

    Args: likeness: 0 to 1, as of difflib; how like it has to be.
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f" Did you mean {found[0]}?" if found else ""
