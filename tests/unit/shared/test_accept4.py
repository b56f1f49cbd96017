"""A descriptor off a listener's queue, as it is wanted, and what accept4(2) may say instead."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator

import pytest

from hybrid.shared import accept4 as module
from hybrid.shared.accept4 import EXHAUSTED, OF_ONE_CONNECTION, accept4


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_connection_does_not_block_and_is_not_inherited(listener: socket.socket) -> None:
    """Both from the first moment on."""
    with socket.create_connection(listener.getsockname()) as client:
        fd = accept4(listener.fileno())
        with socket.socket(fileno=fd) as accepted:
            assert accepted.getpeername() == client.getsockname()
            assert not os.get_blocking(fd) and not os.get_inheritable(fd)


def test_empty_queue_is_no_error(listener: socket.socket) -> None:
    """-1, and no waiting."""
    assert accept4(listener.fileno()) == -1


def test_broken_listener_is_an_error(listener: socket.socket) -> None:
    """A descriptor that is none, or does not listen."""
    with socket.socket() as other, pytest.raises(OSError) as caught:
        accept4(other.fileno())
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        accept4(other.fileno())
    assert caught.value.errno == errno.EBADF


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_arguments: object) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(module, "_accept4", fail)


@pytest.mark.parametrize("number", sorted(OF_ONE_CONNECTION | {errno.EAGAIN, errno.EINTR}))
def test_error_of_one_connection_is_passed_over(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The client was gone, the network was down: the listener is as well as before."""
    refuse(monkeypatch, number)
    assert accept4(0) == -1


@pytest.mark.parametrize("number", sorted(EXHAUSTED))
def test_exhaustion_is_told(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The connection is still in the queue: whoever accepts has to wait, not to go on."""
    refuse(monkeypatch, number)
    with pytest.raises(OSError) as caught:
        accept4(0)
    assert caught.value.errno == number
