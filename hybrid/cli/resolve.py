"""From arguments, environment and files to :class:`Settings`, and where each value came from.

A function of its arguments and of the files it reads: it changes nothing, in this process or elsewhere, so that a
reload can run it again in a child on the original arguments.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hybrid.cli import command_line
from hybrid.cli.sources import ConfigurationFile, Environment, working_directory
from hybrid.ground.errors import UsageError
from hybrid.shared.assemble import assemble
from hybrid.shared.launch import (
    import_path,
    inherited_listeners,
    inherited_names,
    interpreter_flags,
    own_directory,
    without_script_directory,
)
from hybrid.shared.options import Level, Origin, Value
from hybrid.shared.settings import Launch, Settings


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a command line came to."""

    settings: Settings
    sources: Mapping[str, Origin]
    """By flag, of what was given; an option that is not in it has its default."""
    bind_origins: tuple[Origin, ...] = ()
    """What ``settings.bind.bind`` was made from: ``--bind``, or its aliases. Empty: the default."""
    file: str = ""
    """The configuration file that was read."""
    warnings: tuple[str, ...] = field(default=())
    print_config: bool = False


def facts_of_this_process(environ: Mapping[str, str]) -> Launch:
    """Return what only the process that was started knows; a reload passes its running server's instead.

    Raises: UsageError: LISTEN_FDS or LISTEN_FDNAMES is wrong.
    """
    cwd = own_directory(environ)
    inherited = inherited_listeners(environ, os.getpid())
    return Launch(
        sys_path=import_path("", without_script_directory(sys.path, sys.argv[0]), cwd),
        interpreter_flags=interpreter_flags(),
        listen_fds=inherited,
        listen_names=inherited_names(environ, len(inherited)),
    )


def resolve(argv: Sequence[str], environ: Mapping[str, str], cwd: str, facts: Launch) -> Resolved:
    """Return the settings that ``argv``, started in ``cwd`` with ``environ``, asks for.

    Does not change directory: the caller does, to ``settings.process.chdir``. Every path in the settings is absolute.

    Args: argv: without the program's name. cwd: absolute. facts: import path, flags and inherited sockets.
    Raises: UsageError: names the option, the value, where it came from, and the remedy.
    command_line.Asked: for ``--help`` and ``--version``.
    """
    environment, file = Environment(environ), ConfigurationFile(cwd)
    given = command_line.parse(argv, [environment, file])
    directory = working_directory(given, cwd)
    if "--chdir" in given:
        given["--chdir"] = Value(directory, given["--chdir"].origin)
    print_config = bool(given.pop("--print-config", Value(False)).value)
    if "TARGET" not in given and not print_config:
        raise UsageError(
            f"no TARGET: nothing says what to serve. Name it, for example {command_line.PROGRAM} app.py:handle, or see "
            f"{command_line.PROGRAM} --help."
        )
    sources = {flag: value.origin for flag, value in given.items()}
    launch = replace(facts, command=tuple(argv), cwd=cwd, workers_source=_workers_source(sources))
    settings, bind_origins = assemble(given, directory, launch)
    launch = replace(launch, sys_path=import_path(settings.app.app_dir, facts.sys_path, cwd))
    settings = replace(settings, launch=launch)
    warnings = (*environment.misspelt(), *_without_effect(settings, sources))
    return Resolved(settings, sources, bind_origins, file.path, warnings, print_config)


def _without_effect(settings: Settings, sources: Mapping[str, Origin]) -> tuple[str, ...]:
    """Return what to say of options that need --reload. In a file they wait for a start that has it."""
    if settings.reload.enabled:
        return ()
    flags = ("--reload-dir", "--reload-include", "--reload-exclude")
    given = [flag for flag in flags if flag in sources and sources[flag].level is not Level.FILE]
    return tuple(f"{sources[flag].name} has no effect without --reload" for flag in given)


def _workers_source(sources: Mapping[str, Origin]) -> str:
    origin = sources.get("--workers")
    if origin is None:
        return "default"
    return f"workers in {origin.path}" if origin.level is Level.FILE else origin.name
