"""Facts of the start that are no options, read from the interpreter that the user started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from hybrid.ground.errors import UsageError

_FIRST_INHERITED = 3
"""SD_LISTEN_FDS_START."""
_MOST_INHERITED = 1024


def own_directory(environ: Mapping[str, str]) -> str:
    """Return the directory of this process by the name that its user knows, with the links in it.

    A reload goes there again, and a link may lead to the next release then. Source: pwd(1p), PWD.
    """
    named, real = environ.get("PWD", ""), os.getcwd()
    if os.path.isabs(named) and os.path.normpath(named) == named:
        try:
            if os.path.samefile(named, real):
                return named
        except OSError:
            pass  # it is gone: the name says nothing any more
    return real


def import_path(app_dir: str, caller: Sequence[str], cwd: str) -> tuple[str, ...]:
    """Return the app's import path: ``app_dir`` first (unless empty), then the caller's, absolute, each once.

    Entries that are no directories (zip files, hooks' markers) are kept: only their import hook knows them.
    """
    entries = [os.path.join(cwd, entry) if entry else cwd for entry in caller]
    return tuple(dict.fromkeys([app_dir, *entries] if app_dir else entries))


def without_script_directory(path: Sequence[str], argv0: str) -> tuple[str, ...]:
    """Return ``path`` without the directory of the command's own script (``venv/bin``): nothing of the user's is there.

    Python puts it first, unless told not to. An app in a zip file is started by its own path, not by its
    directory's, and stays.
    """
    started_safely = bool(sys.flags.isolated or getattr(sys.flags, "safe_path", False))
    if path and not started_safely and argv0 and os.path.isfile(argv0):
        if os.path.realpath(path[0]) == os.path.dirname(os.path.realpath(argv0)):
            return tuple(path[1:])
        if path[0] == os.path.dirname(os.path.abspath(argv0)):
            return tuple(path[1:])
    return tuple(path)


def interpreter_flags() -> tuple[str, ...]:
    """Return the flags that give a new interpreter this one's -X, -W, -O, -I and the like."""
    import subprocess  # here: whoever only asks for the import path need not pay for it

    # Private, and what multiprocessing uses for the same purpose: no public way to learn all of them exists.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # see above
    return tuple(flags)


def inherited_listeners(environ: Mapping[str, str], pid: int) -> tuple[int, ...]:
    """Return the listening sockets that a service manager handed to process ``pid``.

    Raises: UsageError: they are for this process, but LISTEN_FDS holds no number.
    Source: sd_listen_fds(3).
    """
    if environ.get("LISTEN_PID") != str(pid):
        return ()
    text = environ.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > _MOST_INHERITED:
        raise UsageError(
            f"cannot use {text!r} for LISTEN_FDS, from the environment: not a number of descriptors. "
            "Correct what starts the server, or remove LISTEN_PID and LISTEN_FDS."
        )
    return tuple(range(_FIRST_INHERITED, _FIRST_INHERITED + int(text)))


def inherited_names(environ: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return the names of ``count`` inherited sockets, in order; empty ones where the manager gives no names.

    Raises: UsageError: there are more or fewer.
    Source: sd_listen_fds_with_names(3).
    """
    text = environ.get("LISTEN_FDNAMES")
    if text is None or not count:
        return ("",) * count
    names = tuple(text.split(":"))
    if len(names) != count:
        raise UsageError(
            f"cannot use {text!r} for LISTEN_FDNAMES, from the environment: {len(names)} names for {count} "
            "descriptors. Correct what starts the server, or remove LISTEN_FDNAMES."
        )
    return names
