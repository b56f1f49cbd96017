"""HTTPS: what an application is told, and that no answer is cut short by the end of the connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from tests.component.tls_room import FAREWELL, serving
from tests.support.certificates import Certificates, make_certificates
from tests.support.connections import on_both_loops


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the scheme, or with a large body whose length is not said."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    answer = FAREWELL if scope["path"] == "/large" else f"{scope['scheme']} {len(body)}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer, "more_body": scope["path"] == "/large"})
    if scope["path"] == "/large":
        await send({"type": "http.response.body", "body": b""})


def request(path: str, version: str = "1.1", *fields: str) -> bytes:
    """Return a request's head."""
    return "\r\n".join((f"GET {path} HTTP/{version}", "host: a", *fields, "", "")).encode()


@on_both_loops
async def test_scheme_and_alpn(certificates: Certificates) -> None:
    """https, the protocol's name in the handshake, and one connection for many requests, pipelined ones too."""
    async with serving(app, certificates) as room:
        context = certificates.client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        reader, writer = await room.connect(context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            writer.write(request("/") * 2)
            for _ in range(2):
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
                assert await reader.readuntil(b"0\r\n\r\n") == b"7\r\nhttps 0\r\n0\r\n\r\n"
        assert (room.counts.active, room.counts.accepted) == (1, 1)


@on_both_loops
async def test_client_that_knows_no_alpn_of_ours(certificates: Certificates) -> None:
    """It is served all the same: it may speak HTTP/1.1 without saying so."""
    async with serving(app, certificates) as room:
        context = certificates.client_context()
        context.set_alpn_protocols(["h2"])
        reader, writer = await room.connect(context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
        writer.write(request("/", "1.1", "connection: close"))
        assert (await reader.read()).endswith(b"https 0\r\n0\r\n\r\n")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@on_both_loops
async def test_last_answer_is_whole(certificates: Certificates, version: str) -> None:
    """An answer that ends with the connection: to the last byte, then close_notify, by a client that takes its time."""
    async with serving(app, certificates) as room:
        sock = await room.plain()
        head = request("/large", version, "connection: close")
        said, was_notified = await asyncio.to_thread(_slowly, sock, certificates.client_context(), head)
        assert was_notified
        body = said.partition(b"\r\n\r\n")[2]
        assert body.count(b"x") == len(FAREWELL)
        if version == "1.1":
            assert body.endswith(b"0\r\n\r\n")
        await room.empty()


def _slowly(sock: socket.socket, context: ssl.SSLContext, head: bytes) -> tuple[bytes, bool]:
    """Ask, wait until the server has said all it can, then hear it out; whether it ended with close_notify."""
    sock.settimeout(10)
    with context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as client:
        client.sendall(head)
        said = client.recv(1)
        try:
            while data := client.recv(10_000):
                said += data
        except ssl.SSLEOFError:
            return said, False
        return said, True


@on_both_loops
async def test_body_that_nobody_reads_does_not_reset_the_answer(certificates: Certificates) -> None:
    """A refusal is given while the client still sends: what it sends is thrown away, not answered with a reset."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        await send({"type": "http.response.start", "status": 413, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"too much"})

    async with serving(refuse, certificates) as room:
        reader, writer = await room.connect()
        writer.write(request("/", "1.1", "content-length: 4000000"))
        writer.write(bytes(2_000_000))
        assert b"too much" in await reader.read()


@on_both_loops
async def test_application_is_told_of_the_session(certificates: Certificates) -> None:
    """The tls extension: what was agreed on, our certificate, and whom the client showed itself to be."""
    told: list[dict[str, Any]] = []

    async def witness(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            told.append(scope["extensions"])
        await app(scope, receive, send)

    options = {"ssl_ca_certs": certificates.authority, "ssl_verify": "optional"}
    async with serving(witness, certificates, interface="asgi", **options) as room:
        for certificate in ("", certificates.client):
            context = certificates.client_context(certificate, version=ssl.TLSVersion.TLSv1_2)
            reader, writer = await room.connect(context)
            writer.write(request("/") + request("/", "1.1", "connection: close"))
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
    nobody, _, client, again = (extensions["tls"] for extensions in told)
    assert nobody["tls_version"] == client["tls_version"] == 0x0303
    assert nobody["server_cert"].startswith("-----BEGIN CERTIFICATE-----")
    assert not nobody["client_cert_chain"] and nobody["client_cert_name"] is None
    assert client["client_cert_chain"][0].startswith("-----BEGIN CERTIFICATE-----")
    assert client["client_cert_name"] and again == client
