"""TLS between the socket and a handler that runs in the loop, whatever its kind and whoever accepts.

The acceptor's factory makes a :class:`TlsTransport`, so the loop sees a plain protocol; the handler's own protocol is
made when the handshake is complete. The acceptor's door hears of a :class:`TlsConnection` as soon as the socket is
accepted: a connection in its handshake counts, and a drain finds it. The handler's protocol knocks at a door of ours,
which passes on what it says in the name of the TlsConnection: one connection is counted once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hybrid.connection.addresses import address, show
from hybrid.connection.failures import log_no_tls
from hybrid.connection.registry import Door, Served
from hybrid.connection.tls_transport import TlsTransport
from hybrid.shared.tls_context import ServerTls

Factory = Callable[[], asyncio.BaseProtocol]


def secured(
    factory_for: Callable[[Door], Factory], tls: ServerTls, door: Door, loop: asyncio.AbstractEventLoop
) -> Factory:
    """Return the factory whose connections speak TLS, then what ``factory_for`` makes.

    Runs in: worker. Args: door: the acceptor's.
    """
    entrance = TlsEntrance(door)
    factory = factory_for(entrance)

    def make_transport() -> asyncio.BaseProtocol:
        connection = TlsConnection(entrance, factory)
        connection.transport = TlsTransport(loop, tls.context, tls.handshake_s, connection)
        # Both loops take any object with a protocol's methods; it is a Transport already.
        return connection.transport  # type: ignore[return-value]

    return make_transport


class TlsEntrance:
    """The door of the handlers' connections: tells the acceptor's door about the TLS connection below each."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.arriving: TlsConnection | None = None
        """Whose protocol is being made."""
        self._below: dict[Served, TlsConnection] = {}

    def opened(self, connection: Served) -> None:
        """Connect it with what was counted when the socket was accepted."""
        below, self.arriving = self.arriving, None
        if below is not None:
            self._below[connection] = below
            below.open(connection)

    def closed(self, connection: Served) -> None:
        """Count it out."""
        self.door.closed(self._below.pop(connection))

    def failed(self, connection: Served) -> None:
        """Count it as one that its handler lost."""
        self.door.failed(self._below[connection])


class TlsConnection:
    """A connection from accept to close, as the drain sees it: first a handshake, then what the handler makes of it."""

    __slots__ = ("_entrance", "_factory", "_is_draining", "_served", "transport")
    transport: TlsTransport

    def __init__(self, entrance: TlsEntrance, factory: Factory) -> None:
        self._entrance = entrance
        self._factory = factory
        self._is_draining = False
        self._served: Served | None = None
        """The handler's connection; None in the handshake."""

    # ── an owner: what the transport calls ──

    def made(self) -> None:
        """Count the connection."""
        self._entrance.door.opened(self)

    def secured(self) -> None:
        """Let the handler's protocol have it."""
        protocol = self._factory()
        self.transport.set_protocol(protocol)
        self._entrance.arriving = self
        protocol.connection_made(self.transport)

    def unsecured(self, error: Exception | None) -> None:
        """Say why, for who looks for it, and count it out: it is nobody's failure here."""
        log_no_tls(show(address(self.transport, "peername")), error)
        self._entrance.door.closed(self)

    def open(self, connection: Served) -> None:
        """Take the handler's connection, which has just been made."""
        self._served = connection
        if self._is_draining:
            connection.start_draining()

    # ── what the drain calls: registry.Served ──

    def start_draining(self) -> None:
        """Tell the handler's connection; a handshake goes on, and what comes of it hears it first thing."""
        self._is_draining = True
        if self._served is not None:
            self._served.start_draining()

    def cancel(self) -> None:
        """Pass it on; a handshake is cut."""
        (self.transport.abort if self._served is None else self._served.cancel)()

    def abort(self) -> None:
        """Pass it on; a handshake is cut."""
        (self.transport.abort if self._served is None else self._served.abort)()
