"""Real listening sockets with connections that wait: the meter counts them."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hybrid.meters.accept_queue import AcceptQueues, tcp_queue
from hybrid.meters.unix_diag import Queue, UnixDiag
from tests.support.eventually import eventually

LIMIT = 10

Listen = Callable[[str], socket.socket]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Close every socket that the test made."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def listen(stack: ExitStack, tmp_path: Path) -> Listen:
    """Return what makes a listening socket of a kind, with room for ten."""

    def make(kind: str) -> socket.socket:
        kinds: dict[str, tuple[socket.AddressFamily, socket.SocketKind, tuple[str, int] | str]] = {
            "v4": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "v6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            "file": (socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "socket")),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{uuid.uuid4()}"),
            "seqpacket": (socket.AF_UNIX, socket.SOCK_SEQPACKET, str(tmp_path / "packets")),
        }
        family, type_, address = kinds[kind]
        listener = stack.enter_context(socket.socket(family, type_))
        listener.bind(address)
        listener.listen(LIMIT)
        return listener

    return make


def connect(stack: ExitStack, listener: socket.socket, count: int) -> None:
    """Let so many clients wait; they are closed with the test."""
    for _ in range(count):
        client = stack.enter_context(socket.socket(listener.family, listener.type))
        client.settimeout(20)
        client.connect(listener.getsockname())


def channel(stack: ExitStack) -> socket.socket:
    """Return one end of a pair."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stack.enter_context(right)
    return left


def reads(meter: AcceptQueues, queue: Queue | None) -> None:
    """Wait until the meter says this: a handshake may take a moment."""

    def check() -> bool:
        assert meter.read() == queue
        return True

    eventually(check)


@pytest.mark.parametrize("kind", ["v4", "v6", "file", "abstract", "seqpacket"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_queue_is_who_waits(kind: str, count: int, listen: Listen, stack: ExitStack) -> None:
    """So many connected, so many wait; each that is accepted waits no more."""
    listener = listen(kind)
    meter = AcceptQueues([listener])
    stack.callback(meter.close)
    connect(stack, listener, count)
    reads(meter, Queue(count, LIMIT))
    for accepted in range(count):
        stack.enter_context(listener.accept()[0])
        reads(meter, Queue(count - accepted - 1, LIMIT))


def test_queues_of_all_listeners_are_added_up(listen: Listen, stack: ExitStack) -> None:
    """Lengths and limits, of TCP and unix sockets together."""
    listeners = [listen("v4"), listen("v6"), listen("abstract")]
    meter = AcceptQueues(listeners)
    stack.callback(meter.close)
    for count, listener in enumerate(listeners, 1):
        connect(stack, listener, count)
    reads(meter, Queue(1 + 2 + 3, 3 * LIMIT))


def test_limit_is_what_listen_was_called_with_last(listen: Listen, stack: ExitStack) -> None:
    """Whoever holds the socket and calls listen(2) again changes it for all; the meter shows it."""
    for kind in ("v4", "abstract"):
        listener = listen(kind)
        meter = AcceptQueues([listener])
        stack.callback(meter.close)
        with listener.dup() as other:
            other.listen(3)
        assert meter.read() == Queue(0, 3)


@pytest.mark.parametrize("other", ["channel", "udp", "bound", "connected", "closed"])
def test_one_that_does_not_listen_makes_the_sum_unknown(other: str, listen: Listen, stack: ExitStack) -> None:
    """A worker that is passed its connections has a channel; no figure is made of that, nor of what else there is."""
    listener = listen("v4")
    connect(stack, listener, 1)
    sockets = {
        "channel": lambda: channel(stack),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "bound": lambda: socket.socket(socket.AF_UNIX),
        "connected": lambda: listener.accept()[0],
        "closed": lambda: listener.dup(),
    }
    sock = stack.enter_context(sockets[other]())
    if other == "closed":
        sock.close()
    meter = AcceptQueues([listener, sock])
    stack.callback(meter.close)
    assert meter.read() is None
    reads(AcceptQueues([listener]), Queue(0 if other == "connected" else 1, LIMIT))


def test_no_listener_is_unknown() -> None:
    """An empty sum would look like an empty queue."""
    assert AcceptQueues([]).read() is None


def test_closed_listener_is_unknown(listen: Listen) -> None:
    """Nothing is raised, and the descriptor's next owner is not asked."""
    for kind, ask in (("v4", tcp_queue), ("abstract", UnixDiag().queue)):
        listener = listen(kind)
        listener.close()
        assert ask(listener) is None


def test_netlink_socket_is_opened_once_and_closed(listen: Listen) -> None:
    """One descriptor while unix sockets are asked about, none for TCP, none afterwards."""
    tcp, unix = listen("v4"), listen("abstract")
    before = descriptors()
    meter = AcceptQueues([tcp])
    assert meter.read() and descriptors() == before
    meter = AcceptQueues([tcp, unix])
    assert meter.read() and meter.read() and descriptors() == before + 1
    meter.close()
    meter.close()
    assert descriptors() == before


def descriptors() -> int:
    """Return how many are open."""
    return len(os.listdir("/proc/self/fd"))
