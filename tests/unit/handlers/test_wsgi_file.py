"""Files: what is left of one, and how it gets into a socket."""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from hybrid.handlers import wsgi_file
from hybrid.handlers.wsgi_file import FileWrapper, Span, send_file, span_of, wait_writable

CONTENT = bytes(range(256)) * 20_000


def wait(sock: socket.socket) -> None:
    """Wait for room."""
    assert wait_writable(sock, 5.0)


def sent(span: Span) -> bytes:
    """Return what comes out at the other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    got: list[bytes] = []
    counted: list[int] = []

    def receive() -> None:
        while data := theirs.recv(1 << 16):
            got.append(data)

    reader = threading.Thread(target=receive)
    reader.start()
    try:
        send_file(ours, b"head", span, wait, counted.append)
    finally:
        ours.close()
        reader.join(5)
        theirs.close()
    assert sum(counted) == len(b"".join(got)) - len(b"head")
    return b"".join(got)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of some MiB."""
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


def test_wrapper_iterates_and_closes() -> None:
    """In blocks of the size that was asked for; close() only where the object has one."""
    file = io.BytesIO(b"abcde")
    wrapper = FileWrapper(file, 2)
    assert list(wrapper) == [b"ab", b"cd", b"e"]
    wrapper.close()
    assert file.closed
    assert not hasattr(FileWrapper(object()), "close")


def test_span_of_a_file_begins_where_it_stands(path: Path, tmp_path: Path) -> None:
    """Also in a buffered one; what is no regular file has none."""
    with path.open("rb") as file:
        file.read(10)
        assert span_of(file) == (file.fileno(), 10, len(CONTENT) - 10)
        file.seek(len(CONTENT) + 1)
        assert span_of(file) is None
    assert span_of(file) is None and span_of(io.BytesIO(b"x")) is None and span_of(object()) is None
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe, open(writer, "wb"):
        assert span_of(pipe) is None


@pytest.mark.parametrize("number", [0, errno.EINVAL])
def test_file_is_sent_whole(path: Path, number: int) -> None:
    """By sendfile; by hand where the file system has none."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with path.open("rb") as file, patch.object(wsgi_file, "_sendfile", refuse if number else wsgi_file._sendfile):
        assert sent(Span(file.fileno(), 7, len(CONTENT) - 9)) == b"head" + CONTENT[7:-2]


def test_file_that_becomes_shorter_is_an_error(path: Path) -> None:
    """Its length was said already."""
    with path.open("rb") as file, pytest.raises(RuntimeError, match="3 bytes shorter"):
        sent(Span(file.fileno(), 0, len(CONTENT) + 3))


def test_socket_that_takes_nothing_is_waited_for() -> None:
    """For so long, and not at all once it is shut."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        while select.select([], [ours], [], 0)[1]:
            ours.send(bytes(65536))
        assert not wait_writable(ours, 0.01)
        ours.shutdown(socket.SHUT_RDWR)
        assert wait_writable(ours, 0)
