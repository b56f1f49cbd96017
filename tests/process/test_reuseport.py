"""``--accept reuseport`` with a real pool: a socket for each worker and address, none of them ever lost.

What every way of accepting promises is in test_models.py; how the sockets are made, in tests/unit.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from hybrid.shared.procfs import open_descriptors
from tests.process.conftest import Serve
from tests.process.test_passing import answers, crowd_at, stopped
from tests.support.eventually import eventually
from tests.support.server import Server

KNOBS = "tests.apps.knobs:knobs"
REUSEPORT = ("--accept", "reuseport")


def listening(pid: int, port: int) -> int:
    """Return how many listening sockets on ``port`` a process holds."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    inodes = {row[9] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}
    held = [link.removeprefix("socket:[").rstrip("]") for _fd, link in open_descriptors(pid) if "socket:" in link]
    return len(inodes & set(held))


def port_of(server: Server, index: int = 0) -> int:
    return int(server.said["addresses"][index].rpartition(":")[2])


def everybody_is_reached(server: Server, index: int = 0) -> None:
    """Connect until each worker has answered: others take the queue of one that gets no CPU."""
    reached: set[int] = set()

    def reaches() -> bool:
        clients = [server.connect(server.said["addresses"][index]) for _ in range(60)]
        for client in clients:
            client.sendall(b"pid\n")
        reached.update(answers(clients))
        return reached == set(server.ready_pids())

    eventually(reaches)


def test_every_slot_has_a_socket_on_every_address(serve: Serve) -> None:
    """Port 0 is resolved once for all of them; the boot line shows each address once; every worker is reached."""
    binds = ("--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0")
    server = serve(KNOBS, *REUSEPORT, "--workers", "3", *binds)
    assert len(server.said["addresses"]) == 2
    for index in range(2):
        assert listening(server.pid, port_of(server, index)) == 3
        everybody_is_reached(server, index)
    assert server.stop() == 0


def test_second_server_on_the_port_is_refused(serve: Serve) -> None:
    """The kernel would let it in; it is told what every second server is told."""
    server = serve(KNOBS, *REUSEPORT, "--workers", "2")
    second = serve(KNOBS, *REUSEPORT, "--workers", "2", "--bind", server.address, ready=False)
    assert second.wait() == 2
    assert f"cannot listen on {server.address}: address in use. Stop the other server or change --bind." in second.log


def test_unix_socket_is_refused_at_once(serve: Serve, tmp_path: Path) -> None:
    """Before anything is started, with the way out."""
    server = serve(KNOBS, *REUSEPORT, "--bind", f"unix:{tmp_path}/app.sock", ready=False)
    assert server.wait() == 2
    assert "together with --accept reuseport" in server.log and "Bind HOST:PORT" in server.log
    assert list(tmp_path.glob("*.sock")) == []


def test_socket_of_a_service_manager_is_refused_at_once(serve: Serve) -> None:
    """It is one, and there would have to be one for each worker."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        fd = theirs.fileno()
        server = serve(KNOBS, *REUSEPORT, "--bind", f"fd://{fd}", ready=False, pass_fds=(fd,))
        assert server.wait() == 2
    assert f"fd://{fd} together with --accept reuseport" in server.log


def test_queue_of_a_killed_worker_is_served(serve: Serve) -> None:
    """The parent keeps its socket: what waits is served by the others, or by the replacement; 0 of 60 are lost."""
    server = serve(KNOBS, *REUSEPORT, "--workers", "2")
    first, second = server.ready_pids()
    stopped(first, second)
    clients = crowd_at(server, 60)
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGCONT)
    served = answers(clients)
    assert 0 not in served and first not in served


def test_workers_of_a_replaced_mold_serve_every_socket(serve: Serve) -> None:
    """The new mold is given all sockets again, in the same order: no slot's queue is forgotten."""
    server = serve(KNOBS, *REUSEPORT, "--workers", "3")
    old = server.ready_pids()
    os.kill(server.mold_pid(), signal.SIGKILL)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(server.ready_pids()) == 3 and not set(old) & set(server.ready_pids()))
    assert listening(server.pid, port_of(server)) == 3
    for pid in server.ready_pids():
        assert listening(pid, port_of(server)) == 3
    everybody_is_reached(server)
    assert server.stop() == 0


def test_stop_closes_every_socket(serve: Serve) -> None:
    """Nobody can connect any more, and the next server has the port at once."""
    server = serve(KNOBS, *REUSEPORT, "--workers", "3")
    assert 0 not in answers(crowd_at(server, 10))
    assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    serve(KNOBS, *REUSEPORT, "--workers", "1", "--bind", server.address)


def test_sockets_that_cannot_be_had_end_the_boot_with_the_reason(serve: Serve) -> None:
    """A limit too low for a socket in each slot: said with address and cause, tried again, given up."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    server = serve(KNOBS, *REUSEPORT, "--workers", "100", "--boot-attempts", "2", ready=False, preexec_fn=few)
    assert server.wait() == 3
    assert "cannot fork worker 0: cannot listen on 127.0.0.1:" in server.log
    assert "Too many open files" in server.log
