"""S24: an HTTP worker that may open no more files serves whom it has, waits with the others, and recovers by itself."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from hybrid.shared.procfs import open_descriptors
from tests.process.conftest import Serve
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand
from tests.support.parent_hand import is_away

KNOBS = "tests.apps.http_knobs:app"
MANY = 60


@contextmanager
def short_of_descriptors(pid: int, left: int) -> Iterator[None]:
    """Let a process open so many more files, and no more."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(open_descriptors(pid)) + left, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def asks(client: socket.socket) -> None:
    """Send a request."""
    client.sendall(b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_s24_requests_are_answered_without_descriptors(serve: Serve, loop: str) -> None:
    """Kept connections are served on; the clients above the limit wait in the kernel's queue, and none is cut off."""
    server = serve(KNOBS, "--workers", "1", "--loop", loop)
    (pid,) = server.ready_pids()
    with ExitStack() as stack:
        kept = [stack.enter_context(ByHand(server.connect())) for _ in range(4)]
        assert [client.get("/pid").body for client in kept] == [b"%d" % pid] * 4
        with short_of_descriptors(pid, 3):
            eventually(lambda: is_away(server, 0))  # libuv would hang up on who comes before it has seen this
            waiting = [stack.enter_context(ByHand(server.connect())) for _ in range(MANY)]
            for client in waiting:
                asks(client.socket)
            for _ in range(20):
                assert [client.get("/pid").status for client in kept] == [200] * 4
            assert server.ready_pids() == [pid]
        assert [client.answer().body for client in waiting] == [b"%d" % pid] * MANY
    assert server.log.count("descriptors run short") == 1, server.log
    assert "Too many open files" not in server.log
    assert server.stop() == 0, server.log
