"""From what ``--bind`` says (:mod:`hybrid.shared.bind_grammar`) to listening sockets.

Port 0 picks a free one, the same for all addresses of one bind. An IPv6 socket takes IPv6 only: two sockets
instead of one dual-stack socket, so that a peer's address is never ``::ffff:192.0.2.1`` and the result does not
depend on a sysctl. SO_REUSEPORT is set for ``--accept reuseport`` alone, and never by the first who binds: with it a
second server would silently share the port.

Runs in: parent, or the host of ``hybrid.serve(..., workers=0)``. Names are resolved here, once, before any worker.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hybrid.ground.errors import ListenError, UsageError
from hybrid.shared import socket_file
from hybrid.shared.bind_grammar import GRAMMAR, Address, AddressKind, check_shared_port, parse, tcp_text
from hybrid.shared.handed import Handed, stored_file
from hybrid.shared.socket_file import SocketFile

_PORT_ATTEMPTS = 16
_NOT_ON_THIS_MACHINE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})

Target = tuple[socket.AddressFamily, str, int]
"""Family, numeric host, IPv6 scope."""


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A bound, listening, non-blocking, close-on-exec socket.

    ``address``: where it really listens, in the grammar of ``--bind``. ``file``: the socket file to remove at the
    end; None when there is none or it is not ours. ``adopted``: opened by somebody else and handed to us.
    ``name``: the service manager's for it.
    """

    socket: socket.socket
    address: str
    file: SocketFile | None = None
    adopted: bool = False
    name: str = ""

    def fileno(self) -> int:
        """Return the descriptor, so that a poll object takes the listener itself."""
        return self.socket.fileno()

    def unlink(self) -> None:
        """Remove our socket file, unless a successor already put its own there. May be called twice."""
        if self.file is not None and self.fileno() >= 0:
            self.file.remove()

    def close(self) -> None:
        """Remove our socket file and close the socket in this process. May be called twice."""
        self.unlink()
        self.socket.close()


def open_listeners(
    binds: Sequence[str], backlog: int, uds_mode: int, inherited: Sequence[Handed] = (), *, share_port: bool = False
) -> list[Listener]:
    """Open everything that ``binds`` names, in order, then adopt ``inherited`` sockets (LISTEN_FDS).

    An inherited socket that listens on an address of ``binds`` is taken for it. Stored ones serve for nothing else:
    those that no bind names are for :func:`hybrid.shared.stored.drop_unwanted`.
    All or nothing: when one fails, those opened before are closed and their files removed; adopted descriptors
    stay open, as they were. A descriptor that a bind names as ``fd://N`` is not adopted again.

    Args: share_port: more of our own may bind the same addresses, by :func:`another_listener`.
    Closes: nothing, on success; the listeners are the caller's.
    Raises: UsageError: bad text, or nothing to listen on, or a port to be shared where there is none. ListenError: an
        address cannot be had.
    """
    if share_port:
        check_shared_port((*binds, *(f"fd://{each.fd}" for each in inherited if not each.is_stored)))
    addresses = [parse(text) for text in binds]
    named = {address.fd for address in addresses if address.kind is AddressKind.FD}
    served = [each for each in inherited if each.fd not in named and not each.is_stored]
    addresses += [Address(AddressKind.FD, fd=each.fd) for each in served]
    there = _There(inherited)
    if not addresses:
        raise UsageError(f"nothing to listen on: no --bind and no inherited socket. Add --bind. {GRAMMAR}")
    opened: list[Listener] = []
    try:
        for address in addresses:
            if address.kind is AddressKind.FD and address.fd in {listener.fileno() for listener in opened}:
                continue  # taken for an address before
            _refuse_repeated(address, opened)
            opened += _open(address, backlog, uds_mode, share_port, there)
    except BaseException:
        for listener in reversed(opened):
            _abandon(listener)
        raise
    return opened


def another_listener(listener: Listener, backlog: int) -> socket.socket:
    """Return one more listening socket on the address of ``listener``, which was opened with ``share_port``.

    The kernel spreads what comes over all of them, by the client's address. Closes: nothing; it is the caller's.
    Raises: ListenError: there is none to be had.
    """
    sock = listener.socket
    where = sock.getsockname()
    target = (sock.family, where[0].partition("%")[0], where[3] if len(where) == 4 else 0)
    try:
        return _listen_tcp(_bind_tcp(target, where[1], share_port=True), backlog).socket
    except OSError as error:
        raise _explain(listener.address, where[1], error) from error


def _refuse_repeated(address: Address, opened: list[Listener]) -> None:
    texts = {listener.address for listener in opened}
    if address.text in texts and not (address.kind is AddressKind.TCP and address.port == 0):
        raise UsageError(f"cannot use --bind {address.text}: it is given twice. Remove one of them.")


def _abandon(listener: Listener) -> None:
    if listener.adopted:
        listener.socket.detach()
    else:
        listener.close()


class _There:
    """The inherited sockets, found by address or by descriptor."""

    def __init__(self, inherited: Iterable[Handed]) -> None:
        self._by_fd = {each.fd: each for each in inherited}
        looked = ((look_at(fd), each) for fd, each in self._by_fd.items())
        self._by_address = {address: each for (address, unfit), each in looked if not unfit}

    def number(self, fd: int) -> Handed:
        """Return it with its name, if it has one."""
        return self._by_fd.get(fd, Handed(fd))

    def at(self, address: str, backlog: int, uds_mode: int) -> Listener | None:
        """Adopt the socket that listens at ``address``, if there is one. Raises: ListenError."""
        handed = self._by_address.get(address)
        if handed is None:
            return None
        listener = _adopt(handed)
        if handed.is_stored:  # ours: what it was opened with may have changed since
            try:
                listener.socket.listen(backlog)
                file = stored_file(handed.name, address.removeprefix("unix:"))
                if file is not None:
                    socket_file.give_mode(file, uds_mode)
            except OSError as error:
                listener.socket.detach()
                raise _explain(address, 0, error) from error
        return listener


def _open(address: Address, backlog: int, uds_mode: int, share_port: bool, there: _There) -> list[Listener]:
    if address.kind is AddressKind.FD:
        return [_adopt(there.number(address.fd))]
    if address.kind is AddressKind.UNIX:
        return [there.at(unix_text(address), backlog, uds_mode) or _open_unix(address, backlog, uds_mode)]
    targets = resolve(address)
    for attempt in range(_PORT_ATTEMPTS):
        try:
            return _open_tcp(address, targets, backlog, share_port, there)
        except ListenError as error:
            # Port 0 on several addresses: the number that was free on the first can be taken on the next.
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            if not taken or address.port or attempt + 1 == _PORT_ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def unix_text(address: Address) -> str:
    """Return where a unix socket is, as its listener will report it."""
    return address.text if address.path.startswith("@") else f"unix:{os.path.abspath(address.path)}"


def target_text(target: Target, port: int) -> str:
    """Return the address as its listener will report it."""
    _family, host, scope = target
    return tcp_text(f"{host}%{socket.if_indextoname(scope)}" if scope else host, port)


def resolve(address: Address) -> list[Target]:
    """Return every address that a bind means. Raises: ListenError: the name does not resolve."""
    if not address.host:
        return [(socket.AF_INET, "0.0.0.0", 0), (socket.AF_INET6, "::", 0)]
    try:
        # Bytes, because a str goes through the idna codec, which costs the parent a megabyte of tables.
        host = address.host.encode("ascii" if address.host.isascii() else "idna")
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ListenError(
            f"cannot listen on {address.text}: the name does not resolve ({cause}). "
            "Use a name or an address of this machine."
        ) from error
    targets: list[Target] = []
    for family, _kind, _protocol, _name, where in found:
        scope = where[3] if len(where) == 4 else 0
        target = (family, str(where[0]).partition("%")[0], scope)
        if target not in targets:
            targets.append(target)
    return targets


def _open_tcp(address: Address, targets: list[Target], backlog: int, share_port: bool, there: _There) -> list[Listener]:
    port = address.port
    opened: list[Listener] = []
    missing: ListenError | None = None
    try:
        for target in targets:
            try:
                inherited = there.at(target_text(target, port), backlog, 0)
                if inherited is not None:
                    opened.append(inherited)
                    continue
                if share_port:
                    # Who sets SO_REUSEPORT is let in by all who have set it: a bind without it finds out who is there.
                    with _bind_tcp(target, port) as probe:
                        port = probe.getsockname()[1]
                opened.append(_listen_tcp(_bind_tcp(target, port, share_port), backlog))
            except OSError as error:
                failure = _explain(tcp_text(target[1], port), port, error)
                failure.__cause__ = error
                if error.errno not in _NOT_ON_THIS_MACHINE:
                    raise failure from error
                missing = failure
                continue
            port = opened[-1].socket.getsockname()[1]
    except BaseException:
        for listener in opened:
            _abandon(listener)
        raise
    if missing is not None and not opened:
        raise missing
    return opened


def _listen_tcp(sock: socket.socket, backlog: int) -> Listener:
    try:
        # Two sockets with SO_REUSEADDR may both bind while neither listens: EADDRINUSE then comes from here.
        sock.listen(backlog)
        return Listener(sock, _address_of(sock))
    except BaseException:
        sock.close()
        raise


def _bind_tcp(target: Target, port: int, share_port: bool = False) -> socket.socket:
    family, host, scope = target
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for TIME_WAIT
        if share_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port, 0, scope))
        else:
            sock.bind((host, port))
        return sock
    except BaseException:
        sock.close()
        raise


def _open_unix(address: Address, backlog: int, mode: int) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if not address.path.startswith("@"):
            path = os.path.abspath(address.path)
            return Listener(sock, f"unix:{path}", socket_file.bind(sock, path, mode, backlog))
        try:
            sock.bind(b"\0" + os.fsencode(address.path[1:]))
            sock.listen(backlog)
        except OSError as error:
            raise _explain(address.text, 0, error) from error
        return Listener(sock, address.text)
    except BaseException:
        sock.close()
        raise


def _adopt(handed: Handed) -> Listener:
    """Take over a listening socket: from now on the listener closes it."""
    fd, name = handed.fd, f" ({handed.name})" if handed.name else ""
    address, unfit = look_at(fd)
    if unfit:
        raise ListenError(f"cannot listen on fd://{fd}{name}: {unfit}. Pass a listening stream socket.")
    sock = socket.socket(fileno=fd)
    try:
        # O_NONBLOCK belongs to the open file, so whoever shares it with us shares the flag.
        sock.setblocking(False)
        sock.set_inheritable(False)
        return Listener(sock, address, adopted=True, name=handed.name)
    except BaseException:
        sock.detach()  # not ours to close
        raise


def look_at(fd: int) -> tuple[str, str]:
    """Return where the socket ``fd`` listens, or nothing and why it cannot be served. Closes: nothing."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        return "", "not an open descriptor" if error.errno == errno.EBADF else "not a socket"
    try:
        unfit = _unfit(sock)
        return "" if unfit else _address_of(sock), unfit
    finally:
        sock.detach()


def _unfit(sock: socket.socket) -> str:
    """Return why the socket cannot be listened on, or an empty string."""
    if sock.family not in _FAMILIES:
        return f"a socket of family {int(sock.family)}, not TCP or unix"
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
        return "not a stream socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "a socket that is not listening"
    return ""


def _address_of(sock: socket.socket) -> str:
    where: str | bytes | tuple[str, int] | tuple[str, int, int, int] = sock.getsockname()
    if isinstance(where, bytes):  # abstract names come as bytes
        return "unix:@" + os.fsdecode(where[1:])
    if isinstance(where, str):
        return f"unix:{where}"
    host = where[0]
    if len(where) == 4 and where[3]:
        host = f"{host.partition('%')[0]}%{socket.if_indextoname(where[3])}"
    return tcp_text(host, where[1])


def _explain(text: str, port: int, error: OSError) -> ListenError:
    number = error.errno or 0
    cause, remedy = {
        errno.EADDRINUSE: ("address in use", "Stop the other server or change --bind."),
        errno.EACCES: (
            f"no permission for port {port}, a privileged one",
            "Use a port from 1024 up, give the interpreter CAP_NET_BIND_SERVICE, or let the service manager open "
            "the socket (socket activation, LISTEN_FDS).",
        ),
        errno.EADDRNOTAVAIL: (
            "this machine has no such address",
            f"Use one of its own, 127.0.0.1:{port} for this machine only, or :{port} for all interfaces.",
        ),
        errno.EAFNOSUPPORT: ("this machine does not do this address family", "Change --bind."),
    }.get(number, (error.strerror or str(error), "Change --bind."))
    return ListenError(f"cannot listen on {text}: {cause}. {remedy}")
