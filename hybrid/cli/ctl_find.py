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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hybrid.cli.ctl_client import Unreached

_PARENT = os.path.join("hybrid", "parent", "__main__.py")
_MEMFD = "/memfd:hybrid-settings"
_AUTO = "auto"
_OFF = "off"


@dataclass(frozen=True, slots=True)
class Instance:
    """A server that runs. ``path``: its control socket; empty: it has none. ``what``: its target, if known."""

    pid: int
    path: str
    what: str = ""

    def __str__(self) -> str:
        about = f" ({self.what})" if self.what else ""
        return f"--pid {self.pid}{about}, {self.path or 'without a control socket'}"


def default_directories(uid: int, environ: dict[str, str] | None = None) -> list[str]:
    """Return where the servers of a user put their control sockets, the preferred place first."""
    given = (os.environ if environ is None else environ).get("XDG_RUNTIME_DIR", "")
    places = [os.path.join(given, "hybrid")] if given else []
    return list(dict.fromkeys([*places, f"/run/user/{uid}/hybrid", f"/tmp/hybrid-{uid}"]))


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look; tests bring their own."""

    proc: str = "/proc"
    uid: int = field(default_factory=os.geteuid)
    directories: Sequence[str] | None = None

    def sockets_of(self, uid: int) -> Sequence[str]:
        return default_directories(uid) if self.directories is None else self.directories


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
    for directory in places.sockets_of(owner):
        path = os.path.join(directory, f"{pid}.sock")
        if os.path.exists(path):
            return Instance(pid, path)
    if told is None:
        raise Unreached(f"process {pid} is no server that this user can control. Give the parent's pid.")
    raise Unreached(f"server {pid} has no control socket: it runs with --control off. Start it without.")


def _with_sockets(places: Places) -> Iterator[Instance]:
    """Yield the servers that have a file in a default directory, and live."""
    for directory in places.sockets_of(places.uid):
        try:
            if os.stat(directory).st_uid not in (places.uid, 0):
                continue  # somebody else made it, to be spoken to in a server's place
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            stem, dot, kind = name.partition(".")
            if dot and kind == "sock" and stem.isdecimal() and os.path.exists(f"{places.proc}/{stem}"):
                yield Instance(int(stem), os.path.join(directory, name))


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
        told = str(settings.get("control", {}).get("socket", _AUTO))
        what = str(settings.get("app", {}).get("target", ""))
        if told == _OFF:
            return Instance(pid, "", what)
        if told != _AUTO:
            return Instance(pid, os.path.join(os.readlink(f"{folder}/cwd"), told.removeprefix("unix:")), what)
        return Instance(pid, _default_path(pid, folder, places), what)
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


def _default_path(pid: int, folder: str, places: Places) -> str:
    """Return where a parent has put its socket by itself; nothing: it is in no place we know."""
    owner = os.stat(folder).st_uid
    directories = list(places.sockets_of(owner))
    if places.directories is None:
        directories = [*default_directories(owner, _environment(folder)), *directories]
    paths = (os.path.join(directory, f"{pid}.sock") for directory in directories)
    return next((path for path in paths if os.path.exists(path)), "")


def _environment(folder: str) -> dict[str, str]:
    try:
        with open(f"{folder}/environ", "rb") as file:
            rows = os.fsdecode(file.read()).split("\0")
    except OSError:
        return {}
    return dict(row.split("=", 1) for row in rows if "=" in row)
