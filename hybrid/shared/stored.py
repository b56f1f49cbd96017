"""Listening sockets of an earlier run that come back out of the service manager's store: which are still wanted.

A socket that nobody serves must not stay open, or its clients wait for ever. And it must be gone before another
address is bound, which it may be in the way of (0.0.0.0:80 of 127.0.0.1:80). Closing our copy does not do that: the
manager has one too. shutdown(2) does: it ends the listening, whoever holds the socket, and who waits in its queue is
reset.

Source: sd_notify(3) FDSTORE; inet_shutdown() in net/ipv4/af_inet.c.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from hybrid.shared import socket_file
from hybrid.shared.bind_grammar import AddressKind, parse
from hybrid.shared.handed import Handed, stored_file
from hybrid.shared.listeners import look_at, resolve, target_text, unix_text


@dataclass(frozen=True, slots=True)
class Dropped:
    """A stored socket that was closed. ``address``: empty when it was no listening socket."""

    name: str
    address: str
    why: str


def drop_unwanted(
    handed: Sequence[Handed], binds: Sequence[str], *, share_port: bool
) -> tuple[tuple[Handed, ...], tuple[Dropped, ...]]:
    """Close the stored sockets among ``handed`` that cannot be served; return the rest of ``handed``, and those.

    Runs in: parent, or the process of ``--workers 0``. Args: share_port: none can: each worker binds for itself.
    Raises: UsageError: bad text in ``binds``. ListenError: a name in them does not resolve.
    """
    if not any(each.is_stored for each in handed):
        return tuple(handed), ()
    wanted = set() if share_port else _addresses(binds)
    kept: list[Handed] = []
    dropped: list[Dropped] = []
    for each in handed:
        if not each.is_stored:
            kept.append(each)
            continue
        address, why = look_at(each.fd)
        why = why or _unwanted(each.name, address, wanted)
        if why:
            _shut(each.fd)
            dropped.append(Dropped(each.name, address, why))
        else:
            wanted.discard(address)  # a second one at the same place would be served by nobody
            kept.append(each)
    return tuple(kept), tuple(dropped)


def _addresses(binds: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for address in map(parse, binds):
        if address.kind is AddressKind.TCP:
            found.update(target_text(target, address.port) for target in resolve(address))
        elif address.kind is AddressKind.UNIX:
            found.add(unix_text(address))
    return found


def _unwanted(name: str, address: str, wanted: set[str]) -> str:
    """Return why a listening socket is not served any more, or an empty string."""
    if address not in wanted:
        return "nothing binds this address any more"
    path = address.removeprefix("unix:")
    if path != address and not path.startswith("@"):
        try:
            if socket_file.identify(path) != stored_file(name, path):
                return "its socket file was replaced"
        except OSError:
            return "its socket file is gone"
    return ""


def _shut(fd: int) -> None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        with suppress(OSError):  # not even open
            os.close(fd)
        return
    with sock, suppress(OSError):  # it did not listen
        sock.shutdown(socket.SHUT_RDWR)
