"""What ``--bind`` may say.

========================  ==========================================================================
``HOST:PORT``             every distinct address the name resolves to, so ``localhost:8000`` answers on
                          127.0.0.1 and ::1; one that this machine lacks is skipped if another is bound
``[V6]:PORT``             that IPv6 address
``:PORT``, ``*:PORT``     all interfaces: two sockets, 0.0.0.0 and [::]
``unix:PATH``             a socket file; ``unix:@NAME`` is an abstract name, without a file
``fd://N``                a listening socket that is already open
========================  ==========================================================================

Nothing is resolved or opened here: that is :mod:`hybrid.shared.listeners`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hybrid.ground.errors import UsageError
from hybrid.shared import socket_file

GRAMMAR = "Write HOST:PORT, [V6]:PORT, :PORT, unix:PATH or fd://N."


class AddressKind(Enum):
    """What an address names."""

    TCP = "tcp"
    UNIX = "unix"
    FD = "fd"


@dataclass(frozen=True, slots=True)
class Address:
    """What one ``--bind`` says, not yet resolved.

    ``host`` is a name, an IPv4 or an IPv6 address without brackets; empty: all interfaces.
    ``path`` begins with ``@`` for an abstract name.
    """

    kind: AddressKind
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    @property
    def text(self) -> str:
        """The address in the grammar of ``--bind``."""
        if self.kind is AddressKind.UNIX:
            return f"unix:{self.path}"
        if self.kind is AddressKind.FD:
            return f"fd://{self.fd}"
        return tcp_text(self.host, self.port)


def parse(text: str) -> Address:
    """Return what ``text`` names. Resolves and opens nothing.

    Raises: UsageError: the text is none of the forms at the head of this module.
    """
    if text.startswith("unix:"):
        return _parse_unix(text)
    if not text.isprintable():
        raise _refused(text, "it has a character that no address has", GRAMMAR)
    if text.startswith("fd://"):
        number = text[len("fd://") :]
        if not _is_number(number):
            raise _refused(text, "no descriptor number", "Write fd://N with the number of an open listening socket.")
        return Address(AddressKind.FD, fd=int(number))
    return _parse_tcp(text)


def check_shared_port(binds: Sequence[str]) -> None:
    """Raises: UsageError: one of ``binds`` cannot be opened once for each worker, as ``--accept reuseport`` does."""
    for text in binds:
        if text.startswith("unix:"):
            why = "only a TCP port can be shared so, and this is a unix socket"
        elif text.startswith("fd://"):
            why = "a socket that somebody else has opened cannot be opened once more"
        else:
            continue
        raise UsageError(
            f"cannot use --bind {text} together with --accept reuseport, which opens each address once for each "
            f"worker: {why}. Bind HOST:PORT, or leave out --accept."
        )


def tcp_text(host: str, port: int) -> str:
    """Return the address as ``--bind`` takes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_unix(text: str) -> Address:
    path = text[len("unix:") :]
    if not path.lstrip("@/") or "\0" in path:
        raise _refused(text, "no path", "Write unix:/run/app.sock, or unix:@name for an abstract one.")
    if path.startswith("//"):  # unix:///run/app.sock, as a URL would have it
        path = "/" + path.lstrip("/")
    if path.startswith("@") and len(os.fsencode(path)) > socket_file.MAX_PATH_BYTES + 1:
        raise _refused(text, f"the name is longer than {socket_file.MAX_PATH_BYTES} bytes", "Use a shorter one.")
    return Address(AddressKind.UNIX, path=path)


def _parse_tcp(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if "://" in text:
        raise _refused(text, f"{text.partition('://')[0]}:// is not a kind of address here", GRAMMAR)
    if "/" in text:
        raise _refused(text, "no port", f"For a unix socket write unix:{text}.")
    if not colon:
        if _is_number(text):
            remedy = f"Write 127.0.0.1:{text} for this machine only, :{text} for all interfaces."
            raise _refused(text, "no host", remedy)
        raise _refused(text, "no port", f"Write {text}:8000." if text else GRAMMAR)
    if host.startswith("[") or text.endswith("]"):
        if text.endswith("]"):
            raise _refused(text, "no port", f"Write {text}:8000.")
        if not host.endswith("]") or not _is_ipv6(host[1:-1]):
            raise _refused(text, "what is in brackets is no IPv6 address", "Write [::1]:8000, or HOST:PORT.")
        host = host[1:-1]
    elif ":" in host:
        remedy = f"Write [{host}]:{port}, or [{text}]:PORT if {port} belongs to the address."
        raise _refused(text, "an IPv6 address needs brackets", remedy)
    elif not host.isprintable() or " " in host:
        raise _refused(text, "white space in the host", GRAMMAR)
    if not _is_number(port) or int(port) > 65535:
        raise _refused(text, f"{port!r} is no port", "Use 0 to 65535; 0 picks a free one.")
    return Address(AddressKind.TCP, host="" if host == "*" else host, port=int(port))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except (OSError, UnicodeError):
        return False
    return True


def _refused(text: str, cause: str, remedy: str) -> UsageError:
    return UsageError(f"cannot use --bind {text!r}: {cause}. {remedy}")
