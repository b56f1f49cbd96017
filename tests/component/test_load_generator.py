"""The load generator counts exactly: what was served, reset, refused, cut short, late; against a tiny server."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from hybrid.bench.jobs import TO_CLOSE, Job, Mode, Reply
from hybrid.bench.load import Clients, honesty
from hybrid.bench.measure import tree, tree_cpu_ns, tree_switches
from hybrid.bench.probe import probe
from hybrid.ground.errors import HybridError
from tests.support.eventually import eventually
from tests.support.ports import closed_port
from tests.support.server import is_alive

SIZE = 4000
ABORT = struct.pack("ii", 1, 0)

Serve = Callable[[int, socket.socket], None]
"""Is given the connection's number and the socket, which is closed afterwards."""


def fetch(_number: int, sock: socket.socket) -> None:
    """Read a line, answer, close."""
    if sock.recv(64):
        sock.sendall(b"x" * SIZE)


def reset_every_fourth(number: int, sock: socket.socket) -> None:
    """Close some without a word, so hard that the client gets a reset."""
    sock.recv(64)
    if number % 4 == 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    else:
        sock.sendall(b"x" * SIZE)


def half(_number: int, sock: socket.socket) -> None:
    """Send half of what was asked for."""
    sock.recv(64)
    sock.sendall(b"x" * (SIZE // 2))


def mute(_number: int, sock: socket.socket) -> None:
    """Read until the client gives up."""
    while sock.recv(64):
        pass


def echo(_number: int, sock: socket.socket) -> None:
    """Send everything back."""
    while data := sock.recv(4096):
        sock.sendall(data)


class TinyServer:
    """One thread that accepts, one for each connection. Closes: the listener; connections end with their clients."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.open = 0
        self.accepted = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                number, self.accepted, self.open = self.accepted, self.accepted + 1, self.open + 1
            threading.Thread(target=self._run, args=(number, sock), daemon=True).start()

    def _run(self, number: int, sock: socket.socket) -> None:
        try:
            with sock:
                self._serve(number, sock)
        except OSError:
            pass
        with self._lock:
            self.open -= 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with Clients(2) as running:
        yield running


@pytest.fixture
def tiny() -> Iterator[Callable[[Serve], TinyServer]]:
    servers: list[TinyServer] = []

    def start(serve: Serve) -> TinyServer:
        servers.append(TinyServer(serve))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


Tiny = Callable[[Serve], TinyServer]


def job(mode: Mode, server: TinyServer, **details: object) -> Job:
    """Return the textbook's load in some mode."""
    given = {"request": f"{SIZE}\n", "reply": Reply(TO_CLOSE, SIZE), "timeout_s": 5.0, **details}
    return Job(mode, server.port, **given)  # type: ignore[arg-type]  # checked at run time


def test_schedule_is_served_to_the_last_connection(clients: Clients, tiny: Tiny) -> None:
    """As many samples as slots, none lost, and the server saw as many."""
    server = tiny(fetch)
    outcome = clients.run(job(Mode.OPEN, server, per_s=400, for_s=0.25))
    assert (outcome.planned, outcome.completed, outcome.lost) == (100, 100, 0)
    assert server.accepted == 100 and len(outcome.lags_s) == 100
    assert all(sample > 0 for sample in outcome.latencies_s)


def test_burst_opens_all(clients: Clients, tiny: Tiny) -> None:
    """Counted on both sides."""
    server = tiny(fetch)
    outcome = clients.run(job(Mode.BURST, server, connections=75))
    assert (outcome.completed, outcome.lost, server.accepted) == (75, 0, 75)


def test_closed_loop_keeps_no_more_than_its_number(clients: Clients, tiny: Tiny) -> None:
    """However fast the server is."""
    most = 0

    def watched(number: int, sock: socket.socket) -> None:
        nonlocal most
        most = max(most, server.open)
        fetch(number, sock)

    server = tiny(watched)
    outcome = clients.run(job(Mode.CLOSED, server, connections=5, for_s=0.2))
    assert outcome.completed == server.accepted > 5 and outcome.lost == 0
    # A client has the end of the reply a moment before our thread has counted the connection down.
    assert 1 <= most <= 10


def test_resets_are_counted(clients: Clients, tiny: Tiny) -> None:
    """Every fourth, neither more nor less."""
    outcome = clients.run(job(Mode.OPEN, tiny(reset_every_fourth), per_s=400, for_s=0.25))
    assert (outcome.reset, outcome.completed, outcome.lost) == (25, 75, 25)


def test_refusals_are_counted(clients: Clients, tiny: Tiny) -> None:
    """Nobody listens."""
    with closed_port() as port:
        found = clients.run(Job(Mode.OPEN, port, per_s=200, for_s=0.2, request="x"))
    assert (found.refused, found.completed, found.lost) == (40, 0, 40)


def test_short_replies_are_no_success(clients: Clients, tiny: Tiny) -> None:
    """An orderly end before the end."""
    outcome = clients.run(job(Mode.BURST, tiny(half), connections=10))
    assert (outcome.short, outcome.completed) == (10, 0)


def test_silence_is_a_timeout(clients: Clients, tiny: Tiny) -> None:
    """After the time that the job says."""
    outcome = clients.run(job(Mode.BURST, tiny(mute), connections=6, timeout_s=0.2))
    assert (outcome.timed_out, outcome.completed) == (6, 0)


def test_falling_behind_is_detected(clients: Clients) -> None:
    """A schedule that no client can keep: it says so, and still does every slot of it."""
    with closed_port() as port:
        outcome = clients.run(Job(Mode.OPEN, port, per_s=2_000_000, for_s=0.02, request="x"))
    assert outcome.planned == outcome.lost == 40_000
    assert "behind their schedule" in honesty([outcome]).problem


def test_special_request_is_timed_apart(clients: Clients, tiny: Tiny) -> None:
    """Who asks for a block is not among those that had to wait for it."""

    def serve(_number: int, sock: socket.socket) -> None:
        sock.sendall(b"y" if sock.recv(64) == b"block\n" else b"x" * SIZE)

    given = job(Mode.OPEN, tiny(serve), per_s=200, for_s=0.5, special="block\n", special_every_s=0.2)
    outcome = clients.run(given)
    assert (len(outcome.special_s), len(outcome.latencies_s), outcome.lost) == (2, 98, 0)


def test_held_connections_stay_until_released(clients: Clients, tiny: Tiny) -> None:
    """A second job adds to the first; release closes all."""
    server = tiny(mute)
    assert clients.run(job(Mode.HOLD, server, connections=15, per_s=500)).held == 15
    assert clients.run(job(Mode.HOLD, server, connections=6, per_s=500)).held == 21
    eventually(lambda: server.open == 21)
    clients.run(job(Mode.RELEASE, server))
    eventually(lambda: server.open == 0)


def test_steady_load_exchanges_messages_on_the_same_connections(clients: Clients, tiny: Tiny) -> None:
    """As fast as they are answered."""
    server = tiny(echo)
    given = job(Mode.STEADY, server, connections=4, for_s=0.2, request="hello\n", reply=Reply("bytes", 6))
    outcome = clients.run(given)
    assert outcome.completed > 20 and outcome.lost == 0 and server.accepted == 4


def test_steady_load_at_a_rate_sends_every_message(clients: Clients, tiny: Tiny) -> None:
    """Those that come while the reply before is missing wait, and are counted from when they were due."""
    given = job(Mode.STEADY, tiny(echo), connections=3, per_s=400, for_s=0.25, request="hello\n", reply=Reply("line"))
    outcome = clients.run(given)
    assert (outcome.planned, outcome.completed, outcome.lost) == (100, 100, 0)


def test_message_without_a_reply_times_out(clients: Clients, tiny: Tiny) -> None:
    """Each that was sent, and no other."""
    given = job(Mode.STEADY, tiny(mute), connections=3, for_s=0.05, timeout_s=0.2, request="x", reply=Reply("bytes", 1))
    assert clients.run(given).timed_out == 3


def test_waiting_for_those_that_are_never_answered_is_not_loaded_time(clients: Clients, tiny: Tiny) -> None:
    """Half of the connections get no thread: the rate is of the window, not of the wait for the timeout after it."""

    def first_two(number: int, sock: socket.socket) -> None:
        (echo if number < 2 else mute)(number, sock)

    details = {"connections": 4, "for_s": 0.2, "timeout_s": 0.6, "request": "hello\n", "reply": Reply("bytes", 6)}
    outcome = clients.run(job(Mode.STEADY, tiny(first_two), **details))
    assert outcome.wall_s > 0.6 and outcome.timed_out == 2
    assert 0.15 < outcome.window_s < 0.4
    assert 20 < outcome.within <= outcome.completed


def test_reply_after_the_timeout_is_lost(clients: Clients, tiny: Tiny) -> None:
    """It counts once, as a timeout; nobody would have waited for it."""
    late = threading.Event()

    def answers_late(_number: int, sock: socket.socket) -> None:
        sock.recv(64)
        late.wait(0.3)
        sock.sendall(b"hello\n")

    details = {"connections": 2, "for_s": 0.5, "timeout_s": 0.1, "request": "hello\n", "reply": Reply("bytes", 6)}
    outcome = clients.run(job(Mode.STEADY, tiny(answers_late), **details))
    assert (outcome.completed, outcome.within) == (0, 0) and outcome.timed_out >= 2


def test_probe_finds_out_how_replies_end(tiny: Tiny) -> None:
    """By the server's close, after some bytes; silence and a bare end are errors that say what to do."""
    assert probe(tiny(fetch).port, b"4000\n") == Reply(TO_CLOSE)
    assert probe(tiny(echo).port, b"hello\n") == Reply("bytes", 6)
    with pytest.raises(HybridError, match="Say what to ask with --request"):
        probe(tiny(lambda _number, sock: None).port, b"hello\n")


def test_clients_end_with_their_input() -> None:
    """Also when nobody tells them to: a bench that is killed leaves none behind."""
    running = Clients(2)
    pids = running.pids
    assert all(is_alive(pid) for pid in pids)
    running.close()
    assert not any(is_alive(pid) for pid in pids)


def test_lost_client_is_an_error(tiny: Tiny) -> None:
    """Not a hang, not a smaller figure."""
    server = tiny(fetch)
    with Clients(2) as running:
        running.start(job(Mode.OPEN, server, per_s=10, for_s=5))
        os.kill(running.pids[0], 9)
        with pytest.raises(HybridError, match="is gone"):
            running.collect()


def test_cpu_of_a_thread_that_ended_is_counted() -> None:
    """schedstat would have forgotten it: it lists living threads only."""

    def work() -> None:
        sum(range(2_000_000))

    before = tree_cpu_ns(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert tree_cpu_ns(os.getpid()) - before > 1_000_000


def test_tree_holds_children_and_their_switches(clients: Clients) -> None:
    """Whoever is below counts."""
    assert set(clients.pids) <= set(tree(os.getpid()))
    assert tree_switches(os.getpid()) > 0
