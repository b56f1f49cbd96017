"""Servers to compare: that each runs, on a CPU of its own if it is to, that it answers, and that all of it is ended.

A server in Python is a module of this interpreter's environment; a peer that is not installed says so. Which servers
there are, and how each is started: :mod:`tests.benchmarks.peer_commands`.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hybrid.bench import tethered
from hybrid.bench.measure import tree_cpu_ns
from hybrid.bench.server import plain_environment, session_members
from tests.benchmarks.http_load import Workload, WrongAnswer, sample
from tests.benchmarks.measure import ROOT, SERVER_CPU, pin
from tests.support.ports import free_port

__all__ = ["HERE", "LOG", "ROOT", "Candidate", "Running", "installed", "module"]

HERE = Path(__file__).resolve().parent
BOOT_S = 20.0
LOG = "log"
"""What a server writes to its standard output and error, in its directory."""
_POLL_S = 0.02
_QUIET_S = 0.25
_QUIET = 0.02
"""Of a CPU: more than an idle server uses."""

Command = Callable[[str, int, Path], Sequence[str]]
"""From the application, ``module:attribute``, the port, and a directory that is there as long as the server is."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that can be started."""

    name: str
    version: str
    command: Command
    problem: str = ""
    """Why it cannot be started after all."""
    cwd: Path = HERE
    """Its modules are found here, before all others."""
    only_app: str = ""
    """If it can serve one application only: that one."""
    interface: str = ""
    """If it is measured with one kind of application only: which."""
    access_log: str = ""
    """If each request is logged: the file, in the server's directory."""

    def serves(self, app: str, interface: str) -> bool:
        """Return whether it is measured with an application of such a kind at all."""
        return self.only_app in ("", app) and self.interface in ("", interface)


def module(*arguments: str) -> Sequence[str]:
    """Return the command that runs a module of this interpreter's environment."""
    return (sys.executable, "-m", *arguments)


def installed(name: str, command: Command, interface: str = "asgi") -> Candidate:
    """Return a server that is a distribution of its own, with its version; or why it cannot be started.

    ``name``: the distribution's, or that and how it is used here: ``granian-wsgi``.
    """
    try:
        version, problem = importlib.metadata.version(name.partition("-")[0]), ""
    except importlib.metadata.PackageNotFoundError:
        version, problem = "", f"not installed in {sys.prefix}: make bench-peers has one that fits"
    return Candidate(name, version, command, problem, interface=interface)


class Running:
    """A started server. Closes: every process of its session, by pid, on :meth:`end`; also when we are killed."""

    def __init__(self, candidate: Candidate, app: str, cpu: int | None = SERVER_CPU) -> None:
        """``cpu``: it runs on this one only; None: wherever it can."""
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="hybrid-peers-")
        self.folder = Path(self._folder.name)
        self.log_path = self.folder / LOG
        tether = [sys.executable, "-I", tethered.__file__, str(os.getpid())]
        # One seed of hashes for all: what falls into which bucket is no difference between servers.
        environ = plain_environment(os.environ) | {"PYTHONPATH": str(candidate.cwd), "PYTHONHASHSEED": "0"}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*tether, *candidate.command(app, self.port, self.folder)],
                start_new_session=True,
                preexec_fn=None if cpu is None else partial(pin, cpu),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd=candidate.cwd,
            )

    @property
    def pid(self) -> int:
        """The process that takes signals; also the number of the session."""
        return self._process.pid

    def wait_ready(self, workload: Workload) -> None:
        """Wait for the first right answer. Raises: WrongAnswer: it ended, takes too long, or answers something else."""
        deadline_s = time.monotonic() + BOOT_S
        while True:
            try:
                sample(self.port, workload)
                return
            except (OSError, WrongAnswer) as error:
                if self._process.poll() is not None:
                    raise WrongAnswer(f"it ended with {self._process.returncode}: {self._last_words()}") from error
                if isinstance(error, WrongAnswer) or time.monotonic() > deadline_s:
                    raise WrongAnswer(f"{error}; {self._last_words()}") from error
            time.sleep(_POLL_S)

    def wait_quiet(self) -> None:
        """Wait until nothing of it boots any more: it uses no CPU. Raises: WrongAnswer: it does not come to rest."""
        deadline_s = time.monotonic() + BOOT_S
        quiet = 0
        while quiet < 2:
            if time.monotonic() > deadline_s:
                raise WrongAnswer(f"it is still busy after {BOOT_S:g} s without a request")
            began_s, before_ns = time.monotonic(), self.cpu_ns()
            time.sleep(_QUIET_S)
            used = (self.cpu_ns() - before_ns) / 1e9 / (time.monotonic() - began_s)
            quiet = quiet + 1 if used < _QUIET else 0

    def members(self) -> list[int]:
        """Return its living processes, the one that takes signals first."""
        return sorted(session_members(self._process.pid), key=lambda pid: (pid != self._process.pid, pid))

    def cpu_ns(self) -> int:
        """Return the CPU time used so far by all its processes."""
        return tree_cpu_ns(self._process.pid)

    def _last_words(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it logged nothing"

    def end(self) -> None:
        """Kill all of it, and wait for it."""
        while members := session_members(self._process.pid):
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if self._process.poll() is None:
                self._process.wait()
            time.sleep(_POLL_S)
        self._process.wait()
        self._folder.cleanup()
