"""The options about proxies in front of the server: who may say on whose behalf a request comes."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.shared.declare import option


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What a proxy may say of its clients, and which peers are proxies."""

    headers: bool = option(
        True,
        "Take a request's client and scheme from what trusted proxies say.",
        more="Then the application sees the client, not the proxy. See [Behind a proxy](../how-to/behind-a-proxy.md).",
        flag="--proxy-headers",
    )
    allow_ips: tuple[str, ...] = option(
        ("127.0.0.0/8", "::1", "unix"),
        "Proxies to believe: addresses, networks, unix, * for any peer. Repeatable.",
        more="Several are separated by commas. unix is whoever comes through a unix socket; * is every peer, and no "
        "other hop. The client is the right-most hop that is none of them.",
        flag="--forwarded-allow-ips",
        parse="proxies",
        metavar="LIST",
    )
    header: str = option(
        "x-forwarded-for",
        "Header that the proxies write; the other one is not believed.",
        more="x-forwarded-for: X-Forwarded-For, -Proto and -Port; forwarded: RFC 7239. Only one of them: a client can "
        "send the one that the proxy does not write.",
        flag="--forwarded-header",
        choices=("x-forwarded-for", "forwarded"),
        metavar="NAME",
    )
