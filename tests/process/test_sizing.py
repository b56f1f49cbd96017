"""A real pool that sizes itself, under loads that tell what it is to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hybrid
from hybrid.ground.states import Life
from tests.process.conftest import Serve
from tests.support.control_groups import ControlGroups
from tests.support.eventually import eventually, eventually_async
from tests.support.load_threads import load
from tests.support.server import Server, WorkerView
from tests.support.variations import long

LOADS = "tests.apps.loads:loads"
BLOCK, SPIN = b"block 0.05\n", b"spin 0.05\n"
PATIENCE_S = 45.0
"""Patience, no measurement: the machine may be busy with other tests."""
FAST: dict[str, Any] = {"env": {**os.environ, "HYBRID_SIZING_PACE": "0.05"}}
"""Shrinks after seconds, instead of after a minute."""


def in_life(server: Server, life: Life) -> list[WorkerView]:
    """Return the workers that are there in their life."""
    return [worker for worker in server.workers() if worker.pid and worker.life is life]


def counts(server: Server) -> tuple[int, int]:
    """Return how many serve, and how many are parked."""
    return len(in_life(server, Life.READY)), len(in_life(server, Life.PARKED))


def test_standby_is_parked_and_replaced(serve: Serve) -> None:
    """It is booted and accepts nothing; killed, another takes its place; and the pool is ready without it."""
    server = serve(LOADS, "--workers", "1..3", "--standby", "1", **FAST)
    assert server.said["workers"] == 1
    (parked,) = eventually(lambda: in_life(server, Life.PARKED))
    eventually(lambda: not server.worker(parked.pid).accepts)  # type: ignore[union-attr]  # it is there
    os.kill(parked.pid, signal.SIGKILL)
    (fresh,) = eventually(lambda: [each for each in in_life(server, Life.PARKED) if each.pid != parked.pid])
    assert fresh.pid != parked.pid
    assert counts(server) == (1, 1)


def test_standby_serves_when_a_worker_dies(serve: Serve) -> None:
    """With a fixed size, too: it takes over at once, and whoever comes up stands by."""
    server = serve(LOADS, "--workers", "1", "--standby", "1")
    (parked,) = eventually(lambda: in_life(server, Life.PARKED))
    os.kill(server.ready_pids()[0], signal.SIGKILL)
    eventually(lambda: server.ready_pids() == [parked.pid])
    eventually(lambda: counts(server) == (1, 1))


@pytest.mark.parametrize(
    "accept", ["shared", "reuseport", "passing", long("locked=fcntl"), long("locked=robust"), long("shared=plain")]
)
def test_grows_when_clients_wait_and_comes_back(serve: Serve, accept: str) -> None:
    """Blocked loops use no CPU, so more of them serve more. First whoever stands by; later they leave again.

    Nobody loses a connection, whether it was parked, un-parked or let go meanwhile.
    """
    server = serve(LOADS, "--workers", "1..4", "--standby", "1", "--accept", accept, **FAST)
    (standby,) = eventually(lambda: in_life(server, Life.PARKED))
    with load(server, BLOCK, clients=8) as clients:
        eventually(lambda: standby.pid in server.ready_pids(), PATIENCE_S)
        eventually(lambda: len(server.ready_pids()) >= 3, PATIENCE_S)
    eventually(lambda: counts(server) == (1, 1), PATIENCE_S)
    assert not clients.failed and clients.done
    eventually(lambda: "1 → 2 workers" in server.log and "(calm)" in server.log)  # it is done, and then logged
    with server.connect() as client:
        client.sendall(b"block 0\n")
        assert client.recv(100)


def test_does_not_grow_when_the_cores_are_the_limit(serve: Serve) -> None:
    """Loops that compute keep the one CPU busy: more of them would only wait for it. It sees that, or steps back."""
    cpu = min(os.sched_getaffinity(0))
    server = serve(LOADS, "--workers", "1..6", preexec_fn=lambda: os.sched_setaffinity(0, {cpu}), **FAST)
    with load(server, SPIN, clients=8) as clients:
        eventually(lambda: clients.done >= 100, PATIENCE_S)
        eventually(lambda: len(server.ready_pids()) == 1, PATIENCE_S)
    assert len(server.workers()) <= 3, "slots ever used"


@pytest.fixture
def groups() -> Iterator[ControlGroups]:
    """Control groups; asked for before ``serve``, so that the servers are gone when they are removed."""
    made = ControlGroups()
    yield made
    made.close()


@pytest.mark.long
def test_memory_limit_of_a_control_group_bounds_it(groups: ControlGroups, serve: Serve) -> None:
    """It grows while the limit has room for one more, then says why not; nobody is killed for want of memory."""
    groups.limit_memory(120 << 20)
    server = serve(LOADS, "--workers", "1..60", preexec_fn=groups.enter, **FAST)
    with load(server, BLOCK, clients=40) as clients:
        eventually(lambda: "sizing: more would be wanted" in server.log, PATIENCE_S)
        eventually(lambda: clients.done >= 200, PATIENCE_S)
    assert "workers (memory)" in server.log and 2 <= len(server.workers()) < 30
    assert not clients.failed and "was killed" not in server.log


@pytest.mark.long
def test_cpu_quota_of_a_control_group_bounds_it(groups: ControlGroups, serve: Serve) -> None:
    """Half a CPU is one worker, and loops that compute get no others to share it with; those that block do."""
    groups.limit_cpus(0.5)
    server = serve(LOADS, "--workers", "auto..4", preexec_fn=groups.enter, **FAST)
    assert "1 worker (--workers: auto..4" in server.log
    with load(server, SPIN, clients=8) as clients:
        eventually(lambda: clients.done >= 50, PATIENCE_S)
        eventually(lambda: len(server.ready_pids()) == 1, PATIENCE_S)
    assert len(server.workers()) <= 3, "slots ever used"
    with load(server, BLOCK, clients=8):
        eventually(lambda: len(server.ready_pids()) >= 3, PATIENCE_S)


def test_threads_that_are_taken_let_it_grow(serve: Serve) -> None:
    """The loops sleep while blocking handlers wait; what counts is how many threads do."""
    arguments = ("--workers", "1..3", "--threads", "2", "--interface", "threaded")
    server = serve("tests.apps.blocking:knobs", *arguments, **FAST)
    with load(server, b"sleep 0.1\n", clients=6):
        eventually(lambda: len(server.ready_pids()) == 3, PATIENCE_S)


def test_signals_move_the_bounds(serve: Serve) -> None:
    """One more: there are never fewer from now on, though nobody is here. One fewer: never more."""
    server = serve(LOADS, "--workers", "1..4", **FAST)
    server.signal(signal.SIGTTIN)
    server.wait_workers(2)
    eventually(lambda: "SIGTTIN: 2 to 4 workers (before: 1 to 4)" in server.log)
    server.signal(signal.SIGTTOU)
    eventually(lambda: counts(server)[0] == 1)
    eventually(lambda: "SIGTTOU: 1 worker (before: 2)" in server.log)
    server.signal(signal.SIGHUP)
    eventually(lambda: "reloaded: generation 2 serves with 1 worker" in server.log, PATIENCE_S)
    with load(server, BLOCK, clients=6):
        eventually(lambda: len(server.ready_pids()) >= 2, PATIENCE_S)


def test_reload_keeps_the_size(serve: Serve) -> None:
    """The new generation is as large as the old one was, for the load is the same, and has its own standby."""
    server = serve(LOADS, "--workers", "1..3", "--standby", "1", **FAST)
    with load(server, BLOCK, clients=10) as clients:
        eventually(lambda: len(server.ready_pids()) == 3, PATIENCE_S)
        server.signal(signal.SIGHUP)
        eventually(lambda: "reloaded: generation 2 serves with 3 workers" in server.log, PATIENCE_S)
        eventually(lambda: len(server.of_generation(2, Life.PARKED)) == 1, PATIENCE_S)
    assert not clients.failed


def test_reload_reads_the_options_anew(serve: Serve, tmp_path: Path) -> None:
    """Bounds and standby; the size is fit to them. A fixed size turns the sizing off, a range on."""
    config = tmp_path / "hybrid.toml"
    config.write_text('workers = "1..2"\n')
    server = serve(LOADS, "--config", str(config), **FAST)
    assert server.said["workers"] == 1
    for text, expected in (('workers = "2..3"\nstandby = 1\n', (2, 1)), ("workers = 1\n", (1, 0))):
        config.write_text(text)
        server.signal(signal.SIGHUP)
        eventually(lambda expected=expected: counts(server) == expected, PATIENCE_S)  # type: ignore[misc]  # bound now


def test_upgrade_keeps_the_size(serve: Serve) -> None:
    """The program that takes over knows the bounds, who is parked and why, and goes on sizing."""
    server = serve(LOADS, "--workers", "1..3", "--standby", "1", **FAST)
    with load(server, BLOCK, clients=10):
        eventually(lambda: counts(server) == (3, 1), PATIENCE_S)
        server.signal(signal.SIGUSR2)
        eventually(lambda: "upgraded: hybrid" in server.log, PATIENCE_S)
        assert len(server.ready_pids()) >= 2
    eventually(lambda: counts(server) == (1, 1), PATIENCE_S)


def test_worn_workers_are_renewed_while_the_size_changes(serve: Serve) -> None:
    """Recycling and sizing do not get in each other's way, and cost nobody an answer."""
    server = serve(LOADS, "--workers", "1..3", "--max-requests", "20", **FAST)
    with load(server, b"block 0.01\n", clients=6) as clients:
        eventually(lambda: server.log.count("takes the place of worker") >= 3, PATIENCE_S)
        eventually(lambda: "sizing:" in server.log, PATIENCE_S)
    eventually(lambda: counts(server)[0] == 1, PATIENCE_S)
    assert not clients.failed


async def test_embedded_pool_sizes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """``workers="1..3"``: as on the command line."""
    monkeypatch.setenv("HYBRID_SIZING_PACE", "0.05")
    async with hybrid.serve(LOADS, bind="127.0.0.1:0", workers="1..3", standby=1, log_level="warning") as server:
        await eventually_async(lambda: sorted(each.state for each in server.workers) == ["parked", "ready"])
