"""What real clients of a real worker met, as small as it gets."""

from __future__ import annotations

import os
import signal
import socket
import struct
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.support.eventually import eventually

KNOBS = "tests.apps.http_knobs:app"
HALF = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n01"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_client_that_resets_before_it_is_accepted_is_no_error(serve: Serve, tmp_path: Path, loop: str) -> None:
    """Nobody knows its address any more, and uvloop says so with another exception once the transport is closed."""
    access = tmp_path / "access.log"
    server = serve(KNOBS, "--workers", "1", "--loop", loop, "--access-log", "--access-log-file", str(access))
    (pid,) = server.ready_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            client = server.connect()
            client.sendall(HALF)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: access.read_text().count("POST /echo") == 3)
    assert server.stop() == 0, server.log
    assert " error " not in server.log, server.log
