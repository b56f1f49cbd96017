"""Blocking handlers: ``def handle(sock)``, and the request handler classes of the standard library's socketserver.

Each connection has a thread (or a process) to itself while it is served, and a plain blocking socket. What a drain can
do to it: nothing at first; then the handler is shown the end of the stream, as if its peer had finished sending; then
the connection is cut. A thread cannot be cancelled: one that does not read its socket ends with the worker.

With TLS the thread shakes hands first, within the time for that, and the handler gets an ``ssl.SSLSocket``.

Source: UNP ch. 30, the prethreaded and the concurrent servers; socketserver.BaseServer, finish_request.
"""

from __future__ import annotations

import inspect
import select
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from hybrid.connection.addresses import show
from hybrid.connection.failures import is_disconnect, log_disconnect, log_failure, log_no_tls
from hybrid.connection.registry import Door
from hybrid.shared.tls_context import ServerTls

BlockingHandler = Callable[[socket.socket], object]

_CUT = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: close(2) resets."""
_GOODBYE_S = 1.0
"""For a peer that takes nothing."""


class BlockingEndpoint:
    """A blocking handler, in one worker: what every connection that it serves shares.

    ``door``: one that threads may use. ``tls``: what the connections speak; None: what the handler says.
    """

    def __init__(self, handler: object, name: str, door: Door, tls: ServerTls | None = None) -> None:
        self.name = name
        self.door = door
        self.handle = _as_function(handler)
        self.tls = tls

    def connection(self, sock: socket.socket) -> BlockingConnection:
        """Return the connection on an accepted socket, which belongs to it from now on. Raises: nothing."""
        return BlockingConnection(self, sock)

    def run(self, connection: BlockingConnection) -> bool:
        """Shake hands, if it is TLS; call the handler; close. Return whether the handler did not lose the connection.

        Runs in: worker, in the thread that serves this connection; or its child, with ``--accept fork``.
        Raises: nothing but SystemExit and the like, which end the thread or the child.
        """
        try:
            if self.tls is not None and not connection.shake_hands(self.tls):
                return True
            result = self.handle(connection.sock)
            if result is not None and inspect.iscoroutine(result):
                result.close()
                raise TypeError(
                    f"{self.name} returned a coroutine. Write async def {self.name}(conn), and leave out "
                    "--interface threaded."
                )
        except Exception as error:  # noqa: BLE001  (the user's code)
            if is_disconnect(error) or (self.tls is not None and isinstance(error, ssl.SSLError)):
                log_disconnect(self.name, _peer(connection.sock), error)
                return True
            log_failure(self.name, _peer(connection.sock), error)
            return False
        finally:
            connection.close()
        return True


class BlockingConnection:
    """A connection that a thread serves: what the drain sees of it.

    Closes: the socket, when the handler returns. The drain's calls come from the loop's thread.
    """

    __slots__ = ("_endpoint", "sock")

    def __init__(self, endpoint: BlockingEndpoint, sock: socket.socket) -> None:
        self._endpoint = endpoint
        self.sock = sock

    def serve(self) -> None:
        """Run the handler to its end. Runs in: worker, in a thread of its own while it lasts."""
        endpoint = self._endpoint
        try:
            if not endpoint.run(self):
                endpoint.door.failed(self)
        except BaseException:
            endpoint.door.failed(self)
            raise
        finally:
            endpoint.door.closed(self)

    def shake_hands(self, tls: ServerTls) -> bool:
        """Make a TLS socket of the socket; return whether that worked. Runs in: as :meth:`serve`."""
        peer = _peer(self.sock)
        try:
            self.sock.getpeername()  # or CPython before 3.13 leaves the socket of a peer that has reset unclosed
            self.sock.settimeout(tls.handshake_s)  # for the handshake as a whole, as ssl counts it
            # The socket gives its descriptor away: what the drain does to it from now on, it does to the new one.
            self.sock = secure = tls.context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
            secure.do_handshake()
            secure.settimeout(None)
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
            log_no_tls(peer, error)
            return False
        return True

    def close(self) -> None:
        """Close the socket, with a word to the peer if it is TLS. Runs in: as :meth:`serve`."""
        try:
            if isinstance(self.sock, ssl.SSLSocket):
                _say_goodbye(self.sock)
            self.sock.close()
        except OSError:
            pass  # ECONNRESET: the peer left first

    def start_draining(self) -> None:
        """Do nothing: nobody can be told."""

    def cancel(self) -> None:
        """Show the handler the end of the stream: what the peer sends from now on is not read."""
        self._shut(socket.SHUT_RD)

    def abort(self) -> None:
        """Cut the connection: whoever blocks on it is woken and raises; what is unsent is lost."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)
        except OSError:
            pass  # closed already
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            # Not SSLSocket's own: that makes a plain socket of it, on which a handler would go on in the clear.
            socket.socket.shutdown(self.sock, how)
        except OSError:
            pass  # closed already, or never connected for good


def _say_goodbye(sock: ssl.SSLSocket) -> None:
    """Send close_notify without waiting for the peer's; for room to send it in, for a moment."""
    try:
        sock.settimeout(0)
        try:
            sock.unwrap()
        except ssl.SSLWantWriteError:
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLOUT)
            poll.poll(_GOODBYE_S * 1000)
            sock.unwrap()
    except (OSError, ValueError):
        pass  # it is out, and the peer's is not in; or nobody is there, or the handler has closed it


def is_request_handler(obj: object) -> bool:
    """Return whether ``obj`` is a request handler class of socketserver's."""
    return _inherits(obj, "BaseRequestHandler")


class RequestServer:
    """What a socketserver request handler finds as ``self.server``: the address, and its own class."""

    def __init__(self, handler_class: type, address: Any) -> None:
        self.RequestHandlerClass = handler_class
        self.server_address = address
        host, port = address[:2] if isinstance(address, tuple) else (str(address), 0)
        self.server_name, self.server_port = host, port


def _as_function(handler: Any) -> BlockingHandler:
    """Return what is called with the socket alone; socketserver classes do all their work when they are made."""
    if not is_request_handler(handler):
        function: BlockingHandler = handler
        return function

    def handle(sock: socket.socket) -> None:
        try:
            address = sock.getpeername()
        except OSError:
            address = ("", 0)  # gone already: the class finds out when it reads
        handler(sock, address, RequestServer(handler, sock.getsockname()))

    return handle


def _peer(sock: socket.socket) -> str:
    try:
        name = sock.getpeername()
    except OSError:
        return "an unknown peer"
    if isinstance(name, tuple):
        return show((str(name[0]), int(name[1])))
    return show(name.decode(errors="surrogateescape") if isinstance(name, bytes) else str(name))


def takes_datagrams(obj: object) -> bool:
    """Return whether a request handler class is made for datagrams, whose request is no socket."""
    return _inherits(obj, "DatagramRequestHandler")


def _inherits(obj: object, name: str) -> bool:
    """Return whether ``obj`` is a class below socketserver's of that name; the module may be absent."""
    return isinstance(obj, type) and any(
        each.__module__ == "socketserver" and each.__name__ == name for each in obj.__mro__
    )
