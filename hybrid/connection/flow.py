"""Bytes in, bytes out, and the flow control of one transport: an asyncio protocol with an anyio byte stream's methods.

Bytes that arrive go straight to a waiting receiver; without one they are kept in the *inbox*, and above
``read_high_bytes`` the socket is not read any more, so the kernel's window closes and the peer has to wait. Reading
is resumed in exactly one case: a receiver waits. A loop reads at most 256 KiB at a time, and one such read may be on
its way to the receiver while the next one arrives: a connection holds at most ``read_high_bytes`` and two reads.

An operation that need not wait gives other tasks no turn (anyio's own streams do, each time; it is half their cost).
So that a handler that never has to wait cannot hold the loop for ever, every 64th such operation does.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, InvalidStateError

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    DelimiterNotFound,
    EndOfStream,
    IncompleteRead,
)

from hybrid.connection.endpoint import Endpoint
from hybrid.connection.failures import as_bytes
from hybrid.connection.phases import (
    AFTER_CLOSE,
    AFTER_LOST,
    BROKEN,
    CLOSING,
    DONE,
    FINISHED,
    FLOWING,
    FREE,
    FULL,
    HELD,
    NEW,
    OPEN,
    OVER,
)
from hybrid.ground.build import mypyc_attr

_TURNS = 64  # operations in a row that need not wait, before others get a turn
_RECEIVE_BYTES = 65536  # what one receive returns at most, unless told: anyio's promise to who iterates


def _joined(first: bytes | bytearray, second: bytes | bytearray) -> bytearray:
    """Return both in one bytearray: the first, grown, if it is one."""
    both = first if isinstance(first, bytearray) else bytearray(first)
    both += second
    return both


@mypyc_attr(allow_interpreted_subclasses=True)  # Connection derives from anyio's ByteStream, which is interpreted
class Flow:
    """One transport's bytes in both directions.

    :class:`hybrid.connection.connection.Connection` adds the handler, and ``connection_made``, which opens it.

    One task may receive while another one sends; a second one in the same direction gets BusyResourceError.
    A receive that is cancelled loses no bytes; a send that is cancelled may have sent its bytes.
    Raises, from any use after we closed: ClosedResourceError; after the peer or the network ended it:
    BrokenResourceError.
    """

    __slots__ = (
        "_endpoint", "_error", "_inbox", "_loop", "_lost", "_phase",
        "_reader", "_reading", "_sending", "_transport", "_turns", "_writer",
    )  # fmt: skip
    _transport: asyncio.Transport  # from OPEN on
    _error: Exception | None  # from BROKEN on: what broke it

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._loop = endpoint.loop
        self._phase = NEW
        self._turns = _TURNS
        self._inbox: bytes | bytearray = b""  # one arrival as it came, several as a bytearray
        self._reader: asyncio.Future[bytes] | None = None
        self._reading = FLOWING
        self._writer: asyncio.Future[None] | None = None
        self._sending = FREE
        self._lost: asyncio.Event | None = None  # made by who waits for it

    # ---- An asyncio protocol: what the loop calls. ----

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
                    self._inbox = inbox = _joined(inbox, data)
                return
            except InvalidStateError:  # it was cancelled, or has its bytes and did not run yet
                pass
        self._inbox = inbox = _joined(inbox, data) if inbox else data
        if len(inbox) > self._endpoint.read_high_bytes:
            self._reading = HELD
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that the peer sends no more; True: keep the transport, we may still send (half-close)."""
        self._reading = FINISHED
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(b"")
        return True

    def pause_writing(self) -> None:
        """Make senders wait: the transport holds more than the high-water mark."""
        if self._sending is FREE:
            self._sending = FULL

    def resume_writing(self) -> None:
        """Let senders go on."""
        if self._sending is FULL:
            self._sending = FREE
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that the transport is gone."""
        self._phase = AFTER_LOST[self._phase]
        if self._phase is BROKEN:
            self._error = error
            self._reading = FINISHED if self._reading is FINISHED else OVER
            self._sending = DONE
            self._wake()
        if self._lost is not None:
            self._lost.set()

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
            if self._inbox and self._turns > 0:
                return self._take(max_bytes)
            if self._inbox:
                await self._give_way()
                continue
            # hot: raw_echo with receive(); 14,000 instructions of Python a message through _arrival(), 12,700 so.
            reader = self._expect()
            try:
                data = await reader
            except CancelledError:
                self._keep(reader)
                raise
            finally:
                self._reader = None
            if data and len(data) <= max_bytes:
                return data
            self._put_back(data)

    async def __anext__(self) -> bytes:
        """Do as :meth:`receive`; the end of the stream ends the loop."""
        # hot: raw_echo; 14,100 instructions of Python a message through _arrival(), 12,200 so.
        if self._reader is None and not self._inbox and self._reading is FLOWING:
            reader: asyncio.Future[bytes] = self._loop.create_future()
            self._reader = reader
            try:
                data = await reader
            except CancelledError:
                self._keep(reader)
                raise
            finally:
                self._reader = None
            if data and len(data) <= _RECEIVE_BYTES:
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
                    return self._take(nbytes)
                await self._give_way()
                continue
            data = await self._arrival()
            if len(data) == nbytes and not self._inbox:
                return data
            self._put_back(data)

    async def receive_until(self, delimiter: bytes | bytearray | memoryview, max_bytes: int) -> bytes:
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
                if index >= 0:
                    if self._turns <= 0:
                        await self._give_way()
                        continue
                    return self._take(index + len(delimiter))[:index]
                if len(inbox) >= max_bytes:
                    raise DelimiterNotFound(max_bytes)
                searched = max(0, len(inbox) - len(delimiter) + 1)
            data = await self._arrival()
            index = data.find(delimiter, 0, max_bytes)
            if index >= 0:
                self._put_back(data[index + len(delimiter) :])
                return data[:index]
            self._put_back(data)

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Send ``item``; wait while more than ``write_high_bytes`` are unsent.

        That bytes are sent does not say that they arrived; the first send after the peer left may seem to succeed.
        Raises: ClosedResourceError: also after :meth:`send_eof`.
        """
        self._turns -= 1
        if self._turns < 0 or self._sending is not FREE:
            await self._sendable()
        if type(item) is not bytes:
            item = as_bytes(item)  # the transport may keep a view of it, and the caller may change it
        self._transport.write(item)
        if self._sending is FULL:
            await self._room()

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will come, once all is sent; receiving goes on. Idempotent."""
        if self._phase is not OPEN:
            raise self._why_gone()
        if self._sending is not DONE:
            self._sending = DONE
            self._transport.write_eof()

    async def aclose(self) -> None:
        """Close in an orderly way: send what is unsent, then close; wait for that. Idempotent.

        Cancelled while it waits, it closes at once. A task that receives or sends gets ClosedResourceError.
        """
        self._end()
        if self._phase is not CLOSING:
            return
        self._transport.close()
        if self._transport.get_write_buffer_size():
            if self._lost is None:
                self._lost = asyncio.Event()
            try:
                await self._lost.wait()
            except CancelledError:
                self.abort()
                raise

    def abort(self) -> None:
        """Close at once; what is unsent is lost. A task that receives or sends gets ClosedResourceError."""
        self._end()
        if self._phase is CLOSING:
            self._transport.abort()

    # ---- Inside. ----

    def _take(self, count: int) -> bytes:
        """Return and drop the first bytes of the inbox."""
        self._turns -= 1
        inbox = self._inbox
        if count >= len(inbox):
            self._inbox = b""
            return bytes(inbox)
        if isinstance(inbox, bytes):
            self._inbox = inbox = bytearray(inbox)
        data = bytes(inbox[:count])
        del inbox[:count]  # moves a pointer, not the rest
        return data

    def _put_back(self, data: bytes) -> None:
        """Put what was handed over before what arrived since."""
        if data and (self._phase is OPEN or self._phase is BROKEN):
            self._inbox = _joined(data, self._inbox) if self._inbox else data

    def _keep(self, reader: asyncio.Future[bytes]) -> None:
        """Keep what a receiver was handed that is cancelled before it could run."""
        if reader.done() and not reader.cancelled():
            self._put_back(reader.result())

    def _expect(self) -> asyncio.Future[bytes]:
        """Return the future of the next arrival. Raises: what :meth:`receive` raises when none will come."""
        if self._reading is HELD:
            self._reading = FLOWING
            self._transport.resume_reading()
        elif self._reading is not FLOWING:
            raise self._end_of_reading()
        reader: asyncio.Future[bytes] = self._loop.create_future()
        self._reader = reader
        return reader

    async def _arrival(self) -> bytes:
        """Wait for bytes. Return them if the inbox was empty, else b"": they are in the inbox.

        Raises: IncompleteRead: none will come.
        """
        try:
            reader = self._expect()
        except EndOfStream as error:
            raise IncompleteRead from error
        try:
            return await reader
        except CancelledError:
            self._keep(reader)
            raise
        finally:
            self._reader = None

    async def _sendable(self) -> None:
        """Return when the transport takes bytes. Raises: what :meth:`send` raises."""
        if self._turns < 0:
            await self._give_way()
        while self._sending is not FREE:
            if self._phase is not OPEN:
                raise self._why_gone()
            if self._sending is DONE:
                raise ClosedResourceError("cannot send: send_eof() was called")
            await self._room()

    async def _room(self) -> None:
        """Return when the transport has sent enough. Raises: what :meth:`send` raises."""
        if self._writer is not None:
            raise BusyResourceError("writing to")
        self._writer = self._loop.create_future()
        try:
            await self._writer
        finally:
            self._writer = None
        if self._phase is not OPEN:
            raise self._why_gone()

    async def _give_way(self) -> None:
        self._turns = _TURNS
        await asyncio.sleep(0)

    def _wake(self) -> None:
        """Make whoever waits look again."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(b"")
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _end(self) -> None:
        """End it from our side, for every task; the caller closes or aborts the transport."""
        self._phase = AFTER_CLOSE[self._phase]
        self._inbox = b""
        self._reading = OVER
        self._sending = DONE
        if self._reader is not None or self._writer is not None:
            self._wake()

    def _end_of_reading(self) -> Exception:
        """Return why nothing more will arrive."""
        if self._reading is FINISHED or (self._phase is BROKEN and self._error is None):
            return EndOfStream("the peer sends no more")
        return self._why_gone()

    def _why_gone(self) -> Exception:
        """Return why the connection cannot be used any more."""
        if self._phase is not BROKEN:
            return ClosedResourceError("the connection was closed on this side")
        broken = BrokenResourceError(f"the peer or the network ended the connection: {self._error or 'closed'}")
        broken.__cause__ = self._error
        return broken
