"""What Prometheus and Kubernetes see of a real server, whatever happens to its processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser

from hybrid.shared.metrics_folder import PREFIX
from tests.process.conftest import Serve
from tests.support.control import control_pid
from tests.support.eventually import eventually
from tests.support.forked import NOBODY
from tests.support.server import Server, descriptor_links

COUNTED = "tests.apps.counted:app"
REQUESTS = "hybrid_requests_total"
DURATIONS = "hybrid_request_duration_seconds_count"
SERVED = "app_served_total path=/"
PATIENCE_S = 40.0


class Connection(http.client.HTTPConnection):
    """HTTP at an address as servers say theirs: a unix socket's, or TCP."""

    def __init__(self, address: str) -> None:
        kind, _, path = address.rpartition(":")
        super().__init__("127.0.0.1", None if kind == "unix" else int(path), timeout=20)
        self._path = path if kind == "unix" else ""

    def connect(self) -> None:
        """Connect."""
        if self._path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(20)
            self.sock.connect(self._path)
        else:
            super().connect()


class Watched:
    """A server and what it tells of itself. ``door``: the address of ``--metrics-bind``."""

    def __init__(self, server: Server, door: str) -> None:
        self.server = server
        self._door = door

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and body of a page."""
        connection = Connection(self._door)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def status(self, path: str) -> int:
        """Return the status of a page; 0: nobody answers."""
        try:
            return self.ask(path)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def values(self) -> dict[str, float]:
        """Return every sample of /metrics."""
        status, text = self.ask("/metrics")
        assert status == 200, text
        return {
            each.name + "".join(f" {name}={value}" for name, value in each.labels.items()): each.value
            for family in parser.text_string_to_metric_families(text)
            for each in family.samples
        }

    def load(self, count: int, path: str = "/") -> list[int]:
        """Ask so often, each time on a connection of its own; return who answered."""
        return [int(self._once(path)) for _ in range(count)]

    def _once(self, path: str) -> str:
        connection = Connection(self.server.address)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def sees(self, name: str, value: float) -> dict[str, float]:
        """Wait until /metrics has that value; return all."""

        def look() -> dict[str, float]:
            found = self.values()
            assert found.get(name) == value, (name, found.get(name))
            return found

        return eventually(look, PATIENCE_S)


@pytest.fixture
def watched(serve: Serve, tmp_path: Path) -> Iterator[Watched]:
    """Serve the counting application by two workers."""
    door = f"unix:{tmp_path / 'metrics'}"
    server = serve(COUNTED, "--workers", "2", "--lifespan", "off", "--metrics-bind", door)
    watched = Watched(server, door)
    eventually(lambda: watched.status("/healthz") == 200, PATIENCE_S)
    yield watched


class Witness:
    """Reads /metrics all the time, in a thread, and notes which counters went back."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.looks = 0
        self.back: list[str] = []
        self.last: dict[str, float] = {}

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            try:
                found = self._watched.values()
            except (OSError, http.client.HTTPException):
                continue
            counts = {name: value for name, value in found.items() if _only_grows(name)}
            for name, value in self.last.items():
                if counts.get(name, -1.0) < value:
                    self.back.append(f"{name}: {value} → {counts.get(name)}")
            self.last = counts
            self.looks += 1


def _only_grows(name: str) -> bool:
    return name.partition(" ")[0].endswith(("_total", "_bucket", "_sum", "_count"))


def test_counters_never_go_back(watched: Watched) -> None:
    """A worker is killed, all are replaced by a reload, and one is told to leave: what was counted stays counted."""
    server = watched.server
    with Witness(watched) as witness:
        watched.load(20)
        watched.sees(DURATIONS, 20)  # its answers, too, are flushed
        watched.sees(REQUESTS, 20)
        os.kill(server.ready_pids()[0], signal.SIGKILL)
        watched.sees("hybrid_workers_replaced_total cause=died", 1)
        server.wait_workers(2, PATIENCE_S)
        watched.load(20)
        watched.sees(REQUESTS, 40)
        before = set(server.ready_pids())
        server.signal(signal.SIGHUP)
        eventually(lambda: len(after := server.ready_pids()) == 2 and not before & set(after), PATIENCE_S)
        watched.load(20)
        watched.sees(REQUESTS, 60)
        os.kill(server.ready_pids()[0], signal.SIGTERM)
        watched.sees("hybrid_workers_replaced_total cause=told", 1)
        server.wait_workers(2, PATIENCE_S)
        watched.load(20)
        found = watched.sees(REQUESTS, 80)
        looks = witness.looks
        eventually(lambda: witness.looks > looks, PATIENCE_S)
    assert not witness.back
    assert sum(value for name, value in found.items() if name.startswith("hybrid_worker_requests_total ")) == 80
    assert found["hybrid_connections_accepted_total"] == 80
    assert found["hybrid_pool_generation"] == 2
    watched.sees(DURATIONS, 80)
    watched.sees(SERVED, 80)


def test_recycling_takes_nothing_back(serve: Serve, tmp_path: Path) -> None:
    """Worker after worker has served enough; their counts, the app's and the time that requests took add up."""
    door = f"unix:{tmp_path / 'metrics'}"
    arguments = ("--workers", "1", "--lifespan", "off", "--max-requests", "10", "--max-requests-jitter", "0")
    watched = Watched(serve(COUNTED, *arguments, "--metrics-bind", door), door)
    eventually(lambda: watched.status("/healthz") == 200, PATIENCE_S)
    with Witness(watched) as witness:
        pids: set[int] = set()

        def served_by_three() -> bool:
            pids.update(watched.load(5, "/slow"))
            return len(pids) >= 3

        eventually(served_by_three, PATIENCE_S)
        found = watched.values()
    assert not witness.back
    assert found["hybrid_workers_replaced_total cause=requests"] >= 2

    def agrees() -> bool:
        found = watched.values()
        return found[REQUESTS] == found[DURATIONS] == found["app_served_total path=/slow"] > 20

    eventually(agrees, PATIENCE_S)
    assert watched.values()["hybrid_request_duration_seconds_sum"] >= 0.05 * 20


def test_app_counts_on_where_a_worker_was_killed(watched: Watched) -> None:
    """Its metrics are merged, those of the dead included, in a folder that nobody has to clean."""
    pids: set[int] = set()

    def served_by_both() -> bool:
        pids.update(watched.load(5))
        return len(pids) == 2

    eventually(served_by_both, PATIENCE_S)
    sent = watched.values()[SERVED]
    folder = _folder(watched.server)
    assert folder.stat().st_mode & 0o777 == 0o700
    dead = watched.server.ready_pids()[0]
    os.kill(dead, signal.SIGKILL)
    eventually(lambda: dead not in watched.server.ready_pids(), PATIENCE_S)
    found = watched.sees(SERVED, sent)
    eventually(lambda: not list(folder.glob(f"*_{dead}.db")), PATIENCE_S)
    assert watched.values()[SERVED] == sent
    assert "app_last" in found
    assert watched.server.stop() == 0
    assert not folder.exists()


def _folder(server: Server) -> Path:
    """Return the folder that the server's processes count in."""
    (folder,) = _folders(server)
    return folder


def _folders(server: Server) -> list[Path]:
    """Return what the parent holds: by name there may be another one, of who had this pid before or elsewhere."""
    return [Path(link) for link in descriptor_links(server.pid) if PREFIX in link]


def test_control_that_is_killed_comes_back_and_takes_nothing_back(watched: Watched) -> None:
    """It holds nothing: what it shows is in the scoreboard, and in the app's files."""
    watched.load(10)
    before = watched.sees(REQUESTS, 10)
    os.kill(control_pid(watched.server), signal.SIGKILL)
    eventually(lambda: watched.status("/healthz") == 200, PATIENCE_S)
    after = watched.values()
    assert all(after[name] >= value for name, value in before.items() if _only_grows(name))
    assert watched.server.stop() == 0


def test_an_upgrade_of_the_parent_takes_nothing_back(watched: Watched) -> None:
    """The new program maps the old one's memory, and the app goes on in the same folder."""
    watched.load(10)
    watched.sees(REQUESTS, 10)
    folder, dead = _folder(watched.server), watched.server.ready_pids()[0]
    watched.server.signal(signal.SIGUSR2)
    eventually(lambda: "] info    upgraded: " in watched.server.log, PATIENCE_S)
    eventually(lambda: watched.status("/healthz") == 200, PATIENCE_S)
    watched.sees(REQUESTS, 10)
    os.kill(dead, signal.SIGKILL)
    eventually(lambda: len(pids := watched.server.ready_pids()) == 2 and dead not in pids, PATIENCE_S)
    watched.load(10)
    watched.sees(REQUESTS, 20)
    watched.sees(SERVED, 20)
    assert _folder(watched.server) == folder
    assert watched.server.stop() == 0
    assert not folder.exists()


def test_ready_from_the_first_worker_to_the_stop(serve: Serve, tmp_path: Path) -> None:
    """503 while it boots; 200; 503 as soon as it is told to stop, while it still serves: that is the drain's delay."""
    door, gate = f"unix:{tmp_path / 'metrics'}", tmp_path / "gate"
    os.mkfifo(gate)
    environ = {**os.environ, "TEST_GATE": str(gate)}
    arguments = ("--workers", "1", "--lifespan", "off", "--drain-delay", "60", "--metrics-bind", door)
    server = serve("tests.apps.gated:app", *arguments, ready=False, env=environ)
    watched = Watched(server, door)
    eventually(lambda: watched.status("/healthz") == 200, PATIENCE_S)
    status, said = watched.ask("/readyz")
    assert (status, said) == (503, "booting: no worker has accepted yet\n")
    gate.write_text("go on")
    server.wait_ready()
    eventually(lambda: watched.status("/readyz") == 200, PATIENCE_S)
    server.signal(signal.SIGTERM)
    eventually(lambda: watched.status("/readyz") == 503, PATIENCE_S)
    assert watched.ask("/readyz")[1].startswith("draining")
    assert watched.status("/healthz") == 200
    assert watched.values()["hybrid_ready"] == 0
    assert watched.load(1)
    server.signal(signal.SIGQUIT)
    server.wait()


def test_not_ready_while_no_worker_accepts(watched: Watched) -> None:
    """All are stopped from accepting: 503, though the server is alive; and ready again when they accept."""
    server = watched.server
    assert watched.status("/readyz") == 200
    server.signal(signal.SIGWINCH)
    eventually(lambda: watched.status("/readyz") == 503, PATIENCE_S)
    assert watched.ask("/readyz")[1] == "too few workers: 0 accept, 1 must\n"
    assert watched.status("/healthz") == 200


def test_not_ready_while_all_workers_are_dead(watched: Watched) -> None:
    """They were killed, and the mold cannot fork others: 503; when it can, the server is ready by itself."""
    server = watched.server
    (mold,) = set(server.others()) - {control_pid(server)}
    os.kill(mold, signal.SIGSTOP)
    try:
        for pid in server.ready_pids():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: watched.status("/readyz") == 503, PATIENCE_S)
        assert watched.ask("/readyz")[1] == "too few workers: 0 accept, 1 must\n"
        assert watched.status("/healthz") == 200
    finally:
        os.kill(mold, signal.SIGCONT)
    eventually(lambda: watched.status("/readyz") == 200, PATIENCE_S)


@pytest.mark.root
def test_app_counts_as_another_user(serve: Serve, tmp_path: Path, nobody_python: dict[str, Any]) -> None:
    """The folder belongs to whom the app runs as, and the parent, who made it, removes it."""
    arguments = ("--workers", "1", "--lifespan", "off", "--metrics-bind", "127.0.0.1:0", "--user", "nobody")
    server = serve(COUNTED, *arguments, **nobody_python)
    watched = Watched(server, server.said["doors"]["metrics-bind"][0])
    eventually(lambda: watched.status("/healthz") == 200, PATIENCE_S)
    watched.load(3)
    watched.sees(SERVED, 3)
    folder = _folder(server)
    assert folder.stat().st_uid == NOBODY
    assert server.stop() == 0
    assert not folder.exists()


def test_a_parent_that_is_stopped_is_not_alive(watched: Watched) -> None:
    """Its process is there, and its loop does not turn."""
    server = watched.server
    server.signal(signal.SIGSTOP)
    try:
        eventually(lambda: watched.status("/healthz") == 503, PATIENCE_S)
        assert watched.status("/readyz") == 200  # its workers serve
    finally:
        server.signal(signal.SIGCONT)
    eventually(lambda: watched.status("/healthz") == 200, PATIENCE_S)


def test_without_the_option_nothing_is_made(serve: Serve) -> None:
    """No folder, and nobody measures how long requests take."""
    server = serve(COUNTED, "--workers", "1", "--lifespan", "off")
    assert not _folders(server)
