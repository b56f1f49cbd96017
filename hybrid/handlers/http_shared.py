"""What the HTTP listeners of one worker share."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from hybrid.connection.access_log import AccessLog
from hybrid.connection.addresses import Address
from hybrid.connection.farewell import Farewell
from hybrid.connection.http_endpoint import Load
from hybrid.handlers.wsgi_threads import Threads
from hybrid.http.date import StandingLines
from hybrid.http.forwarded import Trust
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
            Load(settings.limit_concurrency or inf),
            Trust(proxy.allow_ips, proxy.header) if proxy is not None and proxy.headers else None,
            access_log,
            websocket or WebSocketSettings(),
        )
