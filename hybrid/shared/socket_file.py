"""The file of a unix socket: who owns it, when it may be replaced, when it must be left alone.

Three rules, and the reason for each:

* **A file is replaced only when no socket is behind it.** A refused connect(2) says so; every other answer means
  "alive" or "not ours to judge". It is a datagram socket that asks: it cannot be connected to one that listens
  (EPROTOTYPE), so nobody is sent a client that says nothing. What is not a socket is never removed.
* **Only one server replaces it.** Two that both saw the same dead file would each unlink, the second one the
  first one's fresh file. So look, unlink and bind happen under flock(2) on the *directory*: it needs no lock file
  that could be left behind, and the kernel drops it with the process. Where the directory cannot be locked
  (not readable, held by somebody) bind(2) still is exclusive; only the replacing is refused.
* **Only our own file is removed at the end**, known by device and inode. The open socket pins its inode, so the
  number cannot be given to a successor's file while we still compare: remove first, close afterwards.

bind(2) goes to the real name, not to a temporary one that is linked or renamed: getsockname(2) and ``ss`` report
the name that was bound, for ever.

Source: unix(7), connect(2); in net/unix/af_unix.c unix_find_bsd() (what comes before EPROTOTYPE) and unix_bind_bsd()
(mode of the file = mode of the socket's inode & ~umask).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import sys
import time
from dataclasses import dataclass

from hybrid.ground.errors import ListenError

MAX_PATH_BYTES = 107
"""sun_path has 108 bytes, one for the closing NUL."""

_LOCK_ATTEMPTS = 50
_LOCK_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file that one of our sockets was bound to."""

    path: str
    device: int
    inode: int

    def remove(self) -> bool:
        """Unlink the file if it still is ours; say whether it was. Never raises.

        Call before the socket is closed: until then nobody else's file can have our inode number.
        """
        lock = _lock_directory(self.path)
        try:
            return _remove_if_same(self)
        finally:
            _unlock(lock)


def bind(sock: socket.socket, path: str, mode: int, backlog: int) -> SocketFile:
    """Bind ``sock`` to ``path`` with exactly ``mode``, listen, and return the file.

    The file never has wider permissions than ``mode``, and the process's umask is not touched (an embedding
    program has other threads): the file is born with ``mode & ~umask`` and widened afterwards where that is less.

    Raises: ListenError: the path is too long, is no socket, belongs to a live server, or cannot be created.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ListenError(
            f"cannot listen on unix:{path}: the path has {len(os.fsencode(path))} bytes, the system allows "
            f"{MAX_PATH_BYTES}. Use a shorter one, for example under /run."
        )
    if sys.platform == "linux":  # elsewhere EINVAL
        os.fchmod(sock.fileno(), mode)
    lock = _lock_directory(path)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _clear_the_way(path, locked=lock >= 0)
            sock.bind(path)
        file = identify(path)
        try:
            sock.listen(backlog)
            give_mode(file, mode)
        except BaseException:
            _remove_if_same(file)
            raise
        return file
    except OSError as error:
        raise _explain(path, error) from error
    finally:
        _unlock(lock)


def identify(path: str) -> SocketFile:
    """Return what is at ``path`` now. Raises: OSError: nothing."""
    found = os.lstat(path)
    return SocketFile(path, found.st_dev, found.st_ino)


def _remove_if_same(file: SocketFile) -> bool:
    try:
        if identify(file.path) != file:
            return False
        os.unlink(file.path)
        return True
    except OSError:
        return False


def _clear_the_way(path: str, locked: bool) -> None:
    """Unlink the file of a dead server. Raises: ListenError: it is anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"cannot listen on unix:{path}: the path exists and is not a socket. Choose another path.")
    answer = _look_behind(path)
    if answer == errno.ENOENT:
        return
    if answer == errno.EACCES:
        raise ListenError(
            f"cannot listen on unix:{path}: the socket there belongs to someone else and may be in use. "
            "Choose another path, or remove the file if nothing uses it."
        )
    if answer != errno.ECONNREFUSED:
        raise ListenError(f"cannot listen on unix:{path}: address in use. Stop the other server or change --bind.")
    if not locked:
        raise ListenError(
            f"cannot listen on unix:{path}: a dead server left the file, and its directory cannot be locked to "
            f"replace it safely. Remove the file, or make {os.path.dirname(path)} readable."
        )
    os.unlink(path)


def is_dead(path: str) -> bool:
    """Return whether no socket is behind the file at ``path`` any more; nobody hears that it was asked."""
    return stat.S_ISSOCK(os.lstat(path).st_mode) and _look_behind(path) == errno.ECONNREFUSED


def _look_behind(path: str) -> int:
    """Return the errno with which a datagram socket is not connected: EPROTOTYPE from a live server."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)


def give_mode(file: SocketFile, mode: int) -> None:
    """Give the file exactly ``mode``: the bits that the umask took, or those of another start.

    Raises: OSError: it cannot be changed, or is another file by now.
    """
    if stat.S_IMODE(os.lstat(file.path).st_mode) == mode:
        return
    if not hasattr(os, "O_PATH"):  # not Linux
        os.chmod(file.path, mode)
        return
    # chmod(2) follows symbolic links: hold the very file, so that no other can be slipped under the name.
    fd = os.open(file.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        held = os.fstat(fd)
        if SocketFile(file.path, held.st_dev, held.st_ino) != file:
            raise FileExistsError(errno.EEXIST, "another process replaced the file", file.path)
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _lock_directory(path: str) -> int:
    """Return a descriptor that holds the lock on the file's directory, or -1.

    Bounded: anybody who may read /tmp may also hold a lock on it.
    """
    try:
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if attempt + 1 < _LOCK_ATTEMPTS:
                time.sleep(_LOCK_PAUSE_S)
        except OSError:  # a file system without locks
            break
    os.close(fd)
    return -1


def _unlock(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _explain(path: str, error: OSError) -> ListenError:
    directory = os.path.dirname(path) or "."
    number = error.errno or 0
    cause, remedy = {
        errno.EADDRINUSE: ("address in use", "Stop the other server or change --bind."),
        errno.ENOENT: (f"{directory} does not exist", "Create it or change --bind."),
        errno.ENOTDIR: (f"{directory} is not a directory", "Change --bind."),
        errno.EACCES: (f"no permission to write in {directory}", "Change its permissions or change --bind."),
        errno.EPERM: (f"no permission to write in {directory}", "Change its permissions or change --bind."),
        errno.EROFS: (f"{directory} is read-only", "Choose a path on a writable file system, for example under /run."),
    }.get(number, (error.strerror or str(error), "Change --bind."))
    return ListenError(f"cannot listen on unix:{path}: {cause}. {remedy}")
