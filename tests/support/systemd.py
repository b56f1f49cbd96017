"""systemd, played: a notify socket with a store of descriptors, and a start with sockets handed over."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.server import ready_pipe

Message = dict[str, str]


class NotifySocket:
    """Hears what a service says. Closes: its socket and what was stored, on leaving ``with``.

    ``name``: a path, or an abstract name that begins with ``@``: what NOTIFY_SOCKET is set to.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[Message] = []
        self.stored: dict[str, int] = {}
        """Descriptors by the name they were stored under."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(b"\0" + name[1:].encode() if name.startswith("@") else name)

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        for fd in self.stored.values():
            os.close(fd)

    def next(self, within_s: float = 10.0) -> Message | None:
        """Return the next message; None: none came in time."""
        self._socket.settimeout(within_s)
        try:
            data, fds, _flags, _sender = socket.recv_fds(self._socket, 4096, 8)
        except TimeoutError:
            return None
        fields = dict(line.split("=", 1) for line in data.decode().split("\n"))
        self.heard.append(fields)
        if fields.get("FDSTORE") == "1":
            (self.stored[fields["FDNAME"]],) = fds
        elif fields.get("FDSTOREREMOVE") == "1":
            fd = self.stored.pop(fields["FDNAME"], None)
            if fd is not None:
                os.close(fd)
        else:
            assert not fds
        return fields

    def until(self, field: str, within_s: float = 20.0) -> Message:
        """Return the next message with ``field``, written ``NAME`` or ``NAME=value``, and hear what comes before."""
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            fields = self.next(left_s)
            if fields is not None and is_in(field, fields):
                return fields
        raise AssertionError(f"no {field} within {within_s} s; heard {self.heard}")

    def so_far(self) -> list[Message]:
        """Return what has been said since the last message that was heard; nothing is waited for."""
        found = []
        while (message := self.next(0.001)) is not None:
            found.append(message)
        return found

    def silence(self) -> None:
        """Hear what has been said so far, and forget it."""
        self.so_far()
        self.heard.clear()


def is_in(field: str, fields: Message) -> bool:
    """Return whether a message has the field."""
    name, equals, value = field.partition("=")
    return name in fields and (not equals or value in fields[name])


_TRAMPOLINE = """\
#!{python} -SE
import os, sys
given = {given}
for index, fd in enumerate(given):
    os.dup2(fd, 3 + index)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=":".join({names}))
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


@contextmanager
def handing_over(sockets: Mapping[str, int], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what starts a :class:`~tests.support.server.Server` with descriptors in LISTEN_FDS, by name.

    Closes: its copies of ``sockets``, at the end of the block: the server has its own by then.
    """
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in sockets.values()]
    script = folder / f"handing_over{len(list(folder.iterdir()))}"
    script.write_text(_TRAMPOLINE.format(python=sys.executable, given=copies, names=list(sockets)))
    script.chmod(0o755)
    try:  # --ready-fd is out of the way of 3, 4, …
        yield {"python": str(script), "pass_fds": tuple(copies), "ready_pipe": ready_pipe()}
    finally:
        for fd in copies:
            os.close(fd)
