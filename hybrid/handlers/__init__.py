"""The kinds of user code that a worker serves, and how each is found out and started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hybrid.connection.registry import Door
from hybrid.handlers.asgi import asgi_factory
from hybrid.handlers.detect import Handler, Kind, detect
from hybrid.handlers.http_shared import HttpShared
from hybrid.handlers.protocol import ProtocolEndpoint, ProtocolHandler
from hybrid.handlers.stream import stream_factory
from hybrid.handlers.wsgi import wsgi_factory
from hybrid.shared.http_settings import HttpSettings

__all__ = ["Handler", "Kind", "detect", "protocol_factory"]


def protocol_factory(
    handler: Handler, door: Door, loop: asyncio.AbstractEventLoop, state: Any, http: HttpShared | None = None
) -> Callable[[], asyncio.BaseProtocol]:
    """Return what ``loop.create_server`` gets for one listener. What is returned never raises.

    Runs in: worker.
    Args: door: the listener's; state: what the lifespan yielded, for stream handlers and applications; http: what the
    worker's listeners share, for applications; those of WSGI need it, with its threads.
    """
    if handler.kind is Kind.ASGI:
        return asgi_factory(handler.target, handler.name, door, state, http or HttpShared.of(HttpSettings()))
    if handler.kind is Kind.WSGI and http is not None:
        return wsgi_factory(handler.target, handler.name, door, state, http)
    if handler.kind is Kind.PROTOCOL:
        return ProtocolEndpoint(ProtocolHandler(handler.target, handler.on_drain), handler.name, door, loop).connection
    # Both loops take any object with a protocol's methods; Connection does not inherit, so that it can be compiled.
    return cast(Callable[[], asyncio.BaseProtocol], stream_factory(handler.target, handler.name, door, loop, state))
