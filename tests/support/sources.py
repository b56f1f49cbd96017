"""The package's own source, parsed: what the tests of its structure look at."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hybrid"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One module. ``path``: relative to the repository. ``module``: its dotted name."""

    path: str
    module: str
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


def copy_package(folder: Path) -> None:
    """Copy the package into a folder: with the bytecode, and its sources' times, or all of it is compiled again.

    Not with files that are being written, by whoever imports a module for the first time: they are gone in a moment.
    """
    shutil.copytree(PACKAGE, folder / "hybrid", ignore=shutil.ignore_patterns("*.pyc.*"))


@cache
def sources() -> tuple[Source, ...]:
    """Return every module of the package."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(ROOT)
        parts = path.with_suffix("").parts
        text = file.read_text(encoding="utf-8")
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Source(str(path), module, text, ast.parse(text, str(path))))
    return tuple(found)


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import, wherever it stands: at the top, in a function, for type checkers.

    ``from hybrid.worker import logs`` yields ``hybrid.worker.logs`` if that is a module, else ``hybrid.worker``.
    """
    modules = {each.module for each in sources()}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in modules else node.module or "."


def functions(tree: ast.AST) -> Iterator[tuple[str, Function]]:
    """Yield every function with its qualified name, methods and inner functions included."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield prefix + child.name, child
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, prefix)

    return walk(tree, "")


def names(tree: ast.AST) -> set[str]:
    """Return what a module defines: functions, classes and their attributes, assigned names, all dotted."""
    found: set[str] = set()

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, (ast.Assign, ast.AnnAssign)):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))
            elif isinstance(child, (ast.If, ast.Try)):
                walk(child, prefix)

    walk(tree, "")
    return found
