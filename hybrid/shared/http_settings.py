"""The options of HTTP, for handlers that are applications (ASGI, WSGI)."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.shared.declare import option


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """What a request may be, how long it may take, and what every response says."""

    limit_line_bytes: int = option(
        8190,
        "Bytes of a request line; a longer one is answered with 414.",
        flag="--limit-request-line",
        parse="positive",
        metavar="BYTES",
    )
    limit_head_bytes: int = option(
        65536,
        "Bytes of all header fields together; more are answered with 431.",
        flag="--limit-request-headers",
        parse="positive",
        metavar="BYTES",
    )
    limit_fields: int = option(
        100,
        "Header fields of a request; more are answered with 431.",
        flag="--limit-request-fields",
        parse="positive",
        metavar="N",
    )
    limit_body_bytes: int = option(
        0,
        "Bytes of a request body; a longer one is answered with 413. 0: no limit.",
        flag="--limit-request-body",
        parse="count",
        metavar="BYTES",
    )
    head_s: float = option(
        10.0,
        "Time for the head of a request, from its first byte to its last.",
        more="For the first request of a connection, from its start. Looked at once a second, as all timeouts of HTTP. "
        "Answered with 408. 0: no limit.",
        flag="--header-timeout",
        parse="seconds",
        metavar="SECONDS",
    )
    body_s: float = option(
        30.0,
        "Time between two pieces of a body that the application waits for.",
        more="Answered with 408. 0: no limit.",
        flag="--body-timeout",
        parse="seconds",
        metavar="SECONDS",
    )
    keep_alive_s: float = option(
        75.0,
        "Time that an idle connection is kept open between two requests.",
        more="Longer than what the load balancer before it uses, or it sends requests into closing connections. "
        "0: no limit.",
        flag="--keep-alive",
        parse="seconds",
        metavar="SECONDS",
    )
    write_s: float = option(
        60.0,
        "Time that a client may take nothing of what is sent to it.",
        more="Then the connection is cut. Slow is not stalled: one that takes a little is left alone. 0: no limit.",
        flag="--write-timeout",
        parse="seconds",
        metavar="SECONDS",
    )
    request_s: float = option(
        0.0,
        "Time for a whole request, from its head to the end of its answer.",
        more="The application is cancelled (WSGI: runs on), and the answer is 504; cut, if it has begun. A "
        "stream that never ends is cut, too: leave it off for those. 0: no limit.",
        flag="--request-timeout",
        parse="seconds",
        metavar="SECONDS",
    )
    limit_concurrency: int = option(
        0,
        "Requests that a worker answers at a time; one more gets 503 and Retry-After.",
        more="0: no limit.",
        flag="--limit-concurrency",
        parse="count",
        metavar="N",
    )
    root_path: str = option(
        "",
        "Path under which a proxy serves the app: root_path, WSGI's SCRIPT_NAME.",
        flag="--root-path",
        parse="url_path",
        metavar="PATH",
    )
    server_header: bool = option(True, "Say server: hybrid in every response.", flag="--server-header")
    date_header: bool = option(True, "Say the date in every response.", flag="--date-header")
