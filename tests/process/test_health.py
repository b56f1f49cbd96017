"""Loops that stand still: who is told of, with which line, who is replaced, and who is left alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hybrid.ground.clock import monotonic_ns
from hybrid.ground.states import Life
from tests.process.conftest import Serve
from tests.support.clients import ask, connect_to, hear, is_cut, say
from tests.support.eventually import eventually
from tests.support.server import Server, is_alive
from tests.support.variations import long

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tests/apps/stalls.py"
STALLS = "tests.apps.stalls:stalls"
SOON = ("--stall-dump", "1", "--worker-timeout", "0")
LIMITED = ("--stall-dump", "1", "--worker-timeout", "2")


def line_of(code: str, function: str) -> str:
    """Return where ``code`` stands in the app, as a log line says it."""
    lines = APP.read_text().split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(f"async def {function}("))
    number = next(number for number, line in enumerate(lines[start:], start + 1) if line.strip().startswith(code))
    return f"{APP}:{number} in {function}"


def wait_log(server: Server, text: str, within_s: float = 20.0) -> str:
    """Wait until the log says ``text``; return what it says from there on."""
    return eventually(lambda: log[log.index(text) :] if text in (log := server.log) else "", within_s)


def heartbeat(server: Server, pid: int) -> int:
    """Return when the worker's loop last turned; 0: it has left."""
    worker = server.worker(pid)
    return 0 if worker is None else worker.heartbeat_ns


def is_replaced(server: Server, pid: int) -> bool:
    """Whether two workers serve, and ``pid`` is none of them."""
    return len(pids := server.ready_pids()) == 2 and pid not in pids


def test_blocked_loop_is_dumped_with_its_line(serve: Serve) -> None:
    """time.sleep in a handler: the log names file, line and function; who is at another worker sees nothing."""
    server = serve(STALLS, "--workers", "2", *SOON)
    victim, other = server.ready_pids()
    with connect_to(server, victim) as stuck, connect_to(server, other) as bystander:
        assert ask(stuck, "sleep") == "begins"
        said = wait_log(server, f"worker 0 (pid {victim}) has been blocked for")
        for _ in range(20):
            assert ask(bystander, "pid") == str(other)
            with server.connect() as newcomer:
                assert ask(newcomer, "pid") == str(other)
    first, stack, innermost = said.split("\n")[:3]
    assert first.endswith(f" at {line_of('time.sleep', 'sleep')}")
    assert stack == "    thread MainThread, most recent call first:"
    assert innermost == f"      {line_of('time.sleep', 'sleep')}"
    assert "\n      running: " in said and "asyncio tasks: " in said
    assert is_alive(victim), "nobody asked for more"
    assert f"worker 0 (pid {victim}): its loop has not turned for" in server.log


def test_blocked_worker_is_replaced_and_the_log_says_why(serve: Serve) -> None:
    """Stacks, stacks again, SIGABRT with the reason, the death, another: in that order."""
    server = serve(STALLS, "--workers", "2", *LIMITED)
    victim, other = server.ready_pids()
    with connect_to(server, victim) as stuck, connect_to(server, other) as bystander:
        say(stuck, "sleep")
        eventually(lambda: is_replaced(server, victim))
        assert ask(bystander, "pid") == str(other)
        assert hear(stuck) == "begins" and is_cut(stuck)
    said = wait_log(server, f"(pid {victim}) has been blocked for")
    _, once, again = said.split(f"at {line_of('time.sleep', 'sleep')}\n")
    _before, _, after = again.partition(f"worker 0 (pid {victim}): its loop has been blocked for")
    assert "has been blocked for" in once and "(--worker-timeout 2): SIGABRT" in after
    assert f"worker 0 (pid {victim}) was killed by SIGABRT; another starts" in after
    assert server.stop() == 0


def test_gil_that_is_held_is_dumped_too(serve: Serve) -> None:
    """No thread of the worker's can answer; faulthandler can. Tasks cannot be had, and the log says so."""
    server = serve(STALLS, "--workers", "1", *SOON)
    with server.connect() as client:
        assert ask(client, "regex") == "begins"
        said = wait_log(server, "has been busy for")
    assert said.split("\n")[0].endswith(f" at {line_of('re.match', 'regex')}")
    assert said.split("\n")[1].startswith("    Current thread 0x")
    assert "\n    asyncio tasks: not available, the GIL is held\n" in said


def test_main_thread_is_found_among_many(serve: Serve) -> None:
    """faulthandler tells of a hundred threads, the oldest last: the loop's is asked for alone."""
    server = serve(STALLS, "--workers", "1", *SOON)
    with server.connect() as client:
        say(client, "threads 150")
        assert hear(client) == "begins"
        said = wait_log(server, "has been busy for")
    assert said.split("\n")[0].endswith(f" at {line_of('re.match', 'among_threads')}")
    assert said.split("\n")[1] == "    Stack (most recent call first):"


def test_loop_that_computes_is_busy(serve: Serve) -> None:
    """An endless loop in Python: its thread runs, its line is named, its tasks are told."""
    server = serve(STALLS, "--workers", "1", *SOON)
    with server.connect() as client:
        assert ask(client, "loop") == "begins"
        said = wait_log(server, "has been busy for")
    assert said.split("\n")[0].split(" at ")[1] in (line_of("while True", "loop"), line_of("pass", "loop"))
    assert "asyncio tasks: " in said


def test_stopped_worker_is_not_killed(serve: Serve) -> None:
    """SIGSTOP for longer than the limit: told, and left alone; it serves again when it goes on."""
    server = serve(STALLS, "--workers", "2", *LIMITED)
    victim, clock = server.ready_pids()
    with connect_to(server, victim) as client, connect_to(server, clock) as blocked:
        os.kill(victim, signal.SIGSTOP)
        try:
            wait_log(server, f"(pid {victim}): its loop has not turned for")
            say(blocked, "sleep")
            wait_log(server, f"(pid {clock}) was killed by SIGABRT")  # so the limit has passed
            assert is_alive(victim)
        finally:
            os.kill(victim, signal.SIGCONT)
        wait_log(server, f"(pid {victim}): its loop turns again after")
        assert ask(client, "pid") == str(victim)
    assert "it is stopped (SIGSTOP, or a debugger). It is not killed for that" in server.log
    assert f"(pid {victim}) has been" not in server.log


def test_stopped_parent_kills_nobody(serve: Serve) -> None:
    """Everybody is stopped for longer than the limit, as by a pause of the machine: nobody is late afterwards."""
    server = serve(STALLS, "--workers", "2", "--stall-dump", "0.5", "--worker-timeout", "0.5")
    before = server.ready_pids()
    everyone = server.everyone()
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    stopped_ns = monotonic_ns()
    eventually(lambda: monotonic_ns() - stopped_ns > 2_500_000_000)
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: all(heartbeat(server, pid) > stopped_ns + 3_500_000_000 for pid in before))
    assert server.ready_pids() == before
    assert "has been" not in server.log


def test_starved_worker_is_not_killed(serve: Serve) -> None:
    """It would run if it were let: the limit passes several times over, and it is told why nothing happens."""
    server = serve(STALLS, "--workers", "2", "--stall-dump", "2", "--worker-timeout", "2.5")
    victim, clock = server.ready_pids()
    cpu = min(os.sched_getaffinity(0))
    with connect_to(server, victim) as client, connect_to(server, clock) as blocked:
        # Its own child, so that both are in one autogroup of the scheduler, and in one cgroup.
        rival = int(ask(client, f"crowd {cpu}"))
        try:
            os.sched_setaffinity(victim, [cpu])
            os.sched_setscheduler(victim, os.SCHED_IDLE, os.sched_param(0))
            say(client, "compute 0.3")
            wait_log(server, f"(pid {victim}): its loop has not turned for")
            say(blocked, "sleep")
            wait_log(server, f"(pid {clock}) was killed by SIGABRT")
            wait_log(server, "it is short of CPU: ready to run, and others do. It is not killed for that")
        finally:
            os.kill(rival, signal.SIGKILL)
        assert hear(client) == "begins" and hear(client) == "done"
        assert ask(client, "pid") == str(victim)
    assert f"(pid {victim}) has been" not in server.log


def test_busy_worker_is_left_alone(serve: Serve) -> None:
    """Two seconds in pieces of 100 ms: slow, and alive."""
    server = serve(STALLS, "--workers", "1", "--stall-dump", "1", "--worker-timeout", "1")
    with server.connect() as client:
        assert ask(client, "churn 20") == "done"
    assert "has been" not in server.log and "SIGABRT" not in server.log


@pytest.mark.parametrize("accept", ["threads", long("threads=main"), "fork"])
def test_blocking_handlers_may_take_their_time(serve: Serve, accept: str) -> None:
    """They run in threads, or processes: the loop turns on while they wait, and nothing else counts."""
    limits = ("--stall-dump", "0.8", "--worker-timeout", "0.8")
    server = serve("tests.apps.blocking:knobs", "--workers", "1", "--accept", accept, "--threads", "2", *limits)
    (pid,) = server.ready_pids()
    with server.connect() as client:
        assert ask(client, "hold") == "holding"
        began_ns = monotonic_ns()
        eventually(lambda: heartbeat(server, pid) > began_ns + 1_500_000_000)
    assert "has been" not in server.log and server.ready_pids() == [pid]


def test_heartbeat_goes_on_through_a_drain(serve: Serve) -> None:
    """Connections that drain, then a lifespan that takes its time: the loop turns, and is seen to."""
    lifespan = "tests.apps.stalls:awaits_at_the_end"
    server = serve(STALLS, "--workers", "1", "--lifespan", lifespan, "--stall-dump", "0.8", "--worker-timeout", "0.8")
    (pid,) = server.ready_pids()
    with server.connect() as client:
        assert ask(client, "pid") == str(pid)
        server.signal(signal.SIGTERM)
        eventually(lambda: server.workers()[0].life is Life.DRAINING)
        for _ in ("drains", "leaves its lifespan"):
            began_ns = monotonic_ns()
            eventually(lambda since_ns=began_ns: heartbeat(server, pid) > since_ns + 1_000_000_000)  # type: ignore[misc]  # bound now
            client.close()
    assert "has been" not in server.log


def test_worker_whose_loop_has_ended_is_not_watched(serve: Serve) -> None:
    """It waits for a thread that its app left: its heartbeat is taken back, and only the drain's deadline counts."""
    server = serve("tests.apps.knobs:knobs", "--workers", "1", *SOON)
    (pid,) = server.ready_pids()
    with server.connect() as client:
        assert ask(client, "thread") == "started"
    server.signal(signal.SIGTERM)
    eventually(lambda: [(worker.pid, worker.heartbeat_ns) for worker in server.workers()] == [(pid, 0)])
    assert is_alive(pid)


def test_lifespan_that_blocks_at_the_end_is_told(serve: Serve) -> None:
    """A drain that hangs: the log names the line before the deadline of the drain comes."""
    lifespan = "tests.apps.stalls:blocks_at_the_end"
    server = serve(STALLS, "--workers", "1", "--lifespan", lifespan, *SOON)
    server.signal(signal.SIGTERM)
    said = wait_log(server, "has been blocked for")
    assert said.split("\n")[0].endswith(f" at {line_of('time.sleep', 'blocks_at_the_end')}")


def test_upgraded_parent_dumps_workers_of_the_one_before(serve: Serve) -> None:
    """What asks a worker, and where it answers, is handed over; so is the way to replace it."""
    server = serve(STALLS, "--workers", "2", *LIMITED)
    victim, other = server.ready_pids()
    with connect_to(server, victim) as stuck:
        server.signal(signal.SIGUSR2)
        wait_log(server, "] info    upgraded: ")
        assert server.ready_pids() == [victim, other]
        say(stuck, "sleep")
        eventually(lambda: is_replaced(server, victim))
    said = wait_log(server, f"(pid {victim}) has been blocked for")
    assert said.split("\n")[0].endswith(f" at {line_of('time.sleep', 'sleep')}")
    assert "asyncio tasks: " in said


def test_limits_that_contradict_each_other_are_refused(serve: Serve) -> None:
    """A usage error that names both."""
    server = serve(STALLS, "--stall-dump", "3", "--worker-timeout", "2", ready=False)
    assert server.wait() == 2
    assert "cannot use --worker-timeout 2 with --stall-dump 3" in server.log
