"""Serve asyncio protocols as they are.

The user's protocol object receives its events straight from the loop; all we need to hear of is its end. The loop
first gets a :class:`ProtocolConnection`, whose ``connection_made`` calls the user's factory (so a factory that raises
costs one connection; one that raises inside uvloop's accept wedges the listener) and hands the transport over:

* An object with room for it gets an instance attribute ``connection_lost`` that tells us and calls its own.
* An object without (``__slots__``, as aiohttp's; C and compiled types; one already serving another connection) is
  represented by a :class:`_StandIn`, whose attributes *are* the object's bound methods: the loop calls those directly.

Rejected: a subclass made on the fly and assigned to ``__class__`` (changes ``type(x)``, runs ``__init_subclass__``,
spoils inline attribute caches, impossible for C types); a proxy that forwards each event (time per chunk).
A stand-in for everybody would do too, but a protocol that passes itself to a TLS layer (STARTTLS as in aiosmtpd) then
hears of the end without us.

Some ends reach no protocol of ours: after ``transport.set_protocol(other)``, and when a TLS handshake fails, of which
asyncio does not tell the application protocol. A look at the open transports each second finds those: a closed
transport, of uvloop's or asyncio's, has no protocol any more.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from hybrid.connection.registry import Door
from hybrid.handlers.exceptions import finders, log, peer_name, raised_by_user_code

_SWEEP_S = 1.0


@dataclass(frozen=True, slots=True)
class ProtocolHandler:
    """What :func:`protocol` makes: a factory of protocols, and what tells one of them to finish."""

    factory: Callable[[], Any]
    on_drain: Callable[[Any], object] | None = None


def protocol(factory: Callable[[], Any], *, on_drain: Callable[[Any], object] | None = None) -> ProtocolHandler:
    """Mark a callable as a factory of asyncio protocols.

    Needed where the callable is not a protocol class, or to say how a protocol finishes what it is doing.
    Args: on_drain: called with each open protocol when its worker drains; may be async. Without it, connections are
    left alone until the grace is over, and then closed.
    """
    return ProtocolHandler(factory, on_drain)


class ProtocolEndpoint:
    """A listener with its protocol factory, in one worker: what every connection accepted there shares."""

    def __init__(
        self,
        handler: ProtocolHandler,
        name: str,
        door: Door,
        loop: asyncio.AbstractEventLoop,
        sweep_s: float = _SWEEP_S,
    ) -> None:
        self.handler = handler
        self.name = name
        self.door = door
        self.loop = loop
        self.open: dict[asyncio.BaseTransport, ProtocolConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep_s = sweep_s
        self._sweeping: asyncio.TimerHandle | None = None
        finders.add(self)

    def connection(self) -> ProtocolConnection:
        """Return what the loop's ``create_server`` gets for each accepted socket. Never raises."""
        return ProtocolConnection(self)

    def opened(self, connection: ProtocolConnection) -> None:
        """Count a connection in."""
        self.open[connection.transport] = connection
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(self._sweep_s, self._sweep)
        self.door.opened(connection)

    def closed(self, connection: ProtocolConnection) -> None:
        """Count a connection out, once."""
        if self.open.pop(connection.transport, None) is not None:
            self.door.closed(connection)

    def find(self, transport: object) -> ProtocolConnection | None:
        """Return the open connection that has ``transport``: what the loop's exception handler asks."""
        return self.open.get(cast(asyncio.BaseTransport, transport))  # uvloop's do not inherit from it

    def _sweep(self) -> None:
        """Find the connections whose end no protocol of ours was told."""
        # Ends by itself when there is nothing open: cancelling in closed() would cost each short connection a timer.
        self._sweeping = self.loop.call_later(self._sweep_s, self._sweep) if self.open else None
        for transport, connection in list(self.open.items()):
            if transport.get_protocol() is None:
                # Not at once: a TLS layer may have scheduled the protocol's connection_lost for this turn.
                self.loop.call_soon(connection.lost_unheard)

    def spawn(self, awaitable: Awaitable[object], connection: ProtocolConnection) -> None:
        """Run what an async ``on_drain`` returned."""

        async def run() -> None:
            try:
                await awaitable
            except Exception as error:  # noqa: BLE001  (the user's code; logged by fail)
                connection.fail("on_drain", error)

        task = self.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class ProtocolConnection(asyncio.BaseProtocol):
    """A connection that the user's protocol serves: what the drain sees of it, and who hears of its end."""

    __slots__ = ("_endpoint", "_failed", "_lost", "protocol", "transport")

    def __init__(self, endpoint: ProtocolEndpoint) -> None:
        self._endpoint = endpoint
        self._failed = False
        self.protocol: Any = None
        """The user's; None before it was made and after the end."""
        self._lost: Callable[[Exception | None], object] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the user's protocol and hand the transport over to it."""
        self.transport = transport  # type: ignore[assignment]  # a stream server's transports are Transports
        self._endpoint.opened(self)
        try:
            protocol = self._endpoint.handler.factory()
            if not hasattr(protocol, "connection_made"):
                raise TypeError(f"the protocol factory returned {protocol!r}, which is no protocol")
        except Exception as error:  # noqa: BLE001  (the user's code; logged by fail)
            self.fail("the factory of its protocol", error)
            self.transport.abort()
            return
        self._hand_over(protocol)
        try:
            protocol.connection_made(transport)
        except Exception as error:  # noqa: BLE001  (the user's code; logged by fail)
            # uvloop would leave the connection open and deaf, asyncio open and half made.
            self.fail("connection_made", error)
            self.transport.abort()

    def _hand_over(self, protocol: Any) -> None:
        self.protocol = protocol
        lost = protocol.connection_lost
        holder = getattr(lost, "__self__", None)
        if isinstance(holder, ProtocolConnection) and holder._lost is not None:
            # One object for two connections: what is on it belongs to the first.
            self._lost = holder._lost
            receiver = _stand_in(protocol, self)
        else:
            self._lost = lost
            receiver = protocol
            try:
                object.__setattr__(protocol, "connection_lost", self.connection_lost)
            except (AttributeError, TypeError):
                receiver = _stand_in(protocol, self)
        self.transport.set_protocol(receiver)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the user's protocol, and count the connection out."""
        lost = self._take_back()
        if exc is not None and raised_by_user_code(exc):
            # The loop reported it already, unless it is an OSError: those it takes for the network's.
            self.fail("an event of its protocol", exc, logged=not isinstance(exc, OSError))
        try:
            if lost is not None:
                lost(exc)
        except Exception as error:  # noqa: BLE001  (the user's code; logged by fail)
            self.fail("connection_lost", error)
        finally:
            self._endpoint.closed(self)

    def lost_unheard(self) -> None:
        """Count the connection out; its end was told to somebody else."""
        self._take_back()
        self._endpoint.closed(self)

    def _take_back(self) -> Callable[[Exception | None], object] | None:
        """Leave the protocol as it was, which also breaks the reference cycle; return its own ``connection_lost``."""
        protocol, lost = self.protocol, self._lost
        self.protocol = self._lost = None
        if protocol is not None and getattr(protocol.connection_lost, "__self__", None) is self:
            object.__delattr__(protocol, "connection_lost")
            if protocol.connection_lost != lost:  # it had put its own on the instance
                object.__setattr__(protocol, "connection_lost", lost)
        return lost

    def fail(self, what: str, error: BaseException, logged: bool = False) -> None:
        """Log an error of the user's code, unless it was, and count the connection as failed, once."""
        if not logged:
            log.error(
                "handler %s failed in %s, connection from %s: %s: %s",
                self._endpoint.name,
                what,
                peer_name(self.transport),
                type(error).__name__,
                error,
                exc_info=error,
            )
        if not self._failed:
            self._failed = True
            self._endpoint.door.failed(self)

    def start_draining(self) -> None:
        """Ask the user's protocol to finish, if it can be asked."""
        on_drain = self._endpoint.handler.on_drain
        if on_drain is None or self.protocol is None:
            return
        try:
            result = on_drain(self.protocol)
            if inspect.isawaitable(result):
                self._endpoint.spawn(result, self)
        except Exception as error:  # noqa: BLE001  (the user's code; logged by fail)
            self.fail("on_drain", error)

    def cancel(self) -> None:
        """Close in an orderly way: what is in the write buffer still goes out."""
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()


_EVENTS = (
    "connection_made",
    "data_received",
    "get_buffer",
    "buffer_updated",
    "eof_received",
    "pause_writing",
    "resume_writing",
)


class _StandIn(asyncio.Protocol):
    """What the loop holds in place of a protocol that has no room for an attribute of ours.

    Every event but the last is the protocol's own bound method; what else somebody asks of it, the protocol answers.
    """

    __slots__ = ("_connection", *_EVENTS)

    _connection: ProtocolConnection

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_connection").protocol, name)


class _BufferedStandIn(asyncio.BufferedProtocol):
    """The same for a BufferedProtocol: both loops look at the type to tell which it is."""

    __slots__ = ("_connection", *_EVENTS)

    _connection: ProtocolConnection

    connection_lost = _StandIn.connection_lost
    __getattr__ = _StandIn.__getattr__


def _stand_in(protocol: Any, connection: ProtocolConnection) -> asyncio.BaseProtocol:
    buffered = isinstance(protocol, asyncio.BufferedProtocol) or (
        hasattr(protocol, "get_buffer") and not hasattr(protocol, "data_received")
    )
    stand_in: Any = _BufferedStandIn() if buffered else _StandIn()
    stand_in._connection = connection
    for event in _EVENTS:
        method = getattr(protocol, event, None)
        if method is not None:
            setattr(stand_in, event, method)
    return stand_in  # type: ignore[no-any-return]  # Any above: its attributes are slots, not methods
