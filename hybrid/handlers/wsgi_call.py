"""One call of a WSGI application, in its thread: what the application is given, and what becomes of what it says.

Source: PEP 3333.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hybrid.connection.failures import log, log_failed_request
from hybrid.handlers.disconnected import Disconnected, is_from_disconnect
from hybrid.handlers.wsgi_file import LEAST_BYTES, FileWrapper, is_of_client, send_file, span_of, wait_writable
from hybrid.handlers.wsgi_input import Errors, input_of
from hybrid.http.errors import HttpError
from hybrid.http.response import Response

if TYPE_CHECKING:
    from hybrid.handlers.wsgi_exchange import WsgiExchange
    from hybrid.handlers.wsgi_threads import Seat

WRITE_HIGH_BYTES = 65536
"""Said by the application and not taken by the transport, above which the thread waits."""

Headers = list[tuple[str, str]]


class Call:
    """One call. Runs in: the request's thread. Closes: the iterable that the application returns.

    Every word to the loop goes through :meth:`hybrid.handlers.wsgi_threads.Threads.tell`.
    """

    __slots__ = ("_exchange", "_last", "_response", "_said", "_tell", "seat")

    def __init__(self, exchange: WsgiExchange, seat: Seat) -> None:
        self.seat = seat
        self._exchange = exchange
        self._tell = exchange.endpoint.threads.tell
        self._response: Response | None = None
        """None: start_response was not called."""
        self._said = 0
        """Bytes of the response that were told to the loop."""
        self._last: bytes | None = None
        """The end of the response, to be told together with the end of the application."""

    def run(self) -> None:
        """Run the application to its end. Raises: nothing."""
        exchange, tell = self._exchange, self._tell
        error: BaseException | None = None
        try:
            exchange.endpoint.context.copy().run(self._serve)
        except BaseException as raised:  # noqa: BLE001  (the user's code; logged, and never the thread's end)
            error = raised
        if error is None:
            tell(exchange.on_end, self._last)
        elif is_from_disconnect(error):
            tell(exchange.on_failure, None)
            log.debug("app %s: %s: ended when the client was gone: %r", exchange.endpoint.name, exchange.title, error)
        else:
            tell(exchange.on_failure, HttpError(500, ""))  # the client first: a log may raise
            log_failed_request(exchange.endpoint.name, exchange.title, error)
        errors: Errors = exchange.endpoint.common["wsgi.errors"]
        if errors.was_used:
            errors.flush()
        error = None  # or what the application held would be in a cycle with this frame

    def _serve(self) -> None:
        """Call the application, and send what it returns. Raises: what it raises, or what is wrong with it."""
        exchange = self._exchange
        endpoint = exchange.endpoint
        environ = endpoint.environ(exchange.place, exchange.head)
        environ["wsgi.input"] = self._input()
        result: Any = endpoint.app(environ, self.start_response)
        if type(result) is list or type(result) is tuple:  # hot: WSGI hello; it has no close()
            self._send_whole(result)
            return
        try:
            if not isinstance(result, FileWrapper) or not self._send_file(result):
                self._send_all(self._blocks_of(result) if isinstance(result, FileWrapper) else result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                last, self._last = self._last, None
                if last is not None:
                    self._tell(exchange.on_last, last)  # the client does not wait for it
                close()

    # ── the request's body ──

    def _input(self) -> io.BufferedIOBase:
        """Return ``wsgi.input``: what is there of the body, if that is all."""
        exchange = self._exchange
        if exchange.is_whole:
            chunks, exchange.chunks = exchange.chunks, None
            return io.BytesIO(b"" if chunks is None else b"".join(chunks))
        return input_of(self._take)

    def _take(self) -> bytes:
        """Return the next piece of the body, or nothing at its end. Raises: Disconnected: it will never come."""
        exchange = self._exchange
        while True:
            is_whole = exchange.is_whole  # before the look at the pieces: the last one comes with it
            if exchange.chunks:
                data = exchange.chunks.popleft()
                exchange.read += len(data)
                return data
            if is_whole:
                return b""
            if exchange.is_lost or exchange.is_over or exchange.is_answered:
                raise Disconnected(f"the body of the request broke off: {self._reason}")
            self._tell(exchange.on_question, None)
            self.seat.bell.wait(self._can_take)

    def _can_take(self) -> bool:
        exchange = self._exchange
        return bool(exchange.chunks) or exchange.is_whole or exchange.is_lost or exchange.is_answered

    @property
    def _reason(self) -> str:
        error = self._exchange.error
        return "the client has gone" if error is None else str(error)

    # ── the response ──

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """Take the head of the response; PEP 3333's. It is sent with the first bytes of the body.

        Raises: RuntimeError: it was called before, without ``exc_info``; ValueError, TypeError: what cannot be sent;
        what is in ``exc_info``, if the head has left.
        """
        if self._response is not None:
            self._check_restart(exc_info)
        exchange, said = self._exchange, self.seat.said
        if status == said.status and headers == said.headers:
            code, pairs = said.code, said.pairs
        else:
            code, pairs = _code(status), _pairs(headers)
            said.offer(status, headers, code, pairs)
        connection = exchange.connection
        response = Response(exchange.head, self.seat.memo)
        # After an expectation it is not known whether a body follows.
        close = (connection.draining and not connection.has_next) or exchange.wants_continue
        response.start(code, pairs, exchange.endpoint.standing(), close=close)
        self._response = response
        exchange.status = code
        entry = exchange.entry
        if entry is not None:
            entry.status, entry.response_headers = code, pairs
        return self.write

    def _check_restart(self, exc_info: Any) -> None:
        """Raise unless the head may be replaced. Args: exc_info: of the error that is to be told instead."""
        if not exc_info:
            raise RuntimeError("start_response was called before: give it exc_info to replace what was said")
        if self._response is not None and self._response.has_begun:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # or it would be in a cycle

    def write(self, block: bytes) -> None:
        """Send a piece of the body; what start_response returns. It waits for a client that is slow.

        Raises: Disconnected: the client is gone; RuntimeError, TypeError: it cannot be sent.
        """
        response, exchange = self._response, self._exchange
        if response is None:
            raise RuntimeError("a body without a head: call start_response before the first block")
        if exchange.is_over:
            raise Disconnected(self._reason)
        if response.is_complete:
            raise RuntimeError("the body is longer than its content-length, or goes on behind its end")
        if not isinstance(block, bytes):
            raise TypeError(f"cannot send a block of type {type(block).__name__}: a WSGI body is made of bytes")
        is_last = response.left == len(block)
        data = response.body(block, not is_last)
        self._count(len(block))
        if is_last:
            exchange.must_close = response.must_close
            self._tell(exchange.on_last, data)
        elif data:
            self._said += len(data)
            self._tell(exchange.on_piece, data)
            if not self._has_room():
                self.seat.bell.wait(self._has_room)

    def _has_room(self) -> bool:
        exchange = self._exchange
        return (self._said - exchange.taken <= WRITE_HIGH_BYTES and not exchange.is_blocked) or exchange.is_over

    def _count(self, size: int) -> None:
        """Note for the access log how much of a body was sent."""
        entry = self._exchange.entry
        if entry is not None and self._response is not None and self._response.has_body:
            entry.body_bytes += size

    def _send_whole(self, blocks: Iterable[bytes]) -> None:
        """Send a body that is there already, with its length."""
        response = self._response
        if response is None or response.has_begun:
            self._send_all(blocks)
            return
        try:
            body = b"".join(blocks)
        except TypeError as error:
            raise TypeError(f"cannot send what the application returned: {error}; a body is made of bytes") from None
        self._complete(body)
        self._count(len(body))

    def _send_all(self, blocks: Any) -> None:
        """Send block after block, each before the next one is asked for."""
        _check(blocks)
        for block in blocks:
            response = self._response
            if response is not None and not response.has_body:
                break  # HEAD, 204, 304: what follows is for nobody
            if block or not isinstance(block, bytes):
                self.write(block)
            if response is not None and response.is_event_stream and self._exchange.connection.draining:
                break  # it would never end, and its client connects again by itself
        response = self._response
        if response is None:
            raise RuntimeError("the application returned without calling start_response")
        if not response.is_complete:
            self._complete(b"")

    def _complete(self, data: bytes) -> None:
        """Make the last bytes of the response; if they are all there are, their number is its length."""
        exchange, response = self._exchange, self._response
        assert response is not None
        if exchange.is_over:
            raise Disconnected(self._reason)
        response.say_length(len(data))
        self._last = response.body(data, False)
        exchange.must_close = response.must_close

    # ── a file ──

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a regular file past Python, if it is one and the connection can be lent; return whether it was sent."""
        exchange, response, span = self._exchange, self._response, span_of(wrapper.filelike)
        if response is None or response.has_begun or not response.has_body or span is None:
            return False
        if span.size:  # files of /proc have none, and content
            response.say_length(span.size)
        if not LEAST_BYTES <= response.left <= span.size:
            return False
        answer: list[socket.socket | None] = []
        self._tell(exchange.on_loan, answer)
        self.seat.bell.wait(lambda: bool(answer))
        sock = answer[0]
        if sock is None:
            return False
        span = span._replace(size=response.left)
        try:
            send_file(sock, response.head_alone(), span, self._wait_for_room, self._count)
        except OSError as error:
            if not (exchange.is_over or is_of_client(error)):
                raise
            raise Disconnected(self._reason) from error
        self._last, exchange.must_close = b"", response.must_close
        return True

    def _blocks_of(self, wrapper: FileWrapper) -> Iterator[bytes]:
        """Yield the blocks of a file, as far as its Content-Length goes; it may be a part, or have grown since."""
        blocks = iter(wrapper)
        while (left := -1 if self._response is None else self._response.left) != 0:
            block = next(blocks, b"")
            if not block:
                return
            yield block[:left] if left > 0 else block

    def _wait_for_room(self, sock: socket.socket) -> None:
        patience_s = self._exchange.endpoint.write_s
        if not wait_writable(sock, patience_s):
            raise Disconnected(f"the client has taken nothing for {patience_s:g} s")
        if self._exchange.is_over:
            raise Disconnected(self._reason)


def _code(status: object) -> int:
    """Return the number of a status. Raises: TypeError, ValueError: it is none of PEP 3333's."""
    if not isinstance(status, str):
        raise TypeError(f"cannot respond with status {status!r:.80}: it is a str, like '200 OK'")
    if not (len(status) >= 3 and status[:3].isascii() and status[:3].isdigit() and status[3:4] in ("", " ")):
        raise ValueError(f"cannot respond with status {status[:80]!r}: it begins with three digits, like '200 OK'")
    return int(status[:3])


def _pairs(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes. Raises: TypeError, ValueError: they are not what PEP 3333 wants."""
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    except (AttributeError, TypeError, ValueError):
        for header in headers if isinstance(headers, Iterable) else (headers,):
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
