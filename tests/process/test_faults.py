"""What nobody asked for: a parent that is killed, descriptors that run out, a log that takes nothing."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybrid.ground.states import Life
from hybrid.shared.procfs import open_descriptors
from hybrid.shared.scoreboard import Cell
from tests.process.conftest import Serve
from tests.support.clients import ask, connect_to, hear, is_cut
from tests.support.eventually import eventually
from tests.support.server import Server, children, is_alive, stat_fields

KNOBS = "tests.apps.knobs:knobs"
FEW = 8
"""Descriptors below this number are taken for as long as the process lives; poll(2) wants no fewer than it watches."""


def loses_its_parent(server: Server) -> list[int]:
    """Kill the parent; return who is left for now."""
    left = [pid for pid in server.everyone() if pid != server.pid]
    server.signal(signal.SIGKILL)
    server.wait()
    return left


def is_gone(pids: list[int]) -> None:
    """Wait until none of the processes lives."""
    eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_parent_killed_workers_drain_and_leave(serve: Serve) -> None:
    """SIGKILL of the parent: handlers see conn.draining and finish; mold and workers leave; nothing stays."""
    server = serve(KNOBS, "--workers", "2")
    with server.connect() as client:
        assert ask(client, "finish") == "serving"
        left = loses_its_parent(server)
        assert len(left) == 3
        assert hear(client) == "draining"
        assert is_cut(client)
    is_gone(left)
    assert not server.everyone()


def test_parent_killed_the_grace_still_counts(serve: Serve) -> None:
    """An orphaned worker takes no longer than one that was told to stop: it cancels, then cuts."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "0.2")
    with server.connect() as client, server.connect() as stubborn:
        assert ask(client, "hold") == "holding"
        assert ask(stubborn, "stubborn") == "holding"
        left = loses_its_parent(server)
        assert hear(client) == "cancelled"
        assert is_cut(stubborn)
    is_gone(left)
    assert "the loop did not drain in time" not in server.log


def test_parent_killed_a_blocked_worker_is_ended_by_its_watchdog(serve: Serve) -> None:
    """A loop that does not turn cannot drain: the process ends grace + 5 s later, were it the last one forked."""
    server = serve(KNOBS, "--workers", "3", "--graceful-timeout", "0.1")
    killed, second, _third = server.ready_pids()
    os.kill(killed, signal.SIGKILL)
    first = eventually(lambda: pids[0] if len(pids := server.ready_pids()) == 3 and killed not in pids else 0)
    with connect_to(server, first) as one, connect_to(server, second) as two:
        assert ask(one, "block") == ask(two, "block") == "blocking"
        left = loses_its_parent(server)
        is_gone(left)
        assert is_cut(one) and is_cut(two)
    for slot in (0, 1):
        assert f"[worker {slot}] error   the parent is gone and the loop did not drain in time" in server.log


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_parent_killed_during_an_import_that_hangs(serve: Serve, tmp_path: Path, preload: str) -> None:
    """A mold or a worker that never finishes its import does not outlive the parent either."""
    mark = tmp_path / "mark"
    arguments = ("--workers", "2", "--preload", preload, "--graceful-timeout", "0.1")
    env = {**os.environ, "MARK": str(mark)}
    server = serve("tests.apps.slow_import:knobs", *arguments, env=env, ready=False)
    eventually(lambda: mark.exists() and mark.read_text().count("importing") == (1 if preload == "auto" else 2))
    is_gone(loses_its_parent(server))


def test_parent_and_mold_killed_together(serve: Serve) -> None:
    """Workers need neither to leave in an orderly way."""
    server = serve(KNOBS, "--workers", "2")
    mold = server.mold_pid()
    with server.connect() as client:
        assert ask(client, "finish") == "serving"
        os.kill(mold, signal.SIGKILL)
        left = loses_its_parent(server)
        assert hear(client) == "draining"
    is_gone(left)


def test_parent_killed_a_stopped_worker_leaves(serve: Serve) -> None:
    """SIGSTOP and then an orphan: the kernel lets it go on, and it finds the parent gone."""
    server = serve(KNOBS, "--workers", "2")
    first, _second = server.ready_pids()
    os.kill(first, signal.SIGSTOP)
    eventually(lambda: stat_fields(first)[0] == "T")
    is_gone(loses_its_parent(server))


def test_address_of_a_killed_server_can_be_had_at_once(serve: Serve, tmp_path: Path) -> None:
    """Port and socket file that a killed parent left are taken over by the next server."""
    path = tmp_path / "server.sock"
    first = serve(KNOBS, "--workers", "1", "--bind", "127.0.0.1:0", "--bind", f"unix:{path}", "--pid", f"{path}.pid")
    is_gone(loses_its_parent(first))
    assert path.is_socket()
    second = serve(KNOBS, "--workers", "1", "--bind", first.address, "--bind", f"unix:{path}", "--pid", f"{path}.pid")
    for address in (first.address, f"unix:{path}"):
        with second.connect(address) as client:
            assert ask(client, "echo mine") == "mine"


def test_parent_without_descriptors_mends_the_pool_later(serve: Serve) -> None:
    """EMFILE in the parent is a condition: it says so, tries again, and ends nothing."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    mold = server.mold_pid()
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (FEW, limits[1]))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: "cannot fork worker 0: Too many open files; again in" in server.log)
    os.kill(mold, signal.SIGKILL)
    eventually(lambda: "cannot start the mold: Too many open files" in server.log)
    with server.connect() as client:
        assert ask(client, "pid") == str(second)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    assert second in server.wait_workers(2)
    assert server.stop() == 0


def test_mold_without_descriptors_says_so(serve: Serve) -> None:
    """EMFILE in the mold: the worker's channel cannot be received; asked again later."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    mold = server.mold_pid()
    limits = resource.prlimit(mold, resource.RLIMIT_NOFILE)
    resource.prlimit(mold, resource.RLIMIT_NOFILE, (FEW, limits[1]))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: "cannot fork worker 0: Too many open files; again in" in server.log)
    held = len(open_descriptors(mold))
    eventually(lambda: server.log.count("Too many open files") >= 2)
    assert len(open_descriptors(mold)) == held
    resource.prlimit(mold, resource.RLIMIT_NOFILE, limits)
    assert second in server.wait_workers(2)
    assert server.mold_pid() == mold


def test_mold_that_lies_about_a_fork_is_not_believed(serve: Serve) -> None:
    """The parent has more rights than the app: it takes hold of, and signals, none but its own children."""
    victim = subprocess.Popen(["sleep", "600"])
    try:
        env = {**os.environ, "VICTIM": str(victim.pid)}
        arguments = ("--workers", "1", "--boot-attempts", "2")
        server = serve("tests.apps.lies_about_forks:knobs", *arguments, env=env, ready=False)
        assert server.wait() == 3
        assert f"cannot fork worker 0: process {victim.pid} is no child" in server.log
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_log_on_a_full_disk_stops_nobody(serve: Serve) -> None:
    """A log file that takes nothing: the pool is watched, mended and stopped as ever."""
    server = serve(KNOBS, "--workers", "2", "--log-file", "/dev/full")
    first, second = server.ready_pids()
    with connect_to(server, second) as client:
        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(pids := server.ready_pids()) == 2 and first not in pids)
        assert ask(client, "fail unheard") == ""
    assert server.stop() == 0


def test_log_pipe_that_nobody_reads_stops_nobody(serve: Serve, tmp_path: Path) -> None:
    """A reader that hangs, and then goes away, is waited for neither by workers nor by the parent."""
    path = tmp_path / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        server = serve(KNOBS, "--workers", "1", "--log-file", str(path))
        for _ in range(100):  # some 1.5 kB of traceback each, and a pipe holds 64 kB
            with server.connect() as client:
                assert ask(client, "fail unread") == ""
        (pid,) = server.ready_pids()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(pids := server.ready_pids()) == 1 and pid not in pids)
    finally:
        os.close(reader)
    with server.connect() as client:
        assert ask(client, "fail unheard") == ""
    assert server.stop() == 0


HELD_FORKS = '''
"""Its mold takes as long to say that it has forked as the file in ``HOLD`` exists, and writes its pid there."""

import os
import time

from tests.apps.knobs import knobs

MOLD = os.getpid()


def hold() -> None:
    while os.getpid() == MOLD and os.path.exists(os.environ["HOLD"]):
        time.sleep(0.005)


os.register_at_fork(after_in_parent=hold)
if os.path.exists(os.environ["HOLD"]):
    with open(os.environ["HOLD"], "w") as file:
        file.write(str(MOLD))
'''


@dataclass(frozen=True)
class Held:
    """A server whose only worker is ready while its mold has not yet said that it forked it."""

    server: Server
    address: str
    hold: Path

    def echoes(self) -> bool:
        """Return whether a worker answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            if client.connect_ex(self.address.removeprefix("unix:")):
                return False
            return ask(client, "echo mine") == "mine"


@pytest.fixture
def held(serve: Serve, tmp_path: Path) -> Held:
    """Return a server in the state between READY and FORKED."""
    (tmp_path / "app.py").write_text(HELD_FORKS)
    hold, address = tmp_path / "hold", f"unix:{tmp_path / 'held.sock'}"
    hold.touch()
    env = {**os.environ, "HOLD": str(hold)}
    arguments = ("--workers", "1", "--bind", address)
    server = serve(f"{tmp_path / 'app.py'}:knobs", *arguments, env=env, ready=False)
    held = Held(server, address, hold)
    eventually(held.echoes)
    return held


def test_worker_that_is_ready_before_its_fork_is_reported_serves(held: Held) -> None:
    """READY overtakes FORKED where the app slows the mold's side of a fork: the worker is not taken for a leaver."""
    (worker,) = held.server.workers()
    assert (worker.life, worker.pid) == (Life.STARTING, 0)
    held.hold.unlink()
    held.server.wait_ready()
    (pid,) = held.server.ready_pids()
    with held.server.connect() as client:
        assert ask(client, "pid") == str(pid)
    assert held.server.stop() == 0
    assert "pid 0" not in held.server.log and "drains" not in held.server.log


def test_mold_killed_before_it_reports_a_worker_that_is_ready(held: Held) -> None:
    """The worker that nobody reported leaves; another mold brings forth another."""
    mold = int(held.hold.read_text())
    (orphan,) = [pid for pid in held.server.everyone() if pid not in (mold, held.server.pid)]
    os.kill(mold, signal.SIGKILL)
    is_gone([orphan])
    held.hold.unlink()
    held.server.wait_ready()
    assert orphan not in held.server.wait_workers(1)
    assert held.echoes()
    assert held.server.stop() == 0


def test_longest_grace_does_not_end_the_parent(serve: Serve) -> None:
    """poll(2) takes milliseconds in a C int: a deadline beyond that is waited for in pieces."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "2147483", "--boot-timeout", "2147483")
    (pid,) = server.ready_pids()
    with server.connect() as client:
        assert ask(client, "hold") == "holding"
        server.signal(signal.SIGTERM)
        eventually(lambda: children(server.pid) == [pid])
        server.signal(signal.SIGQUIT)
        assert is_cut(client)
    assert server.wait() == 0


def test_garbage_in_the_scoreboard_ends_nobody(serve: Serve) -> None:
    """Every process writes there: the parent stores numbers, and reckons with its own."""
    server = serve(KNOBS, "--workers", "1")
    (pid,) = server.ready_pids()
    board = server._scoreboard()
    try:
        row = board.row(0)
        row.cells[:] = memoryview(b"\xff" * row.cells.nbytes).cast("Q")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: row[Cell.LIFE] == Life.READY and row[Cell.PID] not in (pid, 0))
        assert row[Cell.SPAWNS] == 2
    finally:
        board.close()
    assert server.stop() == 0


FLOOD = '''
"""Leaves children that talk into their worker's channel without end, faster than anybody can listen."""

import os
import socket

from hybrid.shared.messages import Op, Record
from tests.apps.knobs import KNOBS, knobs


def _channel() -> socket.socket:
    for name in os.listdir("/proc/self/fd"):
        try:
            channel = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if channel.family == socket.AF_UNIX and channel.type == socket.SOCK_SEQPACKET:
            return channel
    raise LookupError


async def flood(conn, argument):
    channel, ready = _channel(), Record(Op.READY).pack()
    channel.setblocking(True)
    for _ in range(4):
        if os.fork() == 0:
            try:
                while True:
                    channel.send(ready)
            finally:
                os._exit(0)
    await conn.send(b"%d\\n" % os.getpid())


KNOBS["flood"] = flood
'''


def test_channel_that_is_flooded_does_not_hold_the_parent(serve: Serve, tmp_path: Path) -> None:
    """What a dead worker's children say in its name is heard for a while, not for ever."""
    (tmp_path / "app.py").write_text(FLOOD)
    server = serve(f"{tmp_path / 'app.py'}:knobs", "--workers", "2")
    with server.connect() as client:
        pid = int(ask(client, "flood"))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(pids := server.ready_pids()) == 2 and pid not in pids)
    assert server.stop() == 0
