"""A pool in a pod: what Kubernetes does to it, played by :mod:`tests.support.kubelet`."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.ground.errors import ExitCode
from hybrid.ground.states import Life
from tests.process.conftest import Serve
from tests.support.clients import refuses
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand
from tests.support.kubelet import Manifest, Pod, arguments_for
from tests.support.server import Server, send_until, stat_fields

pytestmark = pytest.mark.long

HTTP = "tests.apps.http_knobs:app"
KNOBS = "tests.apps.knobs:knobs"
MANIFEST = Manifest.read()
DELAYED = "SIGTERM: stopping in 60 s; until then everything is served (--drain-delay)"
DRAINING = "stopping; open connections have 25 s to finish"


@pytest.fixture
def ready_file(tmp_path: Path) -> Path:
    """The file's place, in a volume of its own."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "ready"


@pytest.fixture
def start(serve: Serve, ready_file: Path) -> Callable[..., Server]:
    """Start the manifest's container: ``start(target, drain_delay="60")``."""

    def start(target: str = HTTP, *, workers: str = "2", **options: str) -> Server:
        env = {**os.environ, **MANIFEST.environment}
        arguments = arguments_for(MANIFEST, ready_file, workers=workers, **options)
        server = serve(target, *arguments, env=env)
        eventually(ready_file.exists)
        return server

    return start


def half_a_request(client: socket.socket) -> ByHand:
    """Return a connection with a request in flight: half of its body is still to come."""
    connection = ByHand(client)
    connection.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf")
    return connection


# ── the end of a pod ──


@pytest.mark.parametrize("told", ["deleted", "probed"])
def test_nobody_is_lost_when_a_pod_ends(told: str, start: Callable[..., Server], ready_file: Path) -> None:
    """Clients come until the network has heard of it: from the API, or from nothing but the probe that fails."""
    server = start(drain_delay="2.5")
    pod = Pod(server, MANIFEST, ready_file, lag_s=0.5)
    with pod.watched(), pod.clients() as clients, half_a_request(server.connect()) as in_flight:
        clients.wait_more(20)
        if told == "deleted":
            pod.delete()
        else:
            server.signal(signal.SIGTERM)
        eventually(lambda: not ready_file.exists())
        assert not pod.probe("readinessProbe") and pod.probe("livenessProbe")
        clients.wait_more(20)  # all is served as before
        eventually(lambda: not pod.is_listed())
        eventually(lambda: DRAINING in server.log)
        in_flight.send(b"done")
        assert in_flight.answer().body == b"halfdone"
        assert pod.wait_end(MANIFEST.grace_s) == ExitCode.OK
    assert clients.failed == []
    assert "SIGTERM: stopping in 2.5 s" in server.log and "error" not in server.log


def test_guard_sees_who_is_refused_without_a_delay(start: Callable[..., Server], ready_file: Path) -> None:
    """The same end, but without the delay: who comes before the network has heard of it is lost."""
    server = start(drain_delay="0")
    pod = Pod(server, MANIFEST, ready_file, lag_s=30.0)
    with pod.watched(), pod.clients() as clients:
        clients.wait_more(20)
        pod.delete()
        assert pod.wait_end(MANIFEST.grace_s) == ExitCode.OK
        assert pod.is_listed()
        eventually(lambda: clients.failed)


def test_grace_that_is_too_short_is_foretold(start: Callable[..., Server], ready_file: Path, serve: Serve) -> None:
    """The log of the start has the arithmetic; then the kubelet kills who is still served."""
    arguments = arguments_for(MANIFEST, ready_file, drain_delay="0", workers="1")
    server = serve(KNOBS, *arguments, env={**os.environ, "HYBRID_GRACE": "1"})
    assert "a stop may take 30 s (25 of --graceful-timeout + 1 for cancelled handlers + 4 to leave)" in server.log
    pod = Pod(server, MANIFEST, ready_file, lag_s=0.0)
    with server.connect() as client:
        client.sendall(b"hold\n")
        assert client.recv(100) == b"holding\n"
        pod.delete()
        eventually(lambda: DRAINING in server.log)
        assert pod.wait_end(1.0) is None


def test_times_of_the_manifest_fit(start: Callable[..., Server]) -> None:
    """The example's own numbers: no warning, and the grace is what the manifest says."""
    assert MANIFEST.environment == {"HYBRID_GRACE": str(MANIFEST.grace_s)}
    assert "warning" not in start(workers="1").log


@pytest.mark.parametrize("workers", ["1", "0"])
def test_wrong_grace_ends_the_start(workers: str, serve: Serve, ready_file: Path) -> None:
    """Exit code 2: the rollout stops, and the pods before go on serving."""
    server = serve(KNOBS, "--workers", workers, ready=False, env={**os.environ, "HYBRID_GRACE": "45s"})
    assert server.wait() == ExitCode.USAGE
    assert "cannot use '45s' for HYBRID_GRACE, from the environment: not a whole number of seconds" in server.log


# ── while it waits ──


@pytest.mark.parametrize("workers", ["2", "0"])
@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGQUIT])
def test_another_signal_skips_the_delay(
    again: signal.Signals, workers: str, start: Callable[..., Server], ready_file: Path
) -> None:
    """A second SIGTERM drains at once, SIGQUIT cuts; until then newcomers are served."""
    server = start(KNOBS, workers=workers, drain_delay="60")
    with server.connect() as client:
        client.sendall(b"hold\n")
        assert client.recv(100) == b"holding\n"
        server.signal(signal.SIGTERM)
        eventually(lambda: DELAYED in server.log)
        eventually(lambda: not ready_file.exists())
        with server.connect() as newcomer:
            newcomer.sendall(b"echo here\n")
            assert newcomer.recv(100) == b"here\n"
        wanted = f"{again.name}: {DRAINING if again == signal.SIGTERM else 'cutting connections'}"
        send_until(server, again, wanted)
        eventually(lambda: refuses(server))
        if again == signal.SIGTERM:
            server.signal(signal.SIGQUIT)
    assert server.wait() == ExitCode.OK


def test_delay_without_a_pool_ends_by_itself(start: Callable[..., Server], ready_file: Path) -> None:
    """One process per pod: the same delay, then the drain."""
    server = start(workers="0", drain_delay="1.5")
    pod = Pod(server, MANIFEST, ready_file, lag_s=0.2)
    with pod.watched(), pod.clients() as clients:
        clients.wait_more(10)
        pod.delete()
        assert pod.wait_end(MANIFEST.grace_s) == ExitCode.OK
    assert clients.failed == []
    assert "SIGTERM: stopping in 1.5 s" in server.log and f"] info    {DRAINING}" in server.log


def test_worker_that_dies_in_the_delay_is_replaced(start: Callable[..., Server]) -> None:
    """All is served as before: by as many as before."""
    server = start(drain_delay="60")
    before = server.wait_workers(2)
    server.signal(signal.SIGTERM)
    eventually(lambda: DELAYED in server.log)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(set(server.ready_pids()) - {before[0]}) == 2)
    send_until(server, signal.SIGTERM, DRAINING)
    assert server.wait() == ExitCode.OK


def test_reload_in_the_delay_is_refused(start: Callable[..., Server], ready_file: Path) -> None:
    """New code that nobody is to meet any more: a line in the log, and nothing else."""
    server = start(workers="1", drain_delay="60")
    server.signal(signal.SIGTERM)
    eventually(lambda: DELAYED in server.log)
    server.signal(signal.SIGHUP)
    eventually(lambda: "SIGHUP: not reloading, the server is stopping" in server.log)
    assert [each.generation for each in server.workers() if each.life is Life.READY] == [1]
    assert not ready_file.exists()
    server.signal(signal.SIGQUIT)
    assert server.wait() == ExitCode.OK


# ── the ready file ──


def test_file_follows_whether_anybody_accepts(start: Callable[..., Server], ready_file: Path) -> None:
    """A parked pool serves what it holds, and is to be sent nobody. Nothing is left at the end."""
    server = start(workers="1", drain_delay="0")
    assert ready_file.read_text() == f"{server.pid}\n"
    server.signal(signal.SIGWINCH)
    eventually(lambda: not ready_file.exists())
    server.signal(signal.SIGWINCH)
    eventually(ready_file.exists)
    assert server.stop() == ExitCode.OK
    assert not os.listdir(ready_file.parent)


def test_liveness_tells_a_parent_that_hangs(start: Callable[..., Server], ready_file: Path) -> None:
    """One whose loop has not turned for a minute; the file says so by its age. It goes on, and all is well."""
    server = start(workers="1")
    pod = Pod(server, MANIFEST, ready_file, lag_s=0.0)
    assert pod.probe("livenessProbe")
    server.signal(signal.SIGSTOP)
    eventually(lambda: stat_fields(server.pid)[0] == "T")
    os.utime(ready_file, (0, time.time() - 70))
    assert not pod.probe("livenessProbe") and pod.probe("readinessProbe")
    server.signal(signal.SIGCONT)
    eventually(lambda: pod.probe("livenessProbe"))


def test_what_a_killed_server_left_is_removed_before_anything_else(
    start: Callable[..., Server], ready_file: Path, serve: Serve
) -> None:
    """The volume outlives the container: nobody believes in a server that has not imported its app yet."""
    first = start(workers="1")
    first.process.kill()
    first.wait()
    assert ready_file.exists()
    second = serve("tests.apps.slow_import:handle", *arguments_for(MANIFEST, ready_file, workers="1"), ready=False)
    eventually(lambda: not ready_file.exists())
    second.signal(signal.SIGQUIT)
    second.wait()


@pytest.mark.parametrize("workers", ["1", "0"])
@pytest.mark.parametrize("fault", ["another server's", "another program's", "no directory"])
def test_file_that_cannot_be_ours_ends_the_start(
    fault: str, workers: str, start: Callable[..., Server], ready_file: Path, serve: Serve
) -> None:
    """Exit code 2, and what is there stays."""
    if fault == "another server's":
        server, why = start(workers="1"), "holds it and runs. Stop it or change --ready-file"
        text = f"{server.pid}\n"
    elif fault == "another program's":
        text, why = "precious = True\n", "the file exists and holds no pid. Change --ready-file"
        ready_file.write_text(text)
    else:
        ready_file.parent.rmdir()
        text, why = "", "No such file or directory. Make its directory writable or change --ready-file"
    late = serve(HTTP, "--workers", workers, f"--ready-file={ready_file}", ready=False)
    assert late.wait() == ExitCode.USAGE
    assert f"cannot write --ready-file {ready_file}: " in late.log and why in late.log
    assert not text or ready_file.read_text() == text


def test_file_is_there_through_an_upgrade(start: Callable[..., Server], ready_file: Path) -> None:
    """The new program in the same process goes on with it, and takes it away in the end."""
    server = start(workers="1", drain_delay="0")
    server.signal(signal.SIGUSR2)
    seen: list[Any] = []

    def upgraded() -> bool:
        seen.append(ready_file.exists())
        return "upgraded: hybrid" in server.log

    eventually(upgraded)
    assert all(seen)
    os.utime(ready_file, (0, 0))
    eventually(lambda: ready_file.stat().st_mtime > 0)
    assert server.stop() == ExitCode.OK
    assert not ready_file.exists()
