"""Fixtures for tests with real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, running

Serve = Callable[..., Server]


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
