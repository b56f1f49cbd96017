"""A connection: what a stream handler is given, and who runs that handler."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from anyio import BrokenResourceError, BusyResourceError
from anyio.abc import ByteStream

from hybrid.connection.addresses import Address, address, attributes, show
from hybrid.connection.failures import is_disconnect, log_disconnect, log_failure
from hybrid.connection.flow import Flow
from hybrid.connection.lines import Lines
from hybrid.connection.phases import (
    AFTER_MADE,
    CLOSED,
    DONE,
    ENDED,
    FINISHED,
    OPEN,
    PENDING,
    RUNNING,
    Handling,
)
from hybrid.connection.tls import Upgrade, tls_attributes
from hybrid.connection.tls_transport import TlsTransport

_DEFAULT_HIGH_BYTES = 65536  # the write high-water mark that both loops give a new transport

_start: Callable[..., asyncio.Task[None]]
if sys.version_info >= (3, 12):
    # hot: fetch; the first step is taken at once, one turn of the loop less for each connection.
    _start = partial(asyncio.Task, eager_start=True)
else:
    _start = asyncio.Task


class Connection(Flow, ByteStream):
    """An accepted connection until closed: an ``anyio.abc.ByteStream``, and what a server needs besides.

    Runs in: worker, on its loop's thread. Closes: itself, flushing, when the handler returns or is cancelled; at once
    when it raises. Survives: a peer that leaves. The handler is not interrupted then: it learns of it when it next
    uses the connection, and may let that error go: it is no failure of the handler's.
    """

    __slots__ = ("_drain", "_handling", "_task")
    _task: asyncio.Task[None] | None  # all three from OPEN on
    _handling: Handling
    _drain: asyncio.Event | None  # made by who waits for it, or sets it

    # ---- What the loop calls. ----

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Open and start the handler. Raises: nothing; a raise here would wedge a uvloop listener."""
        endpoint = self._endpoint
        self._transport = transport
        self._phase = AFTER_MADE[self._phase]
        if endpoint.write_high_bytes != _DEFAULT_HIGH_BYTES and not transport.is_closing():
            transport.set_write_buffer_limits(high=endpoint.write_high_bytes)
        self._handling = PENDING
        self._task = None
        self._drain = None
        endpoint.door.opened(self)
        self._task = _start(self._handle(), loop=endpoint.loop, name=endpoint.name)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that the transport is gone; the door, if the handler has ended too."""
        Flow.connection_lost(self, error)  # hot: fetch; 42,900 instructions with super(), 42,100 so
        if self._handling is ENDED:
            self._endpoint.door.closed(self)

    # ---- What the handler uses, beyond Flow. ----

    def __aiter__(self) -> Connection:
        """Return itself: bytes are consumed, a second loop goes on where the first one stopped."""
        return self

    @property
    def peer(self) -> Address:
        """Who is at the other end: (host, port), or a unix socket's path, which for a client is mostly "".

        ("", 0) if it is not known: the peer was gone before it was served.
        """
        return address(self._transport, "peername")

    @property
    def local(self) -> Address:
        """Our end: (host, port), or the unix socket's path."""
        return address(self._transport, "sockname")

    @property
    def state(self) -> Any:
        """What the worker's lifespan yielded: the user's, hence Any."""
        return self._endpoint.state

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, None on a plain connection."""
        return self._transport.session if isinstance(self._transport, TlsTransport) else None

    @property
    def draining(self) -> bool:
        """Whether the worker drains: a handler that serves many requests should end after this one."""
        return self._drain is not None and self._drain.is_set()

    async def wait_draining(self) -> None:
        """Return when the worker drains: for a handler that waits for something else than its peer."""
        if self._drain is None:
            self._drain = asyncio.Event()
        await self._drain.wait()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What anyio's ``extra()`` finds: SocketAttribute's, as far as they are known, and with TLS TLSAttribute's."""
        found = attributes(self._transport, self.local, self.peer)
        return found if self.tls is None else {**found, **tls_attributes(self.tls)}

    def lines(self, limit: int = 65536) -> Lines:
        r"""Iterate over the lines, without their ``\n`` or ``\r\n``; the last one may lack it.

        Args: limit: bytes that a line may have, its newline included; a longer one raises DelimiterNotFound.
        """
        return Lines(self, limit)

    async def detach(self) -> tuple[socket.socket, bytes]:
        """Send what is unsent, then give the socket away: return it, blocking, with the bytes already received.

        The connection counts as open until the handler returns, but is closed for all uses.
        Closes: nothing; the socket is the caller's.
        Raises: BusyResourceError: another task receives or sends. OSError: out of descriptors; nothing has changed.
        RuntimeError: TLS is on it, which does not go with the socket.
        """
        if self.tls is not None:
            raise RuntimeError(
                "cannot detach a connection with TLS: the socket alone is of no use. Keep the connection."
            )
        if self._reader is not None:
            raise BusyResourceError("reading from")
        if self._phase is not OPEN:
            raise self._why_gone()
        transport = self._transport
        transport.set_write_buffer_limits(high=0)  # so that room means: all is sent
        try:
            while transport.get_write_buffer_size():
                await self._room()
            raw = transport.get_extra_info("socket")
            duplicate = socket.socket(raw.family, raw.type, raw.proto, os.dup(raw.fileno()))
        finally:
            if self._phase is OPEN:
                transport.set_write_buffer_limits(high=self._endpoint.write_high_bytes)
        duplicate.setblocking(True)
        received = bytes(self._inbox)
        self.abort()  # closes the transport's descriptor; the connection lives on in the duplicate
        return duplicate, received

    async def start_tls(self, context: ssl.SSLContext, handshake_s: float = 10.0) -> None:
        """Speak TLS from here on, as the server: for protocols that agree on it first (STARTTLS).

        Call it at once after sending what invites the peer to begin. What it sent before is not taken for something
        said under TLS: whoever sits between could have put it there (CVE-2011-0411).
        Args: context: a server's, ``ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)`` with its certificate loaded.
        Raises: BrokenResourceError: no TLS came about, or the peer sent something before it; the connection is over.
        BusyResourceError: another task receives or sends. RuntimeError: it has TLS already. ssl.SSLError: the context
        is no server's.
        """
        if self._reader is not None or self._writer is not None:
            raise BusyResourceError("reading from" if self._reader is not None else "writing to")
        if self._phase is not OPEN or self._sending is DONE:
            raise self._why_gone()
        if self.tls is not None:
            raise RuntimeError("cannot start TLS: the connection has it already. Call start_tls() once.")
        if self._inbox:
            count = len(self._inbox)
            self.abort()
            raise BrokenResourceError(f"the peer sent {count} bytes before TLS began; the connection is cut")
        upgrade = Upgrade(self, self._loop)
        self._transport = upgrade.begin(self._transport, context, handshake_s)
        try:
            await upgrade.settled()
        except CancelledError:
            self.abort()
            raise
        if self._phase is not OPEN:
            raise self._why_gone()

    # ---- What the drain calls: registry.Served, with abort(). ----

    def start_draining(self) -> None:
        """Let the handler know, through :attr:`draining`."""
        if self._drain is None:
            self._drain = asyncio.Event()
        self._drain.set()

    def cancel(self) -> None:
        """Cancel the handler; a connection whose handler has ended goes on flushing."""
        if self._task is None or self._handling is PENDING:
            # Let it take its first step: a task that is cancelled before never enters _handle(), and nobody would
            # close. (Without a task: an eager first step runs just now, and what it called led here.)
            self._loop.call_soon(self.cancel)
        else:
            self._task.cancel()

    # ---- Inside. ----

    async def _handle(self) -> None:
        """Run the handler, then close. Lets nothing out but a cancellation: a task re-raises SystemExit in the loop."""
        self._handling = RUNNING
        try:
            await self._endpoint.handler(self)
        except CancelledError:
            self._handled()
            raise
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not self._loop.is_running():
                raise  # the loop was thrown away under us: there is nothing left to close
            self._failed(error)
            self._handled()
        else:
            self._handled()

    def _handled(self) -> None:
        """Close after the handler, in an orderly way."""
        self._handling = ENDED
        self._end()
        if self._phase is CLOSED:
            self._endpoint.door.closed(self)
        else:
            self._transport.close()

    def _failed(self, error: BaseException) -> None:
        """Log what left the handler and close at once, unless it only says that the peer has left."""
        endpoint = self._endpoint
        if (self._reading is FINISHED or self._phase is not OPEN) and is_disconnect(error):
            log_disconnect(endpoint.name, show(self.peer), error)
            return
        log_failure(endpoint.name, show(self.peer), error)
        endpoint.door.failed(self)
        self.abort()
