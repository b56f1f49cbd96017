"""Forked workers on one listener: connections are spread evenly, one is woken for each, and nobody is cut off."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from hybrid.shared.scoreboard import COUNT_MASK, NOT_ACCEPTING, Cell, Scoreboard
from hybrid.worker.acceptors.courtesy import CALM_S
from hybrid.worker.acceptors.intake import BEAT_S
from tests.process.accept_pool import Plan
from tests.support.eventually import eventually

SLOTS = 8
ROOT = Path(__file__).parents[2]


class Pool:
    """The pool program, its listener, its scoreboard, and its clients."""

    def __init__(self, loop: str, workers: int, accept: str = "shared") -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.scoreboard = Scoreboard.create(SLOTS, 0)
        self.clients: list[socket.socket] = []
        self.pids: dict[int, int] = {}
        self.mode = "exclusive" if accept == "shared" else "plain"
        fds = (self.listener.fileno(), self.scoreboard.fd)
        plan = Plan(loop, accept, *fds)
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.process.accept_pool", json.dumps(asdict(plan))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            cwd=ROOT,
            text=True,
        )
        try:
            for slot in range(workers):
                self.spawn(slot)
        except BaseException:
            self.close()
            raise

    def do(self, **command: object) -> dict[str, object]:
        """Have the pool obey a command; return its answer."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(command) + "\n")
        self._program.stdin.flush()
        answer: dict[str, object] = json.loads(self._program.stdout.readline())
        return answer

    def spawn(self, slot: int, descriptors: int | None = None) -> int:
        """Start a worker that accepts when this returns; return its pid."""
        answer = self.do(do="spawn", slot=slot, descriptors=descriptors)
        assert answer["mode"] == self.mode
        assert isinstance(answer["pid"], int)
        self.pids[slot] = answer["pid"]
        return answer["pid"]

    def kill(self, slot: int) -> None:
        """End a worker by SIGKILL and clear its row, as the parent does."""
        self.do(do="kill", slot=slot)
        del self.pids[slot]

    def cells(self) -> list[int]:
        """Return the ACTIVE cell of every slot used."""
        return list(self.scoreboard.active_column())

    def counts(self) -> list[int]:
        """Return the open connections of every slot used."""
        return [cell & COUNT_MASK for cell in self.cells()]

    def connect(self, count: int) -> list[socket.socket]:
        """Open connections, each after the one before was opened and every worker idle again; return them."""
        new = []
        for wanted in range(sum(self.counts()) + 1, sum(self.counts()) + count + 1):
            new.append(socket.create_connection(self.listener.getsockname()))
            eventually(lambda: self._is_idle_with(wanted))  # noqa: B023  # called before the next turn
        self.clients += new
        return new

    def _is_idle_with(self, held: int) -> bool:
        """Return whether workers hold so many, and sleep: one that does not is passed over by the next wake-up."""
        return sum(self.counts()) >= held and all(state(pid) in "ST" for pid in self.pids.values())

    def close(self) -> None:
        """End the pool and everything of it."""
        for client in self.clients:
            client.close()
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        try:
            self._program.wait(10)
        except subprocess.TimeoutExpired:
            self._program.kill()  # its workers see the end of their channels
            self._program.wait()
        self._program.stdout.close()
        self.listener.close()
        self.scoreboard.close()


@pytest.fixture(params=["uvloop", "asyncio"])
def make_pool(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Pool]]:
    pools: list[Pool] = []

    def make(workers: int) -> Pool:
        pools.append(Pool(request.param, workers))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def served(client: socket.socket) -> bool:
    """Return whether the client gets its bytes back; a reset or an end is a failure, not an answer."""
    client.settimeout(20)
    client.sendall(b"hello")
    return client.recv(5) == b"hello"


def state(pid: int) -> str:
    """Return the process state: S sleeps, T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def switches(pid: int) -> int:
    """Return how often the process went to sleep of itself: once for each time it was woken."""
    match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1])


def test_connections_that_stay_are_spread_evenly(make_pool: Callable[[int], Pool]) -> None:
    """200 connections on 4 workers: no worker holds more than two above another."""
    pool = make_pool(4)
    pool.connect(200)
    assert max(pool.counts()) - min(pool.counts()) <= 2, pool.counts()


def test_few_connections_are_spread_too(make_pool: Callable[[int], Pool]) -> None:
    """Eight connections on four workers reach all of them, though every worker was idle all the time."""
    pool = make_pool(4)
    pool.connect(8)
    assert min(pool.counts()) >= 1, pool.counts()
    assert max(pool.counts()) <= 3, pool.counts()


def test_a_burst_is_spread_too() -> None:
    """64 connections at once on two workers: seldom has one more than the other, as busy as the machine may be."""
    differences = []
    pool = Pool("uvloop", 2)
    try:
        for _ in range(7):
            burst = [socket.create_connection(pool.listener.getsockname()) for _ in range(64)]
            eventually(lambda: sum(pool.counts()) == 64)
            differences.append(max(pool.counts()) - min(pool.counts()))
            for client in burst:
                client.close()
            calm = time.monotonic() + 2 * CALM_S
            eventually(lambda: sum(pool.counts()) == 0 and time.monotonic() > calm)  # noqa: B023  # called before the next turn
    finally:
        pool.close()
    assert statistics.median(differences) <= 8, differences


def test_a_burst_does_not_wait_for_a_stopped_worker(make_pool: Callable[[int], Pool]) -> None:
    """The one that has the fewest takes none; the other one takes them all."""
    pool = make_pool(2)
    pool.connect(2)
    os.kill(pool.pids[0], signal.SIGSTOP)
    eventually(lambda: state(pool.pids[0]) == "T")
    pool.clients += (burst := [socket.create_connection(pool.listener.getsockname()) for _ in range(64)])
    eventually(lambda: sum(pool.counts()) == 66)
    assert all(served(client) for client in burst)
    os.kill(pool.pids[0], signal.SIGCONT)


def test_one_worker_is_woken_per_connection(make_pool: Callable[[int], Pool]) -> None:
    """No herd: 100 connections cost four idle workers about 100 wake-ups, not 400."""
    pool = make_pool(4)
    pool.connect(4)  # every loop has been through its first connection
    before, began = sum(map(switches, pool.pids.values())), time.monotonic()
    pool.connect(100)
    woken = sum(map(switches, pool.pids.values())) - before
    beats = 4 * (time.monotonic() - began + 1) / BEAT_S
    assert woken <= 150 + beats, (woken, beats)


def test_a_replaced_worker_is_filled_first(make_pool: Callable[[int], Pool]) -> None:
    """A worker that was killed and started again gets new connections until it holds as many as the others."""
    pool = make_pool(4)
    pool.connect(200)
    died = pool.counts()[0]
    pool.kill(0)
    assert pool.cells()[0] == NOT_ACCEPTING
    pool.connect(30)  # nobody waits for the dead one
    pool.spawn(0)
    before = pool.counts()
    pool.connect(40)
    assert pool.counts()[0] >= 30, (before, pool.counts())
    pool.connect(130)
    assert sum(pool.counts()) == 400 - died
    assert max(pool.counts()) - min(pool.counts()) <= 3, pool.counts()


def test_a_stopped_worker_keeps_nobody_waiting(make_pool: Callable[[int], Pool]) -> None:
    """While one worker is frozen the others are woken instead of it, though it holds the fewest."""
    pool = make_pool(3)
    pool.connect(3)
    os.kill(pool.pids[0], signal.SIGSTOP)
    eventually(lambda: state(pool.pids[0]) == "T")
    clients = pool.connect(40)
    assert pool.counts()[0] == 1
    assert all(served(client) for client in clients)
    os.kill(pool.pids[0], signal.SIGCONT)
    pool.connect(37)
    assert pool.counts()[0] >= 20, pool.counts()


def test_a_worker_that_leaves_loses_nobody(make_pool: Callable[[int], Pool]) -> None:
    """Connections that arrive while a worker leaves are served, by it or by another."""
    pool = make_pool(2)
    before = [socket.create_connection(pool.listener.getsockname()) for _ in range(30)]
    pool.clients += before
    pool.do(do="tell", slot=0, leave=True)
    after = pool.connect(30)
    assert all(served(client) for client in before + after)
    assert pool.cells()[0] & NOT_ACCEPTING


def test_a_worker_short_of_descriptors_leaves_connections_to_others(make_pool: Callable[[int], Pool]) -> None:
    """With connections using up its descriptors a worker stops in time, and comes back when some are closed."""
    pool = make_pool(1)
    pool.spawn(1, descriptors=64)
    clients = pool.connect(150)
    assert all(served(client) for client in clients)
    assert pool.cells()[1] & NOT_ACCEPTING
    assert 20 < pool.counts()[1] < 56
    for client in clients:
        client.close()
    eventually(lambda: sum(pool.cells()) == 0)
    pool.connect(20)
    assert min(pool.counts()) >= 8, pool.counts()


def test_files_of_the_app_cut_nobody_off(make_pool: Callable[[int], Pool]) -> None:
    """A worker whose app opens every file it can leaves its clients in the queue, and serves them afterwards."""
    pool = make_pool(0)
    pid = pool.spawn(0, descriptors=128)
    held = pool.connect(5)
    pool.do(do="tell", slot=0, files=128 - 4 - len(os.listdir(f"/proc/{pid}/fd")))
    eventually(lambda: pool.cells()[0] & NOT_ACCEPTING)
    pool.do(do="tell", slot=0, files=1000)  # until open() fails
    waiting = [socket.create_connection(pool.listener.getsockname()) for _ in range(20)]
    pool.clients += waiting
    assert all(served(client) for client in held)
    poll = select.poll()
    for client in waiting:
        poll.register(client, select.POLLIN)  # an end or a reset would show
    assert poll.poll(0) == []
    pool.do(do="tell", slot=0, files=0)
    assert all(served(client) for client in waiting)
    pool.do(do="tell", slot=0)
    assert pool.scoreboard.row(0)[Cell.PAUSES] == 1


def test_asyncio_without_a_descriptor_cuts_nobody_off() -> None:
    """On asyncio even a failed accept leaves the client in the queue, and the listener as it was."""
    pool = Pool("asyncio", 0)
    try:
        pool.spawn(0, descriptors=64)
        pool.do(do="tell", slot=0, files=1000)
        pool.clients += (client := [socket.create_connection(pool.listener.getsockname())])
        eventually(lambda: pool.cells()[0] & NOT_ACCEPTING)
        pool.do(do="tell", slot=0, files=0)
        assert served(client[0])
    finally:
        pool.close()
