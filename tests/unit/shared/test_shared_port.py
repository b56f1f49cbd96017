"""Listening sockets on one port, one for each worker: ``--accept reuseport``."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import ListenError, UsageError
from hybrid.shared import listeners
from hybrid.shared.bind_grammar import check_shared_port, parse
from hybrid.shared.handed import Handed
from hybrid.shared.listeners import Listener, another_listener, open_listeners
from tests.unit.shared.test_listeners import needs_ipv6


@pytest.fixture
def first() -> Iterator[Listener]:
    """The first socket on a port that the kernel chose."""
    (listener,) = open_listeners(["127.0.0.1:0"], 64, 0o666, share_port=True)
    yield listener
    listener.close()


def test_more_sockets_share_the_port_and_what_comes_in(first: Listener) -> None:
    """Port 0 was resolved once: every further socket has the same address, and gets a part of the clients."""
    with another_listener(first, 64) as second, another_listener(first, 64) as third:
        own = (first.socket, second, third)
        assert {sock.getsockname() for sock in own} == {first.socket.getsockname()}
        clients = [socket.create_connection(first.socket.getsockname()) for _ in range(60)]
        shares = [accept_all(sock) for sock in own]
        for client in clients:
            client.close()
    assert sum(shares) == 60
    assert all(shares), shares


def accept_all(listener: socket.socket) -> int:
    """Accept what waits; return how many there were."""
    count = 0
    try:
        while True:
            listener.accept()[0].close()
            count += 1
    except BlockingIOError:
        return count


def test_every_socket_is_like_the_first(first: Listener) -> None:
    """Non-blocking, close-on-exec, listening, reusable after a restart."""
    with another_listener(first, 64) as second:
        for sock in (first.socket, second):
            assert sock.getblocking() is False
            assert sock.get_inheritable() is False
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_ACCEPTCONN):
                assert sock.getsockopt(socket.SOL_SOCKET, option) == 1


@needs_ipv6
def test_ipv6_addresses_are_shared_too() -> None:
    """The family, and IPv6 only, as for the first."""
    (first,) = open_listeners(["[::1]:0"], 16, 0o666, share_port=True)
    with first.socket, another_listener(first, 16) as second:
        assert second.getsockname() == first.socket.getsockname()
        assert second.family == socket.AF_INET6
        assert second.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


@pytest.mark.parametrize("share_port", [True, False])
def test_second_server_is_refused(first: Listener, share_port: bool) -> None:
    """SO_REUSEPORT lets in whoever sets it, too; the server that comes second must not be let in silently."""
    with another_listener(first, 16):
        address = f"{first.address}"
        with pytest.raises(ListenError) as caught:
            open_listeners([address], 16, 0o666, share_port=share_port)
    assert str(caught.value) == f"cannot listen on {address}: address in use. Stop the other server or change --bind."


def test_port_taken_by_a_server_that_does_not_share_is_refused() -> None:
    """The usual error, the usual words."""
    (other,) = open_listeners(["127.0.0.1:0"], 16, 0o666)
    with other.socket, pytest.raises(ListenError, match="address in use"):
        open_listeners([other.address], 16, 0o666, share_port=True)


def test_free_port_that_is_taken_between_probe_and_bind_is_chosen_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 0 means any: somebody who is quicker costs another try, and no descriptor."""
    real, shared = listeners._bind_tcp, list[int]()

    def taken_once(target: listeners.Target, port: int, share_port: bool = False) -> socket.socket:
        if share_port:
            shared.append(port)
            if len(shared) == 1:
                raise OSError(errno.EADDRINUSE, "taken")
        return real(target, port, share_port)

    monkeypatch.setattr(listeners, "_bind_tcp", taken_once)
    before = set(os.listdir("/proc/self/fd"))
    (listener,) = open_listeners(["127.0.0.1:0"], 16, 0o666, share_port=True)
    assert len(shared) == 2
    assert parse(listener.address).port == shared[1]
    assert len(set(os.listdir("/proc/self/fd")) - before) == 1
    listener.close()


def test_socket_that_cannot_be_had_is_a_clear_error(first: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and cause, for the line that says why no worker is started."""

    def fail(*_arguments: object, **_more: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(listeners, "_bind_tcp", fail)
    with pytest.raises(ListenError, match=f"cannot listen on {first.address}: Too many open files"):
        another_listener(first, 16)


def test_unix_socket_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    """Nothing to share: the message says what to write instead."""
    path = tmp_path / "app.sock"
    with pytest.raises(UsageError, match=r"unix:.*: only a TCP port.*Bind HOST:PORT, or leave out --accept\."):
        open_listeners(["127.0.0.1:0", f"unix:{path}"], 16, 0o666, share_port=True)
    assert not path.exists()


def test_socket_of_a_service_manager_is_refused() -> None:
    """It is open already, once; it stays open."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        handed = [Handed(theirs.fileno())]
        for binds, inherited in (((f"fd://{theirs.fileno()}",), []), (("127.0.0.1:0",), handed)):
            with pytest.raises(UsageError, match=f"fd://{theirs.fileno()} together with --accept reuseport"):
                open_listeners(binds, 16, 0o666, inherited, share_port=True)
        assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_tcp_can_be_shared_in_every_form() -> None:
    """Names, IPv6, all interfaces."""
    check_shared_port(("localhost:80", "[::1]:80", ":80", "*:0"))
