"""The doors of control, bound: the control socket, and those of ``--metrics-bind`` and ``--agent-bind``.

The parent binds them once, and has them while no control process runs: who connects then waits in the queue. Control
gets copies. An upgrade of the parent hands them on, and so the socket's path stays what it was.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hybrid.ground.errors import HybridError, ListenError, UsageError
from hybrid.parent.handover import HeldDoor
from hybrid.shared import socket_file
from hybrid.shared.control_place import directories, socket_path, sockets_in, unsafe
from hybrid.shared.control_settings import AUTO, OFF
from hybrid.shared.doors import DoorKind
from hybrid.shared.listeners import Listener, open_listeners
from hybrid.shared.log_line import LogWriter
from hybrid.shared.settings import Settings

BACKLOG = 64
"""Of each door: who asks is a person, a probe or a scraper."""
MODE = 0o600
"""Of the control socket."""
FLAGS = {DoorKind.CONTROL: "--control", DoorKind.METRICS: "--metrics-bind", DoorKind.AGENT: "--agent-bind"}


@dataclass(frozen=True, slots=True)
class Door:
    """One of them. Closes: the socket, and removes its file, on :meth:`close`."""

    kind: DoorKind
    listener: Listener

    def close(self) -> None:
        """Close it, for us. May be called twice."""
        self.listener.close()


class Doors:
    """All of them. Runs in: parent. Closes: them, on :meth:`close`."""

    def __init__(self, log: LogWriter, environ: Mapping[str, str]) -> None:
        self.all: list[Door] = []
        self._log = log
        self._environ = environ

    def open(self, settings: Settings) -> None:
        """Bind what is asked for. Raises: HybridError: it cannot be; only ``--control auto`` may fail, with a word."""
        control = settings.control
        if control.socket == AUTO:
            self._open_private()
        elif control.socket != OFF:
            self.all.append(Door(DoorKind.CONTROL, _bind(control.socket)))
        for kind, text in ((DoorKind.METRICS, control.metrics_bind), (DoorKind.AGENT, control.agent_bind)):
            if text:
                self.all += [Door(kind, each) for each in _open(kind, text, settings.bind.uds_mode)]

    def take_over(self, held: Sequence[HeldDoor]) -> None:
        """Have what the program before us in this process had."""
        for each in held:
            listener = Listener(socket.socket(fileno=each.fd), each.address, each.file)
            self.all.append(Door(DoorKind(each.kind), listener))

    def held(self) -> tuple[HeldDoor, ...]:
        """Return them as a successor takes them over."""
        doors = ((door.kind, door.listener) for door in self.all)
        return tuple(HeldDoor(int(kind), each.fileno(), each.address, each.file) for kind, each in doors)

    def close(self) -> None:
        """Close all of them, and remove their files. May be called twice."""
        for door in self.all:
            door.close()

    def addresses(self, kind: DoorKind) -> tuple[str, ...]:
        """Return where the doors of ``kind`` are, in the grammar of ``--bind``."""
        return tuple(door.listener.address for door in self.all if door.kind is kind)

    @property
    def control(self) -> Listener | None:
        """The control socket, if there is one."""
        return next((door.listener for door in self.all if door.kind is DoorKind.CONTROL), None)

    @property
    def are_others(self) -> bool:
        """Whether there are doors besides the control socket: somebody has to stand there all the time."""
        return any(door.kind is not DoorKind.CONTROL for door in self.all)

    def _open_private(self) -> None:
        """Bind the control socket in the private directory; without one, do without."""
        uid, why = os.geteuid(), ""
        for directory in directories(self._environ, uid):
            try:
                why = _prepare(directory, uid)
                if not why:
                    self.all.append(Door(DoorKind.CONTROL, _bind(socket_path(directory, os.getpid()))))
                    return
            except OSError as error:
                why = f"{directory}: {error.strerror}"
            except ListenError as error:
                why = str(error)
        self._log.warning(
            f"no control socket: {why.rstrip('.')}. hybrid-ctl cannot ask this server. Give --control PATH, or say "
            "--control off"
        )


def _prepare(directory: str, uid: int) -> str:
    """Make the directory, and remove what dead servers left there; return why it cannot be used. Raises: OSError."""
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
        os.chmod(directory, 0o700)  # whatever the umask takes
    why = unsafe(directory, uid)
    if why:
        return f"{directory} is not private: {why}. Remove it, or mend it"
    for pid, path in sockets_in(directory):
        if not _is_alive(pid):
            _sweep(path)
    return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


def _sweep(path: str) -> None:
    """Remove the socket file of a server that is gone. One of another pid namespace has its socket still, and stays."""
    with suppress(OSError):
        file = socket_file.identify(path)
        if socket_file.is_dead(path):
            file.remove()


def _bind(path: str) -> Listener:
    """Raises: ListenError: the control socket cannot be at ``path``."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        return Listener(sock, f"unix:{path}", socket_file.bind(sock, path, MODE, BACKLOG))
    except ListenError as error:
        sock.close()
        raise _reworded(error, DoorKind.CONTROL) from error.__cause__
    except BaseException:
        sock.close()
        raise


def _open(kind: DoorKind, text: str, mode: int) -> list[Listener]:
    try:
        return open_listeners((text,), BACKLOG, mode)
    except HybridError as error:
        raise _reworded(error, kind) from error.__cause__


def _reworded(error: HybridError, kind: DoorKind) -> HybridError:
    """Return the error with the option named that its reader has given."""
    what = {DoorKind.CONTROL: "control", DoorKind.METRICS: "metrics", DoorKind.AGENT: "the agent"}[kind]
    words = str(error).replace("--bind", FLAGS[kind])
    made = UsageError if isinstance(error, UsageError) else ListenError
    return made(words.replace("cannot listen on", f"cannot listen for {what} on", 1))
