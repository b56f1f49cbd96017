"""Which changes count: patterns, defaults, and where they are looked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.shared.reload_settings import DEFAULT_EXCLUDES
from hybrid.shared.settings import Settings
from hybrid.watcher.filters import Filter, wanted_name, watched_directories

ROOT = "/srv/.hidden/venv/project"


def counts(path: str, *, includes: tuple[str, ...] = (), excludes: tuple[str, ...] = (), root: str = ROOT) -> bool:
    """Return whether a change of ``path`` below ``root`` counts, as the watcher asks."""
    return bool(wanted_name(f"{root}/{path}", [Filter(root, includes, excludes)]))


@pytest.mark.parametrize("path", ["app.py", "pkg/deep/er/app.py", ".env.py", "env/settings.py", "#odd.py"])
def test_python_files_count(path: str) -> None:
    """At any depth; what the watched directory itself is called excludes nothing."""
    assert counts(path)


@pytest.mark.parametrize(
    "path",
    [
        *("app.pyc", "app.html", "py", "app.py.tmp", "app.py~", ".app.py.swp"),
        *(".#app.py", "flycheck_app.py", ".venv/lib/a.py", "venv/lib/a.py", "pkg/.git/hook.py", "a/__pycache__/b.py"),
        *("node_modules/tool/gyp.py", "other-env/lib/python3.12/site-packages/a/b.py"),
    ],
)
def test_by_default_these_do_not_count(path: str) -> None:
    """Other kinds of files, what editors leave for a moment, what nobody edits."""
    assert not counts(path)


@pytest.mark.parametrize(
    ("pattern", "path", "named"),
    [
        ("*.html", "a.html", True),
        ("*.html", "x/y/a.html", True),
        ("*.html", "a.html.bak", False),
        ("templates", "templates/a.txt", True),
        ("templates", "x/templates/y/a.txt", True),
        ("templates/", "templates/a.txt", True),
        ("templates/", "x/templates", False),
        ("templates/*.txt", "templates/a.txt", True),
        ("templates/*.txt", "x/templates/a.txt", False),
        ("templates/*.txt", "templates/y/a.txt", False),
        ("templates/**/*.txt", "templates/a.txt", True),
        ("templates/**/*.txt", "templates/x/y/a.txt", True),
        ("./templates/*.txt", "templates/a.txt", True),
        (f"{ROOT}/a.txt", "a.txt", True),
        (f"{ROOT}/a.txt", "x/a.txt", False),
        (f"{ROOT}/x/", "x/a.txt", True),
        ("/a.txt", "a.txt", True),
        ("/a.txt", "x/a.txt", False),
        ("A.TXT", "a.txt", False),
        ("[ab].txt", "b.txt", True),
    ],
)
def test_pattern_names_what_it_says(pattern: str, path: str, named: bool) -> None:
    """The same as an include, and as an exclude of what everything includes."""
    assert counts(path, includes=(pattern,)) is named
    assert counts(path, includes=("*",), excludes=(pattern,)) is not named


def test_exclude_wins() -> None:
    """Over a default and over an include, whichever is the narrower."""
    assert not counts("gen/app.py", excludes=("gen",))
    assert not counts("gen/app.py", includes=("gen/app.py",), excludes=("gen",))


def test_includes_are_added_to_python_files() -> None:
    """Whoever adds *.html does not lose *.py."""
    assert counts("app.py", includes=("*.html",))


def test_default_exclude_that_is_included_is_dropped() -> None:
    """Naming a default in the other option is how one says no to it."""
    assert ".*/" in DEFAULT_EXCLUDES
    assert counts(".config/app.py", includes=(".*/",))
    assert counts(".config/app.toml", includes=(".*/",))


def test_default_include_that_is_excluded_is_dropped() -> None:
    """No Python files, but others."""
    assert not counts("app.py", includes=("*.sql",), excludes=("*.py",))
    assert counts("a.sql", includes=("*.sql",), excludes=("*.py",))


def test_excluded_directory_is_not_entered() -> None:
    """It is not even watched; an ordinary one is, and so is one that only an include names."""
    each = Filter(ROOT)
    assert not each.enters(f"{ROOT}/.venv")
    assert not each.enters(f"{ROOT}/a/node_modules")
    assert not each.enters("/elsewhere/a")
    assert each.enters(f"{ROOT}/a/b")
    assert each.enters("/project/b") is False and Filter("/").enters("/project/b")


def test_nothing_outside_counts() -> None:
    """A sibling whose name begins alike is another directory."""
    assert wanted_name(f"{ROOT}-2/app.py", [Filter(ROOT)]) == ""
    assert wanted_name("/other/app.py", [Filter(ROOT), Filter("/other")]) == "app.py"


def test_named_directories_are_watched_instead_of_the_working_directory() -> None:
    """As given, also one inside another: what the outer one excludes may be wanted."""
    reload = replace(Settings().reload, dirs=("/a", "/a/venv"))
    assert watched_directories(replace(Settings(), reload=reload), "/cwd") == ("/a", "/a/venv")


@pytest.mark.parametrize(
    ("target", "app_dir", "watched"),
    [
        ("app:app", "/cwd", ("/cwd",)),
        ("app:app", "/cwd/src", ("/cwd",)),
        ("app:app", "/other", ("/cwd", "/other")),
        ("/else/where/app.py:app", "/cwd", ("/cwd", "/else/where")),
        ("/cwd/x/app.py:app", "/cwd", ("/cwd",)),
        ("/cwd-2/app.py:app", "/cwd", ("/cwd", "/cwd-2")),
    ],
)
def test_by_default_the_working_directory_is_watched_and_where_the_app_is(
    target: str, app_dir: str, watched: tuple[str, ...]
) -> None:
    """None inside another."""
    app = replace(Settings().app, target=target, app_dir=app_dir)
    assert watched_directories(replace(Settings(), app=app), "/cwd") == watched
