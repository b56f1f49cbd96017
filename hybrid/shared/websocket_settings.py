"""The options of WebSockets, for applications that have them (ASGI)."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.shared.declare import option


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """What a message may be, and how a peer that is gone without a word is found out."""

    limit_bytes: int = option(
        16 << 20,
        "Bytes of a message; a larger one closes its WebSocket with 1009.",
        more="As the application gets it: of a compressed one, what it becomes.",
        flag="--ws-max-size",
        parse="positive",
        metavar="BYTES",
    )
    ping_s: float = option(
        20.0,
        "Time between two pings to a client; 0: none are sent.",
        more="Looked at once a second, as all timeouts of HTTP.",
        flag="--ws-ping-interval",
        parse="seconds",
        metavar="SECONDS",
    )
    pong_s: float = option(
        20.0,
        "Time for a client to answer a ping; without an answer it is cut.",
        more="Not while the application leaves messages unread: the answer may be behind them. 0: no limit.",
        flag="--ws-ping-timeout",
        parse="seconds",
        metavar="SECONDS",
    )
    deflate: bool = option(
        True,
        "Compress messages where the client offers it: permessage-deflate.",
        flag="--ws-per-message-deflate",
    )
