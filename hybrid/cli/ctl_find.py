"""Which server a ``hybrid-ctl`` is about: the one named by its pid or its socket, else the only one that runs.

Two places tell. The directories where servers put their control sockets, ``$XDG_RUNTIME_DIR/hybrid`` and
``/tmp/hybrid-UID``, have a file named after each parent's pid. And ``/proc`` shows parents, whose settings are in a
memfd that whoever may control them may read: that finds ``--control PATH``, and a server that was started with another
``XDG_RUNTIME_DIR``.

Nobody is connected to in order to look: that would start a control process in every server.

Runs in: ``hybrid-ctl``. Source: proc(5), memfd_create(2).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hybrid.cli.ctl_client import Unreached
from hybrid.shared.control_place import directories, socket_path, sockets_in, unsafe
from hybrid.shared.control_settings import AUTO, OFF

_PARENT = os.path.join("hybrid", "parent", "__main__.py")
_MEMFD = "/memfd:hybrid-settings"


@dataclass(frozen=True, slots=True)
class Instance:
    """A server that runs. ``path``: its control socket; empty: it has none. ``what``: its target, if known."""

    pid: int
    path: str
    what: str = ""

    def __str__(self) -> str:
        about = f" ({self.what})" if self.what else ""
        return f"--pid {self.pid}{about}, {self.path or 'without a control socket'}"


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look; tests bring their own."""

    proc: str = "/proc"
    uid: int = field(default_factory=os.geteuid)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def find(pid: int = 0, control: str = "", places: Places | None = None) -> Instance:
    """Return the server that is meant. ``pid`` and ``control``: as the options; 0 and nothing: not given.

    Raises: Unreached: there is none, there are several (it lists them), or it has no control socket.
    """
    if control:
        return Instance(pid, control.removeprefix("unix:"))
    places = places or Places()
    if pid:
        return _of_pid(pid, places)
    found = instances(places)
    reachable = [each for each in found if each.path]
    if len(reachable) == 1:
        return reachable[0]
    if reachable:
        listed = "".join(f"\n  {each}" for each in reachable)
        raise Unreached(f"{len(reachable)} servers run here. Say which one is meant:{listed}")
    if found:
        listed = "".join(f"\n  {each}" for each in found)
        raise Unreached(f"no server here can be controlled: they run with --control off.{listed}")
    raise Unreached("no server of this user runs here. Start one, or name its socket: --control PATH.")


def instances(places: Places) -> list[Instance]:
    """Return the servers of this user, by pid."""
    found = {each.pid: each for each in _with_sockets(places)}
    for each in _parents(places):
        if each.path or each.pid not in found:
            found[each.pid] = each
    return sorted(found.values(), key=lambda each: each.pid)


def _of_pid(pid: int, places: Places) -> Instance:
    try:
        owner = os.stat(f"{places.proc}/{pid}").st_uid
    except OSError:
        raise Unreached(f"no process {pid} is here. Leave --pid out to find the server that runs.") from None
    told = _parent(pid, places)
    if told is not None and told.path:
        return told
    if told is None:
        path = _private_path(pid, owner, places.environ)
        if path:
            return Instance(pid, path)
        raise Unreached(f"process {pid} is no server that this user can control. Give the parent's pid.")
    raise Unreached(f"server {pid} has no control socket: it runs with --control off, or its log says why.")


def _with_sockets(places: Places) -> Iterator[Instance]:
    """Yield the servers that have a file in a private directory, and live."""
    for directory in directories(places.environ, places.uid):
        try:
            if unsafe(directory, places.uid):
                continue  # somebody else may have put a socket there, to be spoken to in a server's place
        except OSError:
            continue
        for pid, path in sockets_in(directory):
            if os.path.exists(f"{places.proc}/{pid}"):
                yield Instance(pid, path)


def _private_path(pid: int, uid: int, environ: Mapping[str, str]) -> str:
    """Return where a parent of user ``uid`` has put its socket by itself; nothing: it has none there."""
    paths = (socket_path(directory, pid) for directory in directories(environ, uid))
    return next((path for path in paths if os.path.exists(path)), "")


def _parents(places: Places) -> Iterator[Instance]:
    for name in os.listdir(places.proc):
        try:
            if not name.isdecimal() or os.stat(f"{places.proc}/{name}").st_uid != places.uid:
                continue
        except OSError:
            continue
        found = _parent(int(name), places)
        if found is not None:
            yield found


def _parent(pid: int, places: Places) -> Instance | None:
    """Return the server whose parent ``pid`` is; None: it is no parent, or not ours to look into."""
    folder = f"{places.proc}/{pid}"
    try:
        with open(f"{folder}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
        if not any(word.endswith(_PARENT) for word in words):
            return None
        settings = _settings(folder)
        told = str(settings.get("control", {}).get("socket", AUTO))
        what = str(settings.get("app", {}).get("target", ""))
        if told == OFF:
            return Instance(pid, "", what)
        if told != AUTO:
            return Instance(pid, os.path.join(os.readlink(f"{folder}/cwd"), told.removeprefix("unix:")), what)
        owner = os.stat(folder).st_uid
        path = _private_path(pid, owner, _environment(folder)) or _private_path(pid, owner, places.environ)
        return Instance(pid, path, what)
    except (OSError, ValueError, AttributeError):
        return None


def _settings(folder: str) -> dict[str, dict[str, object]]:
    """Return a parent's settings, from its memfd; nothing: it has none. Raises: OSError, ValueError."""
    for name in sorted(os.listdir(f"{folder}/fd"), key=int):
        try:
            if os.readlink(f"{folder}/fd/{name}").startswith(_MEMFD):
                with open(f"{folder}/fd/{name}", "rb") as file:
                    found = json.loads(file.read())
                return found if isinstance(found, dict) else {}
        except FileNotFoundError:  # closed meanwhile
            continue
    return {}


def _environment(folder: str) -> dict[str, str]:
    try:
        with open(f"{folder}/environ", "rb") as file:
            rows = os.fsdecode(file.read()).split("\0")
    except OSError:
        return {}
    return dict(row.split("=", 1) for row in rows if "=" in row)
