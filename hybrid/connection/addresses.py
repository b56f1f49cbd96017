"""Addresses of a connection, in one shape, and the typed attributes that anyio's streams offer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anyio.abc import SocketAttribute

Address = tuple[str, int] | str
"""(host, port), or the path of a unix socket ("" if it has none)."""

_KEYS: Any = SocketAttribute
"""anyio declares each key as what is found by it; compiled code believes that, and refuses the key."""

UNKNOWN: Address = ("", 0)
"""The peer of a connection that was gone before it was served."""


def address(transport: asyncio.BaseTransport, name: str) -> Address:
    """Return the transport's ``peername`` or ``sockname``; :data:`UNKNOWN` where the kernel tells no more.

    A v6 link-local host keeps its scope (``fe80::1%eth0``); flow info is dropped. An abstract unix name begins with
    a NUL character. Raises: nothing.
    """
    try:
        raw = transport.get_extra_info(name)
    except (AttributeError, OSError, ValueError):  # uvloop asks a socket that is closed by now
        raw = None
    if type(raw) is tuple and len(raw) == 2:  # hot: connections; 125,373 instructions, 121,737 so
        where: Address = raw
        return where
    if isinstance(raw, bytes):
        return os.fsdecode(raw)
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, tuple):
        return UNKNOWN
    host, port = raw[0], raw[1]
    scope = raw[3] if len(raw) == 4 else 0
    return (f"{host}%{_interface(scope)}" if scope and "%" not in host else host, port)


def common_address(listeners: Iterable[socket.socket]) -> Address | None:
    """Return the local address of every connection that these accept; None: it differs, or is not known beforehand.

    It is known for one IPv4 address that is not 0.0.0.0. Asking each connection costs a system call.
    """
    names = {listener.getsockname() if listener.family == socket.AF_INET else None for listener in listeners}
    name: Address | None = names.pop() if len(names) == 1 else None
    return name if name is not None and name[0] != "0.0.0.0" else None


def show(where: Address) -> str:
    """Return an address as log lines write it."""
    if where == UNKNOWN:
        return "an unknown peer"
    if isinstance(where, str):
        return f"unix:{where}"
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def attributes(transport: asyncio.BaseTransport, local: Address, peer: Address) -> Mapping[Any, Callable[[], Any]]:
    """Return what ``extra()`` finds: anyio's SocketAttribute set, as far as it is known."""
    found: dict[Any, Callable[[], Any]] = {_KEYS.local_address: lambda: local}
    if peer != UNKNOWN:
        found[_KEYS.remote_address] = lambda: peer
    if isinstance(local, tuple):
        found[_KEYS.local_port] = lambda: local[1]
    if isinstance(peer, tuple) and peer != UNKNOWN:
        found[_KEYS.remote_port] = lambda: peer[1]
    raw = transport.get_extra_info("socket")
    if raw is not None:
        found[_KEYS.raw_socket] = lambda: raw
        found[_KEYS.family] = lambda: raw.family
    return found


def _interface(scope: int) -> str:
    try:
        return socket.if_indextoname(scope)
    except OSError:  # the interface went away
        return str(scope)
