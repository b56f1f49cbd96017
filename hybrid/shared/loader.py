"""Find the user's object by its name.

Two kinds of target: ``package.module:attr`` and ``path/to/file.py:attr``; the attribute may be dotted.

A file is imported under the one name that ``import`` would use for it, where there is one, so that it never runs twice
under two names: the directories above it that hold an ``__init__.py`` are its packages, the first that does not is its
root; with the root on ``sys.path`` it is an ordinary module. Otherwise it gets its stem as a name (``echo``), or
``echo__file`` when a module called ``echo`` exists already: a file called ``json.py`` must not become everybody's json.
Namespace packages are not considered: with the working directory on ``sys.path`` every file would be in one.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from hybrid.ground.errors import HybridError, LoadError
from hybrid.shared.target_name import name_of

__all__ = ["LoadedTarget", "importing", "is_async", "load", "name_of"]

_NAMES_SHOWN = 8

_importing: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedTarget:
    """What a target names.

    ``name``: the attribute, for log lines and process titles. ``pending``: an async factory that has to be awaited in
    the worker's loop before there is an object (:meth:`complete`); ``obj`` is None until then.
    """

    obj: Any
    name: str
    pending: Callable[[], Awaitable[object]] | None = None

    async def complete(self) -> Any:
        """Return the object, awaiting the async factory if there is one.

        Runs in: worker. Raises: LoadError with the traceback when the factory does.
        """
        if self.pending is None:
            return self.obj
        try:
            return await self.pending()
        except Exception as error:
            raise _factory_raised(self.name, error) from error


def load(target: str, factory: bool = False) -> LoadedTarget:
    """Import what ``target`` names; call it if ``factory`` says that it makes the handler.

    Runs in: mold, worker. The caller has set ``sys.path``.
    Args: factory: a plain function is called here, an async one is kept for the worker's loop.
    Raises: LoadError saying what failed; its ``detail`` is the traceback from the user's first frame on.
    """
    place, path = _split(target)
    with _importing_now(target):
        module = _file_module(target, place) if place.endswith(".py") else _named_module(target, place)
        obj = _attribute(target, module, path)
        if not factory:
            return LoadedTarget(obj, path)
        return _made(target, obj, path)


def given(obj: Any, name: str, factory: bool = False) -> LoadedTarget:
    """Return an object of the caller's as if it had been loaded under ``name``; ``factory``: it makes the object."""
    if not factory:
        return LoadedTarget(obj, name)

    async def make() -> object:
        return await obj() if is_async(obj) else obj()

    return LoadedTarget(None, name, make)


def importing() -> str | None:
    """Return the target that is being imported in this process right now, or None.

    ``hybrid.run`` and ``hybrid.serve`` ask: a script that calls them outside ``if __name__ == "__main__":`` would start
    a server in every process that imports it.
    """
    return _importing


@contextmanager
def _importing_now(target: str) -> Iterator[None]:
    global _importing
    before, _importing = _importing, target
    try:
        yield
    finally:
        _importing = before


def _split(target: str) -> tuple[str, str]:
    """Return (module or path, attribute)."""
    place, colon, path = target.rpartition(":")
    if not colon:
        raise LoadError(
            f"cannot load {target!r}: it names no attribute. Write {target or 'package.module'}:NAME, "
            "where NAME is what to serve."
        )
    if not all(part.isidentifier() for part in path.split(".")):
        remedy = "Write package.module:attr or path/to/file.py:attr."
        if path.endswith("()"):
            remedy = f"Write {target.removesuffix('()')} and add --factory."
        raise LoadError(f"cannot load {target!r}: {path!r} is not the name of an attribute. {remedy}")
    if place.endswith(".py") or all(part.isidentifier() for part in place.split(".")):
        return place, path
    if os.path.isfile(f"{place}.py"):
        raise LoadError(
            f"cannot load {target!r}: {place!r} is not the name of a module. For the file, write {place}.py:{path}."
        )
    raise LoadError(
        f"cannot load {target!r}: {place!r} is neither the name of a module nor a path that ends in .py. "
        "Write package.module:attr or path/to/file.py:attr."
    )


def _named_module(target: str, name: str) -> ModuleType:
    try:
        return _import(target, name)
    except ModuleNotFoundError as error:  # the module itself: _import wraps what an import inside it raises
        raise LoadError(
            f"cannot load {target!r}: {str(error)[:1].lower()}{str(error)[1:]}, looked in {_looked_in()}. "
            "Check the spelling, or say where it is with --app-dir."
        ) from None


def _looked_in() -> str:
    """Name the directories of ``sys.path`` that hold user code, in order."""
    own = [entry or os.getcwd() for entry in sys.path if not entry.startswith((sys.prefix, sys.base_prefix))]
    return ", ".join(own) or "the installed packages only"


def _import(target: str, name: str) -> ModuleType:
    """Import a module by name. Raises: ModuleNotFoundError if there is none of that name; else LoadError."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if _user_frames(error) is None:
            raise
        raise _import_raised(target, error) from error
    except (Exception, SystemExit) as error:
        raise _import_raised(target, error) from error


def _file_module(target: str, path: str) -> ModuleType:
    real = os.path.realpath(path)
    if not os.path.isfile(real):
        what = "is a directory" if os.path.isdir(real) else "does not exist"
        raise LoadError(
            f"cannot load {target!r}: the file {real} {what}. Check the path; a relative one is looked up from the "
            "working directory."
        )
    for module in list(sys.modules.values()):
        # __main__ is a program, not the module that its file would be when imported.
        if getattr(module, "__name__", "__main__") != "__main__" and _is_from(module, real):
            return module
    name, root = _proper_name(real)
    if name and root in (os.path.realpath(entry) for entry in sys.path):
        try:
            found: ModuleType | None = _import(target, name)
        except ModuleNotFoundError:
            found = None
        if found and _is_from(found, real):  # else another module of that name comes first on the path
            return found
    return _loaded_from(target, real, name.rpartition(".")[2] or re.sub(r"\W", "_", os.path.basename(real)[:-3]))


def _is_from(module: ModuleType, real: str) -> bool:
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and (path == real or os.path.realpath(path) == real)


def _proper_name(real: str) -> tuple[str, str]:
    """Return the name that an import would use for a file, empty if there is none, and the root it is seen from."""
    root, file = os.path.split(real)
    parts = [] if file == "__init__.py" else [file[:-3]]
    while os.path.isfile(os.path.join(root, "__init__.py")):
        root, package = os.path.split(root)
        parts.insert(0, package)
    return (".".join(parts) if all(part.isidentifier() for part in parts) else ""), root


def _loaded_from(target: str, real: str, stem: str) -> ModuleType:
    """Execute a file as a module of its own."""
    try:
        taken = stem in sys.modules or importlib.util.find_spec(stem) is not None
    except ValueError:  # a module without a spec has the name
        taken = True
    name = f"{stem}__file" if taken else stem
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise LoadError(f"cannot load {target!r}: Python knows no way to import {real}. Rename it to end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before executing, as import does: dataclasses and pickle look classes up by module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, (Exception, SystemExit)):
            raise _import_raised(target, error, real) from error
        raise
    return module


def _import_raised(target: str, error: BaseException, real: str = "") -> LoadError:
    if isinstance(error, HybridError):  # such as hybrid.run() called while importing: it has its own remedy
        return LoadError(f"cannot load {target!r}: {error}", detail=_user_traceback(error))
    if isinstance(error, SystemExit):
        return LoadError(
            f"cannot load {target!r}: its import called sys.exit({error.code!r}). "
            'Put what only a program does under if __name__ == "__main__":.',
            detail=_user_traceback(error),
        )
    remedy = "Fix the import; the traceback shows where."
    if isinstance(error, ImportError) and "no known parent package" in str(error) and real:
        name, root = _proper_name(real)
        attr = target.rpartition(":")[2]
        remedy = f"It is part of a package: write {name}:{attr} with --app-dir {root}."
    elif isinstance(error, ModuleNotFoundError) and real and _is_beside(str(error.name), real):
        remedy = f"{error.name} is beside the file: add --app-dir {os.path.dirname(real)}."
    return LoadError(
        f"cannot load {target!r}: its import raised {_one_line(error)}. {remedy}", detail=_user_traceback(error)
    )


def _is_beside(name: str, real: str) -> bool:
    """Tell whether a module of this name is in the directory of the file."""
    place = os.path.join(os.path.dirname(real), name.partition(".")[0])
    return os.path.isfile(f"{place}.py") or os.path.isfile(os.path.join(place, "__init__.py"))


def _attribute(target: str, module: ModuleType, path: str) -> Any:
    obj: Any = module
    where = f"module {module.__name__}"
    for part in path.split("."):
        try:
            obj = getattr(obj, part)
        except AttributeError as error:
            raised_by_user = _user_frames(error) is not None  # in a property, or a module's own __getattr__
            raise LoadError(
                f"cannot load {target!r}: {where} has no attribute {part!r}. {_nearest(obj, part)}",
                detail=_user_traceback(error) if raised_by_user else "",
            ) from None
        except Exception as error:
            raise LoadError(
                f"cannot load {target!r}: reading {part!r} raised {_one_line(error)}. Fix it, or name something else.",
                detail=_user_traceback(error),
            ) from error
        where = f"{part!r}, {_kind(obj)},"
    return obj


def _nearest(obj: object, part: str) -> str:
    """Say which names come near, or which there are."""
    import difflib  # only when something is wrong: it is not free to import

    names = [name for name in dir(obj) if not name.startswith("_")]
    near = difflib.get_close_matches(part, names, n=3)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    home = getattr(obj, "__name__", "")
    own = [name for name in names if getattr(getattr(obj, name, None), "__module__", "") == home]
    shown = own or names
    if not shown:
        return "It has none that is public; check the name before the last dot or colon."
    more = ", …" if len(shown) > _NAMES_SHOWN else ""
    return f"It has {', '.join(shown[:_NAMES_SHOWN])}{more}."


def _kind(obj: object) -> str:
    name = type(obj).__name__
    return "a class" if isinstance(obj, type) else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _made(target: str, maker: Any, name: str) -> LoadedTarget:
    """Call a factory, or keep it for the worker's loop."""
    if not callable(maker):
        raise LoadError(
            f"cannot load {target!r}: --factory needs a function, and this is {_kind(maker)}. "
            "Leave --factory out to serve the object itself."
        )
    if is_async(maker):
        return LoadedTarget(None, name, maker)
    try:
        obj = maker()
    except (Exception, SystemExit) as error:
        raise _factory_raised(target, error) from error
    if inspect.isawaitable(obj):
        if inspect.iscoroutine(obj):
            obj.close()  # it would warn that it was never awaited
        raise LoadError(
            f"cannot load {target!r}: the factory is a plain function that returned something to await. "
            "Define it with async def, so that it runs in each worker's loop."
        )
    return LoadedTarget(obj, name)


def is_async(function: object) -> bool:
    """Tell whether calling ``function`` gives a coroutine: async def, a partial of one, an async ``__call__``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004  (not whether it is callable: whether that is async)
    )


def _factory_raised(target: str, error: BaseException) -> LoadError:
    if isinstance(error, TypeError) and _user_frames(error) is None:
        return LoadError(
            f"cannot load {target!r}: the factory cannot be called without arguments ({error}). "
            "Give its parameters defaults, or leave --factory out."
        )
    return LoadError(
        f"cannot load {target!r}: the factory raised {_one_line(error)}. Fix it; the traceback shows where.",
        detail=_user_traceback(error),
    )


def _one_line(error: BaseException) -> str:
    return " ".join(traceback.format_exception_only(type(error), error)[-1].split())


def _user_frames(error: BaseException) -> TracebackType | None:
    """Return the error's traceback without the leading frames of ours and of the import system."""
    frames = error.__traceback__
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if file not in (__file__, importlib.__file__) and not file.startswith("<frozen importlib"):
            break
        frames = frames.tb_next
    return frames


def _user_traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, _user_frames(error))).rstrip()
