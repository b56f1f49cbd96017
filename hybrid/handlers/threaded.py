"""Blocking handlers: ``def handle(sock)``, and the request handler classes of the standard library's socketserver.

Each connection has a thread (or a process) to itself while it is served, and a plain blocking socket. What a drain can
do to it: nothing at first; then the handler is shown the end of the stream, as if its peer had finished sending; then
the connection is cut. A thread cannot be cancelled: one that does not read its socket ends with the worker.

Source: UNP ch. 30, the prethreaded and the concurrent servers; socketserver.BaseServer, finish_request.
"""

from __future__ import annotations

import inspect
import socket
import struct
from collections.abc import Callable
from typing import Any

from hybrid.connection.addresses import show
from hybrid.connection.failures import is_disconnect, log_disconnect, log_failure
from hybrid.connection.registry import Door

BlockingHandler = Callable[[socket.socket], object]

_CUT = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: close(2) resets."""


class BlockingEndpoint:
    """A blocking handler, in one worker: what every connection that it serves shares.

    ``door``: one that threads may use.
    """

    def __init__(self, handler: object, name: str, door: Door) -> None:
        self.name = name
        self.door = door
        self.handle = _as_function(handler)

    def connection(self, sock: socket.socket) -> BlockingConnection:
        """Return the connection on an accepted socket, which belongs to it from now on. Raises: nothing."""
        return BlockingConnection(self, sock)

    def run(self, sock: socket.socket) -> bool:
        """Call the handler, close the socket; return whether the handler did not lose the connection.

        Runs in: worker, in the thread that serves this connection; or its child, with ``--accept fork``.
        Raises: nothing but SystemExit and the like, which end the thread or the child.
        """
        try:
            result = self.handle(sock)
            if result is not None and inspect.iscoroutine(result):
                result.close()
                raise TypeError(
                    f"{self.name} returned a coroutine. Write async def {self.name}(conn), and leave out "
                    "--interface threaded."
                )
        except Exception as error:  # noqa: BLE001  (the user's code)
            if is_disconnect(error):
                log_disconnect(self.name, _peer(sock), error)
                return True
            log_failure(self.name, _peer(sock), error)
            return False
        finally:
            try:
                sock.close()
            except OSError:
                pass  # ECONNRESET: the peer left first
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
            if not endpoint.run(self.sock):
                endpoint.door.failed(self)
        except BaseException:
            endpoint.door.failed(self)
            raise
        finally:
            endpoint.door.closed(self)

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
            self.sock.shutdown(how)
        except OSError:
            pass  # closed already, or never connected for good


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
