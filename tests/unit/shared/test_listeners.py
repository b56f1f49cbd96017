"""Opening listeners: TCP, adopted, abstract, all or nothing.

The grammar of --bind: test_bind_grammar.py. Socket files: test_socket_file.py.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.ground.errors import ListenError, UsageError
from hybrid.shared import listeners
from hybrid.shared.bind_grammar import parse
from hybrid.shared.handed import Handed
from hybrid.shared.listeners import Listener, open_listeners
from tests.support.forked import NOBODY, forked

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


class Opened:
    """Opens listeners and closes them when the test ends."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def __call__(self, *binds: str, inherited: tuple[int, ...] = (), mode: int = 0o666) -> list[Listener]:
        new = open_listeners(binds, 16, mode, [Handed(fd) for fd in inherited])
        self.listeners += new
        return new


@pytest.fixture
def opened() -> Iterator[Opened]:
    opener = Opened()
    yield opener
    for listener in opener.listeners:
        listener.close()


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def answers(family: int, address: tuple[str, int] | str) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        return client.connect_ex(address) == 0


# ── TCP ──


def test_port_zero_is_reported_as_the_real_one(opened: Opened) -> None:
    """The reported address can be connected to, and given to --bind as it is."""
    (listener,) = opened("127.0.0.1:0")
    reported = parse(listener.address)
    assert reported.port != 0
    assert answers(socket.AF_INET, (reported.host, reported.port))


@needs_ipv6
def test_ipv6_listener_takes_ipv6_only(opened: Opened) -> None:
    """An IPv6 bind leaves the IPv4 port of the same number free, and is reported in brackets."""
    (six,) = opened("[::1]:0")
    port = six.socket.getsockname()[1]
    assert six.address == f"[::1]:{port}"
    assert six.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_sockets_are_ready_for_a_loop_and_not_for_children(opened: Opened) -> None:
    """Non-blocking, close-on-exec, reusable after a restart, and never shared by SO_REUSEPORT."""
    (listener,) = opened("127.0.0.1:0")
    assert listener.socket.getblocking() is False
    assert listener.socket.get_inheritable() is False
    assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert listener.fileno() == listener.socket.fileno()


def test_all_interfaces_are_two_sockets_on_one_port(opened: Opened) -> None:
    """``:0`` gives 0.0.0.0 and, where the machine has IPv6, [::], with the same free port."""
    found = opened(":0")
    port = found[0].socket.getsockname()[1]
    expected = [f"0.0.0.0:{port}", f"[::]:{port}"]
    assert [listener.address for listener in found] == expected[: 2 if has_ipv6() else 1]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def fake(_host: bytes, port: int, **_more: object) -> list[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", fake)


def test_every_distinct_address_of_a_name_is_bound(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with several addresses answers on all of them, on one port; a repeated address is bound once."""
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.1")
    found = opened("name:0")
    port = found[0].socket.getsockname()[1]
    assert [listener.address for listener in found] == [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]


def test_address_that_the_machine_lacks_is_skipped(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost with a ::1 that does not exist (IPv6 switched off) still answers on 127.0.0.1."""
    resolve_to(monkeypatch, "203.0.113.7", "127.0.0.1")
    assert [listener.address.partition(":")[0] for listener in opened("name:0")] == ["127.0.0.1"]


def test_name_without_an_address_of_ours_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When none of a name's addresses is this machine's, the message says so."""
    resolve_to(monkeypatch, "203.0.113.7", "203.0.113.8")
    with pytest.raises(ListenError, match=r"203\.0\.113\.8:0: this machine has no such address\. Use one of its own"):
        open_listeners(["name:0"], 16, 0o666)


def test_port_zero_tries_another_when_the_second_address_has_it_taken(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One free port for all addresses is found although the first try collides."""
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    real, tries = listeners._bind_tcp, list[str]()

    def collide_once(target: listeners.Target, port: int, share_port: bool) -> socket.socket:
        tries.append(target[1])
        if tries == ["127.0.0.1", "127.0.0.2"]:
            raise OSError(errno.EADDRINUSE, "taken")
        return real(target, port, share_port)

    monkeypatch.setattr(listeners, "_bind_tcp", collide_once)
    before = open_descriptors()
    assert len(opened("name:0")) == 2
    assert len(tries) == 4
    assert len(open_descriptors() - before) == 2


def test_second_server_on_a_port_is_a_clear_error(opened: Opened) -> None:
    """The message names the address and the remedy."""
    (listener,) = opened("127.0.0.1:0")
    with pytest.raises(ListenError) as caught:
        open_listeners([listener.address, "127.0.0.1:0"], 16, 0o666)
    assert str(caught.value) == (
        f"cannot listen on {listener.address}: address in use. Stop the other server or change --bind."
    )


def test_port_that_is_bound_but_not_yet_listening_is_in_use() -> None:
    """Two servers that start in the same moment both pass bind(2); the second one fails at listen(2), as clearly."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rival.bind(("127.0.0.1", 0))
        (ours,) = open_listeners([f"127.0.0.1:{rival.getsockname()[1]}"], 16, 0o666)
        with pytest.raises(OSError):
            rival.listen(1)
        ours.close()


def test_same_bind_twice_is_named_as_such(opened: Opened) -> None:
    """A bind that collides with our own is not blamed on another server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        text = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UsageError, match="given twice"):
        open_listeners([text, text], 16, 0o666)
    assert opened(text)[0].address == text


def test_unknown_name_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve fails with the name and the resolver's words."""

    def fail(*_arguments: object, **_more: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ListenError, match=r"no-such:80: the name does not resolve \(Name or service not known\)"):
        open_listeners(["no-such:80"], 16, 0o666)


@pytest.mark.parametrize("host", ["a" * 70, "ä" * 70, "300.1.1.1.1"])
def test_name_that_cannot_be_one_is_a_clear_error(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that are too long, and numbers that are no address, do not raise anything but our error."""

    def fail(*_arguments: object, **_more: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ListenError, match="does not resolve"):
        open_listeners([f"{host}:80"], 16, 0o666)


@pytest.mark.root
@needs_root
def test_privileged_port_names_the_ways_out() -> None:
    """Without the right to bind a low port, the message offers a higher port, the capability and socket activation."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("this machine has no privileged ports")

    def refused() -> str:
        try:
            open_listeners(["127.0.0.1:81"], 16, 0o666)
        except ListenError as error:
            return str(error)
        return "it was allowed"

    said = forked(refused, uid=NOBODY)
    assert said.startswith(
        "cannot listen on 127.0.0.1:81: no permission for port 81, a privileged one. Use a port from"
    )
    assert "CAP_NET_BIND_SERVICE" in said and "LISTEN_FDS" in said


# ── adopted descriptors ──


def listening(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    sock.listen(8)
    return sock


def test_listening_descriptor_is_adopted(opened: Opened) -> None:
    """fd://N takes over the socket: same descriptor, non-blocking, close-on-exec, its address reported."""
    theirs = listening()
    host, port = theirs.getsockname()
    theirs.set_inheritable(True)
    fd = theirs.detach()
    (listener,) = opened(f"fd://{fd}")
    assert listener.adopted and listener.fileno() == fd
    assert listener.address == f"{host}:{port}"
    assert listener.socket.getblocking() is False
    assert listener.socket.get_inheritable() is False


def test_inherited_sockets_are_adopted_after_the_binds_and_only_once(opened: Opened) -> None:
    """LISTEN_FDS come last; one that a bind names is not adopted twice."""
    first, second = listening().detach(), listening().detach()
    found = opened(f"fd://{second}", "127.0.0.1:0", inherited=(first, second))
    assert [listener.adopted for listener in found] == [True, False, True]
    assert [found[0].fileno(), found[2].fileno()] == [second, first]


def test_inherited_sockets_alone_are_enough(opened: Opened) -> None:
    """With a service manager's sockets no --bind is needed."""
    assert len(opened(inherited=(listening().detach(),))) == 1


def test_nothing_to_listen_on_is_an_error() -> None:
    """Neither bind nor inherited socket: the message says what is missing."""
    with pytest.raises(UsageError, match="nothing to listen on"):
        open_listeners([], 16, 0o666)


@pytest.mark.parametrize("case", ["file", "closed", "datagram", "not listening", "connected", "other family"])
def test_unfit_descriptor_is_refused_and_left_open(case: str, tmp_path: Path) -> None:
    """What is not a listening stream socket is refused with the reason; it was not ours, so it is not closed."""
    if case == "file":
        fd, cause = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR), "not a socket"
    elif case == "closed":
        fd, cause = listening().detach(), "not an open descriptor"
        os.close(fd)
    elif case == "datagram":
        fd, cause = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(), "not a stream socket"
    elif case == "not listening":
        fd, cause = socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(), "not listening"
    elif case == "connected":
        mine, theirs = socket.socketpair()
        theirs.close()
        fd, cause = mine.detach(), "not listening"
    else:
        fd, cause = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach(), "not TCP or unix"
    with pytest.raises(ListenError, match=cause) as caught:
        open_listeners([f"fd://{fd}"], 16, 0o666)
    assert str(caught.value).startswith(f"cannot listen on fd://{fd}: ")
    if case != "closed":
        os.close(fd)  # raises if it was closed


def test_adopted_socket_file_is_never_removed(tmp_path: Path) -> None:
    """The file of an adopted unix socket belongs to whoever bound it."""
    path = tmp_path / "their.sock"
    theirs = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.bind(str(path))
    theirs.listen(1)
    (listener,) = open_listeners([f"fd://{theirs.detach()}"], 16, 0o666)
    assert listener.address == f"unix:{path}"
    listener.close()
    assert stat.S_ISSOCK(path.stat().st_mode)


# ── all or nothing ──


def test_failed_bind_closes_those_before_it(opened: Opened, tmp_path: Path) -> None:
    """After a failure no descriptor and no socket file of ours is left; adopted ones stay open, as they were."""
    (taken,) = opened("127.0.0.1:0")
    adopted = listening()
    before = open_descriptors()
    path = tmp_path / "app.sock"
    with pytest.raises(ListenError):
        open_listeners([f"fd://{adopted.fileno()}", "127.0.0.1:0", f"unix:{path}", taken.address], 16, 0o666)
    assert open_descriptors() == before
    assert not path.exists()
    assert adopted.getsockname()
    adopted.close()


def test_bad_text_opens_nothing() -> None:
    """All binds are read before the first is opened."""
    before = open_descriptors()
    with pytest.raises(UsageError):
        open_listeners(["127.0.0.1:0", "nonsense"], 16, 0o666)
    assert open_descriptors() == before


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    """A stop that is asked for twice does not raise, and does not remove a later server's file."""
    path = tmp_path / "app.sock"
    (listener,) = open_listeners([f"unix:{path}"], 16, 0o666)
    listener.close()
    (successor,) = open_listeners([f"unix:{path}"], 16, 0o666)
    listener.close()
    assert path.exists()
    successor.close()


# ── unix names ──


def test_abstract_name_listens_without_a_file(opened: Opened) -> None:
    """unix:@name answers, is reported the same way, and a second server on it is refused."""
    name = f"hybrid-test-{os.getpid()}"
    (listener,) = opened(f"unix:@{name}")
    assert listener.address == f"unix:@{name}"
    assert listener.file is None
    assert answers(socket.AF_UNIX, f"\0{name}")
    with pytest.raises(ListenError, match=f"unix:@{name}: address in use"):
        open_listeners([f"unix:@{name}"], 16, 0o666)


def test_adopted_abstract_socket_reports_its_name(opened: Opened) -> None:
    """The address of an adopted abstract socket is in the grammar of --bind."""
    theirs = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.bind(f"\0hybrid-adopted-{os.getpid()}")
    theirs.listen(1)
    (listener,) = opened(f"fd://{theirs.detach()}")
    assert listener.address == f"unix:@hybrid-adopted-{os.getpid()}"
