"""TLS with peers and protocols that are none too kind: who ends behind a pause, changes keys for ever, resets early."""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import gc
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any
from unittest.mock import create_autospec

import pytest

import hybrid
from hybrid.connection.registry import Door, Registry
from hybrid.handlers.threaded import BlockingEndpoint
from hybrid.shared.tls_context import server_tls
from hybrid.shared.tls_settings import TlsSettings
from tests.component.tls_room import KINDS, serving
from tests.support.certificates import Certificates, make_certificates
from tests.support.connections import logged, on_both_loops

_REQUESTED = 1
"""SSL_KEY_UPDATE_REQUESTED: the peer is to change its keys, too."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


class OneAtATime(asyncio.BufferedProtocol):
    """Stops reading with every piece, and goes on a turn of the loop later."""

    def __init__(self) -> None:
        self.count = 0
        self.count_at_the_end: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.count += nbytes
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    def eof_received(self) -> None:
        self.count_at_the_end = self.count


@pytest.mark.parametrize("end", ["close_notify", "ragged"])
@on_both_loops
async def test_end_comes_behind_what_a_pause_held_back(certificates: Certificates, end: str) -> None:
    """The end of the stream is told when all before it was delivered, however often the protocol pauses."""
    protocols: list[OneAtATime] = []

    def factory() -> OneAtATime:
        protocols.append(OneAtATime())
        return protocols[-1]

    def send(sock: ssl.SSLSocket) -> None:
        for _ in range(20):
            sock.sendall(b"x" * 10_000)
        if end == "ragged":
            socket.socket.shutdown(sock, socket.SHUT_WR)
        else:
            with suppress(OSError):
                sock.unwrap()

    async with serving(hybrid.protocol(factory), certificates) as room:
        sock = await room.plain()
        sock.settimeout(20)
        with await asyncio.to_thread(_shaken, sock, certificates.client_context()) as client:
            await asyncio.to_thread(send, client)
            await room.empty()
    assert [each.count_at_the_end for each in protocols] == [200_000]


def _shaken(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(sock, server_hostname="localhost")


class KeyChanger:
    """A client that asks for new keys, which ``ssl`` does not offer; skips where OpenSSL cannot be reached."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        try:
            library = ctypes.CDLL(_ssl.__file__)
            self._update, self._go = library.SSL_key_update, library.SSL_do_handshake
        except (AttributeError, OSError):
            pytest.skip("OpenSSL is part of the interpreter, and its functions have no names")
        self._update.argtypes = ctypes.c_void_p, ctypes.c_int
        self._go.argtypes = (ctypes.c_void_p,)
        # Behind an object's head ``_ssl._SSLSocket`` has a reference to a socket, then the pointer.
        session: Any = self.session
        offset = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        self._pointer = ctypes.c_void_p.from_address(id(session._sslobj) + offset).value

    async def shake_hands(self, sock: socket.socket) -> None:
        """Complete the handshake on a socket that does not block."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.session.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, self.outgoing.read())
                self.incoming.write(await loop.sock_recv(sock, 65536))
        await loop.sock_sendall(sock, self.outgoing.read())

    def requests(self, count: int) -> bytes:
        """Return that many requests for new keys, as they go over the wire."""
        for _ in range(count):
            assert self._update(self._pointer, _REQUESTED) == 1
            assert self._go(self._pointer) == 1
        return self.outgoing.read()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "threaded"])
@on_both_loops
async def test_new_keys_for_ever(certificates: Certificates, kind: str) -> None:
    """Each request is answered; a peer that leaves the answers unread is cut before they fill the memory."""
    loop = asyncio.get_running_loop()
    context = certificates.client_context()
    with logged() as records:
        async with serving(KINDS[kind], certificates) as room:
            sock = await room.plain()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel finds room for all answers
            client = KeyChanger(context)
            await client.shake_hands(sock)
            transport = next(iter(_registry(room).open)).transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with pytest.raises(ConnectionError):
                for _ in range(300):
                    await asyncio.wait_for(loop.sock_sendall(sock, client.requests(500)), 20)
                    await asyncio.sleep(0)  # a send that need not wait lets nobody else run
            await room.empty()
            assert room.failed == 0
    assert not [record.getMessage() for record in records if record.levelname not in ("DEBUG", "INFO")]


def _registry(room: Any) -> Any:
    registry = room.server._service._intake.registry
    assert isinstance(registry, Registry)
    return registry


@on_both_loops
async def test_new_keys_now_and_then(certificates: Certificates) -> None:
    """A peer that reads may ask as often as it likes, and what is said between arrives."""
    loop = asyncio.get_running_loop()
    async with serving(KINDS["stream"], certificates) as room:
        sock = await room.plain()
        client = KeyChanger(certificates.client_context())
        await client.shake_hands(sock)
        for _ in range(10):
            data = client.requests(500)
            client.session.write(b"hello")
            await loop.sock_sendall(sock, data + client.outgoing.read())
            said = b""
            while said != b"hello":
                try:
                    said += client.session.read()
                except ssl.SSLWantReadError:
                    data = await asyncio.wait_for(loop.sock_recv(sock, 65536), 20)
                    assert data, "the server has cut it"
                    client.incoming.write(data)


@pytest.mark.filterwarnings("error")
def test_peer_that_reset_before_its_thread_came(certificates: Certificates) -> None:
    """The socket is closed by us, not by the collector; the handler is not called."""
    tls = server_tls(TlsSettings(certfile=certificates.server))
    endpoint = BlockingEndpoint(pytest.fail, "handle", create_autospec(Door), tls)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    connection = endpoint.connection(sock)
    assert endpoint.run(connection)
    gc.collect()
    assert connection.sock.fileno() == sock.fileno() == -1
