"""WSGI applications: what the requests of one listener share, and the environ that each is given.

Source: PEP 3333.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from hybrid.connection.access_log import AccessLog, Entry
from hybrid.connection.addresses import UNKNOWN, Address, address
from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.registry import Door
from hybrid.ground.clock import monotonic
from hybrid.handlers.http_shared import HttpShared, connections, origin_of
from hybrid.handlers.wsgi_environ import (
    Environ,
    add_fields,
    add_line,
    client_variables,
    server_variables,
    tls_variables,
)
from hybrid.handlers.wsgi_exchange import WsgiExchange
from hybrid.handlers.wsgi_file import FileWrapper
from hybrid.handlers.wsgi_input import Errors
from hybrid.handlers.wsgi_threads import Threads
from hybrid.http.fields import Fields
from hybrid.http.forwarded import Origin, Trust
from hybrid.http.head import Head

Application = Callable[[Environ, Any], Iterable[bytes]]


class Place:
    """What the requests of one connection have in common. Made in the loop, used in one thread after another.

    ``variables``: of every request on it; ``client``: the peer as the access log has it.
    """

    __slots__ = ("client", "fields", "kept", "peer", "scheme", "variables")

    def __init__(self, variables: Environ, peer: Address, scheme: str) -> None:
        self.variables = variables
        self.peer = peer
        self.client: tuple[str, int | None] | None
        if isinstance(peer, str):
            self.client = (peer, None) if peer else None
        else:
            self.client = None if peer == UNKNOWN else peer
        self.scheme = scheme
        self.fields: Fields | None = None
        """Of the last request."""
        self.kept: Environ | None = None
        """Its variables but for the request line's, if the one before came with the same fields."""


@dataclass(slots=True)
class WsgiEndpoint:
    """A listener with its WSGI application, in one worker: what every exchange shares."""

    app: Application
    loop: asyncio.AbstractEventLoop
    name: str
    standing: Callable[[], bytes]
    """Header lines of every response: date and server, ready to be sent. Threads ask, too: they may be told the lines
    of a second ago."""
    threads: Threads
    common: Environ
    """What every environ has."""
    context: Context = field(default_factory=copy_context)
    """Of every request at its beginning; each has a copy."""
    access_log: AccessLog | None = None
    server: Address | None = None
    """Where all connections were accepted; None: each is asked."""
    trust: Trust | None = None
    """Whose forwarded headers are believed; None: nobody's."""
    write_s: float = 0.0
    """For a peer that takes nothing of a file; 0: for ever."""

    def begin(self, connection: HttpConnection, head: Head) -> WsgiExchange:
        """Return the exchange of a request. Runs in: the loop."""
        return WsgiExchange(self, connection, head, connection.memo or self.place(connection))

    def environ(self, place: Place, head: Head) -> Environ:
        """Return what the application is told of the request, but for its input. Runs in: the request's thread."""
        fields = head.fields
        if fields is not place.fields:
            place.fields, place.kept = fields, None
            environ = place.variables.copy()
            add_fields(environ, fields)
        elif place.kept is None:
            environ = place.variables.copy()
            add_fields(environ, fields)
            place.kept = environ.copy()
        else:  # hot: WSGI hello; a client that repeats itself costs one copy
            environ = place.kept.copy()
        add_line(environ, head)
        if fields.forwarded:
            origin = origin_of(head, place.peer, self.trust)
            if origin is not None:
                _believe(environ, origin)
        return environ

    def entry(self, connection: HttpConnection, head: Head | None) -> Entry:
        """Return the access log's entry of a request that begins. Runs in: the loop."""
        place: Place = connection.memo or self.place(connection)
        client, scheme = place.client, place.scheme
        if head is not None and head.fields.forwarded:
            origin = origin_of(head, place.peer, self.trust)
            if origin is not None:
                client, scheme = origin.client or client, origin.scheme or scheme
        return Entry(head, client, scheme, 0, started=monotonic())

    def place(self, connection: HttpConnection) -> Place:
        """Make what the connection's requests have in common. Runs in: the loop; its transport is not for threads."""
        transport = connection.transport
        session = transport.get_extra_info("ssl_object")
        scheme = "http" if session is None else "https"
        peer = address(transport, "peername")
        variables = self.common | {"wsgi.url_scheme": scheme}
        variables.update(server_variables(self.server or address(transport, "sockname"), scheme))
        variables.update(client_variables(peer))
        if session is not None:
            variables.update(tls_variables(session))
        place = connection.memo = Place(variables, peer, scheme)
        return place


def _believe(environ: Environ, origin: Origin) -> None:
    """Set what a proxy says: the client, the scheme, the port of the server."""
    if origin.client is not None:
        host, port = origin.client
        environ["REMOTE_ADDR"] = host
        environ.pop("REMOTE_PORT", None)
        if port:
            environ["REMOTE_PORT"] = str(port)
    if origin.scheme is not None:
        environ["wsgi.url_scheme"] = origin.scheme
        environ.pop("HTTPS", None)
        if origin.scheme == "https":
            environ["HTTPS"] = "on"
    if origin.port is not None:
        environ["SERVER_PORT"] = str(origin.port)


def wsgi_factory(
    app: Application, name: str, door: Door, state: object, shared: HttpShared
) -> Callable[[], asyncio.BaseProtocol]:
    """Return what makes one :class:`HttpConnection` for each socket that a listener accepts.

    Runs in: worker. Args: state: what the lifespan yielded, ``environ["hybrid.state"]``; shared: its threads are there.
    """
    assert shared.threads is not None
    loop = asyncio.get_running_loop()
    wsgi = WsgiEndpoint(
        app,
        loop,
        name,
        shared.standing,
        shared.threads,
        {
            "SCRIPT_NAME": shared.settings.root_path.encode().decode("latin-1"),
            "SERVER_SOFTWARE": "hybrid",
            "wsgi.version": (1, 0),
            "wsgi.errors": Errors(name),
            "wsgi.multithread": shared.threads.count > 1,
            "wsgi.multiprocess": shared.multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
            "hybrid.state": state,
            "hybrid.draining": shared.farewell.notice()["draining"],
        },
        access_log=shared.access_log,
        trust=shared.trust,
        server=shared.server,
        write_s=shared.settings.write_s,
    )
    return connections(shared.endpoint(wsgi.begin, wsgi.entry, door, wsgi.context))
