"""Servers to compare: how each is started with one worker on a CPU of its own, and that all of it is ended.

A server in Python is a module of this interpreter's environment; a peer that is not installed says so. Requests are
not logged, nor anything else below a warning.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
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
from tests.benchmarks.apps_http import HELLO
from tests.benchmarks.http_load import HOST, Workload, WrongAnswer, free_port, sample
from tests.benchmarks.measure import SERVER_CPU, pin

__all__ = ["HERE", "PEERS", "ROOT", "Candidate", "Running", "hybrid", "installed", "module"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BOOT_S = 20.0
_POLL_S = 0.02

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


def module(*arguments: str) -> Sequence[str]:
    """Return the command that runs a module of this interpreter's environment."""
    return (sys.executable, "-m", *arguments)


def hybrid(name: str, tree: Path, *, logged: bool = False) -> Candidate:
    """Return hybrid as it is in a source tree; ``logged``: with an access log, in a file."""
    asked = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)

    def command(app: str, port: int, folder: Path) -> Sequence[str]:
        options = ["--bind", f"{HOST}:{port}", "--workers", "1", "--log-level", "warning"]
        if logged:
            options += ["--access-log", "--access-log-file", str(folder / "access.log")]
        return module("hybrid", app, "--app-dir", str(HERE), *options)

    return Candidate(name, answer.stdout.strip() or "of no commit", command, cwd=tree)


def _uvicorn(app: str, port: int, _: Path) -> Sequence[str]:
    options = ("--http", "httptools", "--loop", "uvloop", "--no-access-log")
    return module("uvicorn", app, "--host", HOST, "--port", str(port), *options, "--log-level", "warning")


def _granian(app: str, port: int, _: Path) -> Sequence[str]:
    options = ("--interface", "asgi", "--loop", "uvloop", "--workers", "1", "--no-access-log", "--log-level", "warning")
    return module("granian", app, "--host", HOST, "--port", str(port), *options)


def _hypercorn(app: str, port: int, _: Path) -> Sequence[str]:
    return module("hypercorn", app, "--bind", f"{HOST}:{port}", "--worker-class", "uvloop", "--log-level", "warning")


def _granian_wsgi(app: str, port: int, _: Path) -> Sequence[str]:
    options = ("--interface", "wsgi", "--workers", "1", "--no-access-log", "--log-level", "warning")
    return module("granian", app, "--host", HOST, "--port", str(port), *options)


def _gunicorn(app: str, port: int, _: Path) -> Sequence[str]:
    options = ("--worker-class", "gthread", "--threads", "8", "--workers", "1", "--keep-alive", "75")
    return module("gunicorn", app, "--bind", f"{HOST}:{port}", *options, "--log-level", "warning")


_NGINX = """
daemon off; pid nginx.pid; worker_processes 1; error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
    server { listen HOST:PORT; location / { default_type text/plain; return 200 "BODY"; } }
}
"""


def _nginx(_: str, port: int, folder: Path) -> Sequence[str]:
    """Return a command for 12 fixed bytes: no application runs, so it is no peer but a floor."""
    text = _NGINX.replace("HOST", HOST).replace("PORT", str(port)).replace("BODY", HELLO.decode())
    folder.joinpath("nginx.conf").write_text(text)
    return (shutil.which("nginx") or "nginx", "-p", str(folder), "-e", "stderr", "-c", "nginx.conf")


def _bare(_: str, port: int, __: Path) -> Sequence[str]:
    return module("tests.benchmarks.bare_http", HOST, str(port))


def installed(name: str, command: Command, interface: str = "asgi") -> Candidate:
    """Return a server that is a distribution of its own, with its version; or why it cannot be started.

    ``name``: the distribution's, or that and how it is used here: ``granian-wsgi``.
    """
    try:
        version, problem = importlib.metadata.version(name.partition("-")[0]), ""
    except importlib.metadata.PackageNotFoundError:
        version, problem = "", f"not installed in {sys.prefix}: make bench-peers has one that fits"
    return Candidate(name, version, command, problem, interface=interface)


def _found_nginx() -> Candidate:
    if not shutil.which("nginx"):
        return Candidate("nginx", "", _nginx, "not installed: there is no nginx on the PATH")
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
    return Candidate("nginx", said.strip().rpartition("/")[2], _nginx, only_app="apps_http:hello")


PEERS = {
    candidate.name: candidate
    for candidate in (
        installed("uvicorn", _uvicorn),
        installed("granian", _granian),
        installed("hypercorn", _hypercorn),
        installed("gunicorn", _gunicorn, "wsgi"),
        installed("granian-wsgi", _granian_wsgi, "wsgi"),
        hybrid("logged", ROOT, logged=True),
        Candidate("bare", "a uvloop protocol with one answer", _bare, cwd=ROOT, only_app="apps_http:hello"),
        _found_nginx(),
    )
}
"""By name."""


class Running:
    """A started server. Closes: every process of its session, by pid, on :meth:`end`; also when we are killed."""

    def __init__(self, candidate: Candidate, app: str, cpu: int | None = SERVER_CPU) -> None:
        """``cpu``: it runs on this one only; None: wherever it can."""
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="hybrid-peers-")
        folder = Path(self._folder.name)
        self.log_path = folder / "log"
        tether = [sys.executable, "-I", tethered.__file__, str(os.getpid())]
        # One seed of hashes for all: what falls into which bucket is no difference between servers.
        environ = plain_environment(os.environ) | {"PYTHONPATH": str(candidate.cwd), "PYTHONHASHSEED": "0"}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*tether, *candidate.command(app, self.port, folder)],
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
