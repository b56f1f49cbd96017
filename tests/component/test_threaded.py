"""What a blocking endpoint makes of its handler, without threads: the call, the errors, the socket's end."""

from __future__ import annotations

import logging
import socket
import socketserver
from contextlib import suppress

import pytest

from hybrid.connection.registry import Served
from hybrid.handlers.threaded import BlockingEndpoint
from tests.component.test_protocol import FakeDoor


def endpoint(handler: object) -> tuple[BlockingEndpoint, FakeDoor]:
    door = FakeDoor()
    return BlockingEndpoint(handler, "handle", door), door


def served(handler: object, said: bytes = b"hello") -> tuple[bytes, FakeDoor]:
    """Serve one connection with ``handler``; return what its client got, and what the door heard."""
    made, door = endpoint(handler)
    client, sock = socket.socketpair()
    with client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        connection = made.connection(sock)
        door.opened(connection)
        connection.serve()
        assert sock.fileno() == -1
        client.settimeout(20)
        heard = b""
        with suppress(ConnectionResetError):  # a handler that leaves something unread resets, as TCP does
            while data := client.recv(4096):
                heard += data
        return heard, door


def echo(sock: socket.socket) -> None:
    while data := sock.recv(4096):
        sock.sendall(data)


def test_handler_gets_the_socket_and_the_door_hears_once() -> None:
    """Served, counted out, closed."""
    heard, door = served(echo)
    assert heard == b"hello"
    assert door.events == ["opened", "closed"]


def test_error_is_logged_with_its_traceback_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the handler raises costs its connection."""

    def fail(sock: socket.socket) -> None:
        raise ZeroDivisionError("by design")

    _heard, door = served(fail)
    assert door.events == ["opened", "failed", "closed"]
    assert "ZeroDivisionError: by design" in caplog.text
    assert "Traceback" in caplog.text


def test_peer_that_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A reset is noted for who debugs, and not counted."""
    caplog.set_level(logging.DEBUG, "hybrid.error")

    def reset(sock: socket.socket) -> None:
        raise ConnectionResetError(104, "reset by peer")

    _heard, door = served(reset)
    assert door.events == ["opened", "closed"]
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


def test_coroutine_that_nobody_awaits_is_an_error_that_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """--interface threaded on a function that returns a coroutine."""

    async def talk(conn: object) -> None: ...

    _heard, door = served(lambda sock: talk(sock))
    assert door.events == ["opened", "failed", "closed"]
    assert "returned a coroutine. Write async def handle(conn)" in caplog.text


def test_handler_may_detach_or_close_its_socket() -> None:
    """What it has given away is left alone; what it has closed is closed."""
    kept: list[socket.socket] = []

    def give_away(sock: socket.socket) -> None:
        kept.append(socket.socket(fileno=sock.detach()))
        kept[0].sendall(b"later")
        kept[0].close()

    assert served(give_away)[0] == b"later"
    assert served(lambda sock: sock.close())[1].events == ["opened", "closed"]


class Upper(socketserver.StreamRequestHandler):
    """A request handler class as the standard library has it."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper() + repr(type(self.server).__name__).encode())


def test_request_handler_class_runs_setup_handle_and_finish() -> None:
    """It is made once per connection, with socket, address and a server to ask."""
    assert served(Upper)[0] == b"HELLO'RequestServer'"


def test_cancel_ends_the_stream_and_abort_cuts_it() -> None:
    """cancel: the handler reads the end and can still write; abort: it can do neither; both again: nothing."""
    made, _door = endpoint(echo)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname(), timeout=20) as client:
        sock, _ = listener.accept()
        connection: Served = made.connection(sock)
        connection.start_draining()
        connection.cancel()
        assert sock.recv(1) == b""
        sock.sendall(b"last words")
        assert client.recv(10) == b"last words"
        connection.abort()
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"more")
        assert client.recv(1) == b""
        sock.close()
        connection.cancel()
        connection.abort()
