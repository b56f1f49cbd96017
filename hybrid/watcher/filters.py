"""Which changed files count: the patterns of ``--reload-include`` and ``--reload-exclude``.

A pattern is looked for below the watched directory only, so a project that lives in a hidden directory is no
hidden one. It names files, or directories with all that is in them:

* without a slash, by name at any depth: ``*.py``, ``generated``;
* with one, from the watched directory on: ``templates/*.html``, ``src/**/*.sql``; ``**`` is any number of directories;
* with one at its end, directories only: ``.*/`` is every hidden directory, but no hidden file.

A file counts if something includes it and nothing excludes it. Naming a default in the other option drops it, as
with uvicorn.

Source: gitignore(5), whose rules these are, without negation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hybrid.shared.reload_settings import DEFAULT_EXCLUDES, DEFAULT_INCLUDES, ReloadSettings
from hybrid.shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, ready to be compared: the names of a path, one after another."""

    names: tuple[str, ...]
    directories_only: bool = False

    def names_one_of(self, path: Sequence[str], *, is_directory: bool) -> bool:
        """Say whether the pattern names ``path``, given as names below the watched directory, or a directory on it."""
        deepest = len(path) if is_directory or not self.directories_only else len(path) - 1
        return any(_fits(path[:depth], self.names) for depth in range(1, deepest + 1))


def parse(text: str, root: str) -> Pattern:
    """Return the pattern that ``text`` is below the watched directory ``root``; an absolute path may be meant."""
    inside = text.removeprefix(root.rstrip("/") + "/")
    names = tuple(name for name in inside.split("/") if name not in ("", "."))
    is_anchored = inside != text or "/" in inside.rstrip("/")
    return Pattern(names if is_anchored else ("**", *names), directories_only=text.endswith("/"))


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


class Filter:
    """What counts below one watched directory, ``root``."""

    def __init__(self, root: str, includes: Sequence[str] = (), excludes: Sequence[str] = ()) -> None:
        self.root = root
        self._inside = len(root.rstrip("/")) + 1
        self._includes = [parse(text, root) for text in (*_without(DEFAULT_INCLUDES, excludes), *includes)]
        self._excludes = [parse(text, root) for text in (*_without(DEFAULT_EXCLUDES, includes), *excludes)]

    def counts(self, path: str) -> bool:
        """Say whether a change of the file ``path`` counts."""
        names = self._names(path)
        return _named(self._includes, names) and not _named(self._excludes, names)

    def enters(self, path: str) -> bool:
        """Say whether anything in the directory ``path`` may count: no pattern excludes the whole of it."""
        return self.is_inside(path) and not _named(self._excludes, self._names(path), is_directory=True)

    def is_inside(self, path: str) -> bool:
        """Say whether ``path`` is below the watched directory."""
        return path.startswith(self.root.rstrip("/") + "/")

    def name(self, path: str) -> str:
        """Return ``path`` from the watched directory on."""
        return path[self._inside :]

    def _names(self, path: str) -> list[str]:
        return self.name(path).split("/")


def _without(defaults: Iterable[str], given: Sequence[str]) -> list[str]:
    return [text for text in defaults if text not in given]


def _named(patterns: Iterable[Pattern], names: Sequence[str], *, is_directory: bool = False) -> bool:
    return any(pattern.names_one_of(names, is_directory=is_directory) for pattern in patterns)


def watched_directories(settings: Settings, cwd: str) -> tuple[str, ...]:
    """Return what is watched: what was asked for, else ``cwd`` and wherever else the app is; none inside another."""
    place = settings.app.target.rpartition(":")[0]
    of_the_app = (os.path.dirname(place),) if place.endswith(".py") else ()
    wanted = settings.reload.dirs or (cwd, settings.app.app_dir, *of_the_app)
    asked = dict.fromkeys(os.path.join(cwd, each) for each in wanted)
    if settings.reload.dirs:
        return tuple(asked)
    return tuple(each for each in asked if not any(_is_inside(each, other) for other in asked))


def _is_inside(path: str, directory: str) -> bool:
    return path != directory and path.startswith(directory.rstrip("/") + "/")


def filters(reload: ReloadSettings, directories: Iterable[str]) -> list[Filter]:
    """Return what counts below each of ``directories``."""
    return [Filter(directory, reload.includes, reload.excludes) for directory in directories]


def wanted_name(path: str, filters: Iterable[Filter]) -> str:
    """Return the name of a file that counts, from its watched directory on; nothing for one that does not."""
    return next((each.name(path) for each in filters if each.is_inside(path) and each.counts(path)), "")
