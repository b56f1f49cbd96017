"""The one start: settings in a memfd, and the parent as a program that reads them.

``hybrid-serve`` becomes the parent by exec in place; ``hybrid.run`` and ``hybrid.serve`` start the same command as a
subprocess.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterable
from typing import NoReturn

from hybrid.ground.errors import HybridError
from hybrid.shared.settings import Settings, to_json

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def open_standard_descriptors() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed.

    Runs in: the command, the parent; before anything else is opened. Otherwise a socket or a memfd of ours gets the
    number 2, and log lines are written into it.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(null, True)


def settings_memfd(settings: Settings) -> int:
    """Return a descriptor (close-on-exec) that holds the settings as JSON, rewound. The caller closes it."""
    fd = os.memfd_create("hybrid-settings", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    data = to_json(settings).encode()
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
        # Workers inherit it, and may be another user's: nobody changes what a later mold is going to read.
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        )
    except BaseException:
        os.close(fd)
        raise
    return fd


def interpreter_command(process: str, flags: Iterable[str], *arguments: str) -> list[str]:
    """Return the command that runs ``hybrid/PROCESS/__main__.py`` in a fresh interpreter.

    By path, not by ``-m``, so that the working directory is on nobody's import path. (On 3.10 each ``__main__``
    drops its own directory.)

    Raises: HybridError: this interpreter does not know its own executable.
    """
    if not sys.executable:
        raise HybridError(
            f"cannot start the {process}: sys.executable is empty. Start the program with a real interpreter."
        )
    return [sys.executable, *flags, os.path.join(_PACKAGE, process, "__main__.py"), *arguments]


def parent_command(settings: Settings, *arguments: str) -> list[str]:
    """Return the command that runs the parent; see its ``__main__`` for the arguments. Raises: HybridError, as above.

    With -I: neither PYTHONPATH nor the user's site-packages may put a file before a module of the parent's.
    """
    flags = settings.launch.interpreter_flags
    return interpreter_command("parent", flags if "-I" in flags else (*flags, "-I"), *arguments)


def mold_command(settings: Settings, orders: str) -> list[str]:
    """Return the command that runs the mold. Raises: HybridError, as above.

    With -P where there is one; the app's environment is otherwise the app's own: PYTHONPATH and the like hold.
    """
    return interpreter_command("mold", _safe_path(settings.launch.interpreter_flags), orders)


def watcher_command(settings: Settings, orders: str) -> list[str]:
    """Return the command that runs the file watcher, like the mold's: its library is where the app's are."""
    return interpreter_command("watcher", _safe_path(settings.launch.interpreter_flags), orders)


def _safe_path(flags: tuple[str, ...]) -> tuple[str, ...]:
    known = sys.version_info >= (3, 11) and not {"-I", "-P"} & set(flags)
    return (*flags, "-P") if known else flags


def control_command(settings: Settings, orders: str) -> list[str]:
    """Return the command that runs the control process, like the mold's. Raises: HybridError, as above."""
    return interpreter_command("control", _safe_path(settings.launch.interpreter_flags), orders)


def resolver_command(settings: Settings, orders: str) -> list[str]:
    """Return the command that reads command line, environment and files anew. Raises: HybridError, as above.

    With -P where there is one, like the mold: its libraries are found where the command found them.
    """
    return interpreter_command("cli", _safe_path(settings.launch.interpreter_flags), orders)


def exec_parent(settings: Settings) -> NoReturn:
    """Become the parent: same process, same environment, same descriptors, a fresh interpreter.

    Raises: HybridError: the exec failed; this process is as it was.
    """
    fd = settings_memfd(settings)
    os.set_inheritable(fd, True)
    command = parent_command(settings, str(fd))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # what is in our buffers would be lost with this image
    try:
        os.execve(command[0], command, os.environ)
    except OSError as error:
        os.close(fd)
        raise HybridError(f"cannot start the parent with {command[0]}: {error.strerror}.") from error
