"""What the service manager is told: the words of sd_notify(3), one datagram each, and never a wait for it.

======================  =============================================================================================
``READY=1``             the pool serves; with ``MAINPID``, for a command that a wrapper started
``RELOADING=1``         with ``MONOTONIC_USEC``, as ``Type=notify-reload`` wants; ``READY=1`` ends it either way
``STOPPING=1``          the first step of a stop, or a boot that failed (with ``ERRNO`` where the kernel gave one)
``STATUS=…``            a line for ``systemctl status``
``EXTEND_TIMEOUT_USEC`` how long the present step of a boot, a reload or a stop may take
``WATCHDOG=1``          twice within ``WATCHDOG_USEC``, by the loop that does the work: one that hangs is restarted
``FDSTORE=1``           a listening socket to keep, so that its queue outlives a crash and a restart
======================  =============================================================================================

Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) Type=notify-reload; "File Descriptor Store"
(systemd.io/FILE_DESCRIPTOR_STORE).
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hybrid.ground.clock import LONGEST_S, monotonic_ns
from hybrid.shared.handed import STORED, Handed, paired, stored_name
from hybrid.shared.listeners import Listener
from hybrid.shared.log_line import LogWriter
from hybrid.shared.settings import Settings
from hybrid.shared.stored import drop_unwanted

_STATUS_CHARS = 500
_MOST_UNSENT = 32
"""Messages that wait while the manager's socket is full."""
_AGAIN_S = 0.25
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS})


class Notifier:
    """The service manager, as whoever serves sees it; when there is none, every call does nothing.

    Runs in: parent, or the process of ``--workers 0``. Never waits and never raises: a manager that cannot be reached
    is a warning, once. Closes: its socket, on :meth:`close`; no listener.
    """

    def __init__(self, address: str | bytes, log: LogWriter, watchdog_s: float = 0.0, store_room: int = 0) -> None:
        self._log = log
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._feed_s = watchdog_s / 2
        self._feed_at: float | None = 0.0 if self._feed_s and address else None
        self._store_room = store_room
        self._unsent: deque[bytes] = deque(maxlen=_MOST_UNSENT)
        self._again_at = 0.0
        self._warned: set[str] = set()
        self._note = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int, log: LogWriter) -> Notifier:
        """Return the manager that ``environ`` names. ``pid``: ours, which a watchdog must be meant for."""
        name = environ.get("NOTIFY_SOCKET", "")
        if name and not name.startswith(("/", "@")):
            log.warning(
                f"NOTIFY_SOCKET={name}: only a path and an abstract name (@…) are understood; nobody is told that "
                "this server is ready"
            )
            name = ""
        address = b"\0" + os.fsencode(name[1:]) if name.startswith("@") else name
        watchdog_s = 0.0
        if environ.get("WATCHDOG_PID", str(pid)) == str(pid):
            watchdog_s = _number(environ, "WATCHDOG_USEC", log) / 1e6
        return cls(address, log, watchdog_s, _number(environ, "FDSTORE", log))

    @property
    def _name(self) -> str:
        return os.fsdecode(self._address).replace("\0", "@", 1)

    # ── what we are doing ──

    def ready(self, status: str) -> None:
        """Say that we serve."""
        self._send("READY=1", f"MAINPID={os.getpid()}", self._status(status))

    def reloading(self) -> None:
        """Say that a reload begins; :meth:`reloaded` must follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}", self._status("reloading"))

    def reloaded(self, status: str, failure: str = "") -> None:
        """Say that the reload is over, well or with a failure, which stays in the status until another succeeds."""
        self._note = f"the last reload failed: {failure}" if failure else ""
        self._send("READY=1", self._status(status))

    def stopping(self, status: str) -> None:
        """Say that we are leaving."""
        self._note = ""
        self._send("STOPPING=1", self._status(status))

    def failed(self, message: str, number: int = 0) -> None:
        """Say that the boot failed, and leave. ``number``: the errno behind it."""
        self._send("STOPPING=1", self._status(message), *([f"ERRNO={number}"] if number else []))

    def status(self, text: str) -> None:
        """Say how it goes."""
        self._send(self._status(text))

    def extend(self, seconds: float) -> None:
        """Ask for so much time for what we are at: to boot, to reload, or to stop."""
        self._send(_extend(seconds))

    # ── the loop ──

    @property
    def is_there(self) -> bool:
        """Whether there is a manager to tell anything."""
        return self._socket is not None

    @property
    def deadline(self) -> float | None:
        """When :meth:`time_passed` is due. Monotonic seconds."""
        again_at = self._again_at if self._unsent else None
        return min((at for at in (self._feed_at, again_at) if at is not None), default=None)

    def time_passed(self, now: float) -> None:
        """Feed the watchdog if it is time, and say what could not be said before. Called by the loop, as it turns."""
        if self._feed_at is not None and self._feed_at <= now:
            self._feed_at = now + self._feed_s
            if b"WATCHDOG=1" not in self._unsent:
                self._send("WATCHDOG=1")
        if self._unsent and self._again_at <= now:
            self._again_at = now + _AGAIN_S
            while self._unsent and self._try(self._unsent[0]):
                self._unsent.popleft()

    # ── the store ──

    @property
    def keeps_sockets(self) -> bool:
        """Whether the manager has a store for us."""
        return self.is_there and self._store_room > 0

    def store(self, listeners: Sequence[Listener]) -> list[Listener]:
        """Give the manager a copy of each listening socket that is ours; return all, those that it has by their name.

        It needs the file of a unix socket that it has, so that is not ours any more. What came from the manager it
        has already. A copy is out of poll: it would wake the manager with each client.
        """
        room = self._store_room - sum(each.name.startswith(STORED) for each in listeners)
        found: list[Listener] = []
        for each in listeners:
            if self.keeps_sockets and not each.adopted and not each.name.startswith(STORED):
                if room > 0:
                    room -= 1
                    each = self._stored(each)
                else:
                    self._warn_once(
                        f"the service manager keeps {self._store_room} sockets only; raise FileDescriptorStoreMax="
                    )
            found.append(each)
        return found

    def _stored(self, listener: Listener) -> Listener:
        name = stored_name(listener.address, listener.file)
        if not self._try(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode(), listener.fileno()):
            return listener
        return replace(listener, file=None, name=name)

    def forget(self, name: str) -> None:
        """Have the manager close what it keeps under ``name``."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    # ── the socket ──

    def close(self) -> None:
        """Say nothing more. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._unsent.clear()
        self._feed_at = None

    def _status(self, text: str) -> str:
        text = f"{text}; {self._note}" if self._note else text
        return "STATUS=" + " ".join(text.split())[:_STATUS_CHARS]

    def _send(self, *fields: str) -> None:
        message = "\n".join(fields).encode(errors="replace")
        if self._unsent or not self._try(message):  # in order
            if len(fields) == 1:  # the last status is the status, and the last extension counts
                self._forget_unsent(message)
            self._unsent.append(message)

    def _forget_unsent(self, message: bytes) -> None:
        """Forget what waits and says the same as ``message``, but older: what must be heard is not pushed out by it."""
        word = message.partition(b"=")[0] + b"="
        for each in [each for each in self._unsent if each.startswith(word) and b"\n" not in each]:
            self._unsent.remove(each)

    def _try(self, message: bytes, fd: int = -1) -> bool:
        """Send; return False when it is to be tried again. What cannot be sent at all is lost."""
        if self._socket is None:
            return True
        carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        try:
            self._socket.sendmsg([message], carried, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
        except OSError as error:
            if error.errno in _FULL:
                self._warn_once("the service manager does not read what it is told; trying again")
                return False
            what = f"the service manager cannot be told anything at NOTIFY_SOCKET={self._name}"
            self._warn_once(f"{what}: {error.strerror or error}. Where there is none, unset it.")
            return fd < 0
        return True

    def _warn_once(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._log.warning(what)


def claim_stored(settings: Settings, notifier: Notifier, log: LogWriter) -> tuple[Handed, ...]:
    """Return the inherited sockets that are to be served; close those of an earlier run that nothing binds any more.

    Raises: ListenError: a name in ``--bind`` does not resolve.
    """
    handed, bind = paired(settings.launch.listen_fds, settings.launch.listen_names), settings.bind
    kept, dropped = drop_unwanted(handed, bind.bind, share_port=bind.accept == "reuseport")
    for each in dropped:
        log.info(f"closing {each.address or each.name}, kept by the service manager: {each.why}")
        notifier.forget(each.name)
    return kept


def log_inherited(listeners: Sequence[Listener], log: LogWriter) -> None:
    """Say which of ``listeners`` the service manager handed over."""
    said = [f"{each.address} ({_origin(each.name)})" for each in listeners if each.adopted and each.name]
    if said:
        log.info(f"sockets of the service manager: {', '.join(said)}")


def _origin(name: str) -> str:
    return "kept since an earlier start" if name.startswith(STORED) else name


def _extend(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int(min(seconds, LONGEST_S) * 1e6)}"


def _number(environ: Mapping[str, str], name: str, log: LogWriter) -> int:
    """Return a number from the environment, 0 where there is none."""
    text = environ.get(name, "")
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    if text:
        log.warning(f"{name}={text}, from the environment, is not a number; it is ignored")
    return 0
