"""Which sockets of an earlier run are served again, and that the others listen no more."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hybrid.ground.errors import ListenError
from hybrid.shared.handed import Handed, stored_name
from hybrid.shared.listeners import Listener, open_listeners
from hybrid.shared.stored import drop_unwanted


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def earlier(stack: ExitStack, bind: str = "127.0.0.1:0", *, share_port: bool = False) -> Listener:
    """Return a listener that the manager keeps a copy of."""
    (made,) = open_listeners([bind], 16, 0o600, share_port=share_port)
    stack.callback(made.socket.close)
    return made


def handed(listener: Listener) -> Handed:
    """Return it as the next start gets it: a descriptor of its own."""
    return Handed(os.dup(listener.fileno()), stored_name(listener.address, listener.file))


def listens(listener: Listener) -> bool:
    return bool(listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def opened(stack: ExitStack, binds: list[str], inherited: tuple[Handed, ...], mode: int = 0o600) -> list[Listener]:
    found = open_listeners(binds, 16, mode, inherited)
    for each in found:
        stack.callback(each.close)
    return found


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "unix:{}/a.sock", "unix:@hybrid-stored-{}"])
def test_socket_is_served_again_at_its_address(bind: str, stack: ExitStack, tmp_path: Path) -> None:
    """The very socket, with those who wait in its queue; its file is left to whoever keeps it."""
    old = earlier(stack, bind.format(tmp_path))
    kept, dropped = drop_unwanted([handed(old)], [old.address], share_port=False)
    (new,) = opened(stack, [old.address], kept)
    assert not dropped and new.adopted and new.file is None and new.address == old.address
    assert os.fstat(new.fileno()).st_ino == os.fstat(old.fileno()).st_ino


def test_name_that_means_several_addresses(stack: ExitStack) -> None:
    """``:PORT`` takes what is there and binds the rest."""
    old = earlier(stack, "0.0.0.0:0")
    port = old.address.rpartition(":")[2]
    kept, dropped = drop_unwanted([handed(old)], [f":{port}"], share_port=False)
    found = opened(stack, [f":{port}"], kept)
    assert [(each.address, each.adopted) for each in found] == [(f"0.0.0.0:{port}", True), (f"[::]:{port}", False)]
    assert not dropped


@pytest.mark.parametrize("bind", ["127.0.0.1:1", "unix:/run/x", "fd://9", "0.0.0.0:{port}", "127.0.0.1:0"])
def test_socket_at_another_address_ends(bind: str, stack: ExitStack) -> None:
    """For everybody who holds it: the manager does, too."""
    old = earlier(stack)
    item = handed(old)
    kept, (dropped,) = drop_unwanted([item], [bind.format(port=old.address[10:])], share_port=False)
    assert not kept and not listens(old)
    assert (dropped.name, dropped.address) == (item.name, old.address)
    with pytest.raises(OSError):
        os.fstat(item.fd)


def test_address_is_free_at_once(stack: ExitStack) -> None:
    """Though the manager still has the old socket."""
    old = earlier(stack, "0.0.0.0:0")
    address = "127.0.0.1:" + old.address.rpartition(":")[2]
    drop_unwanted([handed(old)], [address], share_port=False)
    assert opened(stack, [address], ())[0].address == address


def test_second_socket_at_an_address_ends(stack: ExitStack) -> None:
    """With SO_REUSEPORT there can be two, and nobody would accept on the second."""
    first = earlier(stack, share_port=True)
    second = socket.socket()
    stack.callback(second.close)
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    second.bind(first.socket.getsockname())
    second.listen(1)
    items = [handed(first), Handed(os.dup(second.fileno()), "hybrid/again")]
    kept, dropped = drop_unwanted(items, [first.address], share_port=False)
    stack.callback(os.close, kept[0].fd)
    assert (len(kept), len(dropped)) == (1, 1) and listens(first)


def test_shared_ports_take_none(stack: ExitStack) -> None:
    """``--accept reuseport`` opens one for each worker."""
    old = earlier(stack)
    kept, dropped = drop_unwanted([handed(old)], [old.address], share_port=True)
    assert not kept and len(dropped) == 1 and not listens(old)
    assert opened(stack, [old.address], ())


def test_what_the_manager_opened_is_left_alone(stack: ExitStack) -> None:
    """It is served, whatever is bound."""
    own = Handed(earlier(stack).fileno(), "web")
    assert drop_unwanted([own], ["127.0.0.1:1"], share_port=False) == ((own,), ())


@pytest.mark.parametrize("gone", ["removed", "replaced"])
def test_unix_socket_that_nobody_can_reach_ends(gone: str, stack: ExitStack, tmp_path: Path) -> None:
    """Its file is gone, or leads to another."""
    path = tmp_path / "a.sock"
    old = earlier(stack, f"unix:{path}")
    path.unlink()
    if gone == "replaced":
        path.touch()
    kept, (dropped,) = drop_unwanted([handed(old)], [old.address], share_port=False)
    assert not kept and "its socket file" in dropped.why


def test_unix_socket_gets_the_mode_of_this_start(stack: ExitStack, tmp_path: Path) -> None:
    """``--uds-mode`` may have changed since."""
    old = earlier(stack, f"unix:{tmp_path}/a.sock")
    kept, _ = drop_unwanted([handed(old)], [old.address], share_port=False)
    opened(stack, [old.address], kept, mode=0o640)
    assert (tmp_path / "a.sock").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", ["file", "closed", "not listening"])
def test_what_is_no_listening_socket_is_closed(kind: str, stack: ExitStack, tmp_path: Path) -> None:
    """Whatever bears our name."""
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR) if kind == "file" else socket.socket().detach()
    if kind == "closed":
        os.close(fd)
    kept, (dropped,) = drop_unwanted([Handed(fd, "hybrid/x")], ["127.0.0.1:1"], share_port=False)
    assert not kept and not dropped.address and dropped.why
    with pytest.raises(OSError):
        os.fstat(fd)


def test_failure_leaves_what_was_taken_open(stack: ExitStack) -> None:
    """All or nothing: the next attempt finds it."""
    old, taken = earlier(stack), earlier(stack)
    item = handed(old)
    stack.callback(os.close, item.fd)
    with pytest.raises(ListenError, match="address in use"):
        open_listeners([old.address, taken.address], 16, 0o600, [item])
    assert listens(old) and os.fstat(item.fd)


def test_socket_of_a_unit_is_taken_for_a_bind_and_not_served_twice(stack: ExitStack) -> None:
    """``--bind`` repeats what the unit says."""
    unit = earlier(stack)
    fd = os.dup(unit.fileno())
    found = opened(stack, [unit.address, f"fd://{fd}"], (Handed(fd, "web"),))
    assert [(each.fileno(), each.name) for each in found] == [(fd, "web")]


def test_name_of_an_unfit_socket_is_in_the_message() -> None:
    """``FileDescriptorName=`` leads to the unit."""
    with socket.socket() as sock, pytest.raises(ListenError, match=r"fd://\d+ \(web\): a socket that is not listening"):
        open_listeners([], 16, 0o600, [Handed(sock.fileno(), "web")])
