"""The folder in which the app's own metrics meet: a file for each process and kind, made by prometheus_client.

The parent makes it before the first mold, and names it in the environment, which everybody inherits; it removes it at
the end. Control reads the files, and merges those of processes that are gone (:mod:`hybrid.control.app_metrics`).

Nobody removes it when the parent is killed: the next server does. A folder is in use while its parent holds a lock of
it, which the kernel takes away with the process; pids alone mean nothing between containers that share /dev/shm.

Source: prometheus_client, multiprocess mode; flock(2).
"""

from __future__ import annotations

import fcntl
import os

from hybrid.ground.errors import HybridError
from hybrid.shared.privileges import Identity

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""By which prometheus_client knows that its numbers belong into files, when it is imported."""
OLD_VARIABLE = "prometheus_multiproc_dir"
PLACES = ("/dev/shm", "/tmp")
"""In memory, if possible: the files are mapped, and a disk that is slow would hold up who counts."""
PREFIX = "hybrid-metrics-"


def is_of(path: str, pid: int) -> bool:
    """Return whether the folder was made by the parent ``pid``; else the user has named it."""
    return os.path.basename(path).startswith(f"{PREFIX}{pid}-")


class MetricsFolder:
    """The folder of one server.

    Runs in: parent. Closes: the folder, with all that is in it, on :meth:`close`.
    Args: fd: of the folder; it holds the lock.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def make(cls, identity: Identity | None, places: tuple[str, ...] = PLACES) -> MetricsFolder:
        """Make a folder for the processes of ``identity`` alone, and name it in the environment.

        Removes: those that killed servers have left. Raises: HybridError: there is no place for it.
        """
        for place in places:
            if not os.access(place, os.W_OK | os.X_OK):
                continue
            remove_abandoned(place)
            path = os.path.join(place, f"{PREFIX}{os.getpid()}-{os.urandom(8).hex()}")
            try:
                folder = cls(path, _made_locked(path))
            except OSError:
                continue
            if identity is not None and not identity.is_ours():
                os.fchown(folder._fd, identity.uid, identity.gid)
            os.environ[VARIABLE] = path
            return folder
        raise HybridError(
            f"cannot make a folder for the app's metrics in {' or '.join(places)}: neither can be written to. "
            f"Make one of them writable, or name a folder by {VARIABLE}."
        )

    @classmethod
    def take_over(cls) -> MetricsFolder | None:
        """Have the folder that the program before us in this process made; None: it made none."""
        path = os.environ.get(VARIABLE, "")
        try:
            return cls(path, _locked(path)) if is_of(path, os.getpid()) else None
        except OSError:
            return None

    def close(self) -> None:
        """Remove the folder. Raises: nothing: what cannot be removed is left to the next server."""
        os.environ.pop(VARIABLE, None)
        _remove(self.path, self._fd)
        os.close(self._fd)


def _made_locked(path: str) -> int:
    """Make a folder, and lock it before it has the name by which others look for what is abandoned."""
    place, name = os.path.split(path)
    unnamed = os.path.join(place, f".{name}")
    os.mkdir(unnamed, 0o700)
    fd = _locked(unnamed)
    os.rename(unnamed, path)
    return fd


def _locked(path: str) -> int:
    """Open and lock a folder. By this descriptor it is emptied: its path is in the hands of whom it belongs to."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass  # somebody looks at this moment whether it is abandoned, and sees that its parent lives
    return fd


def is_wanted(metrics_bind: str) -> bool:
    """Return whether a folder is to be made: somebody asks for metrics, and the user has named none.

    One of another server's, in whose worker this server was started, is no user's.
    """
    named = [os.environ.get(name, "") for name in (VARIABLE, OLD_VARIABLE)]
    return bool(metrics_bind) and not any(name and not os.path.basename(name).startswith(PREFIX) for name in named)


def remove_abandoned(place: str) -> None:
    """Remove the folders of servers of ours that were killed. Raises: nothing."""
    try:
        names = [name for name in os.listdir(place) if name.startswith(PREFIX)]
    except OSError:
        return
    for name in names:
        path = os.path.join(place, name)
        pid = name[len(PREFIX) :].partition("-")[0]
        if not pid.isdigit() or os.path.exists(f"/proc/{pid}"):
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # somebody else's, or removed meanwhile
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path, fd)
        except OSError:
            pass  # a server has it, in another container
        finally:
            os.close(fd)


def _remove(path: str, fd: int) -> None:
    """Remove the folder behind ``fd``, and the files in it."""
    try:
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
        os.rmdir(path)
    except OSError:
        pass
