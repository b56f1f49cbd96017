"""The plan of the house, enforced: who may import whom, how large a part may grow, which words are not used.

docs/explanation/architecture.md describes the floors; :data:`FLOORS` is what holds.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.sources import PACKAGE, ROOT, Source, functions, imports, sources

FLOORS: dict[str, int] = {
    "hybrid.ground": 1,
    "hybrid.shared": 2,
    "hybrid.meters": 2,
    "hybrid.http": 3,
    "hybrid.connection": 4,
    "hybrid.layers": 5,
    "hybrid.handlers": 6,
    "hybrid.worker": 8,
    "hybrid.mold": 8,
    "hybrid.watcher": 8,
    "hybrid.parent": 8,
    "hybrid.control": 8,
    "hybrid.bench": 9,
    "hybrid": 9,  # the doors: hybrid/__init__.py, __main__.py, embed.py, in_loop.py …
    "hybrid.cli": 9,
}
"""Every room and its floor. A room imports from its own and from lower floors."""

SAME_FLOOR = {
    ("hybrid.mold", "hybrid.worker"),
    ("hybrid.cli", "hybrid"),
    ("hybrid", "hybrid.cli"),
    ("hybrid.cli", "hybrid.bench"),
}
"""Rooms that import from their own floor: a mold becomes a worker; the doors are one landing."""

NO_LOOP_ROOMS = ("hybrid.ground", "hybrid.shared", "hybrid.meters", "hybrid.parent")
NO_LOOP = ("asyncio", "anyio", "uvloop", "logging", "cyclopts", "setproctitle")
"""What the rooms above never load: the parent is made of them."""

FILE_LINES = 400
FUNCTION_LINES = 50
PARAMETERS = 5
EXEMPT: dict[str, str] = {
    "hybrid/shared/declare.py:option": "a row of the table of options; its parameters are the columns",
}
"""Functions above a ceiling, with the reason why they stay."""

BANNED = {"manager", "helper", "util", "utils", "base", "impl", "supervisor", "master", "cfg", "ctx"}


def room(module: str) -> str:
    """Return the room that a module of ours belongs to."""
    parts = module.split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in FLOORS else "hybrid"


def climbs(importer: str, imported: str) -> bool:
    """Return whether ``importer`` must not import ``imported``; both are dotted module names."""
    here, there = room(importer), room(imported)
    if here == there:
        return False
    if imported == "hybrid":
        return False  # __version__: every import of ours has run hybrid/__init__.py already, and it imports nothing
    if FLOORS[here] == FLOORS[there]:
        return (here, there) not in SAME_FLOOR
    return FLOORS[here] < FLOORS[there]


# ── floors ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_folder_has_a_floor() -> None:
    """A new room is put on a floor before anything imports it."""
    folders = {f"hybrid.{each.name}" for each in PACKAGE.iterdir() if (each / "__init__.py").is_file()}
    assert folders <= FLOORS.keys()


def test_no_import_climbs() -> None:
    """A room imports from its own floor downwards."""
    climbing = [
        f"{source.path}:{line} imports {module}"
        for source in sources()
        for line, module in imports(source)
        if (module == "hybrid" or module.startswith("hybrid.")) and climbs(source.module, module)
    ]
    assert not climbing, "\n".join(climbing)


def test_nobody_takes_more_from_the_package_itself_than_its_version() -> None:
    """The lazy public names lead back up; below the doors only ``__version__`` is taken from ``hybrid``."""
    taken = [
        f"{source.path}:{node.lineno} takes {alias.name}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "hybrid"
        for alias in node.names
        if alias.name != "__version__" and not (PACKAGE / alias.name).with_suffix(".py").exists()
    ]
    assert not taken, "\n".join(taken)


def test_imports_are_absolute() -> None:
    """``from .x import y`` hides which floor it goes to."""
    relative = [
        f"{source.path}:{node.lineno}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative, relative


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("hybrid.ground.errors", "hybrid.shared.machine"),
        ("hybrid.shared.start", "hybrid.parent.main"),
        ("hybrid.connection.flow", "hybrid.handlers.stream"),
        ("hybrid.parent.main", "hybrid.worker.main"),
        ("hybrid.worker.main", "hybrid.parent.core"),
        ("hybrid.control.server", "hybrid.worker.drain"),
        ("hybrid.parent.controlling", "hybrid.control.state"),
        ("hybrid.control.commands", "hybrid.parent.wishes"),
        ("hybrid.worker.main", "hybrid.mold.fork"),
        ("hybrid.worker.service", "hybrid.embed"),
    ],
)
def test_guard_sees_an_import_that_climbs(importer: str, imported: str) -> None:
    """The rule above says no where it should."""
    assert climbs(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("hybrid.mold.main", "hybrid.worker.main"),
        ("hybrid.embed", "hybrid.in_loop"),
        ("hybrid.in_loop", "hybrid.parent.pid_file"),
        ("hybrid.worker.main", "hybrid.ground.clock"),
        ("hybrid.parent.house", "hybrid"),
    ],
)
def test_guard_lets_pass_what_goes_down(importer: str, imported: str) -> None:
    """The rule above says yes where it should."""
    assert not climbs(importer, imported)


# ── the parent stays small ───────────────────────────────────────────────────────────────────────────────────


def test_rooms_of_the_parent_import_no_loop() -> None:
    """hybrid.ground, hybrid.shared and hybrid.parent name neither asyncio nor logging nor a third party."""
    found = [
        f"{source.path}:{line} imports {module}"
        for source in sources()
        if room(source.module) in NO_LOOP_ROOMS
        for line, module in imports(source)
        if module.partition(".")[0] in NO_LOOP
    ]
    assert not found, "\n".join(found)


def loaded_by(*modules: str) -> set[str]:
    """Return what a fresh interpreter has loaded after importing ``modules``.

    Without site-packages: what is installed there may load things at start-up (a coverage run does).
    """
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    command = [sys.executable, "-S", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30)
    return set(run.stdout.split())


def test_parent_loads_no_loop_and_no_user_facing_room() -> None:
    """In a fresh interpreter the parent is without asyncio, logging, third parties and every room above it."""
    loaded = loaded_by("hybrid.parent.__main__", "hybrid.parent.main")
    assert "hybrid.parent.core" in loaded
    assert not loaded & {*NO_LOOP, "ssl", "subprocess", "tempfile", "pathlib", "urllib", "http", "email"}
    ours = {room(module) for module in loaded if module.startswith("hybrid.")}
    assert ours <= set(NO_LOOP_ROOMS)


def test_lower_rooms_load_no_loop() -> None:
    """In a fresh interpreter every module of these rooms together loads no loop: nothing comes in by a detour."""
    modules = [each.module for each in sources() if room(each.module) in NO_LOOP_ROOMS]
    assert not loaded_by(*modules) & set(NO_LOOP)


def test_guard_sees_a_loop_that_was_loaded() -> None:
    """The door for programs does load asyncio, and the fresh interpreter shows it."""
    assert "asyncio" in loaded_by("hybrid.worker.drain")


UNNEEDED = (
    "argparse",
    "cyclopts",
    "email.utils",
    "http.client",
    "importlib.metadata",
    "logging.config",
    "rich",
    "websockets",
)
"""What some worker may need, or the command does: the mold, which all workers are copies of, goes without."""


def test_mold_loads_nothing_that_most_workers_do_not_need() -> None:
    """In a fresh interpreter, whatever was loaded at its start: each of these is up to 2 MB in every pool."""
    code = "import sys; at_start = {*sys.modules}; import hybrid.mold.main; print(*{*sys.modules} - at_start)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=30)
    loaded = set(run.stdout.split())
    assert "hybrid.worker.service" in loaded
    assert not loaded & set(UNNEEDED)


def test_package_itself_loads_nothing() -> None:
    """``import hybrid`` costs a module: the public names come when they are used."""
    assert {module for module in loaded_by("hybrid") if module.startswith("hybrid")} == {"hybrid"}


# ── ceilings ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_file_is_longer_than_the_ceiling() -> None:
    """A file that grows beyond 400 lines holds two things."""
    long = {each.path: each.text.count("\n") for each in sources() if each.text.count("\n") > FILE_LINES}
    assert not long, long


def test_no_function_is_longer_than_the_ceiling() -> None:
    """A function that grows beyond 50 lines, docstring included, does two things."""
    long = {where: lines for where, lines, _ in _sizes() if lines > FUNCTION_LINES and where not in EXEMPT}
    assert not long, long


def test_no_function_takes_more_than_five_parameters() -> None:
    """More than five, self not counted, belong into a frozen dataclass."""
    wide = {where: count for where, _, count in _sizes() if count > PARAMETERS and where not in EXEMPT}
    assert not wide, wide


def test_every_exemption_is_needed() -> None:
    """An exemption whose reason is gone goes too."""
    above = {where for where, lines, count in _sizes() if lines > FUNCTION_LINES or count > PARAMETERS}
    assert EXEMPT.keys() <= above


def _sizes() -> Iterator[tuple[str, int, int]]:
    """Yield (place, lines, parameters without self) of every function."""
    for source in sources():
        for name, function in functions(source.tree):
            given = function.args
            parameters = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len(parameters) - (parameters[:1] in (["self"], ["cls"]))
            yield f"{source.path}:{name}", (function.end_lineno or 0) - function.lineno + 1, count


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────


def words(identifier: str) -> set[str]:
    """Split an identifier at underscores and capitals: ``_TaskManager`` has the words task and manager."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def defined(source: Source) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of everything that the module gives a name to."""
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield 0, node.asname


def test_banned_words_name_nothing() -> None:
    """A name says what a thing does; these words do not."""
    found = [
        f"{source.path}:{line} {name}" for source in sources() for line, name in defined(source) if words(name) & BANNED
    ]
    found += [source.path for source in sources() if words(source.module.rpartition(".")[2]) & BANNED]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["TaskManager", "base", "_BaseThing", "http_utils", "ctx", "HTTPImpl", "run_master"])
def test_guard_sees_a_banned_word(name: str) -> None:
    """Camel case, snake case and a leading underscore hide nothing."""
    assert words(name) & BANNED


@pytest.mark.parametrize("name", ["database", "rebased", "context", "implicit", "mastery"])
def test_guard_does_not_mind_a_longer_word(name: str) -> None:
    """A banned word inside another one is another word."""
    assert not words(name) & BANNED


def test_no_handler_is_looked_up_by_a_made_up_name() -> None:
    """``getattr(self, f"handle_{x}")`` cannot be searched for; a table can."""
    found = [
        f"{source.path}:{node.lineno}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) > 1
        and isinstance(node.args[1], ast.JoinedStr)
    ]
    assert not found, found
