"""A connection: an asyncio protocol on one side, an anyio byte stream on the other, with nothing in between.

Bytes that arrive go straight to a waiting receiver; without one they are kept in the *inbox*, and above
``read_high_bytes`` the socket is not read any more, so the kernel's window closes and the peer has to wait. Reading
is resumed in exactly one case: a receiver waits. A loop reads at most 256 KiB at a time, so what a connection holds
for a handler that does not receive is at most ``read_high_bytes`` and one such read.

An operation that need not wait gives other tasks no turn (anyio's own streams do, each time; it is half their cost).
So that a handler that never has to wait cannot hold the loop for ever, every 64th such operation does.

Ready to be compiled by mypyc, unchanged: exact types, no inheritance from asyncio.Protocol (loops only look at the
methods, and without ``get_buffer`` they call ``data_received``), nothing conditional in the class body.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from asyncio import CancelledError, InvalidStateError
from collections.abc import Callable, Mapping
from typing import Any

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    EndOfStream,
    IncompleteRead,
)
from anyio.abc import ByteStream

from hybrid.connection.addresses import Address, address, attributes, show
from hybrid.connection.endpoint import Endpoint
from hybrid.connection.failures import is_disconnect, log_disconnect, log_failure
from hybrid.connection.lines import Lines
from hybrid.connection.phases import PHASES, Handling, Phase, PhaseEvent
from hybrid.shared.machine import advance

_TURNS = 64
"""Operations in a row that need not wait, before others get a turn: some 0.2 ms of a handler that does little else."""
_DEFAULT_HIGH_BYTES = 65536
"""The write high-water mark that both loops give a new transport."""
_RECEIVE_BYTES = 65536
"""What one receive returns at most, unless told: anyio's promise to who iterates."""


class Connection(ByteStream):
    """An accepted connection: what a stream handler is given.

    One task may receive while another one sends; a second one in the same direction gets BusyResourceError.
    A receive that is cancelled loses no bytes; a send that is cancelled may have sent its bytes.

    Runs in: worker, on its loop's thread. Closes: itself, flushing, when the handler returns or is cancelled; at once
    when it raises. Survives: a peer that leaves. The handler is not interrupted then: it learns of it when it next
    uses the connection, and may let that error go: it is no failure of the handler's.
    Raises, from any use after we closed: ClosedResourceError; after the peer or the network ended it:
    BrokenResourceError.
    """

    __slots__ = (
        "_blocked",
        "_drain",
        "_draining",
        "_endpoint",
        "_eof",
        "_error",
        "_handling",
        "_inbox",
        "_loop",
        "_lost",
        "_peer",
        "_phase",
        "_reader",
        "_reading_ended",
        "_reading_paused",
        "_sent_eof",
        "_task",
        "_transport",
        "_turns",
        "_writer",
        "_writing_paused",
    )

    _transport: asyncio.Transport

    def __init__(self, endpoint: Endpoint) -> None:
        """Make a connection that waits for its transport: what a protocol factory returns."""
        self._endpoint = endpoint
        self._loop = endpoint.loop
        self._phase = Phase.NEW
        self._handling = Handling.PENDING
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._lost: asyncio.Event | None = None
        self._peer: Address | None = None
        self._draining = False
        self._drain: asyncio.Event | None = None
        self._turns = _TURNS
        # Receiving.
        self._inbox = bytearray()
        self._reader: asyncio.Future[bytes] | None = None
        self._reading_paused = False
        self._reading_ended = False  # by the peer's EOF, by a loss or by us: nothing more will arrive
        self._eof = False
        # Sending.
        self._writer: asyncio.Future[None] | None = None
        self._writing_paused = False
        self._sent_eof = False
        self._blocked = False  # paused, ended or closed: send() must look closer

    # ---- An asyncio protocol: what the loop calls. ----

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the handler. Raises: nothing; a raise here would wedge a uvloop listener."""
        endpoint = self._endpoint
        self._transport = transport
        self._phase = advance(PHASES, self._phase, PhaseEvent.MADE)
        if endpoint.write_high_bytes != _DEFAULT_HIGH_BYTES and not transport.is_closing():
            transport.set_write_buffer_limits(high=endpoint.write_high_bytes)
        endpoint.door.opened(self)
        if sys.version_info >= (3, 12):
            # hot: fetch; its first step runs here and now, one turn of the loop less for each connection.
            self._task = asyncio.Task(self._handle(), loop=self._loop, name=endpoint.name, eager_start=True)
        else:
            self._task = asyncio.Task(self._handle(), loop=self._loop, name=endpoint.name)

    def data_received(self, data: bytes) -> None:
        """Hand ``data`` to the waiting receiver, or keep it."""
        reader = self._reader
        inbox = self._inbox
        if reader is not None:
            try:
                if not inbox:
                    reader.set_result(data)
                else:
                    reader.set_result(b"")  # receive_exactly or receive_until: they look into the inbox
                    inbox += data
                return
            except InvalidStateError:  # it was cancelled, or has its bytes and did not run yet
                pass
        inbox += data
        if len(inbox) > self._endpoint.read_high_bytes:
            self._reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that the peer sends no more; True: keep the transport, we may still send (half-close)."""
        self._eof = True
        self._reading_ended = True
        self._wake()
        return True

    def pause_writing(self) -> None:
        """Make senders wait: the transport holds more than the high-water mark."""
        self._writing_paused = True
        self._blocked = True

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._writing_paused = False
        self._blocked = self._sent_eof or self._phase is not Phase.OPEN
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that the transport is gone."""
        self._phase = advance(PHASES, self._phase, PhaseEvent.LOST)
        self._error = error
        self._reading_ended = True
        self._blocked = True
        self._wake()
        if self._lost is not None:
            self._lost.set()
        if self._handling is Handling.ENDED:
            self._endpoint.door.closed(self)

    # ---- An anyio byte stream: what the handler calls. ----

    async def receive(self, max_bytes: int = _RECEIVE_BYTES) -> bytes:
        """Return the next bytes, at most ``max_bytes``, at least one.

        Raises: EndOfStream: the peer sends no more.
        """
        if max_bytes < 1:
            raise ValueError(f"cannot receive {max_bytes} bytes: not positive. Ask for at least 1.")
        while True:
            if self._reader is not None:
                raise BusyResourceError("reading from")
            if self._inbox:
                if self._turns > 0:
                    self._turns -= 1
                    return self._take(max_bytes)
                await self._give_way()
                continue
            # hot: raw_echo with receive(); 1.54 µs through _arrival(), 1.33 µs so (the Python part of a message).
            if self._reading_ended:
                raise self._end_of_reading()
            if self._reading_paused:
                self._resume_reading()
            reader = self._reader = self._loop.create_future()
            try:
                data = await reader
            except CancelledError:
                self._keep(reader)
                raise
            finally:
                self._reader = None
            if 0 < len(data) <= max_bytes:
                return data
            self._put_back(data)

    def __aiter__(self) -> Connection:
        """Return itself: bytes are consumed, a second loop goes on where the first one stopped."""
        return self

    async def __anext__(self) -> bytes:
        """Do as :meth:`receive`; the end of the stream ends the loop."""
        # hot: raw_echo; 1.54 µs by calling receive(), 1.33 µs so (the Python part of a message).
        if self._reader is None and not self._inbox and not self._reading_ended and not self._reading_paused:
            reader = self._reader = self._loop.create_future()
            try:
                data = await reader
            except CancelledError:
                self._keep(reader)
                raise
            finally:
                self._reader = None
            if 0 < len(data) <= _RECEIVE_BYTES:
                return data
            self._put_back(data)
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    async def receive_exactly(self, nbytes: int) -> bytes:
        """Return the next ``nbytes`` bytes; a memory of that size is the caller's promise.

        Raises: IncompleteRead: the peer ended before; what came can still be received.
        """
        if nbytes < 0:
            raise ValueError(f"cannot receive {nbytes} bytes: negative. Ask for 0 or more.")
        while True:
            if self._reader is not None:
                raise BusyResourceError("reading from")
            if len(self._inbox) >= nbytes:
                if self._turns > 0:
                    self._turns -= 1
                    return self._take(nbytes)
                await self._give_way()
                continue
            data = await self._arrival()
            if len(data) == nbytes and not self._inbox:
                return data
            self._put_back(data)

    async def receive_until(self, delimiter: bytes, max_bytes: int) -> bytes:
        """Return the bytes up to ``delimiter``, which is consumed and not returned.

        Args: max_bytes: within so many bytes the delimiter must end, however they arrive.
        Raises: DelimiterNotFound: it did not. IncompleteRead: the peer ended before. In both cases what came can
        still be received.
        """
        if not delimiter or max_bytes < 1:
            raise ValueError(f"cannot receive until {delimiter!r} in {max_bytes} bytes: give a delimiter and a limit.")
        searched = 0
        while True:
            if self._reader is not None:
                raise BusyResourceError("reading from")
            inbox = self._inbox
            if inbox:
                index = inbox.find(delimiter, searched, max_bytes)
                if index >= 0 and self._turns <= 0:
                    await self._give_way()
                    continue
                if index >= 0:
                    self._turns -= 1
                    data = bytes(inbox[:index])
                    del inbox[: index + len(delimiter)]
                    return data
                if len(inbox) >= max_bytes:
                    raise DelimiterNotFound(max_bytes)
                searched = max(0, len(inbox) - len(delimiter) + 1)
            data = await self._arrival()
            index = data.find(delimiter, 0, max_bytes)
            if index >= 0:
                self._put_back(data[index + len(delimiter) :])
                return data[:index]
            self._put_back(data)

    def lines(self, limit: int = 65536) -> Lines:
        r"""Iterate over the lines, without their ``\n`` or ``\r\n``; the last one may lack it.

        Args: limit: bytes that a line may have, its newline included; a longer one raises DelimiterNotFound.
        """
        return Lines(self, limit)

    async def send(self, item: bytes) -> None:
        """Send ``item``; wait while more than ``write_high_bytes`` are unsent.

        That bytes are sent does not say that they arrived; the first send after the peer left may seem to succeed.
        Raises: ClosedResourceError: also after :meth:`send_eof`.
        """
        self._turns -= 1
        if self._blocked or self._turns < 0:
            await self._sendable()
        if type(item) is not bytes:
            item = bytes(item)  # the transport may keep a view of it, and the caller may change it
        self._transport.write(item)
        if self._writing_paused:
            await self._room()

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will come, once all is sent; receiving goes on. Idempotent."""
        if self._sent_eof:
            return
        if self._phase is not Phase.OPEN:
            raise self._gone()
        self._sent_eof = True
        self._blocked = True
        self._transport.write_eof()

    async def aclose(self) -> None:
        """Close in an orderly way: send what is unsent, then close; wait for that. Idempotent.

        Cancelled while it waits, it closes at once. A task that receives or sends gets ClosedResourceError.
        """
        self._end()
        self._transport.close()
        if self._phase is Phase.CLOSING and self._transport.get_write_buffer_size():
            if self._lost is None:
                self._lost = asyncio.Event()
            try:
                await self._lost.wait()
            except CancelledError:
                self._transport.abort()
                raise

    def abort(self) -> None:
        """Close at once; what is unsent is lost. A task that receives or sends gets ClosedResourceError."""
        self._end()
        self._transport.abort()

    async def detach(self) -> tuple[socket.socket, bytes]:
        """Send what is unsent, then give the socket away: return it, blocking, with the bytes already received.

        The connection counts as open until the handler returns, but is closed for all uses.
        Closes: nothing; the socket is the caller's.
        Raises: BusyResourceError: another task receives or sends. OSError: out of descriptors; nothing has changed.
        """
        if self._reader is not None:
            raise BusyResourceError("reading from")
        if self._phase is not Phase.OPEN:
            raise self._gone()
        transport = self._transport
        transport.set_write_buffer_limits(high=0)  # so that room means: all is sent
        try:
            if self._writing_paused:
                await self._room()
            raw = transport.get_extra_info("socket")
            duplicate = socket.socket(raw.family, raw.type, raw.proto, os.dup(raw.fileno()))
        finally:
            if self._phase is Phase.OPEN:
                transport.set_write_buffer_limits(high=self._endpoint.write_high_bytes)
        duplicate.setblocking(True)
        received = bytes(self._inbox)
        self.abort()  # closes the transport's descriptor; the connection lives on in the duplicate
        return duplicate, received
