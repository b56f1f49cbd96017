"""Blocking handlers that do what their client says, one word a line: the knobs for threads and processes."""

from __future__ import annotations

import ctypes
import http.server
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

Knob = Callable[[BinaryIO, str], None]


def knobs(sock: socket.socket) -> None:
    """Obey one line after another: a word, a space, an argument."""
    with sock.makefile("rwb", buffering=0) as stream:
        for line in iter(stream.readline, b""):
            word, _, argument = line.decode().rstrip("\n").partition(" ")
            KNOBS[word](stream, argument)  # type: ignore[arg-type]  # a SocketIO has what is used of a BinaryIO


def pid(stream: BinaryIO, argument: str) -> None:
    """Say which worker this is: with a child for each connection, the child's parent."""
    stream.write(b"%d\n" % (os.getppid() if argument == "parent" else os.getpid()))


def echo(stream: BinaryIO, argument: str) -> None:
    """Send the argument back."""
    stream.write(argument.encode() + b"\n")


def thread(stream: BinaryIO, argument: str) -> None:
    """Say which thread this is."""
    stream.write(b"%d\n" % threading.get_native_id())


def fail(stream: BinaryIO, argument: str) -> None:
    """Raise what nobody expects."""
    raise ZeroDivisionError(argument)


def raise_exit(stream: BinaryIO, argument: str) -> None:
    """Raise SystemExit in the handler."""
    sys.exit(int(argument))


def fork_and_return(stream: BinaryIO, argument: str) -> None:
    """Fork, and forget that the child leaves the handler, too; the parent says its pid."""
    pid = os.fork()
    if pid:
        stream.write(b"%d\n" % pid)
    raise EOFError("done")


def segfault(stream: BinaryIO, argument: str) -> None:
    """Read from where nothing is."""
    ctypes.string_at(0)


def hold(stream: BinaryIO, argument: str) -> None:
    """Wait until the peer, or a drain, ends the stream; say so."""
    stream.write(b"holding\n")
    while stream.read(1):
        pass
    stream.write(b"ended\n")


def stubborn(stream: BinaryIO, argument: str) -> None:
    """Wait for ever, whatever happens."""
    stream.write(b"holding\n")
    threading.Event().wait()


def sleep(stream: BinaryIO, argument: str) -> None:
    """Take a thread for so many seconds, and no CPU."""
    time.sleep(float(argument))
    stream.write(b"slept\n")


KNOBS: dict[str, Knob] = {
    "sleep": sleep,
    "pid": pid,
    "echo": echo,
    "thread": thread,
    "fail": fail,
    "raise-exit": raise_exit,
    "fork-and-return": fork_and_return,
    "segfault": segfault,
    "hold": hold,
    "stubborn": stubborn,
}


class Lines(socketserver.StreamRequestHandler):
    """The standard library's echo: one line after another."""

    def handle(self) -> None:
        """Echo until the end of the stream."""
        for line in self.rfile:
            self.wfile.write(line)


class Web(http.server.BaseHTTPRequestHandler):
    """The standard library's HTTP, as it is."""

    def do_GET(self) -> None:
        """Say where this is."""
        body = f"{self.path} {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""
