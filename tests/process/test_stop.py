"""The end: what was asked for, what open connections see of it, and that nothing stays behind."""

from __future__ import annotations

import os
import random
import signal
import socket
from pathlib import Path

import pytest

from hybrid.ground.states import Life
from tests.process.conftest import Serve
from tests.support.clients import ask, connect_to, hear, is_cut, refuses, say
from tests.support.eventually import eventually
from tests.support.server import Server, exactly, is_alive, stat_fields

KNOBS = "tests.apps.knobs:knobs"


def left_cleanly(server: Server, within_s: float = 20.0) -> str:
    """Wait for exit code 0 and for the last process of the session; return the log."""
    assert server.wait(within_s) == 0, server.log
    assert not server.everyone(), "the parent left before its children"
    return server.log


def ask_again_until(server: Server, said: str) -> None:
    """Send SIGTERM until the log says so: signals that come too close together are one wish."""

    def attempt() -> bool:
        if said not in server.log:
            server.signal(signal.SIGTERM)
        return said in server.log

    eventually(attempt)


def test_idle_connection_learns_of_the_drain_and_finishes(serve: Serve) -> None:
    """SIGTERM: the handler sees conn.draining, says goodbye within the grace, and the server leaves with 0."""
    server = serve(KNOBS, "--workers", "2")
    with server.connect() as client:
        assert ask(client, "finish") == "serving"
        server.signal(signal.SIGTERM)
        assert hear(client) == "draining"
        assert is_cut(client)
        log = left_cleanly(server)
    assert "SIGTERM: stopping; open connections have 30 s to finish" in log
    assert "error" not in log


def test_busy_connection_is_served_to_its_end(serve: Serve) -> None:
    """A client that is in the middle of something is served on until it closes; a new one is not."""
    server = serve(KNOBS, "--workers", "1")
    with server.connect() as client:
        assert ask(client, "echo before") == "before"
        server.signal(signal.SIGTERM)
        eventually(lambda: server.workers()[0].life is Life.DRAINING)
        for turn in range(20):
            assert ask(client, f"echo {turn}") == str(turn)
        assert server.process.poll() is None
    left_cleanly(server)


def test_handler_is_cancelled_when_the_grace_has_passed(serve: Serve) -> None:
    """The handler that goes on for ever gets a CancelledError, and its last words are delivered."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "0.2")
    with server.connect() as client:
        assert ask(client, "hold") == "holding"
        server.signal(signal.SIGTERM)
        assert hear(client) == "cancelled"
        assert is_cut(client)
    assert "1 were cancelled, 0 cut" in left_cleanly(server)


def test_handler_that_ignores_cancellation_is_cut(serve: Serve) -> None:
    """A second after it was cancelled its connection is aborted, and the worker leaves without it."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "0.2")
    with server.connect() as client:
        assert ask(client, "stubborn") == "holding"
        server.signal(signal.SIGTERM)
        assert hear(client) == "no"
        assert is_cut(client)
    log = left_cleanly(server)
    assert "1 were cancelled, 1 cut" in log
    assert "SIGKILL" not in log


def test_second_signal_cancels_and_the_third_cuts(serve: Serve) -> None:
    """Each further signal skips to the next step, however long the grace."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "300")
    with server.connect() as client:
        assert ask(client, "stubborn") == "holding"
        server.signal(signal.SIGTERM)
        eventually(lambda: "stopping; open connections have 300 s" in server.log)
        ask_again_until(server, "cancelling handlers")
        assert hear(client) == "no"
        ask_again_until(server, "cutting connections")
        assert is_cut(client)
    left_cleanly(server)


def test_fourth_signal_kills_a_worker_whose_loop_is_blocked(serve: Serve) -> None:
    """The last step needs no help from the worker."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "300")
    with server.connect() as client:
        assert ask(client, "block") == "blocking"
        for said in ("stopping", "cancelling handlers", "cutting connections", "killing workers"):
            ask_again_until(server, said)
        assert is_cut(client)
    left_cleanly(server)


def test_sigquit_stops_at_once(serve: Serve) -> None:
    """No grace, no cancellation: connections are cut, and the server leaves with 0."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "300")
    with server.connect() as client:
        assert ask(client, "stubborn") == "holding"
        server.signal(signal.SIGQUIT)
        assert is_cut(client)
    left_cleanly(server)


def test_signal_right_after_another_counts(serve: Serve) -> None:
    """SIGTERM and SIGQUIT that arrive together: the harder one decides."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "300")
    with server.connect() as client:
        assert ask(client, "stubborn") == "holding"
        server.signal(signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGQUIT)
        server.signal(signal.SIGCONT)
        assert is_cut(client)
    left_cleanly(server)


def test_blocked_and_stopped_workers_are_killed_at_the_deadline(serve: Serve) -> None:
    """Workers that cannot hear the stop cost its deadline, and no more."""
    server = serve(KNOBS, "--workers", "3", "--graceful-timeout", "0.1")
    first, second, third = server.ready_pids()
    with connect_to(server, first) as blocked, connect_to(server, second) as threaded:
        assert ask(blocked, "block") == "blocking"
        assert ask(threaded, "thread") == "started"
        os.kill(third, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        log = left_cleanly(server)
    for pid in (first, second, third):
        assert f"(pid {pid}) did not leave in time: SIGKILL" in log


def test_lifespan_is_left_at_a_stop(serve: Serve, tmp_path: Path) -> None:
    """What the lifespan does after its yield is done before the worker ends; one that hangs is killed."""
    mark = tmp_path / "mark"
    arguments = ("--workers", "1", "--lifespan", "tests.apps.boots:slow_to_leave", "--graceful-timeout", "300")
    server = serve(KNOBS, *arguments, env={**os.environ, "MARK": str(mark)})
    server.signal(signal.SIGTERM)
    eventually(lambda: mark.exists() and mark.read_text() == "leaving\n")
    server.signal(signal.SIGQUIT)
    left_cleanly(server)


def test_stopped_mold_does_not_hold_up_the_stop(serve: Serve) -> None:
    """A mold that hears nothing is killed after two seconds."""
    server = serve(KNOBS, "--workers", "1")
    os.kill(server.mold_pid(), signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    left_cleanly(server)


def test_signal_storm_is_survived(serve: Serve) -> None:
    """Hundreds of signals of all sorts: the server serves on, and when TERM and INT mix in it leaves with 0."""
    server = serve(KNOBS, "--workers", "2")
    dice = random.Random(7)
    harmless = [signal.SIGCHLD, signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2]
    for _ in range(400):
        server.signal(dice.choice(harmless))
    with server.connect() as client:
        assert ask(client, "echo alive") == "alive"
    for _ in range(400):
        server.signal(dice.choice([*harmless, signal.SIGTERM, signal.SIGINT]))
    assert server.wait() == 0, server.log
    eventually(lambda: not server.everyone())  # who tries a new program, or reads settings, dies with the parent
    assert "Traceback" not in server.log


def test_signal_storm_on_everybody_is_survived(serve: Serve) -> None:
    """The same to workers and mold: what reaches whole process groups ends nobody."""
    server = serve(KNOBS, "--workers", "2")
    pids, mold = server.ready_pids(), server.mold_pid()
    for _ in range(50):
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
            for pid in (*pids, mold):
                os.kill(pid, number)
    with server.connect() as client:
        assert ask(client, "echo alive") == "alive"
    assert (server.ready_pids(), server.mold_pid()) == (pids, mold)
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_whole_group_only_drains(serve: Serve, number: signal.Signals) -> None:
    """Ctrl-C in a terminal, or a service manager that signals everybody: open connections finish all the same."""
    server = serve(KNOBS, "--workers", "2")
    with server.connect() as client:
        assert ask(client, "finish") == "serving"
        os.killpg(server.pid, number)
        assert hear(client) == "draining"
        assert is_cut(client)
    log = left_cleanly(server)
    assert "Traceback" not in log and "KeyboardInterrupt" not in log


def test_socket_file_is_gone_after_a_stop(serve: Serve, tmp_path: Path) -> None:
    """A graceful stop leaves no socket file behind."""
    path = tmp_path / "server.sock"
    server = serve(KNOBS, "--workers", "2", "--bind", f"unix:{path}")
    with server.connect() as client:
        assert ask(client, "echo hello") == "hello"
    assert path.is_socket()
    assert server.stop() == 0
    assert not path.exists()
    assert not server.everyone()


def test_waiting_connections_are_served_by_others_while_one_drains(serve: Serve) -> None:
    """Connections that only the kernel has accepted when a worker is told to leave: somebody takes each of them."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    for pid in (first, second):
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda pid=pid: stat_fields(pid)[0] == "T")  # type: ignore[misc]  # bound now
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        say(client, "pid")
    os.kill(first, signal.SIGTERM)
    os.kill(first, signal.SIGCONT)
    os.kill(second, signal.SIGCONT)
    served = []
    for client in clients:
        served.append(int(hear(client)))
        client.close()
    assert set(served) <= {first, second}
    eventually(lambda: not is_alive(first))


def test_address_is_free_after_a_stop(serve: Serve) -> None:
    """The next server can have the port at once."""
    server = serve(KNOBS, "--workers", "1")
    host, _, port = server.address.rpartition(":")
    with server.connect() as client:
        assert ask(client, "echo hello") == "hello"
    assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port))):
        pass
    second = serve(KNOBS, "--workers", "1", "--bind", server.address)
    assert second.address == server.address


@pytest.mark.parametrize("accept", ["auto", "reuseport"])
def test_address_is_free_though_the_app_has_forked(accept: str, serve: Serve) -> None:
    """What an app has forked, such as a pool of processes, may outlive the server: it keeps no queue open."""
    server = serve(KNOBS, "--workers", "2", "--accept", accept)
    with server.connect() as client:
        child = int(ask(client, "fork"))
    assert server.stop() == 0 and is_alive(child)
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    assert serve(KNOBS, "--workers", "1", "--bind", server.address).stop() == 0


def test_who_comes_during_a_stop_is_refused_at_once(serve: Serve) -> None:
    """Nobody is left to serve a newcomer: it hears so, and can go elsewhere, instead of waiting for the end."""
    server = serve(KNOBS, "--workers", "2")
    with server.connect() as client:
        assert ask(client, "echo before") == "before"
        server.signal(signal.SIGTERM)
        eventually(lambda: refuses(server))
        assert ask(client, "echo still") == "still"
    left_cleanly(server)


def test_who_was_in_the_queue_when_the_stop_came_is_served(serve: Serve) -> None:
    """The kernel accepted them, no other worker will: the last one takes the whole queue before it closes."""
    server = serve("tests.apps.embedded:echo", "--workers", "1")
    (pid,) = server.ready_pids()
    os.kill(pid, signal.SIGSTOP)
    clients = [server.connect() for _ in range(50)]
    for client in clients:
        client.sendall(b"ping")
    server.signal(signal.SIGTERM)
    eventually(lambda: server.workers()[0].life is Life.DRAINING)
    os.kill(pid, signal.SIGCONT)
    answers = []
    for client in clients:
        with client:
            answers.append(exactly(client, 4))
    assert answers == [b"ping"] * 50
    left_cleanly(server)
