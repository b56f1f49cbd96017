"""Where the control socket of ``--control auto`` is: ``PID.sock``, in a directory that is private to one user.

The parent makes the directory, and whoever looks for running servers reads it. A directory that is somebody else's, or
open to others, is not used: whoever could write there could put a socket of his own under the name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

SUFFIX = ".sock"


def directories(environ: Mapping[str, str], uid: int) -> tuple[str, ...]:
    """Return where user ``uid`` has its control sockets, the preferred place first."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    preferred = (os.path.join(runtime, "hybrid"),) if os.path.isabs(runtime) and _is_owned(runtime, uid) else ()
    return (*preferred, f"/tmp/hybrid-{uid}")


def _is_owned(path: str, uid: int) -> bool:
    try:
        return os.stat(path).st_uid == uid
    except OSError:
        return False


def unsafe(directory: str, uid: int) -> str:
    """Return why ``directory`` is not private to ``uid``, or root's; empty: it is. Raises: OSError: it is not there."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        return "it is no directory"
    if found.st_uid not in (uid, 0):
        return f"it belongs to uid {found.st_uid}"
    if found.st_mode & 0o077:
        return f"others may enter it (mode {stat.S_IMODE(found.st_mode):03o})"
    return ""


def socket_path(directory: str, pid: int) -> str:
    """Return where the control socket of the parent ``pid`` is."""
    return os.path.join(directory, f"{pid}{SUFFIX}")


def sockets_in(directory: str) -> Iterator[tuple[int, str]]:
    """Yield pid and path of every control socket in ``directory``, dead ones included. Nothing if it cannot be read."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        pid = name.removesuffix(SUFFIX)
        if name.endswith(SUFFIX) and pid.isascii() and pid.isdigit() and len(pid) < 10:
            yield int(pid), os.path.join(directory, name)
