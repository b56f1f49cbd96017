"""Settings from the keyword arguments of ``hybrid.run`` and ``hybrid.serve``.

Keywords only: an embedded server is not changed by the environment or a configuration file of whoever starts
the program. A program that wants either reads it itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from hybrid.ground.errors import UsageError
from hybrid.shared.assemble import assemble
from hybrid.shared.launch import import_path, interpreter_flags
from hybrid.shared.option_values import read, refuse
from hybrid.shared.options import Level, Option, Origin, Value, all_options, nearest, options_for
from hybrid.shared.settings import Launch, Settings


def settings_from_keywords(target: str, keywords: Mapping[str, object]) -> Settings:
    """Return the settings of an embedded server.

    A keyword is an option's flag with underscores: ``bind="127.0.0.1:0"`` or ``bind=[…]``, ``workers=2``,
    ``graceful_timeout=5``. ``None`` means "not given". Relative paths start at the working directory. The app's import
    path is the caller's own, after ``app_dir`` where that is given.

    Raises: UsageError: an unknown keyword, or a value that the option does not take.
    """
    known = {option.keyword: option for option in options_for("k")}
    given = {"TARGET": Value(target, Origin(Level.KEYWORD, "target="))}
    for name, argument in keywords.items():
        option = known.get(name)
        if option is None:
            raise _unknown(name, known)
        if argument is not None:
            origin = Origin(Level.KEYWORD, f"{name}=")
            given[option.flag] = Value(read(option, _texts(option, argument, origin), origin), origin)
    cwd = os.getcwd()
    launch = Launch(interpreter_flags=interpreter_flags(), cwd=cwd,
                    workers_source="workers=" if "--workers" in given else "default")  # fmt: skip
    settings, _ = assemble(given, cwd, launch)
    app_dir = settings.app.app_dir if "--app-dir" in given else ""
    launch = replace(launch, sys_path=import_path(app_dir, sys.path, cwd))
    return replace(settings, launch=launch)


def _unknown(name: str, known: Mapping[str, Option]) -> UsageError:
    if any(option.keyword == name for option in all_options()):
        return UsageError(f"{name}= is an option of the command line, not of an embedded server. Remove it.")
    return UsageError(f"unknown keyword {name}=.{nearest(name, known)} Correct or remove it.")


def _texts(option: Option, argument: object, origin: Origin) -> list[str]:
    """Return the argument as the text that the other doors would have handed over."""
    if isinstance(argument, (list, tuple)) and option.repeatable:
        return [text for each in argument for text in _texts(option, each, origin)]
    if isinstance(argument, bool):
        return [str(argument).lower()]
    if isinstance(argument, int):
        return [f"{argument:o}" if option.parse == "mode" else str(argument)]
    if isinstance(argument, float):
        return [repr(argument)]
    if isinstance(argument, os.PathLike):
        return [os.fsdecode(argument)]
    if isinstance(argument, str):
        return [argument]
    kind = type(argument).__name__
    raise refuse(option, argument, origin, f"a {kind} is no value of an option. Give text, a number or a truth value.")
