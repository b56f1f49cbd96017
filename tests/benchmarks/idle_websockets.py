"""What an idle WebSocket costs: the memory of a server with one worker, before and with thousands of them.

Run: ``python -m tests.benchmarks.idle_websockets [SOCKETS] [SERVER ...]``; servers: ``hybrid``, and those of
:mod:`tests.benchmarks.peer_servers`. Each is asked in its own process, once with sockets that have never said anything,
and once with such that offered compression and had one message compressed both ways. Printed: KiB for each socket, of
the proportional set size (smaps_rollup, proc(5)) of the server's whole session; the kernel's buffers are not in it.
What the same server still holds when all have left is printed, too.

A round ends before anybody is cut for a pong: the clients answer none. It needs SOCKETS descriptors here and there.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import sys
import time
import zlib
from collections.abc import Sequence

from hybrid.bench.server import session_members
from hybrid.shared.procfs import open_descriptors
from tests.benchmarks.http_load import HOST, WrongAnswer
from tests.benchmarks.http_workloads import WORKLOADS
from tests.benchmarks.peer_commands import PEERS, hybrid
from tests.benchmarks.peer_servers import ROOT, Candidate, Running
from tests.support.eventually import eventually

SOCKETS = 10_000
PATIENCE_S = 20.0
_WORKLOAD = WORKLOADS["websocket"]
_OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
_TEXT = (
    b'{"kind":"position","id":1234,"x":1.25,"y":-3.5,"labels":["one","two","three","four"],"at":"2024-01-01T00:00Z"}'
)


def memory_bytes(session: int) -> int:
    """Return the proportional set size of all processes of a session."""
    total = 0
    for pid in session_members(session):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError), open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    return total


def descriptors(session: int) -> int:
    """Return how many descriptors a session's processes have."""
    return sum(len(open_descriptors(pid)) for pid in session_members(session))


def dial(port: int, *, speaks: bool) -> socket.socket:
    """Return an open WebSocket; ``speaks``: that has compression, and has had one message."""
    opening = _WORKLOAD.opening.replace(b"\r\n\r\n", b"\r\n" + _OFFER) if speaks else _WORKLOAD.opening
    client = socket.create_connection((HOST, port), timeout=20)
    client.sendall(opening)
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += client.recv(4096) or _gone(said)
    if speaks:
        stream = zlib.compressobj(wbits=-15)
        data = (stream.compress(_TEXT) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
        client.sendall(bytes((0xC1, 0x80 | len(data))) + bytes(4) + data)
        client.recv(4096) or _gone(b"nothing of an echo")
    return client


def _gone(said: bytes) -> bytes:
    raise WrongAnswer(f"the server closed after {said!r}")


def measure(candidate: Candidate, sockets: int, *, speaks: bool) -> str:
    """Return a row's figures: KiB for each socket, while it is open and when it has left."""
    running = Running(candidate, _WORKLOAD.app, None)
    held: list[socket.socket] = []
    try:
        running.wait_ready(_WORKLOAD)
        dial(running.port, speaks=speaks).close()
        idle = descriptors(running.pid)
        for _ in range(200):  # what is made once is there
            dial(running.port, speaks=speaks).close()
        eventually(lambda: descriptors(running.pid) <= idle, PATIENCE_S)
        before = memory_bytes(running.pid)
        began = time.monotonic()
        held = [dial(running.port, speaks=speaks) for _ in range(sockets)]
        took_s = time.monotonic() - began
        with_them = memory_bytes(running.pid)
        lost = _ended(held)
        for each in held:
            each.close()
        held = []
        eventually(lambda: descriptors(running.pid) <= idle, PATIENCE_S)
        after = memory_bytes(running.pid)
    finally:
        for each in held:
            each.close()
        running.end()
    figures = f"{(with_them - before) / sockets / 1024:6.2f} KiB each   left {(after - before) / sockets / 1024:6.2f}"
    return f"{figures}   opened in {took_s:.1f} s" + (f"   {lost} WERE CLOSED" if lost else "")


def _ended(held: Sequence[socket.socket]) -> int:
    """Return how many the server has closed."""
    poll = select.poll()
    for each in held:
        poll.register(each, select.POLLRDHUP)
    return len(poll.poll(0))


def main(arguments: Sequence[str]) -> None:
    """Measure each server that was named, or hybrid and uvicorn."""
    sockets = int(arguments[0]) if arguments else SOCKETS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    servers = PEERS | {"hybrid": hybrid("hybrid", ROOT)}
    for name in arguments[1:] or ("hybrid", "uvicorn"):
        candidate = servers[name]
        if candidate.problem:
            print(f"{name:10} {candidate.problem}")
            continue
        for speaks in (False, True):
            kind = "compressed once" if speaks else "silent"
            print(
                f"{name:10} {candidate.version:10} {kind:16} {measure(candidate, sockets, speaks=speaks)}", flush=True
            )


if __name__ == "__main__":
    main(sys.argv[1:])
