"""What an application is told of clients behind a proxy, and whom the proxy has to be for that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hybrid.handlers.asgi import asgi_factory
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.proxy_settings import ProxySettings
from tests.component.http_room import CountingDoor, Witness, serving
from tests.support.connections import on_both_loops

ASKED = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Port: 443\r\nForwarded: for=198.51.100.1;proto=https\r\n\r\n"
)


def believing(*allow: str, **settings: Any) -> HttpShared:
    """Return what a worker shares that believes these proxies."""
    return HttpShared.of(HttpSettings(), ProxySettings(allow_ips=allow, **settings))


async def told(shared: HttpShared) -> dict[str, Any]:
    """Return the scope of a request that comes over loopback."""
    app = Witness()
    async with serving(app, shared=shared) as room:
        client = await room.connect()
        await client.ask(ASKED)
    return app.scopes[0]


@on_both_loops
async def test_trusted_proxy_is_believed() -> None:
    """The right-most hop that is no proxy; scheme and port are what the client used."""
    scope = await told(believing("127.0.0.0/8"))
    assert scope["client"] == ("203.0.113.7", 0)
    assert scope["scheme"] == "https"
    assert scope["server"] == ("127.0.0.1", 443)


@on_both_loops
async def test_forwarded_is_believed_where_it_is_the_header() -> None:
    """RFC 7239; the other header is not looked at."""
    scope = await told(believing("127.0.0.1", header="forwarded"))
    assert (scope["client"], scope["scheme"]) == (("198.51.100.1", 0), "https")
    assert scope["server"][1] != 443


@pytest.mark.parametrize(
    "shared", [believing("10.0.0.0/8"), believing("unix"), believing("*", headers=False), HttpShared.of(HttpSettings())]
)
@on_both_loops
async def test_nobody_else_is(shared: HttpShared) -> None:
    """Neither a peer that is not listed, nor anybody when the headers are off."""
    scope = await told(shared)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"


@on_both_loops
async def test_repeated_request_is_judged_again() -> None:
    """The second one is known by heart, head and all; its scope is made anew."""
    app = Witness()
    async with serving(app, shared=believing("127.0.0.1")) as room:
        client = await room.connect()
        for _ in range(3):
            await client.ask(ASKED)
        await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [scope["client"][0] for scope in app.scopes] == ["203.0.113.7"] * 3 + ["127.0.0.1"]


@on_both_loops
async def test_peer_on_a_unix_socket_is_believed_as_unix(tmp_path: Path) -> None:
    """A reverse proxy on the same machine; it has no address."""
    clients: list[Any] = []
    for shared in (believing("unix"), believing("127.0.0.1")):
        app, door = Witness(), CountingDoor()
        path = str(tmp_path / f"http{len(clients)}.sock")
        factory = asgi_factory(app, "app", door, None, shared)
        server = await asyncio.get_running_loop().create_unix_server(factory, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ASKED)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.close()
        server.close()
        clients.append(app.scopes[0]["client"])
        for connection in tuple(door.open):
            connection.abort()
    assert clients == [("203.0.113.7", 0), None]
