"""What a :class:`~hybrid.connection.connection.Connection` has to do with TLS: beginning it, and telling of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from anyio.streams.tls import TLSAttribute

from hybrid.connection.tls_transport import TlsTransport

if TYPE_CHECKING:
    from hybrid.connection.connection import Connection


class Upgrade:
    """A connection that begins to speak TLS: the owner of its handshake. Runs in: worker, in its loop."""

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._settled: asyncio.Future[None] = loop.create_future()

    def begin(self, below: asyncio.Transport, context: ssl.SSLContext, handshake_s: float) -> TlsTransport:
        """Return the transport that takes the place of ``below``. Raises: ssl.SSLError: nothing has changed."""
        transport = TlsTransport(self._loop, context, handshake_s, self)
        # Both loops take any object with a protocol's methods; Connection has them.
        transport.set_protocol(cast(asyncio.BaseProtocol, self._connection))
        below.set_protocol(cast(asyncio.BaseProtocol, transport))
        transport.connection_made(below)
        return transport

    async def settled(self) -> None:
        """Return when the handshake is over, however it went."""
        await self._settled

    def made(self) -> None:
        """Do nothing: the connection is counted."""

    def secured(self) -> None:
        """Go on."""
        self._settle()

    def unsecured(self, error: Exception | None) -> None:
        """Tell the connection that it is over."""
        self._connection.connection_lost(error)
        self._settle()

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)


def tls_attributes(session: ssl.SSLObject) -> Mapping[Any, Callable[[], Any]]:
    """Return what anyio's ``extra()`` finds of a TLS connection: its TLSAttribute set."""
    return {
        TLSAttribute.alpn_protocol: session.selected_alpn_protocol,
        TLSAttribute.channel_binding_tls_unique: session.get_channel_binding,
        TLSAttribute.cipher: session.cipher,
        TLSAttribute.peer_certificate: session.getpeercert,
        TLSAttribute.peer_certificate_binary: lambda: session.getpeercert(True),
        TLSAttribute.server_side: lambda: True,
        TLSAttribute.shared_ciphers: session.shared_ciphers,
        TLSAttribute.ssl_object: lambda: session,
        TLSAttribute.standard_compatible: lambda: False,  # an end without close_notify is an end
        TLSAttribute.tls_version: session.version,
    }
