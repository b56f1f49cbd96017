"""What nobody asked for: a parent that is killed, descriptors that run out, a log that takes nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from hybrid.shared.procfs import open_descriptors
from tests.process.conftest import Serve
from tests.support.clients import ask, connect_to, hear, is_cut
from tests.support.eventually import eventually
from tests.support.server import Server, is_alive, stat_fields

KNOBS = "tests.apps.knobs:knobs"
WATCHDOG_S = 5.0
"""What the watchdog adds to the grace."""
FEW = 8
"""Descriptors below this number are taken for as long as the process lives; poll(2) wants no fewer than it watches."""


def loses_its_parent(server: Server) -> list[int]:
    """Kill the parent; return who is left for now."""
    left = [pid for pid in server.everyone() if pid != server.pid]
    server.signal(signal.SIGKILL)
    server.wait()
    return left


def is_gone(pids: list[int], within_s: float = 5.0) -> None:
    """Wait until none of the processes lives."""
    eventually(lambda: not any(is_alive(pid) for pid in pids), within_s)


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


def test_parent_killed_a_blocked_worker_is_ended_by_its_watchdog(serve: Serve) -> None:
    """A loop that does not turn cannot drain: the process ends grace + 5 s later, were it the last one forked."""
    server = serve(KNOBS, "--workers", "3", "--graceful-timeout", "0.1")
    killed, second, third = server.ready_pids()
    os.kill(killed, signal.SIGKILL)
    first = eventually(lambda: pids[0] if len(pids := server.ready_pids()) == 3 and killed not in pids else 0)
    with connect_to(server, first) as one, connect_to(server, second) as two:
        assert ask(one, "block") == ask(two, "block") == "blocking"
        left = loses_its_parent(server)
        is_gone([pid for pid in left if pid not in (first, second)])
        assert is_alive(first) and is_alive(second) and not is_alive(third)
        is_gone([first, second], WATCHDOG_S + 5)
        assert is_cut(one) and is_cut(two)
    for slot in (0, 1):
        assert f"[worker {slot}] error   the parent is gone and the loop did not drain in time" in server.log


@pytest.mark.parametrize(("preload", "within_s"), [("auto", 3.0), ("off", WATCHDOG_S + 5)])
def test_parent_killed_during_an_import_that_hangs(serve: Serve, tmp_path: Path, preload: str, within_s: float) -> None:
    """A mold or a worker that never finishes its import does not outlive the parent either."""
    mark = tmp_path / "mark"
    arguments = ("--workers", "2", "--preload", preload, "--graceful-timeout", "0.1")
    env = {**os.environ, "MARK": str(mark)}
    server = serve("tests.apps.slow_import:knobs", *arguments, env=env, ready=False)
    eventually(lambda: mark.exists() and mark.read_text().count("importing") == (1 if preload == "auto" else 2), 10)
    is_gone(loses_its_parent(server), within_s)


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
