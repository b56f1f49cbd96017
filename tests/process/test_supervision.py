"""Workers and molds that die, in every way, and what the pool makes of it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life
from hybrid.shared.procfs import open_descriptors
from tests.process.conftest import Serve
from tests.support.clients import ask, connect_to, crowd, is_cut, say
from tests.support.eventually import eventually
from tests.support.server import Server, is_alive, kept_kinds, stat_fields
from tests.support.variations import long

KNOBS = "tests.apps.knobs:knobs"


def has_left(server: Server, pid: int) -> bool:
    """Return whether the worker drains and accepts no more: it is DRAINING from when it begins to leave."""
    worker = server.worker(pid)
    return worker is not None and worker.life is Life.DRAINING and not worker.accepts


def replaced(server: Server, pid: int, count: int = 2) -> list[int]:
    """Wait until ``count`` workers serve without ``pid``; return their pids."""
    return eventually(lambda: pids if len(pids := server.ready_pids()) == count and pid not in pids else [])


def test_killed_worker_is_replaced(serve: Serve) -> None:
    """SIGKILL of a worker costs its connections; the others' live on, and its place is filled."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    with connect_to(server, first) as lost, connect_to(server, second) as kept:
        os.kill(first, signal.SIGKILL)
        assert is_cut(lost)
        assert ask(kept, "pid") == str(second)
        assert second in replaced(server, first)
        assert ask(kept, "echo still here") == "still here"
    assert f"(pid {first}) was killed by SIGKILL; another starts" in server.log


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("segfault", "was killed by SIGSEGV"),
        long("exit 9", "exited with code 9"),
        ("exit 0", "exited with code 0"),
        long("leave 7", "exited with code 7"),
    ],
)
def test_crashed_worker_is_replaced(serve: Serve, word: str, said: str) -> None:
    """A segmentation fault, os._exit and a SystemExit in the loop end one worker, not the pool."""
    server = serve(KNOBS, "--workers", "2")
    victim = server.ready_pids()[0]
    with connect_to(server, victim) as client:
        say(client, word)
        assert is_cut(client)
    replaced(server, victim)
    assert f"(pid {victim}) {said}" in server.log
    assert server.stop() == 0


def test_system_exit_in_a_handler_costs_its_connection(serve: Serve) -> None:
    """sys.exit() in a handler is an error of the handler: logged, and nobody else is hurt."""
    server = serve(KNOBS, "--workers", "1")
    (pid,) = server.ready_pids()
    with server.connect() as bystander, server.connect() as client:
        say(client, "raise-exit 3")
        assert is_cut(client)
        assert ask(bystander, "pid") == str(pid)
    assert "SystemExit: 3" in server.log


def test_handler_error_is_logged_counted_and_costs_its_connection(serve: Serve) -> None:
    """An exception in a handler: peer and traceback in the log, one in the scoreboard, everybody else served."""
    server = serve(KNOBS, "--workers", "1")
    (pid,) = server.ready_pids()
    with server.connect() as bystander:
        with server.connect() as client:
            host, port = client.getsockname()
            say(client, "fail by-design")
            assert is_cut(client)
        assert ask(bystander, "pid") == str(pid)
    eventually(lambda: [worker.errors for worker in server.workers()] == [1])
    log = server.log
    assert f"{host}:{port}" in log
    assert "[worker 0] error" in log
    assert log.count("Traceback (most recent call last)") == 1
    assert "ZeroDivisionError: by-design" in log


def test_five_kills_under_load_cost_only_their_own_connections(serve: Serve) -> None:
    """Workers killed one after another: no connection is refused, and none is lost that another worker served."""
    server = serve(KNOBS, "--workers", "3")
    killed: list[int] = []
    clients = 4
    with crowd(server, clients) as people:
        for _ in range(5):
            people.wait_more(50)
            victim = next(pid for pid in server.wait_workers(3) if pid not in killed)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            replaced(server, victim, 3)
        people.wait_more(50)
    assert not people.refused
    assert set(people.lost) <= {0, *killed}, (people.lost, killed)
    # Each client has one connection at a time, so a kill costs at most one of each.
    assert len(people.lost) <= clients * len(killed)


def test_worker_sent_sigterm_drains_and_loses_nobody(serve: Serve) -> None:
    """TERM to a worker under load: what it holds is served to the end, what waits is served by others."""
    server = serve(KNOBS, "--workers", "2")
    left: list[int] = []
    with crowd(server) as people:
        for _ in range(3):
            people.wait_more(50)
            victim = server.wait_workers(2)[0]
            os.kill(victim, signal.SIGTERM)
            left.append(victim)
            replaced(server, victim)
    assert not people.refused
    assert not people.lost
    for pid in left:
        assert f"(pid {pid}) drains: it was sent SIGTERM" in server.log
        assert f"(pid {pid}) exited with code 0 after its drain" in server.log


def test_worker_sent_sigterm_lets_its_connection_finish(serve: Serve) -> None:
    """The drained worker takes nobody new, and stays until its last handler has ended."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    with connect_to(server, first) as held:
        os.kill(first, signal.SIGTERM)
        eventually(lambda: has_left(server, first))
        for _ in range(5):
            with server.connect() as client:
                assert ask(client, "pid") == str(second)
        assert ask(held, "echo bye") == "bye"
        assert is_alive(first)
    assert second in replaced(server, first)


def test_crash_loop_backs_off_and_healthy_workers_serve(serve: Serve, tmp_path: Path) -> None:
    """A worker that cannot boot any more is tried again, later and later; the other one serves all the time."""
    mark = tmp_path / "mark"
    arguments = ("--workers", "2", "--lifespan", "tests.apps.boots:fails_after_first")
    server = serve(KNOBS, *arguments, env={**os.environ, "MARK": str(mark)})
    first, second = server.ready_pids()
    mark.touch()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: "again in 1.1 s" in server.log)
    assert "failed to boot: tests.apps.boots:fails_after_first failed: ConnectionError: no database" in server.log
    waits = [float(wait) for wait in re.findall(r"again in ([\d.]+) s", server.log)]
    assert waits == sorted(set(waits)), waits
    assert server.log.count("Traceback (most recent call last)") == 1
    with server.connect() as client:
        assert ask(client, "pid") == str(second)
    mark.unlink()
    replaced(server, first)


def test_killed_mold_is_replaced_and_workers_serve_on(serve: Serve) -> None:
    """The mold is not needed to serve, only to fork: its death is mended, and then a dead worker is."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    mold = server.mold_pid()
    with connect_to(server, first) as client:
        os.kill(mold, signal.SIGKILL)
        eventually(lambda: "the mold was killed by SIGKILL; another starts" in server.log)
        assert ask(client, "pid") == str(first)
    os.kill(second, signal.SIGKILL)
    assert first in replaced(server, second)
    assert server.mold_pid() != mold
    assert server.stop() == 0


def test_stopped_mold_is_given_up_when_a_worker_is_needed(serve: Serve) -> None:
    """A mold that does not answer is killed after the boot timeout; its successor forks what is missing."""
    server = serve(KNOBS, "--workers", "2", "--boot-timeout", "4")
    first, second = server.ready_pids()
    mold = server.mold_pid()
    os.kill(mold, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    with server.connect() as client:
        assert ask(client, "pid") == str(second)
    assert second in replaced(server, first)
    assert not is_alive(mold)


def test_stopped_worker_leaves_the_clients_to_others(serve: Serve) -> None:
    """SIGSTOP: a worker that does not run takes no connection; when it runs again it serves on."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    with connect_to(server, first) as held:
        os.kill(first, signal.SIGSTOP)
        eventually(lambda: stat_fields(first)[0] == "T")
        for _ in range(10):
            with server.connect() as client:
                assert ask(client, "pid") == str(second)
        os.kill(first, signal.SIGCONT)
        assert ask(held, "pid") == str(first)


def test_stopped_parent_costs_nothing(serve: Serve) -> None:
    """SIGSTOP of the parent: workers serve; when it goes on it mends what happened meanwhile."""
    server = serve(KNOBS, "--workers", "2")
    first, second = server.ready_pids()
    server.signal(signal.SIGSTOP)
    eventually(lambda: stat_fields(server.pid)[0] == "T")
    os.kill(first, signal.SIGKILL)
    with server.connect() as client:
        assert ask(client, "pid") == str(second)
    server.signal(signal.SIGCONT)
    replaced(server, first)
    assert server.stop() == 0


def test_strangers_are_reaped_and_no_worker_is_missed(serve: Serve) -> None:
    """A daemon of the app's lands on the parent: its zombie is cleared away, workers' exits are still seen."""
    server = serve(KNOBS, "--workers", "2")
    first, _second = server.ready_pids()
    with connect_to(server, first) as client:
        orphans = [int(ask(client, "orphan")) for _ in range(3)]
    for orphan in orphans:
        assert int(stat_fields(orphan)[1]) == server.pid
    os.kill(orphans[0], signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    os.kill(orphans[1], signal.SIGKILL)
    replaced(server, first)
    os.kill(orphans[2], signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{orphan}").exists() for orphan in orphans))
    assert f"(pid {first}) was killed by SIGKILL" in server.log
    assert server.stop() == 0


def test_deaths_cost_the_parent_no_descriptor(serve: Serve) -> None:
    """After any number of dead workers and molds, the parent holds as many descriptors as before."""

    server = serve(KNOBS, "--workers", "2")
    before: list[str] = []
    for turn in range(5):
        if turn >= 3:
            os.kill(server.mold_pid(), signal.SIGKILL)
        victim = server.wait_workers(2)[turn % 2]
        os.kill(victim, signal.SIGKILL)
        replaced(server, victim)
        before = before or kept_kinds(server.pid)  # after the first death: by then --ready-fd is closed
    eventually(lambda: kept_kinds(server.pid) == before)


def links_of(pid: int) -> set[str]:
    """Return what a process has open."""
    return {link for _fd, link in open_descriptors(pid)}


def test_worker_holds_only_what_is_its_own(serve: Serve) -> None:
    """Each descriptor of a worker is accounted for; also of one that was forked last, and of a replacement."""
    server = serve(KNOBS, "--workers", "3", stdin=None)
    victim = server.ready_pids()[0]
    os.kill(victim, signal.SIGKILL)
    pids = replaced(server, victim, 3)
    ours = {link for _fd, link in open_descriptors(os.getpid())} - {"anon_inode:[eventpoll]"}
    inherited = {link for link in ours if "memfd" not in link}  # other tests' memfds have the same names
    own_ends: list[set[str]] = []
    for pid in pids:
        links = [link for _fd, link in open_descriptors(pid) if link not in inherited]
        memory = sorted(link.split(" ")[0] for link in links if "memfd" in link)
        # mmap keeps a duplicate of the scoreboard's descriptor.
        names = ("boot", "scoreboard", "scoreboard", "settings", "stacks")
        assert memory == [f"/memfd:hybrid-{name}" for name in names]
        own_ends.append({link for link in links if link.startswith(("socket:", "pipe:"))})
        # The life pipe's read end is everybody's, and that of the pipe which asks for stacks is its own; any other pipe
        # is the loop's, and has both ends here.
        halves = {link for link in links if link.startswith("pipe:") and links.count(link) != 2}
        everybodys = {pipe for pipe in halves if all(pipe in links_of(other) for other in pids)}
        assert len(halves - everybodys) == 1, (pid, halves)
    common = set.intersection(*own_ends)
    assert len([link for link in common if link.startswith("socket:")]) == 1, "the listener, and no sibling's channel"
    for index, ends in enumerate(own_ends):
        for other in own_ends[index + 1 :]:
            assert ends & other == common


def test_parent_with_more_than_1024_descriptors_mends_the_pool(serve: Serve) -> None:
    """No call that knows only 1024 descriptors is left: a parent of a big pool has more."""
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        server = serve(KNOBS, "--workers", "6", pass_fds=tuple(spare))  # the few low numbers left are soon used
    finally:
        for fd in spare:
            os.close(fd)
    victim = server.ready_pids()[-1]
    server.signal(signal.SIGSTOP)  # so that a worker's word and its exit are seen together
    os.kill(victim, signal.SIGTERM)
    eventually(lambda: not is_alive(victim))
    server.signal(signal.SIGCONT)
    replaced(server, victim, 6)
    assert f"(pid {victim}) exited with code 0 after its drain" in server.log
    assert server.stop() == 0


@pytest.mark.long
def test_parent_that_was_stopped_kills_nobody_who_boots(serve: Serve) -> None:
    """SIGSTOP of the parent for longer than ``--boot-timeout`` while a worker is being started: it is not late."""
    server = serve(KNOBS, "--workers", "2", "--boot-timeout", "5")
    victim, mold = server.ready_pids()[0], server.mold_pid()
    os.kill(mold, signal.SIGSTOP)  # so that the parent is stopped before it hears of the fork
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: Life.STARTING in [worker.life for worker in server.workers()])
    server.signal(signal.SIGSTOP)
    stopped_ns = monotonic_ns()
    os.kill(mold, signal.SIGCONT)
    eventually(lambda: monotonic_ns() - stopped_ns > 7_000_000_000)
    server.signal(signal.SIGCONT)
    server.wait_workers(2)
    assert server.mold_pid() == mold and "did not boot" not in server.log
    assert "the parent was held up for" in server.log
