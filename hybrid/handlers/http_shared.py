"""What the HTTP listeners of one worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from hybrid.connection.access_log import AccessLog, Entry
from hybrid.connection.addresses import UNKNOWN, Address
from hybrid.connection.farewell import Farewell
from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.http_endpoint import Exchange, HttpEndpoint, HttpTimes
from hybrid.connection.load import UNLIMITED, Load
from hybrid.connection.registry import Door
from hybrid.handlers.wsgi_threads import Threads
from hybrid.http.date import StandingLines
from hybrid.http.forwarded import Origin, Trust, forwarded
from hybrid.http.head import Head, HeadLimits
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.proxy_settings import ProxySettings
from hybrid.shared.websocket_settings import WebSocketSettings


@dataclass(slots=True)
class HttpShared:
    """Made once per worker, before its first listener. Runs in: worker, in its loop."""

    settings: HttpSettings
    standing: StandingLines
    load: Load
    trust: Trust | None
    """None: nobody is believed."""
    access_log: AccessLog | None
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    server: Address | None = None
    """The address of the one listener, where that is every connection's own; None: each is asked."""
    farewell: Farewell = field(default_factory=Farewell)
    """The worker's."""
    threads: Threads | None = None
    """For WSGI: in which applications run; started and ended by who made them."""
    multiprocess: bool = False
    """For WSGI: whether other processes serve the same application."""

    @classmethod
    def of(
        cls,
        settings: HttpSettings,
        proxy: ProxySettings | None = None,
        access_log: AccessLog | None = None,
        websocket: WebSocketSettings | None = None,
    ) -> HttpShared:
        """Make it from the settings."""
        return cls(
            settings,
            StandingLines("hybrid" if settings.server_header else "", date=settings.date_header),
            Load(settings.limit_concurrency or UNLIMITED),
            Trust(proxy.allow_ips, proxy.header) if proxy is not None and proxy.headers else None,
            access_log,
            websocket or WebSocketSettings(),
        )

    def endpoint(
        self,
        begin: Callable[[HttpConnection, Head], Exchange],
        entry: Callable[[HttpConnection, Head | None], Entry],
        door: Door,
        context: Context,
    ) -> HttpEndpoint:
        """Return what the connections of one listener share. Args: as of :class:`HttpEndpoint`."""
        settings = self.settings
        return HttpEndpoint(
            begin=begin,
            door=door,
            loop=asyncio.get_running_loop(),
            standing=self.standing,
            context=context,
            access_log=self.access_log,
            entry=entry,
            load=self.load,
            farewell=self.farewell,
            limits=HeadLimits(settings.limit_line_bytes, settings.limit_head_bytes, settings.limit_fields),
            limit_body_bytes=settings.limit_body_bytes,
            times=HttpTimes(
                settings.head_s, settings.body_s, settings.keep_alive_s, settings.write_s, settings.request_s
            ),
        )


def origin_of(head: Head, peer: Address, trust: Trust | None) -> Origin | None:
    """Return what a proxy that is trusted says of the request; None: nothing. Args: trust: None: nobody is believed."""
    if trust is None or peer == UNKNOWN:
        return None
    return forwarded(head.fields.forwarded, None if isinstance(peer, str) else peer[0], trust)


def connections(endpoint: HttpEndpoint) -> Callable[[], asyncio.BaseProtocol]:
    """Return what makes one connection for each socket that a listener accepts."""
    # Both loops take any object with a protocol's methods; HttpConnection does not inherit, so that it can be compiled.
    return cast(Callable[[], asyncio.BaseProtocol], partial(HttpConnection, endpoint))
