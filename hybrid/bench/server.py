"""A real ``hybrid-serve`` to be measured: started in a session of its own, looked into, and never left behind.

Its scoreboard is read through the parent's ``/proc/PID/fd``, its cost from the kernel (:mod:`hybrid.bench.measure`).
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hybrid.bench import measure
from hybrid.bench.engine import HOST
from hybrid.ground.errors import BootError, ExitCode, HybridError
from hybrid.ground.states import Life
from hybrid.shared import procfs
from hybrid.shared.handed import app_environment
from hybrid.shared.scoreboard import Cell, Scoreboard

BOOT_S = 60.0
GRACE_S = 1.0
"""Given to connections at a stop: the bench has none left that matter."""
_PATIENCE_S = 10.0
_POLL_S = 0.005
_TETHERED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tethered.py")
_KIND = re.compile(r" serves (\w+) ")
_ERROR = re.compile(r"\[[^\]]+\] error +(.*)")
_REFUSAL = re.compile(r"error:? +(.*)")
_OURS = ("HYBRID_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "FDSTORE", "PORT", "WEB_CONCURRENCY")


class Unserved(HybridError):
    """The server does not serve this handler in this way. Message and exit code are the server's own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code) if code in list(ExitCode) else ExitCode.UNEXPECTED


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One row of the scoreboard."""

    slot: int
    pid: int
    life: Life
    active: int
    accepted: int
    ready_ns: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What the kernel and the scoreboard had counted at one moment."""

    cpu_ns: int
    switches: int
    accepted: tuple[int, ...]


class BenchServer:
    """A running server. Closes: every process of its session, by pid, on :meth:`end`."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], cwd: str) -> None:
        self._ready_read, write = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end()
        fixed = ("--bind", f"{HOST}:0", "--graceful-timeout", str(GRACE_S), "--boot-attempts", "1")
        logged = ("--log-level", "info", "--log-format", "text", "--log-file", "", "--ready-fd", str(write))
        command = [sys.executable, "-I", _TETHERED, str(os.getpid()), sys.executable, "-m", "hybrid"]
        try:
            self.process = subprocess.Popen(
                [*command, *arguments, *fixed, *logged],
                pass_fds=(write,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=dict(environ),
                cwd=cwd,
            )
        finally:
            os.close(write)
        self.pid = self.process.pid
        self.port = 0
        self.kind = ""
        """Kind of handler, as the boot line names it."""
        self._board: Scoreboard | None = None

    # ── coming up ──

    def wait_ready(self) -> BenchServer:
        """Wait until all workers serve. Raises: Unserved, with the server's own words; BootError: it takes too long."""
        data = b""
        deadline = time.monotonic() + BOOT_S
        poll = select.poll()
        poll.register(self._ready_read, select.POLLIN)
        while not data.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise BootError(f"the server was not ready within {BOOT_S:.0f} s. Its log:\n{self.log()}")
            chunk = os.read(self._ready_read, 1 << 16)
            if not chunk:
                code = self.process.wait()
                raise Unserved(self._refusal() or f"the server ended before it was ready. Its log:\n{self.log()}", code)
            data += chunk
        said = json.loads(data)
        if said["event"] != "ready":
            raise Unserved(str(said["error"]), int(said["exit_code"]))
        self.port = int(said["addresses"][0].rpartition(":")[2])
        found = _KIND.search(self.log())
        self.kind = found[1] if found else ""
        return self

    def log(self) -> str:
        """Return what the server has written so far."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def last_error(self) -> str:
        """Return the last error that the server has logged, without its time; nothing if there was none."""
        found = _ERROR.findall(self.log())
        return str(found[-1]) if found else ""

    def _refusal(self) -> str:
        found = _REFUSAL.search(self.log())
        return found[1] if found else ""

    # ── looking ──

    def workers(self) -> list[WorkerView]:
        """Return the rows of the scoreboard."""
        if self._board is None:
            self._board = self._attach()
        return [
            WorkerView(
                row.slot, row[Cell.PID], Life(row[Cell.LIFE]), row.active, row[Cell.ACCEPTED], row[Cell.READY_NS]
            )
            for row in self._board.rows()
        ]

    def _attach(self) -> Scoreboard:
        for fd, target in procfs.open_descriptors(self.pid):
            if "hybrid-scoreboard" in target:
                return Scoreboard.attach(os.open(f"/proc/{self.pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC))
        raise HybridError(f"process {self.pid} has no scoreboard: it is no hybrid of this version.")

    def counted(self) -> Counted:
        """Return what has been counted so far, for the whole tree."""
        accepted = tuple(worker.accepted for worker in self.workers())
        return Counted(measure.tree_cpu_ns(self.pid), measure.tree_switches(self.pid), accepted)

    def worker_memory_bytes(self) -> list[int]:
        """Return the proportional set size of each worker."""
        return [procfs.memory_pss_bytes(worker.pid) for worker in self.workers() if worker.life is Life.READY]

    def eventually(self, check: Callable[[list[WorkerView]], bool], within_s: float = _PATIENCE_S) -> bool:
        """Wait until ``check`` holds of the workers; return whether it came to hold."""
        deadline = time.monotonic() + within_s
        while not check(self.workers()):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    # ── going down ──

    def end(self) -> None:
        """Terminate the server, kill what is left of its session, and wait for it."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(GRACE_S + 4.0)
                except subprocess.TimeoutExpired:
                    pass
        finally:
            while members := session_members(self.pid):
                for pid in members:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                if self.process.poll() is None:
                    self.process.wait()
                time.sleep(_POLL_S)
            self.process.wait()
            if self._board is not None:
                self._board.close()
                self._board = None
            if self._ready_read >= 0:
                os.close(self._ready_read)
                self._ready_read = -1
            self._log.close()

    def __enter__(self) -> BenchServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def session_members(session: int) -> list[int]:
    """Return the living processes of a session; zombies are not living."""
    members = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX" and int(fields[3]) == session:
                members.append(int(name))
    return members


def plain_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` without what would configure a server: for the built-in handlers."""
    return {name: text for name, text in environ.items() if not name.startswith(_OURS)}


def users_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` without what a service manager has told *us*."""
    return app_environment(environ)
