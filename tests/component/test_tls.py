"""TLS under every kind of handler, on both loops, with real clients: handshakes, bytes, ends, and who is counted."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any

import pytest

from tests.component.tls_room import FAREWELL, KINDS, serving, stream
from tests.support.certificates import Certificates, make_certificates
from tests.support.connections import logged, on_both_loops
from tests.support.eventually import eventually_async

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
each_kind = pytest.mark.parametrize("kind", list(KINDS))
each_version = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "zeros": bytes(4096),
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00",
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────


@each_kind
@each_version
@on_both_loops
async def test_bytes_go_both_ways(certificates: Certificates, kind: str, version: ssl.TLSVersion) -> None:
    """A word, and a megabyte, come back; the session is what the client asked for, and has no protocol for HTTP."""
    async with serving(KINDS[kind], certificates) as room:
        context = certificates.client_context(version=version)
        context.set_alpn_protocols(["http/1.1"])
        reader, writer = await room.connect(context)
        session: ssl.SSLObject = writer.get_extra_info("ssl_object")
        assert session.version() == ("TLSv1.3" if version is ssl.TLSVersion.TLSv1_3 else "TLSv1.2")
        assert session.selected_alpn_protocol() is None
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        many = bytes(range(256)) * 4096
        writer.write(many)
        assert await reader.readexactly(len(many)) == many
        assert (room.counts.active, room.counts.accepted) == (1, 1)


@each_kind
@each_version
@on_both_loops
async def test_end_is_whole_and_said(certificates: Certificates, kind: str, version: ssl.TLSVersion) -> None:
    """What was sent before a close arrives to the last byte, then close_notify: a strict client sees no truncation."""
    async with serving(KINDS[kind], certificates) as room:
        sock = await room.plain()
        said, was_notified = await asyncio.to_thread(_hear_out, sock, certificates.client_context(version=version))
        assert (said, was_notified) == (len(FAREWELL), True)
        await room.empty()
        assert room.failed == 0


def _hear_out(sock: socket.socket, context: ssl.SSLContext) -> tuple[int, bool]:
    """Say bye and count what comes; whether it ended with close_notify."""
    sock.settimeout(10)
    with context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as client:
        client.sendall(b"bye")
        count = 0
        try:
            while data := client.recv(65536):
                count += len(data)
        except ssl.SSLEOFError:
            return count, False
        return count, True


@each_kind
@on_both_loops
async def test_peer_that_leaves_is_counted_out(certificates: Certificates, kind: str) -> None:
    """With close_notify, without it, and with a reset: no line but for who debugs, no failure."""
    with logged() as records:
        async with serving(KINDS[kind], certificates) as room:
            for leave in ("orderly", "ragged", "reset"):
                reader, writer = await room.connect()
                writer.write(b"hello")
                await reader.readexactly(5)
                sock = writer.get_extra_info("socket")
                if leave == "orderly":
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()
                else:
                    if leave == "reset":
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                await room.empty()
            assert (room.counts.accepted, room.failed) == (3, 0)
    assert not [record.getMessage() for record in records if record.levelname not in ("DEBUG", "INFO")]


@each_version
@pytest.mark.parametrize("end", ["close_notify", "ragged"])
@on_both_loops
async def test_half_close(certificates: Certificates, version: ssl.TLSVersion, end: str) -> None:
    """Who has said that it sends no more still gets its answer; our own end leaves what the peer sends whole."""

    async def handle(conn: Any) -> None:
        data = b"".join([each async for each in conn])
        await conn.send(data[::-1])

    async def first_end(conn: Any) -> None:
        await conn.send_eof()
        heard.append(b"".join([each async for each in conn]))

    class EndAtOnce(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport) and transport.can_write_eof()
            transport.write_eof()  # while the peer's first bytes, which came with its handshake, are not read yet
            with pytest.raises(RuntimeError):
                transport.write(b"too late")

        def data_received(self, data: bytes) -> None:
            heard.append(data)

    heard: list[bytes] = []
    for handler, answer in ((handle, b"olleh"), (first_end, b""), (EndAtOnce, b"")):
        async with serving(handler, certificates) as room:
            sock = await room.plain()
            context = certificates.client_context(version=version)
            assert await asyncio.to_thread(_say_and_end, sock, context, end) == answer
            await room.empty()
            assert room.failed == 0
    assert heard == [b"hello", b"hello"]


def _say_and_end(sock: socket.socket, context: ssl.SSLContext, end: str) -> bytes:
    """Say hello, and the end, in one go with the last of the handshake; return what comes after."""
    sock.settimeout(10)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def exchange() -> bool:
        if outgoing.pending:
            sock.sendall(outgoing.read())
        data = sock.recv(65536)
        incoming.write(data)
        return bool(data)

    while True:
        try:
            session.do_handshake()
            break
        except ssl.SSLWantReadError:
            exchange()
    session.write(b"hello")
    if end == "close_notify":
        with suppress(ssl.SSLError):
            session.unwrap()
    sock.sendall(outgoing.read())
    if end == "ragged":
        sock.shutdown(socket.SHUT_WR)
    said = b""
    while True:
        try:
            data = session.read()
            if not data:
                return said
            said += data
        except ssl.SSLWantReadError:
            if not exchange():
                raise AssertionError("no close_notify") from None
        except ssl.SSLZeroReturnError:
            return said


@each_kind
@on_both_loops
async def test_garbage_within_a_session(certificates: Certificates, kind: str) -> None:
    """Bytes that are no TLS behind a good handshake end the connection; the handler did nothing wrong."""
    with logged() as records:
        async with serving(KINDS[kind], certificates) as room:
            reader, writer = await room.connect()
            writer.write(b"hello")
            await reader.readexactly(5)
            raw = socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))
            with raw:
                raw.send(b"garbage" * 10)
                await room.empty()
            assert (room.counts.accepted, room.failed) == (1, 0)
    assert not [record.getMessage() for record in records if record.levelname not in ("DEBUG", "INFO")]


@pytest.mark.parametrize("buffered", [False, True])
@on_both_loops
async def test_what_a_protocol_raises_is_its_failure(certificates: Certificates, buffered: bool) -> None:
    """As without TLS: logged once, counted, and it costs this connection."""

    class Failing(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise FileNotFoundError("gone")

    class FailingBuffered(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray(10)

        def buffer_updated(self, nbytes: int) -> None:
            raise FileNotFoundError("gone")

    with logged() as records:
        async with serving(FailingBuffered if buffered else Failing, certificates) as room:
            reader, writer = await room.connect()
            writer.write(b"hello")
            with suppress(OSError):
                assert await reader.read() == b""
            await room.empty()
            assert room.failed == 1
    errors = [record.getMessage() for record in records if record.levelname == "ERROR"]
    assert len(errors) == 1 and "FileNotFoundError: gone" in errors[0]


# ── handshakes that fail ─────────────────────────────────────────────────────────────────────────────────────


@each_kind
@pytest.mark.parametrize("what", list(GARBAGE))
@on_both_loops
async def test_what_is_no_tls_costs_a_debug_line(certificates: Certificates, kind: str, what: str) -> None:
    """Plain HTTP, garbage, half a hello and an end: one line for who debugs, nothing that the handler failed."""
    with logged() as records:
        async with serving(KINDS[kind], certificates) as room:
            sock = await room.plain()
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, GARBAGE[what])
            with suppress(OSError):  # the server was quicker
                sock.shutdown(socket.SHUT_WR)
            await room.ended(sock)
            await room.empty()
            assert (room.counts.accepted, room.failed) == (1, 0)
            reader, writer = await room.connect()
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
    said = [record for record in records if "no TLS with 127.0.0.1:" in record.getMessage()]
    assert [record.levelname for record in said] == ["DEBUG"]
    assert not [record for record in records if record.exc_info]


@each_kind
@on_both_loops
async def test_reset_in_a_handshake(certificates: Certificates, kind: str) -> None:
    """It is counted out."""
    with logged() as records:
        async with serving(KINDS[kind], certificates) as room:
            sock = await room.plain()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            await room.empty()
            assert room.failed == 0
    assert [record.levelname for record in records if "no TLS" in record.getMessage()] == ["DEBUG"]


@each_kind
@on_both_loops
async def test_silent_peer_is_cut_at_the_deadline(certificates: Certificates, kind: str) -> None:
    """--ssl-handshake-timeout: it counts until then, and no longer; drops of a hello do not make it longer."""
    with logged() as records:
        async with serving(KINDS[kind], certificates, ssl_handshake_timeout=0.6) as room:
            loop = asyncio.get_running_loop()
            sock, began = await room.plain(), loop.time()
            for byte in GARBAGE["half a hello"]:
                await loop.sock_sendall(sock, bytes([byte]))
                await asyncio.sleep(0.01)
            assert room.counts.active == 1
            await room.ended(sock)
            assert 0.5 < loop.time() - began < 20  # of 60
            await room.empty()
            assert room.failed == 0
    assert [record.levelname for record in records if "no TLS" in record.getMessage()] == ["DEBUG"]


@each_version
@on_both_loops
async def test_clients_with_and_without_a_certificate(certificates: Certificates, version: ssl.TLSVersion) -> None:
    """required: one that the authority vouches for is served, another is told why, and it is in the log."""

    async def handle(conn: Any) -> None:
        subject = dict(part[0] for part in conn.tls.getpeercert()["subject"])
        await conn.send(subject["commonName"].encode())

    options = {"ssl_ca_certs": certificates.authority, "ssl_verify": "required"}
    with logged() as records:
        async with serving(handle, certificates, **options) as room:
            reader, _ = await room.connect(certificates.client_context(certificates.client, version=version))
            assert await reader.read() == b"Ada, of Ockham"
            for certificate in ("", certificates.stranger):
                with pytest.raises(ssl.SSLError, match=r"(?i)alert|certificate"):
                    reader, _ = await room.connect(certificates.client_context(certificate, version=version))
                    await reader.read(1)  # TLS 1.3: the client learns of it behind its handshake
                await room.empty()
            assert room.failed == 0
    said = [record for record in records if "no TLS" in record.getMessage()]
    assert "unable to get local issuer certificate" in said[-1].getMessage() or "self" in said[-1].getMessage()
    assert said[-1].levelname == "INFO"


# ── the drain ────────────────────────────────────────────────────────────────────────────────────────────────


@each_kind
@on_both_loops
async def test_stop_in_a_handshake(certificates: Certificates, kind: str) -> None:
    """The stop waits for it as for every connection, and cuts it when the grace is over."""
    async with serving(KINDS[kind], certificates) as room:
        loop = asyncio.get_running_loop()
        sock, began = await room.plain(), loop.time()
        await room.server.drain(0.2)
        assert 0.1 < loop.time() - began < 1.2
        await room.ended(sock)


@on_both_loops
async def test_who_was_in_a_handshake_hears_of_the_drain(certificates: Certificates) -> None:
    """A handshake that a drain meets goes on; its handler knows from the start that the worker drains."""

    async def handle(conn: Any) -> None:
        await conn.send(b"draining" if conn.draining else b"serving")

    async with serving(handle, certificates) as room:
        sock = await room.plain()
        drain = asyncio.ensure_future(room.server.drain(5.0))
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=certificates.client_context(), server_hostname="localhost"
        )
        assert await reader.read() == b"draining"
        writer.transport.abort()
        await drain


@each_kind
@on_both_loops
async def test_stop_cuts_what_is_open(certificates: Certificates, kind: str) -> None:
    """An idle connection ends with the grace; nobody is left."""
    async with serving(KINDS[kind], certificates) as room:
        reader, writer = await room.connect()
        writer.write(b"hello")
        await reader.readexactly(5)
        await room.server.drain(0.1)
        with suppress(ConnectionError, ssl.SSLError):
            assert await asyncio.wait_for(reader.read(), 20) == b""


@on_both_loops
async def test_thread_that_is_shown_the_end_goes_on_under_tls(certificates: Certificates) -> None:
    """When the grace is over a blocking handler sees the end of its stream; what it says then is not in the clear."""

    def handle(sock: socket.socket) -> None:
        while sock.recv(100):
            pass
        sock.sendall(b"farewell")

    async with serving(handle, certificates) as room:
        reader, writer = await room.connect()
        writer.write(b"hello")
        await asyncio.sleep(0)
        await room.server.drain(0.1)
        assert await reader.read() == b"farewell"


@on_both_loops
async def test_limit_counts_handshakes(certificates: Certificates) -> None:
    """Two may be open: two silent ones are two, and a third waits until one has gone."""
    async with serving(stream, certificates, limit_connections=2, ssl_handshake_timeout=1.0) as room:
        await room.plain()
        await room.plain()
        third = asyncio.ensure_future(room.connect())
        await asyncio.sleep(0.1)
        assert (room.counts.active, third.done()) == (2, False)
        reader, writer = await asyncio.wait_for(third, 20)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        await eventually_async(lambda: room.counts.active == 1)
