"""The contract of every model, with real processes: what the pool promises, whoever accepts.

One server for each model and kind of handler, two workers, for all tests that leave it as they found it.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life
from hybrid.shared.models import MODELS
from tests.support.clients import ask, connect_to, crowd, hear, is_cut, say
from tests.support.eventually import eventually
from tests.support.parent_hand import Hand, is_away
from tests.support.server import Server, kept_descriptors, running
from tests.support.variations import mostly_long

LOOP, THREADED = "tests.apps.knobs:knobs", "tests.apps.blocking:knobs"
THREADS = "8"
PAIRS = {
    **{f"{name}-loop": (name, LOOP) for name, model in MODELS.items() if model.loop},
    **{f"{name}-threaded": (name, THREADED) for name, model in MODELS.items() if model.threaded},
}
SHORT = (
    "shared-loop",
    "passing-loop",
    "locked=robust-threaded",
    "reuseport-threaded",
    "threads-threaded",
    "fork-threaded",
)
"""One of each way: the others differ in what tests/component/test_every_acceptor.py tests without processes."""
NAMES = mostly_long(PAIRS, SHORT.__contains__)
OWN_QUEUES = ("reuseport",)
"""Models in which a worker that does not run keeps those waiting who are in its queue."""


@dataclass(frozen=True)
class Case:
    """A running server, and what it is."""

    model: str
    target: str
    server: Server

    def slot_of(self, client: socket.socket) -> int:
        """Return the slot of the worker that serves this client."""
        pid = int(ask(client, "pid parent" if self.model == "fork" else "pid"))
        return next(worker.slot for worker in self.server.workers() if worker.pid == pid)

    def settled(self) -> list[int]:
        """Wait until both workers serve and nobody is connected; return their pids."""
        eventually(lambda: sum(worker.active for worker in self.server.workers()) == 0)
        return self.server.wait_workers(2)

    def without(self, *gone: int) -> None:
        """Wait until both workers serve, none of which is one of these, and nobody is connected."""
        eventually(lambda: not set(gone) & set(self.settled()))


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    model, target = PAIRS[request.param]
    arguments = ("--accept", model, "--workers", "2", "--bind", "127.0.0.1:0", "--threads", THREADS)
    log = tmp_path_factory.mktemp("model") / "server.log"
    with running(target, *arguments, "--graceful-timeout", "5", log=log) as server:
        yield Case(model, target, server.wait_ready())


def freeze(pid: int) -> None:
    """Stop a process; return when every thread of it stands still."""
    os.kill(pid, signal.SIGSTOP)
    stats = [Path(f"/proc/{pid}/task/{task}/stat") for task in os.listdir(f"/proc/{pid}/task")]
    eventually(lambda: all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats))


@contextmanager
def connected(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Hold so many connections for the length of a block."""
    with ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(count)]


def test_clients_are_served_and_counted(case: Case) -> None:
    """Everybody is served, the boot line says how, and the scoreboard counts who is there and who was."""
    case.settled()
    server = case.server
    assert f"accept {case.model} (" in server.log
    before = sum(worker.accepted for worker in server.workers())
    with connected(server, 12) as clients:
        for number, client in enumerate(clients):
            assert ask(client, f"echo {number}") == str(number)
        assert sum(worker.active for worker in server.workers()) == 12
    eventually(lambda: sum(worker.active for worker in server.workers()) == 0)
    eventually(lambda: sum(worker.accepted for worker in server.workers()) == before + 12)


def test_handler_error_costs_its_connection(case: Case) -> None:
    """The client is cut, the error is logged and counted, the next one is served."""
    case.settled()
    server = case.server
    before = sum(worker.errors for worker in server.workers())
    with server.connect() as client:
        say(client, "fail by-design")
        assert is_cut(client)
    eventually(lambda: sum(worker.errors for worker in server.workers()) == before + 1)
    assert "ZeroDivisionError: by-design" in server.log
    with server.connect() as client:
        assert ask(client, "echo on") == "on"


def test_parked_worker_takes_nothing_until_it_is_unparked(case: Case) -> None:
    """Parked, it serves whom it has, and newcomers are the other's; un-parked, it takes its part again."""
    case.settled()
    server = case.server
    with Hand(server, 0) as hand:
        with server.connect() as client:
            held_by = case.slot_of(client)
            hand.park()
            eventually(lambda: _none_is_of(case, 0))  # what it was just woken for is still its own
            assert ask(client, "echo held") == "held"
            for _ in range(6):
                with server.connect() as other:
                    assert case.slot_of(other) == 1
            assert ask(client, "echo held") == "held"
            assert case.slot_of(client) == held_by
        hand.unpark()
        eventually(lambda: _one_is_of(case, 0))


def _none_is_of(case: Case, slot: int) -> bool:
    """Return whether none of 24 more clients is, six at a time: six all miss one of two queues once in 64 times."""
    return not any(_one_is_of(case, slot) for _ in range(4))


def _one_is_of(case: Case, slot: int) -> bool:
    """Return whether one of six more clients is served by this worker."""
    with connected(case.server, 6) as clients:
        return slot in [case.slot_of(client) for client in clients]


def test_killed_worker_costs_only_whom_it_served(case: Case) -> None:
    """SIGKILL under load: nobody is refused, nobody hangs, what the others serve goes on."""
    first, second = case.settled()
    with crowd(case.server) as people:
        people.wait_more(20)
        os.kill(first, signal.SIGKILL)
        people.wait_more(60)
        os.kill(second, signal.SIGKILL)
        people.wait_more(60)
    assert people.refused == []
    if case.model != "fork":  # its children outlive their worker
        assert set(people.lost) <= {first, second, 0}
    assert len(people.lost) <= 8  # four clients at a time, twice
    case.without(first, second)


def test_worker_that_is_terminated_loses_nobody(case: Case) -> None:
    """SIGTERM to one worker under load: it drains, another takes its place, everybody is served."""
    for pid in case.settled():
        with crowd(case.server) as people:
            people.wait_more(20)
            os.kill(pid, signal.SIGTERM)
            people.wait_more(60)
        assert (people.lost, people.refused) == ([], [])
        case.without(pid)


def test_queue_behind_a_killed_worker_is_served(case: Case) -> None:
    """A worker is frozen while clients come, then killed: those it had not begun to serve are all served."""
    pids = case.settled()
    freeze(pids[0])
    with connected(case.server, 14) as clients:
        for client in clients:
            say(client, "echo here")
        os.kill(pids[0], signal.SIGKILL)
        assert [hear(client) for client in clients] == ["here"] * len(clients)
    case.without(pids[0])


def test_killed_idle_worker_takes_no_turn_with_it(case: Case) -> None:
    """Each worker is killed while nobody comes, also the one that holds the lock: the next client is served."""
    for pid in case.settled():
        os.kill(pid, signal.SIGKILL)
        with connected(case.server, 3) as clients:
            for client in clients:
                assert ask(client, "echo next") == "next"
        case.without(pid)


def test_blocked_loop_keeps_at_most_one_waiting(case: Case) -> None:
    """A handler holds its worker's loop: the others serve; what that worker has taken waits, one at most."""
    if case.target != LOOP:
        pytest.skip("blocking handlers block no loop")
    blocked = case.settled()[0]
    with connect_to(case.server, blocked) as culprit:
        assert ask(culprit, "block") == "blocking"
        eventually(lambda: beat_s_ago(case.server, blocked) > 0.6)
        with connected(case.server, 10) as clients:
            for client in clients:
                say(client, "echo here")
            if case.model in OWN_QUEUES:  # its whole queue waits, until it is gone
                os.kill(blocked, signal.SIGKILL)
            eventually(lambda: len(answered(clients)) >= len(clients) - 1)
            with suppress(ProcessLookupError):
                os.kill(blocked, signal.SIGKILL)
            assert set(answered(clients)) == {"here"}
    case.without(blocked)


def beat_s_ago(server: Server, pid: int) -> float:
    """Return how long the loop of this worker has not turned; it beats four times a second."""
    (beat_ns,) = (worker.heartbeat_ns for worker in server.workers() if worker.pid == pid)
    return (monotonic_ns() - beat_ns) / 1e9


def answered(clients: list[socket.socket]) -> list[str]:
    """Return what those have been answered that have been, without waiting."""
    said = []
    for client in clients:
        client.setblocking(False)
        with suppress(BlockingIOError, ConnectionResetError):
            said.append(client.recv(64, socket.MSG_PEEK).decode().rstrip("\n"))
    return [each for each in said if each]  # who was cut off was answered nothing


def test_stopped_worker_keeps_nobody_else_waiting(case: Case) -> None:
    """SIGSTOP: the others serve; but one that holds the lock, or has a queue of its own, has to run again first."""
    pids = case.settled()
    freeze(pids[0])
    try:
        with connected(case.server, 8) as clients:
            for client in clients:
                say(client, "echo here")
            if case.model.startswith("locked") or case.model in OWN_QUEUES:
                os.kill(pids[0], signal.SIGCONT)
            assert [hear(client) for client in clients] == ["here"] * len(clients)
    finally:
        os.kill(pids[0], signal.SIGCONT)
    assert case.settled() == pids


def test_worker_short_of_descriptors_leaves_clients_to_the_other(case: Case) -> None:
    """One worker may open no more files: nobody is cut off, the other one serves, and it comes back."""
    pids = case.settled()
    before = resource.prlimit(pids[0], resource.RLIMIT_NOFILE)
    try:
        with Hand(case.server, 0) as hand:
            resource.prlimit(pids[0], resource.RLIMIT_NOFILE, (kept_descriptors(pids[0]) + 4, before[1]))
            hand.look()  # as it does by itself each second, and more often when many come
            eventually(lambda: is_away(case.server, 0))
            eventually(lambda: _none_is_of(case, 0))
            with connected(case.server, 8) as clients:
                for number, client in enumerate(clients):
                    assert ask(client, f"echo {number}") == str(number)
                    assert case.slot_of(client) == 1
    finally:
        resource.prlimit(pids[0], resource.RLIMIT_NOFILE, before)
    assert case.settled() == pids
    eventually(lambda: not any(is_away(case.server, slot) for slot in (0, 1)))
    assert "descriptors run short" in case.server.log


@pytest.mark.parametrize("name", mostly_long(PAIRS, ("shared-loop", "passing-loop", "threads-threaded").__contains__))
def test_limit_is_kept_and_a_stop_cuts_nobody(tmp_path: Path, name: str) -> None:
    """Two workers of one connection each: the third client waits for a place; at SIGTERM who is there is served on."""
    model, target = PAIRS[name]
    limits = ("--limit-connections", "1", "--threads", "1", "--bind", "127.0.0.1:0")
    with running(target, "--accept", model, "--workers", "2", *limits, log=tmp_path / "log") as server:
        server.wait_ready()
        with ExitStack() as stack:
            first, second = (stack.enter_context(server.connect()) for _ in range(2))
            assert ask(first, "echo one") == "one"
            assert ask(second, "echo two") == "two"
            third = stack.enter_context(server.connect())
            say(third, "echo three")
            assert ask(first, "echo still") == "still"
            # With reuseport a worker looks after other queues than its own, and each may bring it one too many.
            assert sum(worker.active for worker in server.workers()) in ((2, 3) if model == "reuseport" else (2,))
            first.close()
            assert hear(third) == "three"
            server.signal(signal.SIGTERM)
            eventually(lambda: all(worker.life is Life.DRAINING for worker in server.workers()))
            assert [ask(client, "echo last") for client in (second, third)] == ["last", "last"]
        assert server.wait() == 0, server.log
        assert not server.everyone()
        assert "error" not in server.log
