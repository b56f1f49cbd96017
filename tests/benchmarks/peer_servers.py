"""Servers to compare: how each is started with one worker on a CPU of its own, and that all of it is ended.

A server is a command of this interpreter's environment; a peer that is not installed there says so. Nothing is logged
of a request, and nothing at all below a warning.
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
from hybrid.bench.measure import pin, tree_cpu_ns
from hybrid.bench.server import plain_environment, session_members
from tests.benchmarks.http_load import HOST, Workload, WrongAnswer, free_port, sample
from tests.benchmarks.measure import SERVER_CPU

__all__ = ["PEERS", "ROOT", "Candidate", "Running", "hybrid"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BOOT_S = 20.0
_POLL_S = 0.02

Arguments = Callable[[str, int], Sequence[str]]
"""From the application, ``module:attribute``, and the port."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that can be started. ``version``: empty if it is not installed."""

    name: str
    version: str
    arguments: Arguments
    """What follows ``python -m``."""
    cwd: Path = HERE
    """Its modules are found here, before all others."""


def hybrid(name: str, tree: Path) -> Candidate:
    """Return hybrid as it is in a source tree."""
    asked = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)

    def arguments(app: str, port: int) -> Sequence[str]:
        options = ("--bind", f"{HOST}:{port}", "--workers", "1", "--log-level", "warning")
        return ("hybrid", app, "--app-dir", str(HERE), *options)

    return Candidate(name, answer.stdout.strip() or "of no commit", arguments, tree)


def _uvicorn(app: str, port: int) -> Sequence[str]:
    quiet = ("--no-access-log", "--log-level", "warning")
    # Without --no-proxy-headers each request passes a middleware whose like we do not have.
    return (
        "uvicorn",
        app,
        "--port",
        str(port),
        "--http",
        "httptools",
        "--loop",
        "uvloop",
        "--no-proxy-headers",
        *quiet,
    )


def _granian(app: str, port: int) -> Sequence[str]:
    options = ("--interface", "asgi", "--loop", "uvloop", "--workers", "1", "--no-access-log", "--log-level", "warning")
    return ("granian", app, "--host", HOST, "--port", str(port), *options)


def _hypercorn(app: str, port: int) -> Sequence[str]:
    return ("hypercorn", app, "--bind", f"{HOST}:{port}", "--worker-class", "uvloop", "--log-level", "warning")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


PEERS = {
    name: Candidate(name, _version(name), arguments)
    for name, arguments in (("uvicorn", _uvicorn), ("granian", _granian), ("hypercorn", _hypercorn))
}
"""By name."""


class Running:
    """A started server. Closes: every process of its session, by pid, on :meth:`end`; also when we are killed."""

    def __init__(self, candidate: Candidate, app: str) -> None:
        self.port = free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end()
        tether = [sys.executable, "-I", tethered.__file__, str(os.getpid())]
        # One seed of hashes for all: what falls into which bucket is no difference between servers.
        environ = plain_environment(os.environ) | {"PYTHONPATH": str(candidate.cwd), "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [*tether, sys.executable, "-m", *candidate.arguments(app, self.port)],
            start_new_session=True,
            preexec_fn=partial(pin, SERVER_CPU),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environ,
            cwd=candidate.cwd,
        )

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

    def cpu_ns(self) -> int:
        """Return the CPU time used so far by all its processes."""
        return tree_cpu_ns(self._process.pid)

    def _last_words(self) -> str:
        lines = os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace").strip().splitlines()
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
        self._log.close()
