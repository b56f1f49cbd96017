"""The transport of an HTTP connection: flow control both ways, its deadline, answers held back for the next one."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from hybrid.connection.http_phases import AFTER, CLOSED, IDLE, PhaseEvent

if TYPE_CHECKING:
    from hybrid.connection.http_endpoint import HttpEndpoint

NEVER = float("inf")
_LOOK_S = 2.0
"""Between two looks at a peer that may take as long as it likes."""
_READ_S = 0.01
"""For the loop to read what is there already."""
_CORK_BYTES = 65536
_CORK_PIECES = 64
"""Answers held back for the next one, at most."""


class Wire:
    """Reads from and writes to one transport. :class:`hybrid.connection.http_connection.HttpConnection` says when.

    Runs in: worker, in its loop. Closes: nothing.
    """

    __slots__ = (
        "_answer_by",
        "_context",
        "_corked",
        "_endpoint",
        "_is_reading",
        "_loop",
        "_phase",
        "_unsent",
        "_waiters",
        "deadline",
        "is_lost",
        "transport",
    )
    transport: asyncio.Transport

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._loop = endpoint.loop
        self._context = endpoint.context
        """In which the loop is to call us: nothing that an application has set is in it."""
        self._phase = IDLE
        self._is_reading = True
        self.is_lost = False
        """Whether the transport is gone, or aborted."""
        self._answer_by = NEVER
        """When the request must be answered."""
        self.deadline = NEVER
        """When the sweep calls ``expire``. Seconds of the loop's clock."""
        self._corked: list[bytes] = []
        self._unsent = 0
        """What the transport held at the last look, while it took no more."""
        self._waiters: list[asyncio.Future[None]] | None = None
        """Who waits for room in the transport; None: there is room."""

    @property
    def is_full(self) -> bool:
        """Whether the transport holds so much that :meth:`room` waits."""
        return self._waiters is not None

    async def room(self) -> None:
        """Return when the transport takes more. Raises: nothing; also when it is gone."""
        while self._waiters is not None:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def call_when_room(self, what: Callable[[], object]) -> None:
        """Call ``what`` in a turn of the loop when the transport takes more, or is gone. Now it is full."""
        assert self._waiters is not None
        waiter = self._loop.create_future()
        waiter.add_done_callback(lambda _: what(), context=self._context)
        self._waiters.append(waiter)

    def lend(self) -> socket.socket | None:
        """Return the socket with a descriptor of its own, to be written to in our place. Whoever asks closes it.

        None: it cannot be lent: it speaks TLS, something is still to be sent, or there are no descriptors.
        """
        sock = self.transport.get_extra_info("socket")
        if self._phase is CLOSED or self.is_lost or sock is None or self._corked:
            return None
        if self.transport.get_write_buffer_size() or self.transport.get_extra_info("ssl_object") is not None:
            return None
        try:
            second = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 0)
        except OSError:
            return None
        return socket.socket(sock.family, sock.type, sock.proto, second)

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        if self._is_reading and self._phase is not CLOSED:
            self._is_reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_reading and self._phase is not CLOSED:
            self._is_reading = True
            # asyncio calls us from then on in the context of whoever resumes, which may be a request's.
            self._context.copy().run(self.transport.resume_reading)

    def abort(self) -> None:
        """Close at once; the peer sees that the answer is not whole."""
        self.is_lost = True
        if self._phase is not CLOSED:
            self.transport.abort()

    def _shut(self) -> None:
        """Say that nothing more comes, if there is somebody to hear it: a peer that has reset is none."""
        transport = self.transport
        try:
            sock = transport.get_extra_info("socket")
            if sock is None:
                transport.write_eof()
                return
            sock.getpeername()
            if transport.get_write_buffer_size() or transport.get_extra_info("ssl_object") is not None:
                transport.write_eof()
                return
            # Not by the transport: libuv does it a turn of the loop later, and what it reads until then would be lost.
            own = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
            try:
                own.shutdown(socket.SHUT_WR)
            finally:
                own.detach()
        except OSError:
            self.abort()

    @property
    def has_unread(self) -> bool:
        """Whether the kernel holds something that we are about to read, be it the peer's end. Costs 3 µs."""
        sock = self.transport.get_extra_info("socket")
        if not self._is_reading or sock is None or sock.fileno() < 0:
            return False
        unread = select.poll()
        unread.register(sock.fileno(), select.POLLIN)
        return bool(unread.poll(0))

    def _is_put_off(self, what: Callable[[], None]) -> bool:
        """Whether the kernel holds something unread; then call ``what`` again when it is read.

        A busy loop has not looked for a while: without this, requests that were there first would meet the end. Under
        load, on one machine: 1 to 3 of 2,600 idle connections crossed a request so, 34 to 49 without.
        """
        if not self.has_unread:
            return False
        self._loop.call_later(_READ_S, what, context=self._context)
        return True

    def _cork(self, data: bytes) -> bool:
        """Hold an answer back; return whether it is time to send."""
        self._corked.append(data)
        return len(self._corked) > _CORK_PIECES or sum(map(len, self._corked)) > _CORK_BYTES

    def _flush(self) -> None:
        """Send what was held back, in one write."""
        if self._corked and self._phase is not CLOSED:
            data = b"".join(self._corked)
            self._corked.clear()
            self.transport.write(data)

    def _hold_senders(self) -> None:
        """Let senders wait: the transport holds more than its high-water mark."""
        if self._waiters is None:
            self._waiters = []
        self._unsent = self.transport.get_write_buffer_size()

    def _release_senders(self) -> None:
        """Let senders go on."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _has_stalled(self) -> bool:
        """Whether the peer has taken nothing since the last look, for as long as it may; else it has time again."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        write_s = self._endpoint.times.write_s
        if self._unsent >= before and write_s:
            return True
        self._wait(write_s or _LOOK_S)
        return False

    def _wait(self, seconds: float) -> None:
        """Set the deadline, in so many seconds; 0: none but the request's."""
        if self._waiters is not None:
            seconds = self._endpoint.times.write_s  # first of all the peer must take what it has asked for
        self.deadline = min(self._endpoint.horizon + seconds, self._answer_by) if seconds else self._answer_by

    def _advance(self, event: PhaseEvent) -> None:
        self._phase = AFTER[self._phase][event]
