"""The file that holds the parent's pid while it runs (``--pid``).

A pid alone proves nothing: the number of a dead server may have been given to anyone since. So the file's owner
holds flock(2) on it, which the kernel drops with the process; a locked file names a living server, whatever it
says. A file without a lock may be another program's: it is respected when its process lives and is older than
the file, since a recycled number belongs to a process that is younger.

The file appears whole, under its own name, already locked: written under a temporary name, then link(2) where
there is none (fails if a rival was first) or rename(2) over a dead one (while holding the dead one's lock).
A graceful stop leaves nothing behind.

Source: flock(2), link(2), rename(2), proc(5) on /proc/pid/stat (starttime).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from hybrid.ground.errors import UsageError

_ATTEMPTS = 20
_LONGEST_BYTES = 32


class PidFile:
    """One pid file, from :meth:`write` to :meth:`remove`.

    Runs in: parent. Closes: its descriptor (close-on-exec: the lock does not pass to children), on :meth:`remove`.
    """

    def __init__(self, path: str, flag: str = "--pid", *, is_ours: bool = False) -> None:
        """``flag``: the option that named it, for messages. ``is_ours``: no other program writes such a file."""
        self.path = os.path.abspath(path)
        self._flag = flag
        self._is_ours = is_ours
        self._fd = -1

    @property
    def fd(self) -> int:
        """Its descriptor, which holds the lock; -1: it is not written."""
        return self._fd

    def take_over(self, fd: int) -> None:
        """Hold the file that this process has written before an exec."""
        os.set_inheritable(fd, False)
        self._fd = fd

    def exists(self) -> bool:
        """Whether there is anything at the path."""
        return os.path.lexists(self.path)

    def write(self) -> None:
        """Put our pid into the file and hold it.

        Raises: UsageError: it names a living process other than us, or cannot be written.
        """
        draft = f"{self.path}.{os.getpid()}.new"
        try:
            _unlink_quietly(draft)  # of a dead namesake
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(fd, b"%d\n" % os.getpid())
                self._place(draft)
            except BaseException:
                os.close(fd)
                raise
            finally:
                _unlink_quietly(draft)
        except OSError as error:
            raise UsageError(
                f"cannot write {self._flag} {self.path}: {error.strerror}. Make its directory writable or change "
                f"{self._flag}."
            ) from error
        self._fd = fd

    def remove(self) -> None:
        """Remove the file if it still is ours, and let it go. May be called twice; never raises."""
        if self._fd < 0:
            return
        try:
            if self._is_in_place():
                os.unlink(self.path)
        except OSError:
            pass
        os.close(self._fd)
        self._fd = -1

    def refresh(self) -> None:
        """Set its modification time to now; put it back if somebody has removed or replaced it.

        Raises: UsageError: it cannot be written. OSError: its time cannot be set.
        """
        if self._fd >= 0 and not self._is_in_place():
            self.remove()
        if self._fd < 0:
            self.write()
        os.utime(self._fd)

    def _is_in_place(self) -> bool:
        """Say whether the path still names our file. While it is open, its inode number is no other file's."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self.path))
        except OSError:
            return False

    def _place(self, draft: str) -> None:
        """Give ``draft`` its name. Raises: UsageError: the name is a living server's. OSError: it cannot be had."""
        for _attempt in range(_ATTEMPTS):
            try:
                os.link(draft, self.path, follow_symlinks=False)
                return
            except FileExistsError:
                if self._replace_dead(draft):
                    return
        raise FileExistsError(errno.EEXIST, "other servers keep replacing it")

    def _replace_dead(self, draft: str) -> bool:
        """Rename ``draft`` over a file whose owner is dead; False: it changed meanwhile, look again."""
        try:
            old = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "it is a symbolic link") from error
            raise
        try:
            pid = self._read(old)
            try:
                fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._taken(pid) from None
            found = os.fstat(old)
            if not self._is_ours and pid != os.getpid() and _is_owner_alive(pid, found.st_mtime):
                raise self._taken(pid)
            try:
                if not os.path.samestat(found, os.lstat(self.path)):
                    return False
            except FileNotFoundError:
                return False
            # We hold the lock of the very file that has the name: every rival stops at it.
            os.rename(draft, self.path)
            return True
        finally:
            os.close(old)

    def _read(self, fd: int) -> int:
        """Return the pid in the file, 0 for an empty one. Raises: UsageError: it holds something else."""
        text = os.read(fd, _LONGEST_BYTES).strip()
        if text and not text.isdigit():
            raise UsageError(
                f"cannot write {self._flag} {self.path}: the file exists and holds no pid. Change {self._flag}."
            )
        return int(text or b"0")

    def _taken(self, pid: int) -> UsageError:
        who = f"process {pid}" if pid else "another process"
        return UsageError(
            f"cannot write {self._flag} {self.path}: {who} holds it and runs. Stop it or change {self._flag}."
        )


def _is_owner_alive(pid: int, written: float) -> bool:
    """Say whether ``pid`` lives and is older than a file written at ``written``."""
    if pid <= 0:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        started_ticks = int(fields[19])
    except (OSError, ValueError, IndexError):
        return False
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s <= written + 1.0  # a second for the clocks' grain


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:  # renamed
        pass
