"""The options of ``--reload``: the pool gets new code whenever a file of the app's changes. For development.

What is watched is decided in :mod:`hybrid.watcher.filters`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.ground.errors import UsageError
from hybrid.shared.declare import option

DEFAULT_INCLUDES = ("*.py",)
DEFAULT_EXCLUDES = (
    ".*/",
    "__pycache__/",
    "node_modules/",
    "site-packages/",
    "venv/",
    "*.py[cod]",
    ".#*",
    "#*#",
    "*~",
    "*.sw?",
    "flycheck_*",
    "*___jb_*___",
)
"""Directories that nobody edits (the packages of a virtual environment are in site-packages), what Python writes,
and what editors put beside a file while it is open."""


def _listed(patterns: tuple[str, ...]) -> str:
    return ", ".join(f"`{pattern}`" for pattern in patterns)


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """Whether, and for which files, a change on disk reloads the pool."""

    enabled: bool = option(
        False,
        "Reload when a file changes, for development. Needs hybrid[reload].",
        more="See [Develop](../how-to/develop.md). Needs a pool. No keyword: a program that embeds the server would "
        "run old code of its own beside new code in the workers.",
        flag="--reload",
        doors="cef",
    )
    dirs: tuple[str, ...] = option(
        (),
        "Directory to watch, instead of the working directory. Repeatable.",
        more="With everything in it. By default also `--app-dir` and the directory of a `path/to/file.py:attr`, where "
        "they are elsewhere.",
        flag="--reload-dir",
        parse="directory",
        metavar="DIR",
        doors="cef",
    )
    includes: tuple[str, ...] = option(
        (),
        "Files to watch besides *.py, such as *.html. Repeatable.",
        more="A pattern names files, or directories with all that is in them: `*.html` by name, at any depth; "
        "`templates/*.html`, with a slash, from the watched directory on, where `**` is any number of directories; "
        "`static/`, with a slash at its end, directories only. A pattern that is excluded by default "
        "is not any more if it is named here.",
        flag="--reload-include",
        parse="pattern",
        metavar="GLOB",
        doors="cef",
    )
    excludes: tuple[str, ...] = option(
        (),
        "Files and directories not to watch; wins over --reload-include. Repeatable.",
        more=f"Patterns as for `--reload-include`; these are added to {_listed(DEFAULT_EXCLUDES)}.",
        flag="--reload-exclude",
        parse="pattern",
        metavar="GLOB",
        doors="cef",
    )


def check_reload(reload: ReloadSettings, workers: int | str) -> None:
    """Refuse what contradicts itself. Raises: UsageError: there is no pool to reload."""
    if reload.enabled and workers == 0:
        raise UsageError(
            "cannot use --reload with --workers 0: a process cannot load its own code anew. Use --workers 1, which "
            "serves in one process that is replaced."
        )
