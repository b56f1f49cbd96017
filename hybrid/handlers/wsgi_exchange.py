"""One request to a WSGI application, as the loop has it: queued for a thread, fed, written, refused.

What the thread does is in :mod:`hybrid.handlers.wsgi_call`. Of the two,

- the loop alone uses the connection, and decides which bytes leave on it: those of the application, or a refusal;
- the thread alone uses the response, which makes bytes of what the application says;
- what both need has one writer each, who is named below, and is looked at only after it was told or rung.

Source: PEP 3333.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING

from hybrid.connection.addresses import show
from hybrid.connection.failures import log
from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.http_endpoint import READ_HIGH_BYTES
from hybrid.handlers.wsgi_call import Call
from hybrid.http.errors import HttpError
from hybrid.http.head import Head
from hybrid.http.status import refusal

if TYPE_CHECKING:
    from hybrid.handlers.wsgi import Place, WsgiEndpoint
    from hybrid.handlers.wsgi_threads import Seat

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Turn(IntEnum):
    """Whose turn it is."""

    NEW = 0
    """Nobody's: it was not started."""
    CLIENT = 1
    """A short body is to be whole before it takes up a thread."""
    THREAD = 2
    """A thread has the request, or will have it."""
    ANSWERED = 3
    """The last byte of an answer was given to the connection, or it was cut; the thread may run on."""


_NEW, _CLIENT, _THREAD, _ANSWERED = Turn


class WsgiExchange:
    """One request and its response. See :class:`hybrid.connection.http_endpoint.Exchange`.

    Runs in: worker; :meth:`run` in one of its threads, all else in its loop. Closes: the socket that it lends.

    Written by the loop, and read by the thread: ``is_whole``: the last of the body is among ``chunks``, of which the
    thread takes one after another; ``is_lost``: no more of it comes; ``taken``: bytes of the response that were given
    to the transport; ``is_blocked``: it takes no more; ``error``: what was answered in the application's place.
    Written by the thread, and read by the loop: ``read``: bytes that it took of the body; ``must_close``: nothing may
    follow the response.
    """

    __slots__ = (
        "_call",
        "_fed",
        "_has_sent",
        "_loan",
        "_turn",
        "chunks",
        "connection",
        "endpoint",
        "entry",
        "error",
        "head",
        "is_blocked",
        "is_lost",
        "is_whole",
        "must_close",
        "place",
        "read",
        "status",
        "taken",
        "wants_continue",
    )

    def __init__(self, endpoint: WsgiEndpoint, connection: HttpConnection, head: Head, place: Place) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self.head = head
        self.place = place
        self.entry = None if endpoint.access_log is None else endpoint.entry(connection, head)
        """For the access log, until it is written."""
        fields = head.fields
        self.is_whole = not fields.chunked and fields.content_length <= 0
        self.wants_continue = head.expect_continue and not self.is_whole
        self.chunks: deque[bytes] | None = None
        self.is_lost = False
        self.read = 0
        self.taken = 0
        self.is_blocked = False
        self.error: HttpError | None = None
        self.must_close = False
        self.status = 0
        """Of the application's response. Written by: the thread."""
        self._turn = _NEW
        self._fed = 0
        """Bytes of the body that came."""
        self._has_sent = False
        """Whether bytes of the application's response are on their way."""
        self._call: Call | None = None
        """What the thread does; None: it has not begun."""
        self._loan: socket.socket | None = None
        """While the thread writes to the connection itself."""

    @property
    def is_over(self) -> bool:
        """Whether nobody hears what the application says. Runs in: any thread."""
        return self.error is not None or self.connection.is_lost

    @property
    def is_answered(self) -> bool:
        """Whether the answer is complete, or was cut. Runs in: any thread."""
        return self._turn is _ANSWERED

    @property
    def title(self) -> str:
        """The request, for a line in the log; nothing in it ends the line. Runs in: any thread."""
        return f"{self.head.method} {ascii(self.head.path)[1:-1]} from {show(self.place.peer)}"

    # ── what the connection calls ──

    def start(self) -> None:
        """Queue for a thread; with a short body, when that is whole: a slow client would take up a thread for it."""
        if self.error is not None:  # the body was refused already
            self._dismiss()
        elif self.is_whole or self.wants_continue or not 0 < self.head.fields.content_length <= READ_HIGH_BYTES:
            self._turn = _THREAD
            self.endpoint.threads.give(self)
        else:
            self._turn = _CLIENT
            self.connection.expect_body()

    def feed(self, data: bytes, complete: bool) -> None:
        """Keep a piece of the body until the application asks for it; read no more when it is much."""
        if data or complete:
            self.wants_continue = False  # its client did not wait
        if data:
            if self.chunks is None:
                self.chunks = deque()
            self.chunks.append(data)
            self._fed += len(data)
            if self._fed - self.read > READ_HIGH_BYTES and not complete:
                self.connection.pause_reading()
        self.is_whole = complete
        if self._turn is not _CLIENT:
            self._ring()
        elif complete:
            self._turn = _THREAD
            self.endpoint.threads.give(self)
        else:
            self.connection.expect_body()

    def refuse(self, error: HttpError) -> None:
        """Answer with the error's status, if nothing was answered; the application cannot read or write any more."""
        turn = self._turn
        if turn is _ANSWERED:
            return
        self._turn = _ANSWERED
        self.error = error
        runs = turn is _THREAD and not self.endpoint.threads.take_back(self)
        if error.status >= 503:
            after = "its thread runs on" if runs else "no thread had begun with it"
            log.warning("app %s: %s: %s; %s", self.endpoint.name, self.title, error, after)
        if self._has_sent:
            self.connection.abort()
        else:
            self._answer(error)
        if runs:
            self._ring()
        elif turn is not _NEW:
            self._dismiss()

    def disconnect(self) -> None:
        """Tell the application when it reads on; begin nothing for a client that is gone."""
        self.is_lost = True
        is_gone = self.connection.is_lost
        if self._turn is _CLIENT or (is_gone and self._turn is _THREAD and self.endpoint.threads.take_back(self)):
            self._turn = _ANSWERED
            if not is_gone:
                self.connection.abort()  # half a request gets no answer
            self._dismiss()
        else:
            self._ring()

    def drain(self) -> None:
        """Do nothing: a thread that sends events looks itself whether the worker drains."""

    def cancel(self) -> None:
        """Answer in the application's place: a thread cannot be cancelled."""
        # In a turn of its own: the connection that calls is cut if it owes no answer.
        self.endpoint.loop.call_soon(self.refuse, HttpError(503, "the time to finish is over"))

    # ── what the thread tells ──

    def run(self, seat: Seat) -> None:
        """Run the application to its end. Runs in: a thread. Raises: nothing."""
        self._call = call = Call(self, seat)
        call.run()

    def on_piece(self, data: bytes) -> None:
        """Write a piece of the response."""
        connection = self.connection
        self.taken += len(data)
        if self._turn is _THREAD and not connection.is_lost:
            self._has_sent = True
            connection.write(data)
            if connection.is_full and not self.is_blocked:
                self.is_blocked = True
                connection.call_when_room(self._on_room)
        self._ring()

    def on_last(self, data: bytes) -> None:
        """Write the end of the response."""
        self._take_loan_back()
        if self._turn is _THREAD:
            self._turn = _ANSWERED
            if self.status >= 400:
                self.connection.went_wrong(self.status)
            self.connection.write_last(data, self, close=self.must_close)
            self._log_access()

    def on_end(self, last: bytes | None) -> None:
        """The application has ended; ``last``: the end of its response, if that was not told before."""
        if last is not None:
            self.on_last(last)
        if self.entry is not None:
            self._log_access()
        self._call = None  # each has the other: a cycle, which only the garbage collector would find
        self.connection.ended(self)

    def on_failure(self, error: HttpError | None) -> None:
        """The application has ended without the rest of its response. None: it is nobody's fault."""
        self._take_loan_back()
        if error is not None:
            self.connection.fail()
        if self._turn is _THREAD:
            self._turn = _ANSWERED
            if self._has_sent or error is None:
                self.connection.abort()  # an answer that looks whole and is not would be worse
            else:
                self._answer(error)
        self.on_end(None)

    def on_question(self, _: None) -> None:
        """The application waits for more of the body."""
        if self._turn is not _THREAD:
            self._ring()
            return
        if self.wants_continue:
            self.wants_continue = False
            if not self._has_sent:
                self.connection.write(_CONTINUE)
        self.connection.expect_body()

    def on_loan(self, answer: list[socket.socket | None]) -> None:
        """The thread would write to the connection itself."""
        if self._turn is _THREAD and not self._has_sent:
            self._loan = self.connection.lend()
            self._has_sent = self._loan is not None
        answer.append(self._loan)
        self._ring()

    # ── the rest ──

    def _answer(self, error: HttpError) -> None:
        """Answer in the application's place."""
        to_head = self.head.method == "HEAD"
        self.connection.went_wrong(error.status)
        self.connection.write_last(refusal(error, self.endpoint.standing(), to_head=to_head), self, close=True)
        if self.entry is not None:
            self.entry.refused(error, to_head=to_head)
            self._log_access()

    def _dismiss(self) -> None:
        """End a request that no thread has taken. In a turn of its own: the connection is in the middle of telling."""
        self.endpoint.loop.call_soon(self.on_end, None)

    def _on_room(self) -> None:
        """The transport takes more, or is gone."""
        self.is_blocked = False
        self._ring()

    def _ring(self) -> None:
        """Have the thread look again, whatever it waits for."""
        if self._loan is not None and self.is_over:
            with suppress(OSError):
                self._loan.shutdown(socket.SHUT_RDWR)  # it may wait for room in it
        if self._call is not None:
            self._call.seat.bell.ring()

    def _take_loan_back(self) -> None:
        if self._loan is not None:
            self._loan.close()
            self._loan = None

    def _log_access(self) -> None:
        """Write the request into the access log, once."""
        entry, self.entry = self.entry, None
        access_log = self.endpoint.access_log
        if entry is not None and access_log is not None:
            access_log.wrote(entry)
