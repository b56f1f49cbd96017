"""A real server in a session of its own: started, asked, and never left behind."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.ground.states import Life
from hybrid.shared.procfs import open_descriptors
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell, Scoreboard
from tests.support.eventually import WITHIN_S, eventually
from tests.support.quick_start import quick_start
from tests.support.tied import tied

ROOT = Path(__file__).resolve().parents[2]
BOOT_S = 45.0
NONE: tuple[int, ...] = ()


@dataclass(frozen=True)
class WorkerView:
    """One row of the scoreboard."""

    slot: int
    pid: int
    life: Life
    active: int
    accepted: int
    errors: int
    heartbeat_ns: int
    generation: int
    seat: int
    accepts: bool


class Server:
    """A running ``hybrid-serve``. Closes: every process of its session, by pid, on :meth:`end`.

    Args: popen: of :class:`subprocess.Popen`; and ``quick``, whether the command's own work may be done here, which
    it is unless that is said to be wrong: :mod:`tests.support.quick_start`.
    """

    def __init__(self, arguments: tuple[str, ...], log: Path, **popen: Any) -> None:
        self.log_path = log
        read, write = popen.pop("ready_pipe", None) or ready_pipe()
        self._ready_read = read
        arguments = (*arguments, "--ready-fd", str(write))
        command, settings_fds = [popen.pop("python", sys.executable), "-m", "hybrid", *arguments], NONE
        if popen.pop("quick", True) and command[0] == sys.executable and not {"cwd", "preexec_fn"} & set(popen):
            command, settings_fds = quick_start(arguments, popen.get("env", os.environ), str(ROOT)) or (command, NONE)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command if "preexec_fn" in popen else tied(command),
                pass_fds=(write, *settings_fds, *popen.pop("pass_fds", ())),
                start_new_session=True,
                stdout=popen.pop("stdout", output),
                stderr=output,
                cwd=popen.pop("cwd", ROOT),
                **popen,
            )
        for fd in (write, *settings_fds):
            os.close(fd)
        self.pid = self.process.pid
        self.said: dict[str, Any] = {}

    # ── coming up ──

    def wait_ready(self, within_s: float = BOOT_S) -> Server:
        """Wait until the server says that it is ready; fail with the log when it does not."""
        assert self.wait_said(within_s)["event"] == "ready", self.said
        return self

    def wait_said(self, within_s: float = BOOT_S) -> dict[str, Any]:
        """Return the line on ``--ready-fd``; fail with the log when none comes."""
        data = b""
        deadline = time.monotonic() + within_s
        poll = select.poll()
        poll.register(self._ready_read, select.POLLIN)
        while not data.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise AssertionError(f"not ready within {within_s} s\n{self.log}")
            chunk = os.read(self._ready_read, 65536)
            if not chunk:
                raise AssertionError(f"ended before it was ready\n{self.log}")
            data += chunk
        self.said = json.loads(data)
        return self.said

    @property
    def address(self) -> str:
        """The first address, as the server reports it."""
        address: str = self.said["addresses"][0]
        return address

    def connect(self, address: str | None = None, timeout_s: float = 20.0) -> socket.socket:
        """Return a connected, blocking socket."""
        address = address or self.address
        if address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(timeout_s)
            client.connect(address[5:])
            return client
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)

    def echoes(self, payload: bytes = b"hello\n") -> bool:
        """Say something to an echo service; return whether it came back."""
        with self.connect() as client:
            client.sendall(payload)
            return exactly(client, len(payload)) == payload

    # ── looking ──

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def workers(self) -> list[WorkerView]:
        """Read the scoreboard through the parent's descriptor."""
        board = self._scoreboard()
        try:
            return [
                WorkerView(
                    row.slot,
                    row[Cell.PID],
                    Life(row[Cell.LIFE]),
                    row.active,
                    row[Cell.ACCEPTED],
                    row[Cell.HANDLER_ERRORS],
                    row[Cell.HEARTBEAT_NS],
                    row[Cell.GENERATION],
                    row[Cell.SEAT],
                    not row[Cell.ACTIVE] & NOT_ACCEPTING,
                )
                for row in board.rows()
            ]
        finally:
            board.close()

    def worker(self, pid: int) -> WorkerView | None:
        """Return what the scoreboard says of a process; None: it is in no slot, or not any more."""
        return next((worker for worker in self.workers() if worker.pid == pid), None)

    def ready_pids(self) -> list[int]:
        """Return the pids of the workers that serve now."""
        return [worker.pid for worker in self.workers() if worker.life is Life.READY]

    def wait_workers(self, count: int, within_s: float = WITHIN_S) -> list[int]:
        """Wait until ``count`` workers serve; return their pids."""
        return eventually(lambda: pids if len(pids := self.ready_pids()) == count else [], within_s)

    def mold_pid(self) -> int:
        """Return the mold's pid: the parent's child that is not in the scoreboard."""
        molds = self.others()
        assert len(molds) == 1, f"{molds}\n{self.log}"
        return molds[0]

    def others(self) -> list[int]:
        """Return the parent's children that are no workers: molds, and whatever else it has started."""
        known = {worker.pid for worker in self.workers()}
        return [pid for pid in children(self.pid) if pid not in known]

    def of_generation(self, generation: int, life: Life | None = None) -> list[WorkerView]:
        """Return the living workers of a generation, by seat; ``life``: those that are there in their life."""
        found = [each for each in self.workers() if each.pid and each.generation == generation]
        return sorted((each for each in found if life is None or each.life is life), key=lambda each: each.seat)

    def _scoreboard(self) -> Scoreboard:
        folder = f"/proc/{self.pid}/fd"
        for name in os.listdir(folder):
            try:
                link = os.readlink(f"{folder}/{name}")
            except FileNotFoundError:  # closed meanwhile
                continue
            if "hybrid-scoreboard" in link:
                return Scoreboard.attach(os.open(f"{folder}/{name}", os.O_RDWR | os.O_CLOEXEC))
        raise AssertionError("the parent has no scoreboard")

    # ── going down ──

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, within_s: float = 20.0) -> int:
        """Wait for the parent's exit; return its code."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s\n{self.log}") from None

    def stop(self, within_s: float = 20.0) -> int:
        """SIGTERM, and wait for the exit."""
        self.signal(signal.SIGTERM)
        return self.wait(within_s)

    def everyone(self) -> list[int]:
        """Return every living process of the server's session."""
        return session_members(self.pid)

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        while members := session_members(self.pid):
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if self.process.poll() is None:
                self.process.wait(10)
            eventually(lambda gone=members: not set(gone) & set(session_members(self.pid)))  # type: ignore[misc]  # bound now
        self.process.wait(10)
        if self._ready_read >= 0:
            os.close(self._ready_read)
            self._ready_read = -1


def ready_pipe() -> tuple[int, int]:
    """Return both ends of a pipe; the second, for ``--ready-fd``, has a high number.

    The server closes it when it is ready. A low one would be left as a gap, which one that is to be short of
    descriptors has to spare; and how low it is depends on what the test's process has open.
    """
    read, write = os.pipe()
    high = fcntl.fcntl(write, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(write)
    return read, high


def exactly(client: socket.socket, count: int) -> bytes:
    """Receive ``count`` bytes, or what came before the end."""
    data = b""
    while len(data) < count:
        chunk = client.recv(count - len(data))
        if not chunk:
            break
        data += chunk
    return data


def until_eof(client: socket.socket) -> bytes:
    """Receive until the peer closes."""
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    return data


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, ppid, pgrp, session …"""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def processes() -> Iterator[tuple[int, list[str]]]:
    """Yield every living process with its stat fields; zombies are not living."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = stat_fields(int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in "ZX":
                yield int(name), fields


def session_members(session: int) -> list[int]:
    """Return the living processes of a session."""
    return [pid for pid, fields in processes() if int(fields[3]) == session]


def children(parent: int) -> list[int]:
    """Return the living children of a process."""
    return [pid for pid, fields in processes() if int(fields[1]) == parent]


def command_line(pid: int) -> str:
    """Return what ps shows of a process; empty: it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptor_links(pid: int) -> list[str]:
    """Return what the process's descriptors point to."""
    return [link for _fd, link in open_descriptors(pid)]


def follows(pid: int, path: Path, old: Path) -> bool:
    """Return whether a process has the new file open, and the old one no more."""
    links = descriptor_links(pid)
    return str(path) in links and str(old) not in links


def kept_descriptors(pid: int) -> int:
    """Return how many descriptors a process keeps: the fewest of many looks, as connections come and go."""
    return len(kept_kinds(pid))


def kept_kinds(pid: int) -> list[str]:
    """Return the kinds of the descriptors that a process keeps: what is read for a moment is not among them."""
    looks = (sorted(link.split(":")[0] for link in descriptor_links(pid)) for _ in range(100))
    return min(looks, key=len)


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return stat_fields(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def send_until(server: Server, number: signal.Signals, said: str) -> None:
    """Send a signal again until the log says so: those that come too close together are one wish."""

    def attempt() -> bool:
        if said not in server.log:
            server.signal(number)
        return said in server.log

    eventually(attempt)


@contextmanager
def running(*arguments: str, log: Path, **popen: Any) -> Iterator[Server]:
    """Run a server for the length of a block."""
    server = Server(arguments, log, **popen)
    try:
        yield server
    finally:
        server.end()
