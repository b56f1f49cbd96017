"""``--accept passing`` with a real pool: whoever dies, hangs or leaves, no client is lost on the way to a worker.

What every way of accepting promises is in test_models.py; the parent's rules are in tests/unit/parent.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections import Counter

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life
from hybrid.shared.procfs import open_descriptors
from hybrid.shared.scoreboard import Cell
from tests.process.conftest import Serve
from tests.support.clients import ask, crowd, hear, is_cut, refuses, say
from tests.support.eventually import eventually
from tests.support.server import Server, is_alive, kept_kinds, stat_fields

KNOBS = "tests.apps.knobs:knobs"
PASSING = ("--accept", "passing")
FEW = 16
"""Descriptors below this number are taken as long as the parent lives; poll(2) wants no fewer than it watches."""


def stopped(*pids: int) -> None:
    """Stop processes, and wait until they are."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda pid=pid: stat_fields(pid)[0] == "T")  # type: ignore[misc]  # bound now


def crowd_at(server: Server, count: int) -> list[socket.socket]:
    """Return clients that have connected and asked who serves them."""
    clients = [server.connect(timeout_s=20) for _ in range(count)]
    for client in clients:
        say(client, "pid")
    return clients


def answers(clients: list[socket.socket]) -> list[int]:
    """Return who served each client; 0: nobody did."""
    served = []
    for client in clients:
        with client:
            served.append(int(hear(client) or 0))
    return served


def test_connections_that_stay_are_spread_evenly(serve: Serve) -> None:
    """Exactly: the parent counts those on their way, too. (A worker that gets no CPU for 50 ms gives up some.)"""
    server = serve(KNOBS, *PASSING, "--workers", "3")

    def shares() -> list[int]:
        clients = [server.connect() for _ in range(30)]
        counts = sorted(Counter(ask(client, "pid") for client in clients).values())
        for client in clients:
            client.close()
        eventually(lambda: sum(worker.active for worker in server.workers()) == 0)
        return counts

    eventually(lambda: shares() == [10, 10, 10])
    assert "accept passing" in server.log
    assert server.stop() == 0


def test_connections_on_their_way_to_a_killed_worker_are_served(serve: Serve) -> None:
    """Nobody moves, so descriptors lie in both channels; one worker is killed: 0 of 60 are lost."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    first, second = server.ready_pids()
    stopped(first, second)
    clients = crowd_at(server, 60)
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGCONT)
    served = answers(clients)
    assert 0 not in served and first not in served
    server.wait_workers(2)


def test_connections_on_their_way_to_the_only_worker_wait_for_the_next(serve: Serve) -> None:
    """Killed with all channels full and a queue behind them: the replacement serves all of them."""
    server = serve(KNOBS, *PASSING, "--workers", "1", "--backlog", "1024")
    (only,) = server.ready_pids()
    stopped(only)
    clients = crowd_at(server, 400)
    os.kill(only, signal.SIGKILL)
    served = answers(clients)
    assert set(served) == {*server.wait_workers(1)}


def test_client_of_a_worker_that_hangs_is_served_by_another(serve: Serve) -> None:
    """SIGSTOP: what was passed to it is taken back after a moment; what comes later goes to the other one."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    first, second = server.ready_pids()
    stopped(first)
    assert answers(crowd_at(server, 20)) == [second] * 20
    os.kill(first, signal.SIGCONT)
    eventually(lambda: first in answers(crowd_at(server, 4)))


def test_client_of_a_worker_whose_loop_is_blocked_is_served_by_another(serve: Serve) -> None:
    """The same for a handler that holds the loop."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    with server.connect() as client:
        blocked = int(ask(client, "pid"))
        assert ask(client, "block") == "blocking"
        slot = server.ready_pids().index(blocked)
        eventually(lambda: monotonic_ns() - server.workers()[slot].heartbeat_ns > 10**9)
        assert blocked not in answers(crowd_at(server, 20))


def test_kills_under_load_cost_only_their_own_connections(serve: Serve) -> None:
    """Workers killed one after another: nobody is refused or forgotten, and who was not served by one is not lost."""
    server = serve(KNOBS, *PASSING, "--workers", "3")
    killed: list[int] = []
    with crowd(server, 4) as people:
        for _ in range(4):
            people.wait_more(50)
            victim = next(pid for pid in server.wait_workers(3) if pid not in killed)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            eventually(lambda: not set(killed) & set(server.ready_pids()))
            server.wait_workers(3)
        people.wait_more(50)
    assert not people.refused
    assert set(people.lost) <= {0, *killed}, (people.lost, killed)
    assert len(people.lost) <= 4 * len(killed)


def test_worker_that_is_terminated_loses_nobody_on_his_way(serve: Serve) -> None:
    """It says that it takes none any more; what it has not taken goes to the other one."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    first, second = server.ready_pids()
    stopped(first, second)
    clients = crowd_at(server, 40)
    os.kill(first, signal.SIGTERM)
    os.kill(first, signal.SIGCONT)
    os.kill(second, signal.SIGCONT)
    assert set(answers(clients)) <= {first, second}
    eventually(lambda: not is_alive(first))


def test_stop_serves_what_waits_in_the_queue(serve: Serve) -> None:
    """Full channels and more behind them: all are passed before the listeners are closed, and served."""
    server = serve(KNOBS, *PASSING, "--workers", "2", "--backlog", "2048")
    pids = server.ready_pids()
    stopped(*pids)
    clients = crowd_at(server, 900)
    server.signal(signal.SIGTERM)
    eventually(lambda: {worker.life for worker in server.workers()} == {Life.DRAINING})
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert set(answers(clients)) <= set(pids)
    assert server.wait() == 0


def test_newcomer_is_refused_during_a_stop(serve: Serve) -> None:
    """The parent alone listens, and it has closed its sockets."""
    server = serve(KNOBS, *PASSING, "--workers", "1")
    with server.connect() as client:
        assert ask(client, "echo before") == "before"
        server.signal(signal.SIGTERM)
        eventually(lambda: refuses(server))
        assert ask(client, "echo still") == "still"
    assert server.wait() == 0


def test_parent_without_descriptors_lets_clients_wait(serve: Serve) -> None:
    """EMFILE in the parent: one line in the log, nobody is cut, no busy loop; served when there are some again."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (FEW, limits[1]))
    clients = crowd_at(server, 5)
    eventually(lambda: "cannot pass connections on: Too many open files; they wait in the queue" in server.log)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    assert 0 not in answers(clients)
    assert server.log.count("Too many open files") == 1
    assert server.stop() == 0


def test_worker_of_a_replaced_mold_is_passed_connections(serve: Serve) -> None:
    """A new mold has no listener either; its workers have a channel each."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    first, second = server.ready_pids()
    os.kill(server.mold_pid(), signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: first not in server.ready_pids() and len(server.ready_pids()) == 2)
    assert len(set(answers(crowd_at(server, 6)))) == 2
    assert second in server.ready_pids()


def test_nobody_inherits_a_client_or_a_siblings_channel(serve: Serve) -> None:
    """Forked under load: mold and workers hold what is their own, and a client that was cut sees the end."""

    def own(pid: int) -> set[str]:
        return {link for _fd, link in open_descriptors(pid) if link.startswith("socket:")}

    server = serve(KNOBS, *PASSING, "--workers", "3", stdin=None)
    with crowd(server, 4) as people:
        people.wait_more(20)
        with server.connect() as client:
            victim = int(ask(client, "pid"))
            os.kill(victim, signal.SIGKILL)
            assert is_cut(client)
            people.wait_more(50)
        eventually(lambda: victim not in server.ready_pids())
        pids = server.wait_workers(3)
        people.wait_more(20)
    eventually(lambda: sum(worker.active for worker in server.workers()) == 0)
    ends = [own(pid) for pid in pids]
    for index, mine in enumerate(ends):
        for others in ends[index + 1 :]:
            assert not mine & others, "no listener, no sibling's channel, no client"
    assert len(own(server.mold_pid())) == 1, "the channel to the parent"


def replace_worker(server: Server) -> None:
    """Kill a worker, and wait until two serve."""
    victim = server.ready_pids()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in server.ready_pids() and len(server.ready_pids()) == 2)


def test_parent_holds_no_descriptor_of_a_client(serve: Serve) -> None:
    """However many connect: what it has passed on it has closed; what dead workers left is closed, too."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    replace_worker(server)  # by then --ready-fd is closed
    before = kept_kinds(server.pid)
    clients = crowd_at(server, 30)
    assert 0 not in [int(hear(client)) for client in clients]
    replace_worker(server)
    eventually(lambda: kept_kinds(server.pid) == before)
    for client in clients:
        client.close()


def test_numbers_that_a_worker_made_up_end_nobody(serve: Serve) -> None:
    """Garbage in RECEIVED and ACTIVE of one worker: clients are served all the same."""
    server = serve(KNOBS, *PASSING, "--workers", "2")
    board = server._scoreboard()
    try:
        row = board.row(0)
        for lie in (2**64 - 1, 2**63, 0, 12345):
            row[Cell.RECEIVED] = row[Cell.ACTIVE] = lie
            assert 0 not in answers(crowd_at(server, 10))
    finally:
        row.cells.release()
        board.close()
    assert server.stop() == 0
