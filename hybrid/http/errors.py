"""The errors of the HTTP room, each with the code that says so: a request is refused, a WebSocket is failed."""

from __future__ import annotations

from hybrid.ground.errors import HybridError
from hybrid.http.opcodes import CloseCode


class HttpError(HybridError):
    """A request must be refused: the connection answers with ``status`` and closes.

    ``status``: the code to answer with (400, 413, 414, 417, 426, 431, 501, 505 …).
    ``str(error)`` is for the log, never for the wire: it may quote what the peer sent.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class WebSocketError(HybridError):
    """The peer broke the protocol or a limit: the connection sends a close frame with ``code`` and closes.

    ``code``: what to close with: 1002, 1007, 1008 or 1009. ``reason``: what was wrong; it never quotes the peer, so it
    may be sent, and is short enough for a close frame. Source: RFC 6455 §7.1.7, §7.4.1.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class MessageTooBig(WebSocketError):
    """A message is above its limit: close code 1009.

    ``begin``: of a compressed message, what was inflated before that, one byte more than was allowed.
    """

    def __init__(self, reason: str, begin: bytes = b"") -> None:
        super().__init__(CloseCode.MESSAGE_TOO_BIG, reason)
        self.begin = begin
