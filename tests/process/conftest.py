"""Fixtures for tests with real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.forked import NOBODY
from tests.support.server import ROOT, Server, running

Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def nobody_python() -> dict[str, Any]:
    """Return what starts a server with an interpreter that any user can run; skip where there is none."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    paths = [str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    for python in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin:/bin")):
        if python and _can_serve(python, env):
            return {"python": python, "env": env}
    pytest.skip("no interpreter of this version that nobody (65534) can run")


def _can_serve(python: str, env: dict[str, str]) -> bool:
    """Return whether nobody can run ``python``, and import what a mold imports."""
    command = [python, "-c", "import hybrid.mold.main, uvloop, setproctitle"]
    try:
        return not subprocess.call(
            command, env=env, cwd="/", stderr=subprocess.DEVNULL, user=NOBODY, group=NOBODY, extra_groups=()
        )
    except PermissionError:
        return False


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers that end with the test: ``serve("module:attr", "--workers", "2")``; ready when it returns."""
    with ExitStack() as stack:
        count = 0

        def start(target: str, *arguments: str, ready: bool = True, **popen: Any) -> Server:
            nonlocal count
            count += 1
            if not any(argument.startswith(("--bind", "--uds", "--port")) for argument in arguments):
                arguments = (*arguments, "--bind", "127.0.0.1:0")
            server = stack.enter_context(running(target, *arguments, log=tmp_path / f"server{count}.log", **popen))
            return server.wait_ready() if ready else server

        yield start
