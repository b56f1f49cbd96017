"""Find the name of a user's object: the way back from what :mod:`hybrid.shared.loader` does.

``hybrid.run(func)`` starts other processes, and they can only import. So the function needs a name by which
importing finds it again; it is looked for by identity, because ``__qualname__`` tells what a function was called where
it was written, not where it lives: a decorator may have replaced it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from types import AsyncGeneratorType, CoroutineType, FunctionType, MethodType, ModuleType

from hybrid.ground.errors import UsageError

_CLASS_DEPTH = 3
"""How deep classes inside classes are searched."""

_REMEDY = "Put it into a module and pass its name, such as 'app:handle'"


SERVE = "serve {}"
LIFESPAN = "use {} for lifespan="


def name_of(function: object, purpose: str = SERVE) -> str:
    """Return the target string under which another process can load ``function``.

    ``module:attr``, or ``/path/file.py:attr`` for what lives in a script's ``__main__``.

    Runs in: the program that embeds us. Args: purpose: what it was given for, as an error says it.
    Raises: UsageError when there is no such name, with what to write instead.
    """
    refuse_constant(function, purpose)
    for module in _likely_modules(function):
        path = _path_to(function, module)
        if path:
            return f"{_import_name(module, path, purpose)}:{path}"
    shown = getattr(function, "__qualname__", None) or repr(function)
    raise UsageError(f"cannot {purpose.format(shown)}: {_why_nameless(function, shown)}")


def refuse_constant(given: object, purpose: str = SERVE) -> None:
    """Refuse what nobody can have meant: a number, None, a coroutine. By identity, some module has each of them.

    Raises: UsageError: names what was passed, with what to write instead.
    """
    if isinstance(given, (CoroutineType, AsyncGeneratorType)):
        name = given.__qualname__
        if isinstance(given, CoroutineType):
            given.close()  # it would warn that it was never awaited
        raise UsageError(
            f"cannot {purpose.format(name + '()')}: it was called already. Leave out the parentheses: {name}."
        )
    # What hybrid.protocol() makes cannot be called either; its class lives on a floor above this one.
    if not callable(given) and type(given).__module__ != "hybrid.handlers.protocol":
        example = "'app:handle'" if purpose == SERVE else "'app:lifespan'"
        raise UsageError(
            f"cannot {purpose.format(repr(given))}: it is {_kind(given)}, which cannot be called. "
            f"Pass a function, a class or the name of one, such as {example}."
        )


def _kind(given: object) -> str:
    kind = type(given).__name__
    return "None" if given is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _likely_modules(function: object) -> Iterator[ModuleType]:
    """Yield where to look: the module it says, the program itself, then all others (decorators lie, instances move)."""
    said = sys.modules.get(getattr(function, "__module__", None) or "")
    main = sys.modules.get("__main__")
    first = [module for module in (said, main) if module is not None]
    yield from first
    others: list[object] = list(sys.modules.values())  # some programs put more than modules there
    for module in others:
        if isinstance(module, ModuleType) and module not in first:
            yield module


def _path_to(function: object, module: ModuleType) -> str:
    """Return the dotted attribute of ``module`` that is ``function``, or an empty string."""
    said = getattr(function, "__qualname__", "")
    if said and _is_found(function, module, said):
        return said
    return _scan(function, vars(module), module.__name__, _CLASS_DEPTH)


def _is_found(function: object, module: ModuleType, path: str) -> bool:
    found: object = module
    for part in path.split("."):
        found = getattr(found, part, None)
    # A class method is a new bound object each time it is read: equal, never identical.
    return found is function or (_is_class_method(function) and found == function)


def _is_class_method(function: object) -> bool:
    return isinstance(function, MethodType) and isinstance(function.__self__, type)


def _scan(function: object, names: Mapping[str, object], module: str, depth: int) -> str:
    """Look through a namespace, then through the classes that were defined in the same module."""
    for name, value in list(names.items()):
        if value is function or (isinstance(value, staticmethod) and value.__func__ is function):
            return name
    if depth == 0:
        return ""
    for name, value in list(names.items()):
        if isinstance(value, type) and value.__module__ == module:
            inner = _scan(function, vars(value), module, depth - 1)
            if inner:
                return f"{name}.{inner}"
    return ""


def _import_name(module: ModuleType, path: str, purpose: str) -> str:
    """Return what to import to get ``module`` in another process."""
    if module.__name__ != "__main__":
        return module.__name__
    spec = module.__spec__
    if spec is not None and spec.name != "__main__":  # python -m package.module
        return spec.name
    file = getattr(module, "__file__", None)
    if isinstance(file, str) and file.endswith(".py") and os.path.isfile(file):
        return os.path.abspath(file)
    raise UsageError(
        f"cannot {purpose.format(repr(path))}: it was defined in a program that has no .py file (an interactive "
        "session, -c, a notebook, an archive), so workers cannot import it. "
        f"{_REMEDY}, or serve in this process with hybrid.serve(..., workers=0)."
    )


def _why_nameless(function: object, shown: str) -> str:
    """Say why this kind of thing has no importable name, and what to write instead."""
    serve_here = "or serve in this process with hybrid.serve(..., workers=0)"
    if isinstance(function, partial):
        return (
            "a functools.partial has no name that workers can import. "
            f"Assign it to a name at the top of a module, {serve_here}."
        )
    if isinstance(function, MethodType):
        instance = next((f"{m.__name__}:{p}" for m, p in _homes(function.__self__)), "module:instance")
        return (
            "it is a method of an instance, and workers cannot import that. "
            f"Pass the name, '{instance}.{function.__name__}', or a module-level function that calls it, {serve_here}."
        )
    if isinstance(function, FunctionType) and function.__name__ == "<lambda>":
        # No word of workers=0: a lambda is no coroutine function, so that would only lead to the next error.
        return (
            "a lambda has no name. Define a function at the top of a module, with async def if it serves connections."
        )
    if "<locals>" in shown:
        return (
            "it was defined inside a function, so workers cannot import it. "
            f"Move it to the top of a module, {serve_here}."
        )
    return (
        "no module has it under a name, so workers cannot import it. "
        f"Assign it to a name at the top of a module, {serve_here}."
    )


def _homes(instance: object) -> Iterator[tuple[ModuleType, str]]:
    for module in _likely_modules(instance):
        path = _scan(instance, vars(module), module.__name__, 0)
        if path and module.__name__ != "__main__":
            yield module, path
