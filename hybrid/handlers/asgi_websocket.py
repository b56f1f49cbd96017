"""One WebSocket of an ASGI application: its scope, its messages, and what becomes of it when either side gives up.

The application is asked first: until it accepts, the connection speaks HTTP, and the answer may be a 403 or a response
of the application's own (the denial response extension).

Source: ASGI specification 3.0, HTTP and WebSocket message format 2.5; RFC 6455 §4.2.2, §7.4.1.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import CancelledError
from collections.abc import Mapping
from enum import IntEnum
from operator import index
from typing import TYPE_CHECKING, Any

from hybrid.connection.failures import log
from hybrid.connection.http_connection import HttpConnection
from hybrid.connection.http_endpoint import Exchange, HttpEndpoint
from hybrid.connection.websocket import WebSocket
from hybrid.handlers.asgi_task import AsgiTask, Message, Scope, checked
from hybrid.handlers.disconnected import Disconnected, causes, is_from_disconnect
from hybrid.http.deflate import Deflater, Inflater
from hybrid.http.errors import HttpError
from hybrid.http.frames import BINARY, TEXT, FrameReader
from hybrid.http.head import Head
from hybrid.http.opcodes import CloseCode, may_be_sent
from hybrid.http.response import Response
from hybrid.http.websocket import Handshake, read_handshake, switching
from hybrid.shared.websocket_settings import WebSocketSettings

if TYPE_CHECKING:
    from hybrid.handlers.asgi import AsgiEndpoint

_VERSION_HEADERS = ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-version", b"13"))
"""Of a 426. Source: RFC 6455 §4.4, RFC 9110 §7.8 and §15.5.22."""
_TURNS = 64
"""Messages sent without waiting, before others get a turn."""
_SCHEMES = {"http": "ws", "https": "wss"}


class Stage(IntEnum):
    """How far the application has come. Moves only to the right, but one of ACCEPTED and DENYING is passed over."""

    ASKED = 0
    """It was told that somebody wants to connect, and has not answered."""
    DENYING = 1
    """It answers with a response of its own."""
    ACCEPTED = 2
    """The WebSocket is open, or was."""
    OVER = 3
    """It was denied, or closed: nothing more can be sent."""


def begin_websocket(
    asgi: AsgiEndpoint, settings: WebSocketSettings, endpoint: HttpEndpoint, connection: HttpConnection, head: Head
) -> Exchange:
    """Return the exchange of a request that asks for a WebSocket; of one that asks wrongly, a refusal."""
    try:
        handshake = read_handshake(head, settings.deflate)
    except HttpError as error:
        return endpoint.refuse(connection, head, error, _VERSION_HEADERS if error.status == 426 else ())
    return AsgiWebSocket(asgi, settings, connection, head, handshake)


class AsgiWebSocket(AsgiTask):
    """One WebSocket. See :class:`hybrid.connection.http_endpoint.Exchange`.

    Runs in: worker, in its loop. Closes: nothing; the connection does.
    """

    __slots__ = (
        "_handshake",
        "_has_told",
        "_is_known",
        "_lost",
        "_response",
        "_sent",
        "_settings",
        "_socket",
        "_stage",
    )

    def __init__(
        self,
        endpoint: AsgiEndpoint,
        settings: WebSocketSettings,
        connection: HttpConnection,
        head: Head,
        handshake: Handshake,
    ) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._head = head
        self._waiters = []
        self._entry = None if endpoint.access_log is None else endpoint.entry(connection, head)
        self._error = None
        self._task = None
        self._settings = settings
        self._handshake = handshake
        self._stage = Stage.ASKED
        self._socket: WebSocket | None = None
        """Once it is accepted."""
        self._response: Response | None = None
        """Once it is denied."""
        self._lost = False
        """Whether the client has left before it was accepted."""
        self._is_known = False
        """Whether the application has been told that somebody wants to connect."""
        self._has_told = False
        """Whether it has been told that the end has come."""
        self._sent = 0

    # ── what the connection calls ──

    def refuse(self, error: HttpError) -> None:
        """Answer in the application's place: it took too long."""
        self._error = error
        self._lost = True
        if error.status == 504:
            log.warning("app %s: %s: %s; cancelled (--request-timeout)", self._endpoint.name, self._title, error)
        if self._stage is Stage.ASKED:
            self._stage = Stage.OVER
            self._answer(error)
        else:
            self._connection.abort()
        self._wake()

    def disconnect(self) -> None:
        """Tell the application, when it asks. Who sends no more before it is accepted never had a WebSocket."""
        if self._socket is None:
            self._lost = True
            if self._stage is not Stage.DENYING:
                self._connection.abort()  # no answer follows that would end it
            self._wake()
        else:
            self._socket.disconnect()

    def drain(self) -> None:
        """Close, so that the client connects again elsewhere: at once, or a moment later, each at random."""
        if self._socket is None:
            return  # as soon as it is accepted
        farewell, code = self._connection.farewell, self._leaving_code
        reason = "the server stops" if farewell.is_last else "the server restarts"
        if farewell.jitter_s > 0:
            self._endpoint.loop.call_later(random.uniform(0, farewell.jitter_s), self._socket.close, code, reason)
        else:
            self._socket.close(code, reason)

    # ── what the application calls ──

    async def receive(self) -> Message:
        """Return that somebody wants to connect, then message after message, at last that the end has come.

        Raises: RuntimeError: it was told that the end has come.
        """
        if not self._is_known:
            self._is_known = True
            return {"type": "websocket.connect"}
        if self._has_told:
            raise RuntimeError("the WebSocket is closed: websocket.disconnect was received already")
        while True:
            socket = self._socket
            if socket is not None:
                message = socket.take()
                if message is not None:
                    kind, payload = message
                    if kind == TEXT:
                        return {"type": "websocket.receive", "text": payload}
                    return {"type": "websocket.receive", "bytes": payload}
                if socket.is_over:
                    return self._end(socket.close_code, socket.close_reason)
            elif self._lost or self._stage is Stage.OVER:
                return self._end(CloseCode.ABNORMAL, "")
            waiter = self._endpoint.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)

    def _end(self, code: int, reason: str) -> Message:
        self._has_told = True
        return {"type": "websocket.disconnect", "code": int(code), "reason": reason}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take one message.

        Raises: RuntimeError: the message does not fit here; ValueError, TypeError: what is in it cannot be sent;
        Disconnected: the client is gone.
        """
        said: Message = message if type(message) is dict else dict(message)  # compiled code takes no other mapping
        kind = said["type"]
        socket = self._socket
        if socket is not None and kind == "websocket.send":
            if socket.is_over:
                raise Disconnected("the WebSocket is closed") if self._stage is not Stage.OVER else _closed(kind)
            socket.send(*_payload(said))
            self._sent += 1
            if self._connection.is_full:
                await self._connection.room()
            elif self._sent % _TURNS == 0:
                await asyncio.sleep(0)  # or an application that only sends would hold the loop for ever
        elif self._stage is Stage.OVER:
            raise _closed(kind) if self._error is None and not self._lost else Disconnected("the client is gone")
        elif kind == "websocket.close":
            self._close(said)
        elif self._stage is Stage.ACCEPTED:
            raise RuntimeError(
                f"cannot send {kind!r}: the WebSocket is accepted; send websocket.send or websocket.close"
            )
        elif self._connection.is_lost or self._lost:
            raise Disconnected("the client is gone")
        elif kind == "websocket.accept" and self._stage is Stage.ASKED:
            self._accept(said)
        elif kind == "websocket.http.response.start" and self._stage is Stage.ASKED:
            self._deny(index(said["status"]), said.get("headers", ()))
        elif kind == "websocket.http.response.body" and self._stage is Stage.DENYING:
            await self._deny_body(said)
        else:
            raise RuntimeError(
                f"cannot send {kind!r} now: a WebSocket begins with websocket.accept, websocket.close, or "
                "websocket.http.response.start and .body"
            )

    def _accept(self, message: Message) -> None:
        handshake, connection, settings = self._handshake, self._connection, self._settings
        head = switching(handshake, message.get("subprotocol"), message.get("headers", ()), self._endpoint.standing())
        if self._entry is not None:
            self._entry.status = 101
        inflater = deflater = None
        if handshake.deflate is not None:
            inflater, deflater = Inflater(handshake.deflate), Deflater(handshake.deflate)
        reader = FrameReader(settings.limit_bytes, inflater=inflater)
        self._stage = Stage.ACCEPTED
        self._socket = socket = WebSocket(connection, self, reader, deflater, settings)
        socket.open(head, self._wake)
        if connection.draining:
            self.drain()

    def _close(self, message: Message) -> None:
        """Close, or deny with a 403."""
        code, reason = message.get("code", CloseCode.NORMAL), message.get("reason") or ""
        if self._socket is not None:
            check_close(code)
            if not isinstance(reason, str):
                raise TypeError(f"websocket.close: reason is {type(reason).__name__}, not str")
            self._stage = Stage.OVER
            self._socket.close(code, reason)
        elif self._stage is Stage.DENYING:
            raise _closed("websocket.close")
        elif self._connection.is_lost or self._lost:
            self._stage = Stage.OVER
        else:
            self._stage = Stage.OVER
            self._answer(HttpError(403, "the application denied the WebSocket"))

    def _deny(self, status: int, headers: Any) -> None:
        """Take the head of a response that denies."""
        response = Response(self._head)
        headers = list(headers)  # they may be there to be read once
        # Who asked for another protocol may speak it already: what follows is no request.
        response.start(status, headers, self._endpoint.standing(), close=True)
        self._stage, self._response = Stage.DENYING, response
        self._connection.went_wrong(status)
        if self._entry is not None:
            self._entry.status, self._entry.response_headers = status, headers

    async def _deny_body(self, message: Message) -> None:
        response, connection = self._response, self._connection
        assert response is not None
        body = message.get("body", b"")
        data = response.body(body, message.get("more_body", False))
        if self._entry is not None and response.has_body:
            self._entry.body_bytes += memoryview(body).nbytes
        if response.is_complete:
            self._stage = Stage.OVER
            connection.write_last(data, self, close=True)
            self._log_access()
            self._wake()
            return
        connection.write(data)
        if connection.is_full:
            await connection.room()

    # ── the application's task ──

    async def _run(self) -> None:
        endpoint, connection = self._endpoint, self._connection
        error: BaseException | None = None
        try:
            running = endpoint.app(self._scope(), self.receive, self.send)
            await checked(running)
        except BaseException as raised:  # noqa: BLE001  (the user's code; logged, and never the loop's end)
            error = raised
            if endpoint.loop.is_closed():  # nobody is left to be told: a task that was pending at the end is destroyed
                return
        try:
            self._leave(error)
        finally:
            if self._entry is not None:
                if self._socket is not None:
                    self._entry.body_bytes = self._socket.sent_bytes
                self._log_access()
            self._task = None
            error = None  # or what the application held would be in a cycle with this frame
            connection.ended(self)

    def _scope(self) -> Scope:
        scope = self._endpoint.scope(self._connection, self._head)
        scope["type"] = "websocket"
        scope["scheme"] = _SCHEMES.get(scope["scheme"], scope["scheme"])
        scope["subprotocols"] = list(self._handshake.subprotocols)
        del scope["method"]
        extensions = scope["extensions"]
        del extensions["http.response.early_hint"], extensions["http.response.trailers"]
        extensions["websocket.http.response"] = {}
        return scope

    def _leave(self, error: BaseException | None) -> None:
        """The application has ended: so does the WebSocket, if it has not."""
        socket = self._socket
        if error is not None and not self._leaves_with_client(error):
            self._log(error)
        elif error is None and self._stage < Stage.ACCEPTED and not self._lost and self._error is None:
            log.error("app %s returned without accepting or denying a WebSocket", self._endpoint.name)
        if socket is not None:
            if isinstance(error, CancelledError):
                self._cut(socket)
            elif error is not None:
                socket.close(CloseCode.INTERNAL_ERROR, "")
            else:
                socket.close(CloseCode.NORMAL, "")
        elif self._stage is Stage.DENYING:
            self._connection.abort()  # an answer that looks whole and is not would be worse
        elif self._stage is Stage.ASKED and self._error is None and not self._lost:
            self._stage = Stage.OVER
            self._answer(HttpError(503 if isinstance(error, CancelledError) else 500, ""))

    def _leaves_with_client(self, error: BaseException) -> bool:
        """Whether the application only gives up because the WebSocket has ended.

        Handlers of Starlette, FastAPI and Litestar leave by a WebSocketDisconnect that nobody catches: with a thousand
        of them a reload would be a thousand tracebacks.
        """
        is_over = self._lost or (self._socket is not None and self._socket.is_over)
        if is_from_disconnect(error) or (is_over and isinstance(error, CancelledError)):
            return True
        return self._has_told and any(type(each).__name__ == "WebSocketDisconnect" for each in causes(error))

    @property
    def _leaving_code(self) -> int:
        """What a WebSocket of a worker that leaves is closed with."""
        return CloseCode.GOING_AWAY if self._connection.farewell.is_last else CloseCode.SERVICE_RESTART

    def _cut(self, socket: WebSocket) -> None:
        """The grace is over: say why, and wait for nobody."""
        socket.close(self._leaving_code, "")
        socket.disconnect()


def check_close(code: Any) -> None:
    """Check a code that an application closes with. Raises: ValueError: it is none that may be sent (RFC 6455 §7.4)."""
    if not isinstance(code, int) or not may_be_sent(code):
        raise ValueError(
            f"cannot close a WebSocket with code {code!r}: use 1000 to 1003, 1007 to 1014, or 3000 to 4999 for your own"
        )


def _payload(message: Message) -> tuple[int, bytes]:
    """Return kind and payload of what an application sends. Raises: ValueError, TypeError: of neither kind."""
    text = message.get("text")
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(f"websocket.send: text is {type(text).__name__}, not str; send bytes with the key bytes")
        return TEXT, text.encode()
    data = message.get("bytes")
    if data is None:
        raise ValueError("websocket.send has neither text nor bytes")
    if isinstance(data, bytes):
        return BINARY, data
    if isinstance(data, (bytearray, memoryview)):
        return BINARY, bytes(data)
    raise TypeError(f"websocket.send: bytes is {type(data).__name__}; send a str with the key text")


def _closed(kind: str) -> RuntimeError:
    return RuntimeError(f"cannot send {kind!r}: the WebSocket was denied or closed already")
