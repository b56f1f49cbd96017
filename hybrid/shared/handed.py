"""Sockets that a service manager hands over: their names, and what it must not hand on to the app.

Two kinds come through LISTEN_FDS. One is opened by the manager itself (a ``.socket`` unit) and is served in any case.
The other is ours: a listening socket of an earlier run, kept in the manager's descriptor store so that its accept
queue outlives the server. It is told apart by its name and is served where a ``--bind`` still names its address.

Source: sd_listen_fds(3), sd_notify(3) FDSTORE, FDNAME.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid.shared.socket_file import SocketFile

NOT_FOR_APPS = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "FDSTORE",
    }
)
"""Variables between the service manager and its main process. Source: systemd.exec(5), "Environment variables"."""

STORED = "hybrid/"
"""How the name of a socket begins that we put into the store. No unit's name has a slash, so none begins so."""
_UNIX = STORED + "unix_"
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Handed:
    """One socket that was handed over. ``name``: from LISTEN_FDNAMES; empty: it has none."""

    fd: int
    name: str = ""

    @property
    def is_stored(self) -> bool:
        """Whether an earlier run of ours has stored it."""
        return self.name.startswith(STORED)


def paired(fds: Sequence[int], names: Sequence[str]) -> tuple[Handed, ...]:
    """Return inherited descriptors with their names, in order; one that has none is nobody's of ours."""
    return tuple(Handed(fd, names[index] if index < len(names) else "") for index, fd in enumerate(fds))


def stored_name(address: str, file: SocketFile | None) -> str:
    """Return the name under which a listening socket is stored: plain for the reader, unlike any other of ours.

    The address is read from the socket itself when it comes back. That a socket file is still the socket's own is
    not, so device and inode are part of the name.
    """
    if file is not None:
        address = f"unix_{file.device}.{file.inode}_{file.path}"
    plain = "".join(each if " " < each <= "~" and each != ":" else "_" for each in address)
    return (STORED + plain)[:_LONGEST_NAME]


def stored_file(name: str, path: str) -> SocketFile | None:
    """Return the file at ``path`` that a stored socket of this name was bound to; None: it says nothing of a file."""
    device, dot, inode = name.removeprefix(_UNIX).partition("_")[0].partition(".")
    if not name.startswith(_UNIX) or not dot or not (device + inode).isdecimal() or not device or not inode:
        return None
    return SocketFile(path, int(device), int(inode))


def app_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment as the app gets it: it can neither speak in our name nor take our sockets for its own."""
    return {name: text for name, text in environ.items() if name not in NOT_FOR_APPS}


def clear_environment() -> None:
    """Remove :data:`NOT_FOR_APPS` from the environment of this process, which is about to run the app itself."""
    for name in NOT_FOR_APPS:
        os.environ.pop(name, None)
