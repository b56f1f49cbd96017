"""The servers of :mod:`tests.benchmarks.peers`: how each is started. Nothing below a warning is logged, but requests.

They differ as their authors left them, except for what would compare two things at once: the loop is uvloop and the
parser httptools where there is a choice, one application has one interface, and a request is logged if it is to be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hybrid.bench.server import plain_environment
from tests.benchmarks.apps_http import HELLO
from tests.benchmarks.http_load import HOST
from tests.benchmarks.peer_servers import HERE, LOG, ROOT, Candidate, Command, installed, module

__all__ = ["HYBRID", "HYBRID_COMPILED", "LOGGED", "PEERS", "PLAIN", "Setup", "hybrid", "kind_of", "peers"]

HYBRID = "hybrid"
HYBRID_COMPILED = "hybrid compiled"
LOGGED = " logged"
"""Behind the name of a server that logs each request."""
_KIND = "from hybrid.ground.build import kind; print(kind())"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is the same for all servers of a table."""

    workers: int = 1
    logged: bool = False
    """Whether each request is logged, to a file."""


PLAIN = Setup()


def kind_of(tree: Path) -> str:
    """Return ``compiled`` or ``pure``: what a source tree of hybrid runs as in this interpreter.

    The tree is asked itself; one that cannot tell is compiled if there is a library in its ``hybrid/http``.
    """
    environ = plain_environment(os.environ) | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", _KIND]
    asked = subprocess.run(command, env=environ, cwd=tree, capture_output=True, text=True, check=False)
    if not asked.returncode:
        return asked.stdout.strip()
    return "compiled" if any(tree.glob("hybrid/http/*.so")) else "pure"


def hybrid(name: str, tree: Path, how: Setup = PLAIN) -> Candidate:
    """Return hybrid as it is in a source tree."""
    asked = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)

    def command(app: str, port: int, folder: Path) -> Sequence[str]:
        options = ["--bind", f"{HOST}:{port}", "--workers", str(how.workers), "--log-level", "warning"]
        if how.logged:
            options += ["--access-log", "--access-log-file", str(folder / "access.log")]
        return module("hybrid", app, "--app-dir", str(HERE), *options)

    version = f"{answer.stdout.strip() or 'of no commit'} ({kind_of(tree)})"
    return Candidate(name, version, command, cwd=tree, access_log="access.log" if how.logged else "")


def _uvicorn(how: Setup) -> Command:
    # Its loggers have one level in common, and write to standard output: that is a file.
    logging = ("--log-level", "info") if how.logged else ("--log-level", "warning", "--no-access-log")
    options = ("--http", "httptools", "--loop", "uvloop", "--workers", str(how.workers), *logging)
    return lambda app, port, _: module("uvicorn", app, "--host", HOST, "--port", str(port), *options)


def _granian(interface: str) -> Callable[[Setup], Command]:
    loop = ("--loop", "uvloop") if interface == "asgi" else ()

    def of(how: Setup) -> Command:
        logging = ("info", "--access-log") if how.logged else ("warning", "--no-access-log")
        options = ("--interface", interface, *loop, "--workers", str(how.workers), "--log-level", *logging)
        return lambda app, port, _: module("granian", app, "--host", HOST, "--port", str(port), *options)

    return of


def _hypercorn(how: Setup) -> Command:
    options = ("--worker-class", "uvloop", "--workers", str(how.workers), "--log-level", "warning")
    return lambda app, port, _: module("hypercorn", app, "--bind", f"{HOST}:{port}", *options)


def _gunicorn(*worker: str) -> Callable[[Setup], Command]:
    def of(how: Setup) -> Command:
        options = (*worker, "--workers", str(how.workers), "--keep-alive", "75", "--log-level", "warning")
        return lambda app, port, _: module("gunicorn", app, "--bind", f"{HOST}:{port}", *options)

    return of


_NGINX = """
daemon off; pid nginx.pid; worker_processes WORKERS; error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
    server { listen HOST:PORT; location / { default_type text/plain; return 200 "BODY"; } }
}
"""


def _nginx(how: Setup) -> Command:
    """Return a command for 12 fixed bytes: no application runs, so it is no peer but a floor."""

    def command(_: str, port: int, folder: Path) -> Sequence[str]:
        text = _NGINX.replace("HOST", HOST).replace("PORT", str(port)).replace("BODY", HELLO.decode())
        folder.joinpath("nginx.conf").write_text(text.replace("WORKERS", str(how.workers)))
        return (shutil.which("nginx") or "nginx", "-p", str(folder), "-e", "stderr", "-c", "nginx.conf")

    return command


def _found_nginx(how: Setup) -> Candidate:
    if not shutil.which("nginx"):
        return Candidate("nginx", "", _nginx(how), "not installed: there is no nginx on the PATH")
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
    return Candidate("nginx", said.strip().rpartition("/")[2], _nginx(how), only_app="apps_http:hello")


def _of_its_own(name: str, app: str) -> Candidate:
    """Return a server that serves no application, but does what ``app`` does."""
    own = installed(name, lambda _, port, __: module("tests.benchmarks.own_api", name, HOST, str(port)))
    return replace(own, cwd=ROOT, only_app=app)


def _bare(_: str, port: int, __: Path) -> Sequence[str]:
    return module("tests.benchmarks.bare_http", HOST, str(port))


_ONE_WORKER = (
    _of_its_own("socketify", "apps_http:hello"),
    _of_its_own("aiohttp", "apps_http:websocket_echo"),
    _of_its_own("picows", "apps_http:websocket_echo"),
    Candidate("bare", "a uvloop protocol with one answer", _bare, cwd=ROOT, only_app="apps_http:hello"),
)


def peers(how: Setup) -> dict[str, Candidate]:
    """Return all servers but hybrid, by name, whether or not they are installed.

    What has one worker only, or cannot log a request here, is left out where more is asked for; gunicorn's own worker
    for ASGI, which is slower than uvicorn's, is there with several workers only, for what they hold.
    """
    logging = [installed("uvicorn", _uvicorn(how)), installed("granian", _granian("asgi")(how))]
    if how.logged:
        return {each.name: replace(each, name=each.name + LOGGED, access_log=LOG) for each in logging}
    scaling = [
        *logging,
        installed("hypercorn", _hypercorn(how)),
        installed("gunicorn", _gunicorn("--worker-class", "gthread", "--threads", "8")(how), "wsgi"),
        installed("granian-wsgi", _granian("wsgi")(how), "wsgi"),
        _found_nginx(how),
    ]
    if how.workers > 1:
        scaling.append(installed("gunicorn-asgi", _gunicorn("--worker-class", "asgi")(how)))
    return {each.name: each for each in (*scaling, *(_ONE_WORKER if how.workers == 1 else ()))}


PEERS = peers(PLAIN)
"""With one worker, without an access log."""
