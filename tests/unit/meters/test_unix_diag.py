"""Answers of a kernel, and what is no answer. The real one: tests/component/test_accept_queue.py."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

import pytest

from hybrid.meters.unix_diag import Netlink, Queue, UnixDiag, parse

INODE = 4711
LISTEN, ESTABLISHED = 10, 1
RQLEN = struct.pack("=HHII", 12, 4, 3, 10)
SHUTDOWN = struct.pack("=HHB3x", 5, 6, 0)  # five bytes, and padding up to eight


def answer(
    attributes: bytes = RQLEN, kind: int = 20, state: int = LISTEN, inode: int = INODE, sequence: int = 1
) -> bytes:
    """Return a datagram of the kernel's."""
    body = struct.pack("=BBBBIII", socket.AF_UNIX, socket.SOCK_STREAM, state, 0, inode, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 99) + body


def test_queue_is_found_among_attributes() -> None:
    """First, or after one whose length is no multiple of four."""
    assert parse(answer(), 1, INODE) == Queue(3, 10)
    assert parse(answer(SHUTDOWN + RQLEN), 1, INODE) == Queue(3, 10)


@pytest.mark.parametrize(
    "other",
    [
        answer(kind=2),
        answer(state=ESTABLISHED),
        answer(inode=INODE + 1),
        answer(sequence=2),
        answer(attributes=b""),
        answer(attributes=SHUTDOWN),
        answer(attributes=bytes(4) + RQLEN[:2]),
    ],
    ids=["error", "connected", "another-socket", "another-question", "nothing", "no-queue", "cut"],
)
def test_answer_that_does_not_tell_is_unknown(other: bytes) -> None:
    """No figure is made of it, and no loop without end of an attribute of length zero."""
    try:
        assert parse(other, 1, INODE) is None
    except struct.error:
        assert other.endswith(RQLEN[:2])


class Kernel:
    """A netlink socket whose other end says one thing, or nothing."""

    def __init__(self, says: bytes | None) -> None:
        self._says = says
        self.closed = False

    def send(self, data: bytes, /) -> int:
        """Take the question."""
        return len(data)

    def recv(self, count: int, /) -> bytes:
        """Give the answer."""
        if self._says is None:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        return self._says

    def close(self) -> None:
        """Remember."""
        self.closed = True


def ask(connect: Callable[[], Netlink]) -> Queue | None:
    """Ask about something that has a descriptor."""
    with socket.socket(socket.AF_UNIX) as listener:
        return UnixDiag(connect).queue(listener)


@pytest.mark.parametrize("length", [0, 3, 15, 20, 33])
def test_cut_answer_is_unknown(length: int) -> None:
    """Whatever comes, nothing is raised; the next question is asked on a new socket."""
    kernel = Kernel(answer()[:length])
    assert ask(lambda: kernel) is None
    assert kernel.closed


@pytest.mark.parametrize("number", [errno.EPROTONOSUPPORT, errno.EPERM, errno.EMFILE, errno.EAFNOSUPPORT])
def test_no_netlink_is_unknown(number: int) -> None:
    """A sandbox without it, or no descriptor left."""

    def refuse() -> Netlink:
        raise OSError(number, "refused")

    assert ask(refuse) is None


def test_kernel_that_does_not_answer_is_unknown() -> None:
    """The loop does not wait for it."""
    kernel = Kernel(None)
    assert ask(lambda: kernel) is None
    assert kernel.closed
