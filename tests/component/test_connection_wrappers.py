"""anyio's own stream wrappers work on top of a connection, on uvloop and on asyncio."""

from __future__ import annotations

import asyncio
import ssl

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import StapledByteStream
from anyio.streams.tls import TLSAttribute, TLSStream

from hybrid.connection.connection import Connection
from tests.component.test_connection_stream import Held
from tests.support.connections import logged, on_both_loops, serving


def tls_context(side: int) -> ssl.SSLContext:
    """Return a context for anonymous key exchange: TLS without a certificate, for tests alone."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


async def echo_over_tls(conn: Connection) -> None:
    """Echo, encrypted."""
    stream = await TLSStream.wrap(conn, server_side=True, ssl_context=tls_context(ssl.PROTOCOL_TLS_SERVER))
    assert stream.extra(SocketAttribute.remote_address) == conn.peer
    async for chunk in stream:
        await stream.send(chunk)
    await stream.aclose()


async def tls_client(port: int) -> TLSStream:
    """Connect and shake hands."""
    plain = await anyio.connect_tcp("127.0.0.1", port)
    return await TLSStream.wrap(plain, server_side=False, ssl_context=tls_context(ssl.PROTOCOL_TLS_CLIENT))


@on_both_loops
async def test_tls_stream_works_on_a_connection() -> None:
    """Handshake, 2 MB echoed by a TLSStream on the server's side, closing handshake."""
    payload = bytes(range(256)) * 8192
    with logged() as records:
        async with serving(echo_over_tls) as served:
            client = await tls_client(int(served.where[1]))
            assert client.extra(TLSAttribute.tls_version) == "TLSv1.2"

            async def push() -> None:
                for start in range(0, len(payload), 16384):
                    await client.send(payload[start : start + 16384])

            async with anyio.create_task_group() as group:
                group.start_soon(push)
                got = bytearray()
                while len(got) < len(payload):
                    got += await client.receive()
            assert got == payload
            await client.aclose()
            await served.all_closed()
            assert not served.door.failed_ones
    assert not records


@on_both_loops
async def test_tls_peer_that_leaves_without_goodbye_is_no_failure() -> None:
    """A TLS client that just goes: the handler's BrokenResourceError costs no line in the log."""
    with logged() as records:
        async with serving(echo_over_tls) as served:
            client = await tls_client(int(served.where[1]))
            await client.send(b"x")
            assert await client.receive() == b"x"
            await client.transport_stream.aclose()
            await served.all_closed()
            assert not served.door.failed_ones
    assert all(record.levelname == "DEBUG" for record in records)


@on_both_loops
async def test_tls_handshake_with_a_stranger_fails_cleanly() -> None:
    """A peer that does not speak TLS: an SSL error for the handler, and the connection is closed."""

    async def shake(conn: Connection) -> None:
        with pytest.raises(ssl.SSLError):
            await TLSStream.wrap(conn, server_side=True, ssl_context=tls_context(ssl.PROTOCOL_TLS_SERVER))

    async with serving(shake) as served:
        client = await served.client()
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        await served.all_closed()
        assert not served.door.failed_ones


@on_both_loops
async def test_buffered_stream_works_on_a_connection() -> None:
    """BufferedByteReceiveStream reads exactly, until, and to the end."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        buffered = BufferedByteReceiveStream(await held.made)
        await client.send(b"abcdef\nrest")
        client.end()
        assert await buffered.receive_exactly(3) == b"abc"
        assert await buffered.receive_until(b"\n", 100) == b"def"
        assert await buffered.receive() == b"rest"
        with pytest.raises(EndOfStream):
            await buffered.receive()
        await buffered.aclose()


@on_both_loops
async def test_stapled_stream_works_on_connections() -> None:
    """StapledByteStream joins the two directions of two connections."""
    made: asyncio.Queue[Connection] = asyncio.Queue()
    over = asyncio.Event()

    async def lend(conn: Connection) -> None:
        made.put_nowait(conn)
        await over.wait()

    async with serving(lend) as served:
        speaker, listener = await served.client(), await served.client()
        by_peer = {conn.peer: conn for conn in (await made.get(), await made.get())}
        from_speaker = by_peer[speaker.sock.getsockname()]
        to_listener = by_peer[listener.sock.getsockname()]
        stapled = StapledByteStream(to_listener, from_speaker)
        await speaker.send(b"across")
        await stapled.send(await stapled.receive())
        assert await listener.receive() == b"across"
        assert stapled.extra(SocketAttribute.remote_address) == from_speaker.peer
        await stapled.send_eof()
        assert await listener.receive() == b""
        await stapled.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await from_speaker.receive()
        over.set()


@on_both_loops
async def test_broken_connection_breaks_its_wrapper() -> None:
    """A reset reaches who uses a wrapper as BrokenResourceError."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        buffered = BufferedByteReceiveStream(await held.made)
        waiting = asyncio.ensure_future(buffered.receive_exactly(5))
        await client.send(b"abc")
        client.reset()
        with pytest.raises(BrokenResourceError):
            await waiting
