"""One worker drains while others accept: what clients see of it, rung by rung, for every kind of handler."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from hybrid.ground.states import Life
from tests.process.conftest import Serve
from tests.support.clients import PATIENCE_S, People, ask, connect_to, hear, is_cut, say
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand, Cut
from tests.support.server import Server, is_alive

pytestmark = pytest.mark.long

KNOBS = "tests.apps.knobs:knobs"
BLOCKING = "tests.apps.blocking:knobs"
HTTP = "tests.apps.http_knobs:app"
DRAINS = "tests.apps.drains"
THREADED = ("threads", "threads=mutex", "threads=main", "locked=fcntl", "passing", "thread", "fork")


def drain(pid: int) -> None:
    """Have a worker drain; another takes its slot when it has left."""
    os.kill(pid, signal.SIGTERM)


def life_of(server: Server, pid: int) -> Life | None:
    """Return what the scoreboard says of a process; None: it is in no slot any more."""
    worker = server.worker(pid)
    return None if worker is None else worker.life


def drains(server: Server, pid: int) -> bool:
    """Return whether the worker drains, and is there."""
    return life_of(server, pid) is Life.DRAINING


def left_by_itself(server: Server, pid: int, within_s: float = 15.0) -> bool:
    """Wait until the worker has left with 0, and another is in its place."""
    said = f"(pid {pid}) exited with code 0 after its drain; another starts"
    eventually(lambda: said in server.log or "SIGKILL" in server.log, within_s)
    server.wait_workers(2)
    return said in server.log


def http_connection_to(server: Server, pid: int) -> ByHand:
    """Return a kept connection that the worker ``pid`` serves."""
    others: list[ByHand] = []
    try:
        for _ in range(100):
            client = ByHand(server.connect())
            if int(client.get("/pid").body) == pid:
                return client
            others.append(client)  # kept until we have ours: the worker with the fewest takes the next one
        raise AssertionError(f"worker {pid} takes nobody")
    finally:
        for other in others:
            other.socket.close()


# ── kept connections ──


@dataclass
class Strollers(People):
    """Clients that keep a connection and pause between requests, each time for another while."""

    lost: list[str] = field(default_factory=list)
    """Requests that nobody answered, or not to the end."""
    crossed: list[float] = field(default_factory=list)
    """Requests that met the FIN on its way: nothing came of them but an orderly end, and at once. A client library
    asks again, RFC 9112 §9.3.1. Seconds from the request to the end."""
    ends: dict[str, int] = field(default_factory=lambda: {"said": 0, "seen": 0})
    """Connections that ended: with an answer that said so; seen closed by a client that was about to ask."""

    AT_ONCE_S = 0.1
    """On a busy machine; a request that was taken, and dropped with the grace, waits longer."""

    def work(self) -> None:
        """Be one client after another. Runs in: a thread."""
        while not self._over.is_set():
            with ByHand(self.server.connect(timeout_s=PATIENCE_S)) as connection:
                self._stroll(connection)

    def _stroll(self, connection: ByHand) -> None:
        look = select.poll()
        look.register(connection.socket, select.POLLIN)
        while not self._over.wait(random.random() * 0.3):
            if look.poll(0):
                with self._lock:
                    self.ends["seen"] += 1
                return
            asked_at = time.monotonic()
            try:
                answer = connection.get("/busy" if random.random() < 0.1 else "/")
            except (Cut, OSError) as error:
                took_s = time.monotonic() - asked_at
                is_crossed = isinstance(error, Cut) and error.args == (b"", "closed") and took_s < self.AT_ONCE_S
                with self._lock:
                    self.crossed.append(took_s) if is_crossed else self.lost.append(f"{error!r} after {took_s:.4f} s")
                return
            pid = int(answer.body)
            with self._lock:
                self.served[pid] = self.served.get(pid, 0) + 1
                self.ends["said"] += answer.is_last
            if answer.is_last:
                return


def test_drains_lose_no_request_of_a_kept_connection(serve: Serve) -> None:
    """Six drains while clients ask on kept connections, now and then: all answered, but for those that met the FIN."""
    server = serve(f"{DRAINS}:waits", "--workers", "2", "--interface", "asgi", "--graceful-timeout", "0.6")
    strollers = Strollers(server)
    with strollers.busy(24):
        for number in range(6):
            pid = server.wait_workers(2)[number % 2]
            strollers.wait_more(50)
            drain(pid)
            assert left_by_itself(server, pid)
    assert strollers.lost == []
    assert strollers.ends["said"] > 0 and strollers.ends["seen"] > 0, strollers.ends
    assert len(strollers.crossed) <= 7, strollers.crossed  # of 144 connections; mostly none
    assert "error" not in server.log


def test_kept_connections_end_one_after_another(serve: Serve) -> None:
    """Forty idle connections: a FIN each, spread over the window, none of them reset; the worker leaves long before
    its grace is over."""
    server = serve(HTTP, "--workers", "2", "--graceful-timeout", "30")
    pid = server.ready_pids()[0]
    clients = [http_connection_to(server, pid) for _ in range(40)]
    ended: dict[int, float] = {}
    poll = select.poll()
    for client in clients:
        poll.register(client.socket, select.POLLIN)
    drain(pid)
    while len(ended) < len(clients):
        for fd, _ in poll.poll(10_000):
            ended[fd] = time.monotonic()
            poll.unregister(fd)
    assert all(client.is_closed() for client in clients)
    moments = sorted(ended.values())
    assert moments[-1] - moments[0] > 0.05, "all in one moment"
    for client in clients:
        client.socket.close()
    assert left_by_itself(server, pid)


def test_event_streams_end_whole(serve: Serve) -> None:
    """Streams that would never end do so long before the grace is over; those of the other worker go on."""
    server = serve(HTTP, "--workers", "2", "--graceful-timeout", "30")
    drained, other = server.ready_pids()
    clients = [http_connection_to(server, drained) for _ in range(20)]
    with http_connection_to(server, other) as stays:
        for client in (*clients, stays):
            client.send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
            client.head()
        drain(drained)
        for client in clients:
            while client.chunk():
                pass
            assert client.is_closed()
            client.socket.close()
        assert stays.chunk() and stays.chunk()
    assert left_by_itself(server, drained)


def test_application_is_woken_by_the_drain(serve: Serve) -> None:
    """What waits for scope["extensions"]["hybrid.drain"] is woken in the worker that drains, and answers."""
    server = serve(f"{DRAINS}:waits", "--workers", "2", "--interface", "asgi", "--graceful-timeout", "30")
    drained, other = server.ready_pids()
    with http_connection_to(server, drained) as woken, http_connection_to(server, other) as waits:
        for client in (woken, waits):
            client.send(b"GET /drain HTTP/1.1\r\nHost: test\r\n\r\n")
        drain(drained)
        answer = woken.answer()
        assert int(answer.body) == drained
        assert not select.select([waits.socket], [], [], 0)[0]
        woken.socket.close()
        assert left_by_itself(server, drained)


# ── the ladder ──


def test_stream_handler_hears_of_it_and_finishes(serve: Serve) -> None:
    """conn.draining, then the connection's own end; the worker leaves as soon as that has come."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "30")
    pid = server.ready_pids()[0]
    with connect_to(server, pid) as client:
        assert ask(client, "finish") == "serving"
        drain(pid)
        assert hear(client) == "draining"
        assert is_cut(client)
    assert left_by_itself(server, pid)


@pytest.mark.parametrize(("word", "hears", "said"), [("hold", "cancelled", "0 cut"), ("stubborn", "no", "1 cut")])
def test_stream_handler_is_cancelled_then_cut(serve: Serve, word: str, hears: str, said: str) -> None:
    """After the grace a CancelledError; a second later the cut, for who ignores it."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "0.3")
    pid = server.ready_pids()[0]
    with connect_to(server, pid) as client:
        assert ask(client, word) == "holding"
        drain(pid)
        assert hear(client) == hears
        assert is_cut(client)
    assert left_by_itself(server, pid)
    assert f"drained: 1 connections were open, 1 were cancelled, {said}" in server.log


@pytest.mark.parametrize(("target", "says"), [("told", "goodbye"), ("untold", "")])
def test_protocol_is_told_or_closed_after_the_grace(serve: Serve, target: str, says: str) -> None:
    """on_drain if there is one; else it is left alone until the grace is over, and closed in order."""
    grace_s = "30" if says else "0.3"
    server = serve(f"{DRAINS}:{target}", "--workers", "2", "--graceful-timeout", grace_s)
    with server.connect() as client:
        pid = int(hear(client))
        drain(pid)
        assert hear(client) == says
        assert client.recv(1) == b""
    assert left_by_itself(server, pid)


@pytest.mark.parametrize("model", THREADED)
def test_blocking_handler_finishes_or_reads_the_end(serve: Serve, model: str) -> None:
    """It hears nothing: one goes on within the grace; then one that waits for its peer reads the end of the stream."""
    server = serve(BLOCKING, "--workers", "2", "--accept", model, "--graceful-timeout", "2")
    word = "pid parent" if model == "fork" else "pid"
    with server.connect() as client:
        pid = int(ask(client, word))
        drain(pid)
        eventually(lambda: drains(server, pid))
        assert ask(client, "echo still") == "still"
        assert ask(client, "hold") == "holding"
        assert hear(client) == "ended"
        assert is_cut(client)
    assert left_by_itself(server, pid)
    assert "1 were cancelled, 0 cut" in server.log


@pytest.mark.parametrize("model", ["threads", "threads=main", "passing", "thread", "fork"])
def test_who_waits_for_a_thread_of_a_worker_that_drains_is_served(serve: Serve, model: str) -> None:
    """Both workers full and a third client behind them: whoever drains, it is served, by one or by the other."""
    limits = ("--threads", "1", "--limit-connections", "1")
    server = serve(BLOCKING, "--workers", "2", "--accept", model, "--graceful-timeout", "20", *limits)
    word = "pid parent" if model == "fork" else "pid"
    with server.connect() as first, server.connect() as second:
        pids = [int(ask(first, word)), int(ask(second, word))]
        with server.connect() as third:
            say(third, word)
            drain(pids[0])
            eventually(lambda: drains(server, pids[0]))
            second.close()
            assert int(hear(third)) in server.ready_pids() + pids
        assert ask(first, "echo still") == "still"
    assert left_by_itself(server, pids[0])


def test_application_is_cancelled_when_the_grace_has_passed(serve: Serve) -> None:
    """An ASGI application that goes on for ever: its client sees that the response is not whole."""
    server = serve(HTTP, "--workers", "2", "--graceful-timeout", "0.4")
    pid = server.ready_pids()[0]
    with http_connection_to(server, pid) as client:
        client.send(b"GET /stubborn HTTP/1.1\r\nHost: test\r\n\r\n")
        client.head()
        drain(pid)
        with pytest.raises(Cut):
            while client.chunk():
                pass
    assert left_by_itself(server, pid)
    assert "stubborn: cancelled" in server.log


def test_each_signal_to_the_worker_skips_a_step(serve: Serve) -> None:
    """SIGTERM to the worker itself: drain, however long the grace; the second cancels; the third cuts."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "300")
    pid = server.ready_pids()[0]
    with connect_to(server, pid) as client:
        assert ask(client, "stubborn") == "holding"
        drain(pid)
        eventually(lambda: drains(server, pid))
        again(server, pid, "cancelling handlers")
        assert hear(client) == "no"
        again(server, pid, "cutting connections")
        assert is_cut(client)
    assert left_by_itself(server, pid)


def again(server: Server, pid: int, said: str) -> None:
    """Send SIGTERM until the worker says so: two that come close together are one wish."""

    def attempt() -> bool:
        if said not in server.log and is_alive(pid):
            drain(pid)
        return f"SIGTERM again: {said}" in server.log

    eventually(attempt)


def test_two_signals_in_one_moment_are_one(serve: Serve) -> None:
    """A service manager signals every process, and the parent its workers: nobody is cancelled for that."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "300")
    pid = server.ready_pids()[0]
    with connect_to(server, pid) as client:
        assert ask(client, "echo before") == "before"
        os.kill(pid, signal.SIGSTOP)
        drain(pid)
        server.signal(signal.SIGTERM)
        eventually(lambda: "SIGTERM: stopping" in server.log)
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: drains(server, pid))
        assert ask(client, "echo after") == "after"
    assert server.wait() == 0
    assert "again" not in server.log


def test_stop_in_the_middle_of_a_drain(serve: Serve) -> None:
    """The drain of one worker becomes a stop of all: its idle connections end at once, and what is served is served."""
    server = serve(HTTP, "--workers", "2", "--graceful-timeout", "30")
    pid = server.ready_pids()[0]
    with http_connection_to(server, pid) as idle, http_connection_to(server, pid) as busy:
        busy.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234")
        eventually(lambda: sum(worker.active for worker in server.workers()) == 2)
        drain(pid)
        eventually(lambda: drains(server, pid))
        server.signal(signal.SIGTERM)
        assert idle.is_closed()
        busy.send(b"56789")
        assert busy.answer().body == b"0123456789"
    assert server.wait() == 0
    assert "SIGKILL" not in server.log


# ── the end of the worker ──


def heartbeats(server: Server, pid: int) -> list[int]:
    """Return the heartbeats of a worker, from now until it has left its slot."""
    beats: list[int] = []

    def look() -> bool:
        views = [worker for worker in server.workers() if worker.pid == pid]
        beats.extend(view.heartbeat_ns for view in views if view.heartbeat_ns not in (0, *beats[-1:]))
        return not views

    eventually(look)
    return beats


def test_heart_beats_through_drain_and_lifespan(serve: Serve) -> None:
    """A worker that takes half a second to drain and one to shut down is not taken for one that hangs."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "0.5", "--lifespan", f"{DRAINS}:slow")
    pid = server.ready_pids()[0]
    with connect_to(server, pid) as client:
        assert ask(client, "hold") == "holding"
        drain(pid)
        beats = heartbeats(server, pid)
    assert left_by_itself(server, pid)
    assert "shut down" in server.log
    assert beats[-1] - beats[0] > 1_000_000_000
    assert max(later - earlier for earlier, later in pairwise(beats)) < 3_000_000_000


def test_lifespan_that_does_not_end_is_bounded(serve: Serve) -> None:
    """Five seconds after the grace the parent ends it, and another worker takes the slot."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "0.1", "--lifespan", f"{DRAINS}:endless")
    first, second = server.ready_pids()
    drain(first)
    eventually(lambda: f"(pid {first}) did not leave in time: SIGKILL" in server.log)
    assert second in server.wait_workers(2)
    assert not is_alive(first)
    server.end()
