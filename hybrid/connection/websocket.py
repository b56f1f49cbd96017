"""A WebSocket, from the 101 to its end: messages in and out, pings, the close handshake.

It knows nothing of the application: whoever uses it takes messages with :meth:`WebSocket.take`, is woken by ``heard``
when there is one, or when the end has come, and sends. Frames and compression are :mod:`hybrid.http.frames` and
:mod:`hybrid.http.deflate`; the transport, its flow control and its deadline are those of the HTTP connection, which it
took over.

::

    OPEN ──we send Close──► CLOSING ──Close comes, or time passes──► CLOSED
      └────Close comes, the peer breaks the protocol, or leaves────────┘

What is bounded: messages that nobody takes (the socket is not read any more), what the peer does not take (senders
wait; pongs are left out), the time for a pong and for the answer to a Close.

Source: RFC 6455 §5.5 (control frames), §7 (closing); RFC 7692 §6, §7 (messages, compressed or not).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum

from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.http_endpoint import READ_HIGH_BYTES, Exchange
from hybrid.http.deflate import Deflater
from hybrid.http.frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, WebSocketError, close_frame, frame
from hybrid.http.opcodes import CloseCode
from hybrid.shared.websocket_settings import WebSocketSettings

CLOSE_S = 5.0
"""For the peer's answer to our Close."""
DATA = (TEXT, BINARY)
_MESSAGE_BYTES = 128
"""What a message takes besides its payload, so that empty ones count, too."""
_COMPRESSED_BYTES = 256
"""A shorter message is sent as it is: on its own, as we compress each, one of 120 bytes shrinks by a sixth."""


class State(IntEnum):
    """Where a WebSocket is in its life. Moves only to the right."""

    OPEN = 0
    CLOSING = 1
    """We have sent a Close, and wait for the peer's."""
    CLOSED = 2
    """Nothing more is sent, and nothing that comes is looked at."""


class WebSocket:
    """An open WebSocket. See :class:`hybrid.connection.http_endpoint.Upgraded`.

    Runs in: worker, in its loop. Closes: the connection, by the rules of RFC 6455 §7.
    """

    __slots__ = (
        "_connection",
        "_deflater",
        "_exchange",
        "_heard",
        "_is_pinged",
        "_messages",
        "_ping_number",
        "_reader",
        "_settings",
        "_size",
        "close_code",
        "close_reason",
        "sent_bytes",
        "state",
    )

    def __init__(
        self,
        connection: HttpConnection,
        exchange: Exchange,
        reader: FrameReader,
        deflater: Deflater | None,
        settings: WebSocketSettings,
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._reader = reader
        self._deflater = deflater
        self._settings = settings
        self._heard: Callable[[], None] = _nobody
        self._messages: deque[tuple[int, object]] = deque()
        """Came, and was not taken."""
        self._size = 0
        """Of these."""
        self._is_pinged = False
        """Whether a pong is to come."""
        self._ping_number = 0
        self.state = State.OPEN
        self.close_code: int = CloseCode.ABNORMAL
        """Of the end, once :attr:`state` is not OPEN: the peer's, or ours if we were first."""
        self.close_reason = ""
        self.sent_bytes = 0
        """Payloads, as the application gave them."""

    def open(self, head: bytes, heard: Callable[[], None]) -> None:
        """Send the 101 and begin. ``heard``: called when :meth:`take` has something, or when the end has come."""
        self._heard = heard
        self._connection.upgrade(head, self)
        self._connection.look_in(self._settings.ping_s)

    # ── what the connection calls ──

    def feed(self, data: bytes) -> None:
        """Take what came."""
        if self.state is State.CLOSED:
            return
        messages, is_open = self._messages, self.state is State.OPEN
        pongs: list[bytes] = []
        for kind, payload in self._reader.feed(data):
            if kind in DATA:
                if is_open:
                    messages.append((kind, payload))
                    self._size += len(payload) + _MESSAGE_BYTES  # type: ignore[arg-type]  # str or bytes
            elif kind == PING:
                pongs.append(frame(PONG, payload))  # type: ignore[arg-type]  # bytes
            elif kind == PONG:
                if self._is_pinged:
                    self._is_pinged = False
                    self._connection.look_in(self._settings.ping_s)
            elif kind == CLOSE:
                self._hear_close(*payload)  # type: ignore[misc]  # code and reason
                return
        if pongs and not self._connection.is_full:  # or a peer that only asks would fill the memory
            self._connection.write(b"".join(pongs))  # in one write: thousands fit into a segment
        error = self._reader.error
        if error is not None:
            self._fail(error)
            return
        if messages:
            if self._size > READ_HIGH_BYTES or self._reader.has_more:
                self._connection.pause_reading()
            self._heard()
        elif not is_open:
            self._skip()

    def expire(self) -> None:
        """Ping; or give up a peer that does not answer."""
        connection = self._connection
        if self.state is State.CLOSING:
            self._give_up()
        elif self.state is State.OPEN and self._settings.ping_s:
            if self._is_pinged and not self._may_be_behind:
                self._say_close(CloseCode.INTERNAL_ERROR, "no pong came")
                self._give_up()
                return
            self._is_pinged = self._settings.pong_s > 0
            self._ping_number += 1
            connection.write(frame(PING, b"%d" % self._ping_number))
            connection.look_in(self._settings.pong_s or self._settings.ping_s)

    @property
    def _may_be_behind(self) -> bool:
        """Whether a pong may have come: behind what nobody takes, or while the loop was held up."""
        return bool(self._messages) or self._reader.has_more or self._connection.has_unread

    def disconnect(self) -> None:
        """The peer sends no more, or is gone."""
        if self.state is not State.CLOSED:
            self._end(b"")
            self._heard()

    # ── what the application's side calls ──

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent."""
        return self.state is not State.OPEN

    def take(self) -> tuple[int, object] | None:
        """Return the next message, TEXT with a str or BINARY with bytes; None: none is here."""
        while not self._messages:
            if not self._reader.has_more or self.state is not State.OPEN:
                return None
            self.feed(b"")
        kind, payload = self._messages.popleft()
        self._size -= len(payload) + _MESSAGE_BYTES  # type: ignore[arg-type]  # str or bytes
        if self._size <= READ_HIGH_BYTES and self.state is State.OPEN and not self._reader.has_more:
            self._connection.resume_reading()
        return kind, payload

    def send(self, kind: int, payload: bytes) -> None:
        """Send a message: TEXT, in UTF-8, or BINARY. The caller waits for room then. Only while it is open."""
        self.sent_bytes += len(payload)
        deflater = self._deflater
        if deflater is not None and len(payload) >= _COMPRESSED_BYTES:
            self._connection.write(frame(kind, deflater.deflate(payload), True))
        else:
            self._connection.write(frame(kind, payload))

    def close(self, code: int, reason: str) -> None:
        """Begin the close handshake; what was not taken is dropped, and nobody is asked for more."""
        if self.state is State.OPEN:
            self._say_close(code, reason)
            self.state = State.CLOSING
            self._messages.clear()
            self._size = 0
            self._skip()
            self._connection.look_in(CLOSE_S)
            self._heard()

    # ── the end ──

    def _skip(self) -> None:
        """Throw away what comes while the peer's Close is to come; what inflates to much, a piece in each turn."""
        if self.state is State.CLOSING:
            if self._reader.has_more:
                self._connection.pause_reading()
                asyncio.get_running_loop().call_soon(self.feed, b"")
            else:
                self._connection.resume_reading()

    def _say_close(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        self._connection.write(close_frame(code, reason))

    def _hear_close(self, code: int, reason: str) -> None:
        """Answer a Close with the same code; or, if ours was first, end."""
        answer = b""
        if self.state is State.OPEN:
            self.close_code, self.close_reason = code, reason
            answer = frame(CLOSE, b"") if code == CloseCode.NO_STATUS else close_frame(code, "")
        self._is_known_to_end(answer)
        self._heard()

    def _fail(self, error: WebSocketError) -> None:
        """The peer breaks the protocol: say how, and end; what it sends from now on is thrown away."""
        if self.state is State.OPEN:
            self._say_close(error.code, str(error))
        self._end(b"")
        self._heard()

    def _give_up(self) -> None:
        """The peer says nothing: cut it."""
        self._end(b"")
        self._connection.abort()
        self._heard()

    def _is_known_to_end(self, data: bytes) -> None:
        """Both sides have said Close: the server ends the connection (RFC 6455 §7.1.1)."""
        self.state = State.CLOSED
        self._connection.hang_up(data, self._exchange)

    def _end(self, data: bytes) -> None:
        self.state = State.CLOSED
        self._connection.write_last(data, self._exchange, close=True)


def _nobody() -> None:
    """Be nobody who could hear."""
