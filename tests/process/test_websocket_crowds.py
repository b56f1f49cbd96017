"""WebSockets in numbers: two thousand that are idle, floods of every kind, a browser."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.process.test_http_clients import BROWSERS, browsing, tool
from tests.process.test_websocket import APP, HANDSHAKE, is_clean
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand
from tests.support.reloads import reload
from tests.support.server import Server, running
from tests.support.variations import long

SOCKETS = 2000
IDLE_BYTES = 24 * 1024
"""Of an idle WebSocket, at most, in a worker; measured: 9 KiB (tests/benchmarks/idle_websockets.py)."""
FLOODED_BYTES = 100 << 20
"""By which a flood may let a worker grow: a message of 16 MiB, what it inflates from and what it is copied to."""
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


def memory_bytes(pid: int) -> int:
    """Return the private memory of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB$", text, re.MULTILINE))


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has ever had."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def open_socket(stack: ExitStack, server: Server, path: bytes = b"/echo", *lines: bytes) -> ByHand:
    """Return an accepted WebSocket."""
    client = stack.enter_context(ByHand(server.connect()))
    client.send((HANDSHAKE % path).replace(b"\r\n\r\n", b"\r\n" + b"".join(lines) + b"\r\n"))
    assert client.head()[0] == 101
    return client


@pytest.mark.long
def test_thousands_of_idle_sockets(serve: Serve) -> None:
    """They cost little, all of them are closed at a reload with 1012, and nothing of them stays."""
    server = serve(APP, "--workers", "2")
    pids = server.ready_pids()
    with ExitStack() as stack:
        for _ in range(20):  # what is made once is there
            open_socket(stack, server)
        before = sum(map(memory_bytes, pids))
        clients = [open_socket(stack, server) for _ in range(SOCKETS)]
        assert (sum(map(memory_bytes, pids)) - before) / SOCKETS < IDLE_BYTES
        reload(server)
        for client in clients:
            opcode, size = client._take(2)
            assert opcode == 0x88 and client._take(size & 0x7F)[:2] == struct.pack("!H", 1012)
            client.send(b"\x88\x82\0\0\0\0" + struct.pack("!H", 1012))
        eventually(lambda: not any(worker.pid in pids for worker in server.workers()), 30)
    assert is_clean(server) and server.stop() == 0, server.log


# ── floods ───────────────────────────────────────────────────────────────────────────────────────────────────


def frame(first: int, payload: bytes) -> bytes:
    """Return a frame with a mask of zeros."""
    size = len(payload)
    if size < 126:
        return bytes((first, 0x80 | size)) + bytes(4) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 0xFE, size) + bytes(4) + payload
    return struct.pack("!BBQ", first, 0xFF, size) + bytes(4) + payload


def deflated(size: int) -> bytes:
    """Return so many zeros, compressed."""
    stream = zlib.compressobj(9, wbits=-15)
    return (stream.compress(bytes(size)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = deflated(16 << 20)
FLOODS: dict[str, Callable[[], bytes]] = {
    "empty messages": lambda: frame(0x81, b"") * 300_000,
    "pings": lambda: frame(0x89, b"x" * 125) * 60_000,
    "empty pings": lambda: frame(0x89, b"") * 300_000,
    "pongs": lambda: frame(0x8A, b"") * 300_000,
    "tiny fragments": lambda: frame(0x01, b"a") + frame(0x00, b"a") * 300_000,
    "empty fragments": lambda: frame(0x01, b"") + frame(0x00, b"") * 300_000,
    "one message, ever longer": lambda: struct.pack("!BBQ", 0x82, 0xFF, 16 << 20) + bytes(4) + bytes(16 << 20),
    "one message too long": lambda: struct.pack("!BBQ", 0x82, 0xFF, 1 << 40) + bytes(4) + bytes(1 << 20),
    "a bomb": lambda: frame(0xC2, deflated(100 << 20)),
    "bombs that just fit": lambda: frame(0xC2, BOMB) * 40,
    "many small bombs": lambda: frame(0xC2, deflated(60_000)) * 3000,
    "closes": lambda: frame(0x88, b"\x03\xe8") * 100_000,
}


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, whose memory is looked at."""
    log = tmp_path_factory.mktemp("flooded") / "log"
    # Pings, so that it is found out who is gone while nobody takes what it has sent; an answer is not waited for.
    pings = ("--ws-ping-interval", "0.5", "--ws-ping-timeout", "0")
    arguments = (APP, "--workers", "1", "--bind", "127.0.0.1:0", "--graceful-timeout", "1", *pings)
    with running(*arguments, log=log) as server:
        yield server.wait_ready()
        assert is_clean(server) and server.stop() == 0, server.log


@pytest.mark.parametrize("path", ["/echo", long("/drip")])
@pytest.mark.parametrize("flood", FLOODS)
def test_flood(flooded: Server, flood: str, path: str) -> None:
    """Sent by who reads nothing, to who takes all and to who takes nothing: the worker stays small, and others live."""
    (pid,) = flooded.ready_pids()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # from now on, the peak is that of this flood: proc(5)
    before = peak_bytes(pid)
    with ExitStack() as stack:
        client = open_socket(stack, flooded, path.encode(), DEFLATE)
        other = open_socket(stack, flooded)
        client.socket.settimeout(1)
        try:
            client.socket.sendall(FLOODS[flood]())
        except OSError:  # it is not read any more, or cut
            pass
        other.send(frame(0x81, b"still here"))
        while (said := other._take(2))[0] == 0x89:
            other._take(said[1])
        assert said + other._take(10) == b"\x81\x0astill here"
        assert peak_bytes(pid) - before < FLOODED_BYTES
        client.socket.close()
        eventually(lambda: sum(worker.active for worker in flooded.workers()) == 1)


# ── a browser ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
def test_browser_through_a_reload(serve: Serve, tmp_path: Path) -> None:
    """A page whose script connects again: it is told 1012, in order, and is served by the new generation."""
    tool(*BROWSERS)
    server = serve(APP, "--workers", "2")
    old = server.ready_pids()
    with browsing(f"http://{server.address}/socket", tmp_path / "profile"):
        first = eventually(lambda: re.search(r"page: open (\d+) after \n", server.log), 40)
        assert first is not None and int(first[1]) in old
        reload(server)
        again = eventually(lambda: re.search(r"page: open (\d+) after 1012 true\n", server.log), 40)
        assert again is not None and int(again[1]) in server.ready_pids() and int(again[1]) not in old
    assert is_clean(server), server.log
