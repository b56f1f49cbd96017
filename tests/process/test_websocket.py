"""WebSockets on a real pool, with real clients: a reload, a stop, recycling; what the options do; who is gone."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import re
import signal
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hybrid.shared.procfs import open_descriptors
from tests.process.conftest import Serve
from tests.support.certificates import make_certificates
from tests.support.connections import Client as Peer
from tests.support.eventually import eventually, eventually_async
from tests.support.reloads import reload, wait_alone
from tests.support.server import Server, running
from tests.support.variations import long
from tests.support.websocket_clients import dial, regulars

APP = "tests.apps.websockets:app"
PEOPLE = 12
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


ByHand = Callable[[Server, str], Awaitable[Peer]]


@pytest.fixture
def by_hand() -> Iterator[ByHand]:
    """Return what makes clients that have asked for a WebSocket and say no more; they are closed with the test."""
    peers: list[Peer] = []

    async def ask(server: Server, path: str) -> Peer:
        peer = Peer(server.connect())
        peers.append(peer)
        peer.sock.setblocking(False)
        await peer.send(HANDSHAKE % path.encode())
        if path != "/never":
            assert await peer.receive(8) == b"HTTP/1.1"
        return peer

    yield ask
    for peer in peers:
        peer.sock.close()


def errors(server: Server) -> int:
    """Return how many connections an application has failed."""
    return sum(worker.errors for worker in server.workers())


def is_clean(server: Server) -> bool:
    """Whether nothing was logged as an error, and no application failed."""
    return not re.search(r"\] (error|critical)|Traceback", server.log) and not errors(server)


# ── a reload, a stop, recycling ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loop", ["uvloop", long("asyncio")])
async def test_reload_and_stop_with_open_sockets(serve: Serve, loop: str) -> None:
    """1012 at the reload, 1001 at the stop and no other code; every message is acknowledged; nothing has failed."""
    server = serve(APP, "--workers", "2", "--loop", loop)
    old = {str(pid) for pid in server.ready_pids()}
    async with regulars(server, PEOPLE) as people:
        await people.wait_more(5)
        assert set(people.pids) <= old
        await asyncio.to_thread(reload, server)
        await asyncio.to_thread(wait_alone, server, 2, 2)
        await people.wait_more(5)
        assert dict(people.codes) == {1012: PEOPLE} and people.refused == 0
        new = {str(pid) for pid in server.ready_pids()}
        assert len(people.pids) == 2 * PEOPLE and set(people.pids[PEOPLE:]) <= new and not new & old
        assert is_clean(server), server.log
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait) == 0, server.log
        await eventually_async(lambda: people.refused >= PEOPLE)
        # Who comes again at once may still find a worker that has not heard of the stop, and is sent away once more.
        assert set(people.codes) == {1012, 1001} and people.codes[1012] == PEOPLE, people.codes
        assert people.codes[1001] == server.log.count("ended: 1001") >= PEOPLE and people.wrong == []
    assert not re.search(r"\] (error|critical)|Traceback|[1-9]\d* (were cancelled|cut)", server.log), server.log
    assert server.log.count("ended: 1012") == PEOPLE


async def test_recycling(serve: Serve) -> None:
    """--max-requests: a WebSocket is one; the worn-out worker's clients come again at another."""
    server = serve(APP, "--workers", "2", "--max-requests", "3", "--max-requests-jitter", "0")
    async with regulars(server, 6) as people:
        await eventually_async(lambda: people.codes.total() >= 6)
        await people.wait_more(5)
        assert set(people.codes) == {1012} and people.wrong == [] and people.refused == 0
        assert is_clean(server), server.log


async def test_stop_that_nobody_answers(serve: Serve, by_hand: ByHand) -> None:
    """Peers that never say Close, that read nothing, or have not been accepted: the grace ends it, not they."""
    server = serve(APP, "--workers", "1", "--graceful-timeout", "1")
    paths = ("/echo", "/hang-up", "/flood", "/deaf", "/never")
    for path in paths:
        await by_hand(server, path)
    eventually(lambda: sum(worker.active for worker in server.workers()) == len(paths))
    assert await asyncio.to_thread(server.stop) == 0, server.log
    assert "SIGKILL" not in server.log


async def test_without_a_pool(serve: Serve) -> None:
    """--workers 0: the same, and 1001 at the end."""
    server = serve(APP, "--workers", "0", ready=False)
    found = await asyncio.to_thread(lambda: eventually(lambda: re.search(r" on (127\.0\.0\.1:\d+)\n", server.log), 20))
    assert found
    async with connect(f"ws://{found[1]}/echo", proxy=None) as socket:
        await socket.send("a")
        assert await socket.recv() == "a"
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1001
    assert await asyncio.to_thread(server.wait) == 0, server.log


# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that end well; it leaves in order."""
    log = tmp_path_factory.mktemp("websockets") / "log"
    with running(APP, "--workers", "2", "--bind", "127.0.0.1:0", log=log) as server:
        yield server.wait_ready()
        assert is_clean(server), server.log
        assert server.stop() == 0, server.log


async def talk(socket: ClientConnection, seed: int) -> None:
    """Say much, of all sizes and kinds, whole and in pieces, with pings in between; hear it all again."""
    chance = random.Random(seed)
    sizes = (0, 1, 125, 126, 65535, 65536, 1_000_000)
    for size in sizes:
        for message in (chance.randbytes(size), "ü" * (size // 2), b"{}, " * (size // 4)):
            await socket.send(message)
            assert await socket.recv() == message
        pieces = [chance.randbytes(size // 10), b"", bytes(size), b"end"]
        await socket.send(pieces)
        waits = await socket.ping()
        assert await socket.recv() == b"".join(pieces)
        await waits


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_websockets(crowded: Server, compression: str | None) -> None:
    """The client ``websockets``, with compression and without; several at a time."""
    sockets = [await dial(crowded, compression=compression, max_size=None) for _ in range(3)]
    extensions = [extension.name for socket in sockets for extension in socket.protocol.extensions]
    assert extensions == (["permessage-deflate"] * 3 if compression else [])
    await asyncio.gather(*(talk(socket, number) for number, socket in enumerate(sockets)))
    for socket in sockets:
        await socket.close(4321, "bye")
        assert (socket.close_code, socket.close_reason) == (4321, "")


async def test_denied_and_closed(crowded: Server) -> None:
    """403 for who is not wanted; code and reason for who has to leave."""
    with pytest.raises(InvalidStatus) as denied:
        await dial(crowded, "/deny")
    assert denied.value.response.status_code == 403
    socket = await dial(crowded, "/hang-up")
    await socket.wait_closed()
    assert (socket.close_code, socket.close_reason) == (4000, "enough")


async def test_aiohttp(crowded: Server) -> None:
    """Another client, that compresses, too."""
    import aiohttp  # here: a second, which each process that collects would pay

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{crowded.address}/echo", compress=15) as socket,
    ):
        for size in (0, 10, 1000, 100_000, 1_000_000):
            data = os.urandom(size) + bytes(size)
            await socket.send_bytes(data)
            assert await socket.receive_bytes() == data
            await socket.send_str("ü" * size)
            assert await socket.receive_str() == "ü" * size
        await socket.ping(b"?")
        await socket.close(code=4000)
        assert socket.close_code == 4000


async def test_tls(serve: Serve, tmp_path: Path) -> None:
    """wss, and a reload of it: 1012 within TLS."""
    certificates = make_certificates(tmp_path)
    files = ("--ssl-certfile", certificates.certificate, "--ssl-keyfile", certificates.key)
    server = serve(APP, "--workers", "1", *files)
    context: ssl.SSLContext = certificates.client_context()
    async with connect(f"wss://{server.address}/echo", ssl=context, proxy=None, max_size=None) as socket:
        await talk(socket, 1)
        await asyncio.to_thread(reload, server)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
    async with connect(f"wss://{server.address}/echo", ssl=context, proxy=None) as socket:
        assert await asyncio.to_thread(server.stop) == 0
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1001
    assert "] error" not in server.log, server.log


async def test_unix_socket(serve: Serve, tmp_path: Path) -> None:
    """No port, the same."""
    path = tmp_path / "sock"
    server = serve(APP, "--workers", "1", "--uds", str(path))
    async with unix_connect(str(path), "ws://localhost/echo", max_size=None) as socket:
        await talk(socket, 2)
    assert is_clean(server) and server.stop() == 0, server.log


# ── clients that die ─────────────────────────────────────────────────────────────────────────────────────────

STAGES = ("/never", "/echo", "/pid", "/flood", "/deny", "/hang-up")


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_dead_clients_leave_nothing_behind(serve: Serve, by_hand: ByHand, how: str) -> None:
    """Before it is accepted, open, with much unread, denied, closing: no descriptor and no connection stays."""
    server = serve(APP, "--workers", "1")
    (pid,) = server.ready_pids()
    (await dial(server)).transport.abort()
    await eventually_async(lambda: not sum(worker.active for worker in server.workers()))
    before = len(open_descriptors(pid))
    peers = [await by_hand(server, path) for path in STAGES * 10]
    await eventually_async(lambda: sum(worker.active for worker in server.workers()) == len(peers))
    for peer in peers:
        peer.reset() if how == "rst" else peer.sock.close()
    await eventually_async(lambda: not sum(worker.active for worker in server.workers()))
    await eventually_async(lambda: len(open_descriptors(pid)) == before)
    assert is_clean(server), server.log
    assert server.stop() == 0


def _hold(address: str, ready: Any) -> None:
    """Be a client with a hundred WebSockets, until killed."""

    async def hold() -> None:
        held = [await connect(f"ws://{address}{path}", proxy=None) for path in ("/echo", "/pid") for _ in range(20)]
        ready.set()
        await asyncio.gather(*(each.wait_closed() for each in held))

    asyncio.run(hold())


async def test_killed_client_leaves_nothing_behind(serve: Serve) -> None:
    """SIGKILL to the process that holds them: the kernel says goodbye for it."""
    server = serve(APP, "--workers", "1")
    (pid,) = server.ready_pids()
    (await dial(server)).transport.abort()
    await eventually_async(lambda: not sum(worker.active for worker in server.workers()))
    before = len(open_descriptors(pid))
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    client = context.Process(target=_hold, args=(server.address, ready))
    client.start()
    try:
        assert await asyncio.to_thread(ready.wait, 20)
        await eventually_async(lambda: sum(worker.active for worker in server.workers()) == 40)
    finally:
        client.kill()
        client.join(10)
        client.close()
    await eventually_async(lambda: not sum(worker.active for worker in server.workers()))
    await eventually_async(lambda: len(open_descriptors(pid)) == before)
    assert is_clean(server), server.log


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_largest_message(serve: Serve) -> None:
    """--ws-max-size: as many bytes, and not one more; compressed or not."""
    server = serve(APP, "--workers", "1", "--ws-max-size", "100000")
    for compression in ("deflate", None):
        async with await dial(server, compression=compression) as socket:
            await socket.send(bytes(100_000))
            assert await socket.recv() == bytes(100_000)
            await socket.send(bytes(100_001))
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1009
    assert server.stop() == 0


async def test_pings_and_compression(serve: Serve, by_hand: ByHand) -> None:
    """--ws-ping-interval, -timeout: who answers stays, who does not is cut; --no-ws-per-message-deflate."""
    options = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "2", "--no-ws-per-message-deflate")
    server = serve(APP, "--workers", "1", *options)
    peer = await by_hand(server, "/echo")
    async with await dial(server) as socket:
        assert socket.protocol.extensions == []
        said = (await asyncio.wait_for(peer.receive_all(), 20)).partition(b"\r\n\r\n")[2]
        assert said.startswith(b"\x89\x011") and b"\x88" in said and b"\x03\xf3" in said  # 1011
        await socket.send("still here")
        assert await socket.recv() == "still here"
    eventually(lambda: "ended: 1011" in server.log)
    assert is_clean(server) and server.stop() == 0, server.log


async def test_no_pings(serve: Serve, by_hand: ByHand) -> None:
    """--ws-ping-interval 0: a peer that answers nothing is not asked; --write-timeout is for one that reads nothing."""
    server = serve(APP, "--workers", "1", "--ws-ping-interval", "0", "--write-timeout", "0.5")
    idle, _slow = await by_hand(server, "/echo"), await by_hand(server, "/flood")
    await eventually_async(lambda: sum(worker.active for worker in server.workers()) == 1)
    await idle.send(b"\x81\x80\0\0\0\0")
    while not (said := await idle.receive()).endswith(b"\x81\0"):
        assert said and b"\x89" not in said


async def test_limits_of_requests(serve: Serve) -> None:
    """--limit-concurrency counts it; --request-timeout is the time until it is accepted."""
    server = serve(APP, "--workers", "1", "--limit-concurrency", "2", "--request-timeout", "0.5")
    async with await dial(server) as socket:
        waiting = asyncio.ensure_future(dial(server, "/never"))
        await eventually_async(lambda: sum(worker.active for worker in server.workers()) == 2)
        with pytest.raises(InvalidStatus) as many:
            await dial(server)
        assert many.value.response.status_code == 503
        with pytest.raises(InvalidStatus) as late:
            await waiting
        assert late.value.response.status_code == 504
        await socket.send("still here")
        assert await socket.recv() == "still here"


async def test_access_log(serve: Serve, tmp_path: Path) -> None:
    """One line for each, when it has ended: 101 and the bytes of its messages; the status of one that was denied."""
    file = tmp_path / "access"
    options = ("--access-log", "--access-log-file", str(file), "--access-log-format", "json")
    server = serve(APP, "--workers", "1", *options)
    async with await dial(server, "/echo") as socket:
        for message in ("twelve bytes", b"and eight"):
            await socket.send(message)
            await socket.recv()
        assert not file.read_text()
    with pytest.raises(InvalidStatus):
        await dial(server, "/deny")
    lines = await eventually_async(lambda: found if len(found := file.read_text().splitlines()) == 2 else [])
    first, second = map(json.loads, lines)
    assert (first["status"], second["status"]) == (101, 403), lines
    assert "/echo" in lines[0] and "21" in lines[0]


async def test_failure_is_counted(serve: Serve) -> None:
    """An application that raises: 1011, a traceback, one failed connection."""
    server = serve(APP, "--workers", "1")
    socket = await dial(server, "/fail")
    await socket.wait_closed()
    assert socket.close_code == 1011
    await eventually_async(lambda: errors(server) == 1)
    assert server.log.count("RuntimeError: on purpose") == 2  # the line, and the end of the traceback
