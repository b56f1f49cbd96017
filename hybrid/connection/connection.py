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

from anyio import BusyResourceError
from anyio.abc import ByteStream

from hybrid.connection.addresses import Address, address, attributes, show
from hybrid.connection.failures import is_disconnect, log_disconnect, log_failure
from hybrid.connection.flow import Flow
from hybrid.connection.lines import Lines
from hybrid.connection.phases import AFTER_MADE, CLOSED, ENDED, FINISHED, OPEN, PENDING, RUNNING, Handling

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
        return None

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
        """What anyio's ``extra()`` finds: SocketAttribute's, as far as they are known."""
        return attributes(self._transport, self.local, self.peer)

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
        """
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
