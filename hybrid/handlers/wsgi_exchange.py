"""One request to a WSGI application, and its response.

The loop makes it, feeds it and writes what it says; one thread runs the application. What each may touch:

- the loop alone uses the connection, and decides which bytes leave on it: those of the application, or a refusal;
- the thread alone uses the response, which makes bytes of what the application says;
- what both need has one writer each, and is looked at only after a hand-over, or again after a bell.

Source: PEP 3333.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from hybrid.connection.addresses import show
from hybrid.connection.failures import log
from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.http_endpoint import READ_HIGH_BYTES
from hybrid.handlers.wsgi_input import input_of
from hybrid.http.errors import HttpError
from hybrid.http.head import Head
from hybrid.http.response import Response
from hybrid.http.status import refusal, refusal_body

if TYPE_CHECKING:
    from hybrid.handlers.wsgi import Place, WsgiEndpoint
    from hybrid.handlers.wsgi_threads import Seat

WRITE_HIGH_BYTES = 65536
"""Said by the application and not taken by the transport, above which the thread waits."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CAUSES = 16
"""Of an exception, looked at."""


class Disconnected(ConnectionError):
    """The client is gone, or was answered by us: what reading and writing raise in the application then."""


class Turn(IntEnum):
    """Whose turn it is. Written by the loop."""

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

    Runs in: worker; :meth:`run`, and what the application calls, in one of its threads; all else in its loop.
    Closes: nothing.
    """

    __slots__ = (
        "_blocked",
        "_chunks",
        "_connection",
        "_endpoint",
        "_entry",
        "_error",
        "_fed",
        "_has_sent",
        "_head",
        "_is_whole",
        "_last",
        "_lost",
        "_place",
        "_read",
        "_response",
        "_said",
        "_seat",
        "_standing",
        "_taken",
        "_turn",
        "_wants_continue",
    )

    def __init__(self, endpoint: WsgiEndpoint, connection: HttpConnection, head: Head, place: Place) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._head = head
        self._place = place
        self._standing = endpoint.standing()
        self._entry = None if endpoint.access_log is None else endpoint.entry(connection, head)
        """For the access log, until it is written."""
        self._turn = _NEW
        self._seat: Seat | None = None
        """The thread's, once it runs."""
        self._response: Response | None = None
        """The thread's; None: start_response was not called."""
        fields = head.fields
        self._is_whole = not fields.chunked and fields.content_length <= 0
        self._wants_continue = head.expect_continue and not self._is_whole
        self._chunks: deque[bytes] | None = None
        self._fed = 0
        self._read = 0
        """Bytes of the body: that came, counted by the loop; that were taken, by the thread."""
        self._said = 0
        self._taken = 0
        """Bytes of the response: that the thread said; that the loop gave to the transport."""
        self._blocked = False
        """Whether the transport takes no more."""
        self._has_sent = False
        self._lost = False
        """Whether nothing more of the body comes."""
        self._error: HttpError | None = None
        """What was answered in the application's place."""
        self._last: bytes | None = None
        """The end of the response, told together with the end of the application."""

    # ── what the connection calls ──

    def start(self) -> None:
        """Queue for a thread; with a short body, when that is whole: a slow client would take up a thread for it."""
        if self._error is not None:  # the body was refused already
            self._dismiss()
        elif self._is_whole or self._wants_continue or not 0 < self._head.fields.content_length <= READ_HIGH_BYTES:
            self._turn = _THREAD
            self._endpoint.threads.give(self)
        else:
            self._turn = _CLIENT
            self._connection.expect_body()

    def feed(self, data: bytes, complete: bool) -> None:
        """Keep a piece of the body until the application asks for it; read no more when it is much."""
        if data or complete:
            self._wants_continue = False  # its client did not wait
        if data:
            if self._chunks is None:
                self._chunks = deque()
            self._chunks.append(data)
            self._fed += len(data)
            if self._fed - self._read > READ_HIGH_BYTES and not complete:
                self._connection.pause_reading()
        self._is_whole = complete
        if self._turn is not _CLIENT:
            self._ring()
        elif complete:
            self._turn = _THREAD
            self._endpoint.threads.give(self)
        else:
            self._connection.expect_body()

    def refuse(self, error: HttpError) -> None:
        """Answer with the error's status, if nothing was answered; the application cannot read or write any more."""
        if self._turn is _ANSWERED:
            return
        turn, self._turn = self._turn, _ANSWERED
        self._error = error
        runs = turn is _THREAD and not self._endpoint.threads.take_back(self)
        if error.status >= 503:
            after = "its thread runs on" if runs else "it was waiting for a thread"
            log.warning("app %s: %s: %s; %s", self._endpoint.name, self._title, error, after)
        if self._has_sent:
            self._connection.abort()
        else:
            self._answer(error)
        if runs:
            self._ring()
        elif turn is not _NEW:
            self._dismiss()

    def disconnect(self) -> None:
        """Tell the application when it reads on; begin nothing for a client that is gone."""
        self._lost = True
        connection = self._connection
        is_gone = connection.is_lost
        if self._turn is _CLIENT or (is_gone and self._turn is _THREAD and self._endpoint.threads.take_back(self)):
            self._turn = _ANSWERED
            if not is_gone:
                connection.abort()  # half a request gets no answer
            self._dismiss()
        else:
            self._ring()

    def drain(self) -> None:
        """Do nothing: a thread that sends events looks for itself, see :meth:`_send_all`."""

    def cancel(self) -> None:
        """Answer in the application's place: a thread cannot be cancelled."""
        # In a turn of its own: the connection that calls is cut if it owes no answer.
        self._endpoint.loop.call_soon(self.refuse, HttpError(503, "the time to finish is over"))

    # ── the loop's side ──

    def _answer(self, error: HttpError) -> None:
        """Answer in the application's place."""
        to_head = self._head.method == "HEAD"
        self._connection.write_last(refusal(error, self._standing, to_head=to_head), self, close=True)
        if self._entry is not None:
            self._entry.status, self._entry.response_headers = error.status, None
            self._entry.body_bytes = 0 if to_head else len(refusal_body(error))
            self._log_access()

    def _dismiss(self) -> None:
        """End a request that no thread has taken. In a turn of its own: the connection is in the middle of telling."""
        self._endpoint.loop.call_soon(self._on_end, None)

    def _ring(self) -> None:
        if self._seat is not None:
            self._seat.bell.ring()

    def _on_piece(self, data: bytes) -> None:
        """Write a piece of the response."""
        connection = self._connection
        self._taken += len(data)
        if self._turn is _THREAD and not connection.is_lost:
            self._has_sent = True
            connection.write(data)
            if connection.is_full and not self._blocked:
                self._blocked = True
                connection.call_when_room(self._on_room)
        self._ring()

    def _on_room(self) -> None:
        """The transport takes more, or is gone."""
        self._blocked = False
        self._ring()

    def _on_last(self, data: bytes) -> None:
        """Write the end of the response."""
        if self._turn is _THREAD and self._response is not None:
            self._turn = _ANSWERED
            self._connection.write_last(data, self, close=self._response.must_close)
            self._log_access()

    def _on_end(self, last: bytes | None) -> None:
        """The application has ended; ``last``: the end of its response, if that was not told before."""
        if last is not None:
            self._on_last(last)
        if self._entry is not None:
            self._log_access()
        self._connection.ended(self)

    def _on_failure(self, error: HttpError | None) -> None:
        """The application has ended without the rest of its response. None: it is nobody's fault."""
        connection = self._connection
        if error is not None:
            connection.fail()
        if self._turn is _THREAD:
            self._turn = _ANSWERED
            if self._has_sent or error is None:
                connection.abort()  # an answer that looks whole and is not would be worse
            else:
                self._answer(error)
        self._on_end(None)

    def _on_question(self, _: None) -> None:
        """The application waits for more of the body."""
        connection = self._connection
        if self._turn is not _THREAD:
            self._lost = True
            self._ring()
            return
        if self._wants_continue:
            self._wants_continue = False
            if not self._has_sent:
                connection.write(_CONTINUE)
        connection.expect_body()

    def _log_access(self) -> None:
        """Write the request into the access log, once."""
        entry, self._entry = self._entry, None
        access_log = self._endpoint.access_log
        if entry is not None and access_log is not None:
            access_log.wrote(entry)

    @property
    def _title(self) -> str:
        """The request, for a line in the log; nothing in it ends the line."""
        return f"{self._head.method} {ascii(self._head.path)[1:-1]} from {show(self._place.peer)}"

    # ── the thread's side ──

    def run(self, seat: Seat) -> None:
        """Run the application to its end. Raises: nothing."""
        self._seat = seat
        error: BaseException | None = None
        try:
            self._endpoint.context.copy().run(self._serve)
        except BaseException as raised:  # noqa: BLE001  (the user's code; logged, and never the thread's end)
            error = raised
        tell = self._endpoint.threads.tell
        if error is None:
            tell(self._on_end, self._last)
            return
        if self._is_gone and is_from_disconnect(error):
            tell(self._on_failure, None)
            log.debug("app %s: %s: ended after the client was gone: %r", self._endpoint.name, self._title, error)
            return
        tell(self._on_failure, HttpError(500, ""))  # the client first: a log may raise
        log.error(
            "app %s failed, %s: %s: %s",
            self._endpoint.name,
            self._title,
            type(error).__name__,
            error,
            exc_info=(type(error), error, error.__traceback__),
        )

    def _serve(self) -> None:
        """Call the application, and send what it returns. Raises: what it raises, or what is wrong with it."""
        endpoint = self._endpoint
        environ = endpoint.environ(self._place, self._head)
        environ["wsgi.input"] = self._input()
        result: Any = endpoint.app(environ, self.start_response)
        if type(result) is list or type(result) is tuple:  # hot: WSGI hello; it has no close()
            self._send_whole(result)
            return
        try:
            self._send_all(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _input(self) -> io.BufferedIOBase:
        """Return ``wsgi.input``: what is there of the body, if that is all."""
        if self._is_whole:
            chunks = self._chunks
            self._chunks = None
            return io.BytesIO(b"" if chunks is None else b"".join(chunks))
        return input_of(self._take)

    def _take(self) -> bytes:
        """Return the next piece of the body, or nothing at its end. Raises: Disconnected: it will never come."""
        while True:
            is_whole = self._is_whole  # before the look at the pieces: the last one comes with it
            if self._chunks:
                data = self._chunks.popleft()
                self._read += len(data)
                return data
            if is_whole:
                return b""
            if self._lost or self._is_gone or self._turn is _ANSWERED or self._seat is None:
                raise Disconnected(f"the body of the request broke off: {self._reason}")
            self._endpoint.threads.tell(self._on_question, None)
            self._seat.bell.wait(self._is_fed)

    def _is_fed(self) -> bool:
        return bool(self._chunks) or self._is_whole or self._lost or self._is_gone or self._turn is _ANSWERED

    @property
    def _is_gone(self) -> bool:
        """Whether nobody hears what the application says."""
        return self._error is not None or self._connection.is_lost

    @property
    def _reason(self) -> str:
        return "the client has gone" if self._error is None else str(self._error)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Take the head of the response; PEP 3333's. It is sent with the first bytes of the body.

        Raises: RuntimeError: it was called before, without ``exc_info``; ValueError, TypeError: what cannot be sent;
        what is in ``exc_info``, if the head has left.
        """
        before, seat = self._response, self._seat
        assert seat is not None
        if before is not None:
            if not exc_info:
                raise RuntimeError("start_response was called before: give it exc_info to replace what was said")
            if before.has_begun:
                try:
                    raise exc_info[1].with_traceback(exc_info[2])
                finally:
                    exc_info = None  # or it would be in a cycle
        pairs = _pairs(status, headers)
        connection = self._connection
        response = Response(self._head, seat.memo)
        # After an expectation it is not known whether a body follows.
        close = (connection.draining and not connection.has_next) or self._wants_continue
        response.start(int(status[:3]), pairs, self._standing, close=close)
        self._response = response
        entry = self._entry
        if entry is not None:
            entry.status, entry.response_headers = int(status[:3]), pairs
        return self.write

    def write(self, block: bytes) -> None:
        """Send a piece of the body; what start_response returns. It waits for a client that is slow.

        Raises: Disconnected: the client is gone; RuntimeError, TypeError: it cannot be sent.
        """
        response = self._response
        if response is None:
            raise RuntimeError("a body without a head: call start_response before the first block")
        if self._is_gone:
            raise Disconnected(self._reason)
        if response.is_complete:
            raise RuntimeError("the body is longer than its content-length")
        if not isinstance(block, bytes):
            raise TypeError(f"cannot send a block of type {type(block).__name__}: a WSGI body is made of bytes")
        is_last = response.left == len(block)
        data = response.body(block, not is_last)
        if self._entry is not None and response.has_body:
            self._entry.body_bytes += len(block)
        tell, seat = self._endpoint.threads.tell, self._seat
        if is_last:
            tell(self._on_last, data)
        elif data and seat is not None:
            self._said += len(data)
            tell(self._on_piece, data)
            if self._said - self._taken > WRITE_HIGH_BYTES or self._blocked:
                seat.bell.wait(self._has_room)

    def _has_room(self) -> bool:
        return (self._said - self._taken <= WRITE_HIGH_BYTES and not self._blocked) or self._is_gone

    def _send_whole(self, blocks: Iterable[bytes]) -> None:
        """Send a body that is there already, with its length."""
        response = self._response
        if response is None or response.has_begun:
            self._send_all(blocks)
            return
        body = b"".join(blocks)
        response.say_length(len(body))
        if self._is_gone:
            raise Disconnected(self._reason)
        self._last = response.body(body, False)
        if self._entry is not None and response.has_body:
            self._entry.body_bytes += len(body)

    def _send_all(self, blocks: Any) -> None:
        """Send block after block, each before the next one is asked for."""
        _check(blocks)
        for block in blocks:
            response = self._response
            if response is not None and not response.has_body:
                break  # HEAD, 204, 304: what follows is for nobody
            if block or not isinstance(block, bytes):
                self.write(block)
            if response is not None and response.is_event_stream and self._connection.draining:
                break  # it would never end, and its client connects again by itself
        self._finish()

    def _finish(self) -> None:
        """Send the end, if it was not sent with the last block."""
        response = self._response
        if response is None:
            raise RuntimeError("the application returned without calling start_response")
        if not response.is_complete:
            if self._is_gone:
                raise Disconnected(self._reason)
            self._last = response.body(b"", False)


def _pairs(status: str, headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes. Raises: TypeError, ValueError: they, or the status, are not what PEP 3333 wants."""
    if not isinstance(status, str):
        raise TypeError(f"cannot respond with status {status!r:.80}: it is a str, like '200 OK'")
    if not (status[:3].isascii() and status[:3].isdigit() and status[3:4] in ("", " ")):
        raise ValueError(f"cannot respond with status {status[:80]!r}: it begins with three digits, like '200 OK'")
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    except (AttributeError, TypeError, ValueError):
        for header in headers:
            if not isinstance(header, tuple) or [type(part) for part in header] != [str, str]:
                raise TypeError(
                    f"cannot send header {header!r:.120}: it is a tuple of a name and a value, both str"
                ) from None
        raise ValueError("cannot send a header with characters beyond Latin-1: encode them (RFC 8187)") from None


def _check(result: Any) -> None:
    """Raise TypeError if what an application returned is no iterable of bytes."""
    if isinstance(result, (bytes, str)):
        raise TypeError(f"the application returned {type(result).__name__}: return a list of bytes, [body]")
    if hasattr(result, "__await__"):
        if hasattr(result, "close"):
            result.close()  # a coroutine would warn that it was never awaited
        raise TypeError("the application returned a coroutine: it is async, so serve it with --interface asgi")
    if not hasattr(result, "__iter__") and not hasattr(result, "__getitem__"):
        raise TypeError(f"the application returned {type(result).__name__}: return an iterable of bytes, like [body]")


def is_from_disconnect(error: BaseException | None) -> bool:
    """Whether an application failed because it could not read or write: frameworks raise something of their own."""
    for _ in range(_CAUSES):
        if error is None or isinstance(error, Disconnected):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, Disconnected)
