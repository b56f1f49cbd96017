"""``Connection.start_tls``: from words in the clear to TLS, and what must not come before it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from anyio import BrokenResourceError, BusyResourceError
from anyio.streams.tls import TLSAttribute

from hybrid import Connection
from tests.support.certificates import Certificates, make_certificates
from tests.support.connections import Client, logged, on_both_loops, serving


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Return a context as an application makes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    return context


def starting(context: ssl.SSLContext, raised: list[Exception], handshake_s: float = 5.0) -> Callable[[Any], Any]:
    """Return a handler that answers one line in the clear, and echoes under TLS."""

    async def handle(conn: Connection) -> None:
        assert await conn.receive_until(b"\n", 100) == b"STARTTLS"
        await conn.send(b"go ahead\n")
        try:
            await conn.start_tls(context, handshake_s)
        except Exception as error:
            raised.append(error)
            raise
        assert conn.tls is not None and conn.tls.version() == "TLSv1.3"
        assert conn.extra(TLSAttribute.tls_version) == "TLSv1.3"
        assert conn.peer[0] == "127.0.0.1"
        async for data in conn:
            await conn.send(data)

    return handle


def talk(sock: socket.socket, context: ssl.SSLContext, payload: bytes) -> bytes:
    """Say STARTTLS, upgrade, and return what comes back."""
    sock.settimeout(20)
    sock.sendall(b"STARTTLS\n")
    assert sock.recv(9, socket.MSG_WAITALL) == b"go ahead\n"
    with context.wrap_socket(sock, server_hostname="localhost") as client:
        client.sendall(payload)
        back = b""
        while len(back) < len(payload):
            back += client.recv(65536)
        return back


@on_both_loops
async def test_bytes_after_the_upgrade_are_under_tls(certificates: Certificates) -> None:
    """The same connection goes on, counted once; what it was, it is: peer, attributes, flow control."""
    async with serving(starting(server_context(certificates), [])) as served:
        client = await served.client()
        payload = bytes(range(256)) * 2000
        assert await asyncio.to_thread(talk, client.sock, certificates.client_context(), payload) == payload
        await served.all_closed()
        assert len(served.door.opened_ones) == 1
        assert not served.door.failed_ones


@on_both_loops
async def test_bytes_before_the_upgrade_are_refused(certificates: Certificates) -> None:
    """A command behind STARTTLS, put there by whoever sits between, is never read as one under TLS."""
    raised: list[Exception] = []
    with logged() as records:
        async with serving(starting(server_context(certificates), raised)) as served:
            client = await served.client()
            await client.send(b"STARTTLS\nRCPT TO:<mallory>\n")
            with suppress(ConnectionError):
                assert await client.receive_all() in (b"go ahead\n", b"")
            await served.all_closed()
            assert not served.door.failed_ones
    assert [type(error) for error in raised] == [BrokenResourceError]
    assert "18 bytes before TLS began" in str(raised[0])
    assert {record.levelname for record in records} == {"DEBUG"}


@pytest.mark.parametrize("how", ["garbage", "end", "reset", "silence"])
@on_both_loops
async def test_upgrade_that_fails_is_the_peers(certificates: Certificates, how: str) -> None:
    """No TLS comes about: the handler learns of it, the connection is over, nothing is the handler's failure."""
    raised: list[Exception] = []

    async def fail(client: Client) -> None:
        if how == "garbage":
            await client.send(b"EHLO there\r\n" * 3)
        elif how == "end":
            client.end()
        elif how == "reset":
            client.reset()

    async with serving(starting(server_context(certificates), raised, handshake_s=0.2)) as served:
        client = await served.client()
        await client.send(b"STARTTLS\n")
        assert await client.receive_exactly(9) == b"go ahead\n"
        await fail(client)
        await served.all_closed()
        assert not served.door.failed_ones
    assert [type(error) for error in raised] == [BrokenResourceError]


@on_both_loops
async def test_cancelled_upgrade_closes(certificates: Certificates) -> None:
    """A drain that runs out of time in the handshake ends the connection."""
    async with serving(starting(server_context(certificates), [])) as served:
        client = await served.client()
        await client.send(b"STARTTLS\n")
        await client.receive_exactly(9)
        (await served.one()).cancel()
        await served.all_closed()
        with suppress(ConnectionError):
            assert await client.receive_all() == b""


@on_both_loops
async def test_misuse_is_an_error(certificates: Certificates) -> None:
    """A client's context, a second time, while another task receives; detach() under TLS."""
    context = server_context(certificates)
    raised: list[BaseException] = []
    may_talk = asyncio.Event()

    async def attempt(conn: Connection, given: ssl.SSLContext) -> None:
        try:
            await conn.start_tls(given)
        except Exception as error:  # noqa: BLE001  # looked at below
            raised.append(error)

    async def handle(conn: Connection) -> None:
        await attempt(conn, ssl.create_default_context())
        receiving = asyncio.ensure_future(conn.receive())
        await asyncio.sleep(0)
        await attempt(conn, context)
        may_talk.set()
        assert await receiving == b"STARTTLS\n"
        await conn.send(b"go ahead\n")
        await conn.start_tls(context)
        await attempt(conn, context)
        with pytest.raises(RuntimeError, match="cannot detach a connection with TLS"):
            await conn.detach()
        await conn.send(await conn.receive())

    async with serving(handle) as served:
        client = await served.client()
        await may_talk.wait()
        assert await asyncio.to_thread(talk, client.sock, certificates.client_context(), b"hello") == b"hello"
        await served.all_closed()
        assert not served.door.failed_ones
    assert [type(error) for error in raised] == [ssl.SSLError, BusyResourceError, RuntimeError]
