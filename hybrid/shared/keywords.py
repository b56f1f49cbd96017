"""Settings from the keyword arguments of ``hybrid.run`` and ``hybrid.serve``.

Keywords only: an embedded server is not changed by the environment or a configuration file of whoever starts
the program. A program that wants either reads it itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from hybrid.ground.errors import HybridError, UsageError
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


# ── workers=0: what has no meaning without a pool ───────────────────────────────────────────────────────────

_LOGGING = "its lines go to your program's logging. Set up the logger hybrid.error there"

_NO_PARENT = "only the parent of a pool sees that a loop stands still. Leave it out"
_RECYCLING = dict.fromkeys(
    ("max_requests", "max_requests_jitter", "max_lifetime", "max_memory", "recycle_jitter"),
    "nobody would replace this process. Leave it out",
)

_NOT_IN_A_GUEST = {
    **_RECYCLING,
    "app_dir": "the import path is your program's. Put the directory on sys.path",
    "preload": "there is no fork to import the app before. Leave it out",
    "loop": "it serves in the loop that runs. Start your program with that loop",
    "stall_dump": _NO_PARENT,
    "worker_timeout": _NO_PARENT,
    "boot_attempts": "a boot that fails is an exception. Enter another server to try again",
    "log_level": _LOGGING,
    "log_file": _LOGGING,
    "log_format": _LOGGING,
    "log_config": _LOGGING,
    "log_colour": _LOGGING,
    "pid": "the process is your program's. Write the file yourself",
    "user": "the process is your program's. Start it as that user",
    "group": "the process is your program's. Start it with that group",
    "umask": "the process is your program's. Call os.umask()",
}
"""What ``serve(workers=0)`` does not take, with why and the remedy: it changes nothing of its host's."""

_NOT_ALONE = {
    **_RECYCLING,
    "user": "changing it needs a pool, whose parent keeps the privilege. Start the program as that user",
    "group": "changing it needs a pool, whose parent keeps the privilege. Start the program with that group",
    "stall_dump": _NO_PARENT,
    "worker_timeout": _NO_PARENT,
}
"""What ``run(workers=0)`` does not take: it owns the process while it runs, and honours the rest."""


def refuse_what_needs_a_pool(keywords: Mapping[str, object], *, guest: bool) -> None:
    """Refuse each given option that ``workers=0`` could only ignore.

    Args: guest: in somebody's own loop (``serve``), not in a process that is the server's while it runs (``run``).
    Raises: UsageError: names the option and the remedy.
    """
    for name, why in (_NOT_IN_A_GUEST if guest else _NOT_ALONE).items():
        if keywords.get(name) is not None:
            raise UsageError(f"cannot use {name}= with workers=0: {why}, or use workers=1.")


# ── the same words as the command line's, for a caller who writes keywords ──────────────────────────────────

_FLAG = re.compile(r"--[a-z][a-z-]*[a-z]( (?=\S))?")


@contextmanager
def speaking_keywords() -> Iterator[None]:
    """Let an error that passes say ``bind=`` where it says ``--bind``: its reader has no command line."""
    try:
        yield
    except HybridError as error:
        error.args = (in_keywords(str(error)),)
        raise


def in_keywords(message: str) -> str:
    """Return ``message`` with every option named as a keyword: ``change bind=``, ``interface='protocol'``."""
    known = {option.flag: option for option in options_for("k")}

    def name(found: re.Match[str]) -> str:
        flag, space = found[0].rstrip(" "), found[1] or ""
        option = known.get(flag)
        if option is None:
            return found[0]
        if option.is_switch:
            return f"{option.keyword}=True{space}"
        after = message[found.end() :]
        is_value = space and (after[0] in "'\"/" or after[0].isdigit() or _first_word(after) in option.choices)
        return f"{option.keyword}={'' if is_value else space}"

    return _FLAG.sub(name, message)


def _first_word(text: str) -> str:
    return re.split(r"[^\w=]", text, maxsplit=1)[0]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


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
