"""Blocking handlers: how many at a time, what a drain does to them, and what a process for each client is good for."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from hybrid.ground.states import Life
from hybrid.shared.procfs import open_descriptors
from tests.process.conftest import Serve
from tests.support.clients import ask, hear, is_cut, refuses, say
from tests.support.eventually import eventually
from tests.support.server import Server, children, is_alive
from tests.support.variations import long, mostly_long

KNOBS = "tests.apps.blocking:knobs"
LOOP = "tests.apps.knobs:knobs"
SHORT = ("threads", "passing", "fork")
THREADED = ("threads", "threads=mutex", "threads=main", "locked=fcntl", "passing", "thread", "fork")


def asked_one_by_one(server: Server, word: str, count: int) -> list[str]:
    """Ask ``count`` clients who are there together; return their answers."""
    with ExitStack() as stack:
        return [ask(stack.enter_context(server.connect()), word) for _ in range(count)]


def test_blocking_function_is_served_by_threads_of_its_own_accord(serve: Serve) -> None:
    """def handle(sock): detected, and the boot line says kind, model and threads."""
    server = serve(KNOBS, "--workers", "1")
    assert "serves threaded handler knobs on" in server.log
    assert "accept threads (16 threads)" in server.log
    assert len(set(asked_one_by_one(server, "thread", 16))) == 16


@pytest.mark.parametrize("model", ["threads", long("threads=mutex"), long("threads=main"), "passing"])
def test_as_many_at_a_time_as_there_are_threads(serve: Serve, model: str) -> None:
    """Three threads: three clients together, each in its own thread; the fourth is served when one has left."""
    server = serve(KNOBS, "--workers", "1", "--accept", model, "--threads", "3")
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(4)]
        assert len({ask(client, "thread") for client in clients[:3]}) == 3
        say(clients[3], "thread")
        assert ask(clients[0], "echo still here") == "still here"
        clients[0].close()
        assert hear(clients[3]).isdigit()


def test_thread_for_each_connection(serve: Serve) -> None:
    """--accept thread: no fixed number, a new thread each, gone with its client."""
    server = serve(KNOBS, "--workers", "1", "--accept", "thread")
    (pid,) = server.ready_pids()
    before = len(os.listdir(f"/proc/{pid}/task"))
    assert len(set(asked_one_by_one(server, "thread", 20))) == 20
    eventually(lambda: len(os.listdir(f"/proc/{pid}/task")) == before)


def test_request_handler_classes_of_the_standard_library(serve: Serve) -> None:
    """socketserver and http.server classes run as they are, on any model for blocking handlers."""
    server = serve("tests.apps.blocking:Lines", "--workers", "2", "--accept", "locked=fcntl")
    assert server.echoes(b"one line\n")
    server = serve("tests.apps.blocking:Web", "--workers", "1")
    with server.connect() as client:
        client.sendall(b"GET /where HTTP/1.0\r\n\r\n")
        said = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    assert said.startswith("HTTP/1.0 200 OK")
    assert said.endswith(f"/where {server.ready_pids()[0]}\n")


@pytest.mark.parametrize("model", ["threads", long("threads=main"), long("thread"), "fork"])
def test_drain_shows_a_blocking_handler_the_end_of_its_stream(serve: Serve, model: str) -> None:
    """When the grace is over it reads the end, as if its peer had finished, and its last words are delivered."""
    server = serve(KNOBS, "--workers", "1", "--accept", model, "--graceful-timeout", "0.2")
    with server.connect() as client:
        assert ask(client, "hold") == "holding"
        server.signal(signal.SIGTERM)
        assert hear(client) == "ended"
        assert is_cut(client)
    assert server.wait() == 0, server.log
    assert "1 were cancelled, 0 cut" in server.log


@pytest.mark.parametrize("model", ["threads", long("thread"), "fork"])  # who serves; who accepts makes no difference
def test_handler_that_does_not_read_is_cut_and_left_behind(serve: Serve, model: str) -> None:
    """A thread cannot be cancelled: its connection is cut, and the worker leaves without it, in time and with 0."""
    server = serve(KNOBS, "--workers", "1", "--accept", model, "--graceful-timeout", "0.2")
    with server.connect() as client:
        assert ask(client, "stubborn") == "holding"
        server.signal(signal.SIGTERM)
        assert is_cut(client)
    assert server.wait() == 0, server.log
    assert "1 were cancelled, 1 cut" in server.log
    assert "SIGKILL" not in server.log


@pytest.mark.parametrize("model", mostly_long(THREADED, SHORT.__contains__))
def test_who_waits_for_a_thread_is_served_before_the_stop(serve: Serve, model: str) -> None:
    """SIGTERM with every thread busy and a client in the queue behind: it is served when a thread is free."""
    limits = ("--threads", "1", "--limit-connections", "1")
    server = serve(KNOBS, "--workers", "1", "--accept", model, *limits)
    with server.connect() as first, server.connect() as second:
        assert ask(first, "echo first") == "first"
        say(second, "echo second")
        server.signal(signal.SIGTERM)
        eventually(lambda: server.workers()[0].life is Life.DRAINING)
        assert ask(first, "echo still") == "still"
        first.close()
        assert hear(second) == "second"
    assert server.wait() == 0, server.log


def test_exit_in_a_handler_costs_its_connection(serve: Serve) -> None:
    """sys.exit() in a thread of the crew ends a connection, not the thread, not the worker."""
    server = serve(KNOBS, "--workers", "1", "--threads", "1")
    (pid,) = server.ready_pids()
    for _ in range(3):
        with server.connect() as client:
            say(client, "raise-exit 3")
            assert is_cut(client)
    with server.connect() as client:
        assert ask(client, "pid") == str(pid)
    assert "sys.exit" in server.log


# ── a process for each client ──


def fork_server(serve: Serve, *arguments: str) -> Server:
    return serve(KNOBS, "--accept", "fork", *arguments)


def test_child_that_crashes_harms_nobody(serve: Serve) -> None:
    """A segmentation fault in one client's process: logged and counted, the worker and the others live."""
    server = fork_server(serve, "--workers", "1")
    (pid,) = server.ready_pids()
    with server.connect() as bystander:
        child = int(ask(bystander, "pid"))
        assert ask(bystander, "pid parent") == str(pid)
        assert child != pid
        with server.connect() as client:
            say(client, "segfault")
            assert is_cut(client)
        eventually(lambda: "died of SIGSEGV" in server.log)
        assert ask(bystander, "echo unharmed") == "unharmed"
    eventually(lambda: server.workers()[0].errors == 1)
    assert server.ready_pids() == [pid]


def test_children_are_reaped(serve: Serve) -> None:
    """No zombie is left of the children that have served."""
    server = fork_server(serve, "--workers", "1")
    (pid,) = server.ready_pids()
    asked_one_by_one(server, "pid", 10)
    eventually(lambda: server.workers()[0].active == 0)
    lists = [Path(f"/proc/{pid}/task/{task}/children") for task in os.listdir(f"/proc/{pid}/task")]
    assert [each.read_text() for each in lists] == [""] * len(lists)


def test_child_holds_nothing_that_others_wait_for(serve: Serve) -> None:
    """It has its connection, not the listener, and not the other clients' connections."""
    server = fork_server(serve, "--workers", "1")
    with server.connect() as first, server.connect() as second:
        pids = [int(ask(client, "pid")) for client in (first, second)]
        sockets = [{what for _fd, what in open_descriptors(pid) if what.startswith("socket:")} for pid in pids]
        assert [len(each - sockets[1 - index]) for index, each in enumerate(sockets)] == [1, 1]
        of_the_pool = {what for _fd, what in open_descriptors(server.pid)}  # the listener, the worker's channel
        assert not sockets[0] & of_the_pool
        first.close()
        eventually(lambda: not is_alive(pids[0]))
        assert ask(second, "echo here") == "here"


def test_children_of_a_killed_worker_finish(serve: Serve) -> None:
    """SIGKILL of a worker does not reach the clients whose children serve them."""
    server = fork_server(serve, "--workers", "1")
    (pid,) = server.ready_pids()
    with server.connect() as client:
        child = int(ask(client, "pid"))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in server.ready_pids() and server.ready_pids())
        assert ask(client, "echo unharmed") == "unharmed"
        assert ask(client, "pid parent") == str(server.pid)
    eventually(lambda: child not in children(server.pid) and not is_alive(child))


def test_sigterm_to_everybody_cuts_no_child_short(serve: Serve) -> None:
    """A service manager terminates every process of the service at once: children finish all the same."""
    server = fork_server(serve, "--workers", "1")
    with server.connect() as client:
        assert ask(client, "echo before") == "before"
        for pid in server.everyone():
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: server.workers()[0].life is Life.DRAINING)
        assert ask(client, "echo after") == "after"
    assert server.wait() == 0, server.log


def test_orphaned_child_ends_with_the_pool(serve: Serve) -> None:
    """Worker and parent are killed: the child's own watchdog ends it when the grace has passed."""
    server = fork_server(serve, "--workers", "1", "--graceful-timeout", "0")
    (pid,) = server.ready_pids()
    client: socket.socket
    with server.connect() as client:
        child = int(ask(client, "pid"))
        os.kill(pid, signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)
        assert ask(client, "echo still") == "still"
        eventually(lambda: not is_alive(child))
        assert is_cut(client)


# ── stopping with a crowd, and what handlers should not do ──


STOPPED = [
    *((name, LOOP) for name in ("shared", "locked=robust", "passing", "reuseport")),
    *((name, KNOBS) for name in ("threads", "threads=main", "locked=fcntl", "passing", "reuseport", "thread", "fork")),
]
STOPPED_SHORT = (("shared", LOOP), ("passing", LOOP), ("reuseport", KNOBS), ("threads", KNOBS), ("fork", KNOBS))


@pytest.mark.parametrize(("model", "target"), mostly_long(STOPPED, STOPPED_SHORT.__contains__))
def test_stop_serves_a_queue_that_is_longer_than_the_limit(serve: Serve, model: str, target: str) -> None:
    """SIGTERM with forty clients, four of them served: all are answered within the grace; newcomers are refused."""
    limits = ("--limit-connections", "2", "--threads", "2", "--graceful-timeout", "10")
    server = serve(target, "--workers", "2", "--accept", model, *limits)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(40)]
        for client in clients:
            say(client, "echo here")
        server.signal(signal.SIGTERM)
        unanswered = set(clients)
        while unanswered:
            ready, _, _ = select.select(unanswered, [], [], 10)
            assert ready, f"{len(unanswered)} wait for ever\n{server.log}"
            for client in ready:
                assert hear(client) == "here"
                client.close()
                unanswered.discard(client)
    assert server.wait() == 0, server.log


@pytest.mark.parametrize(("model", "target"), [("reuseport", LOOP), long("reuseport", KNOBS), ("shared", LOOP)])
def test_newcomers_are_refused_while_it_drains(serve: Serve, model: str, target: str) -> None:
    """No listener stays open behind the connections that a stop waits for."""
    server = serve(target, "--workers", "2", "--accept", model)
    with server.connect() as client:
        assert ask(client, "echo held") == "held"
        server.signal(signal.SIGTERM)
        eventually(lambda: refuses(server))
        assert ask(client, "echo still") == "still"
    assert server.wait() == 0


@pytest.mark.parametrize("model", ["threads", long("locked=robust"), long("threads=main")])
def test_child_that_a_handler_forgot_does_not_serve(serve: Serve, model: str) -> None:
    """os.fork in a handler, and a return in both: the child ends, and takes nobody's connections."""
    server = serve(KNOBS, "--workers", "1", "--accept", model, "--threads", "2")
    (pid,) = server.ready_pids()
    with server.connect() as client:
        child = int(ask(client, "fork-and-return"))
        assert is_cut(client)
    eventually(lambda: not is_alive(child))
    assert set(asked_one_by_one(server, "pid", 2)) == {str(pid)}
    assert "os.fork" in server.log
    assert server.stop() == 0


def test_every_way_to_lose_a_connection_is_counted(serve: Serve) -> None:
    """sys.exit and worse count as errors of the handler, in a thread and in a child."""
    for model in ("threads", "thread", "fork"):
        server = serve(KNOBS, "--workers", "1", "--accept", model)
        for word in ("raise-exit 3", "fail here"):
            with server.connect() as client:
                say(client, word)
                assert is_cut(client)
        eventually(lambda: server.workers()[0].errors == 2)  # noqa: B023  # called before the next turn


def test_more_threads_than_descriptors_is_an_error_that_says_so(serve: Serve) -> None:
    """Each thread takes a descriptor: a server that could accept nobody does not say that it is ready."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    server = serve(KNOBS, "--workers", "1", "--threads", "300", ready=False, preexec_fn=few)
    assert server.wait_said()["event"] == "failed"
    assert server.wait() == 3
    assert "--threads" in server.log
    assert "Traceback" not in server.log
