"""Two pools behind a real proxy, with the configuration of ``examples``: reloads, deaths and stops lose no request.

What a proxy may do about a request that was cut is said in the examples: it sends a GET again, and connects elsewhere
when nobody accepts. A POST that was under way in a worker that is killed is lost, and must be.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand
from tests.support.proxies import PROXIES, proxy, visitors
from tests.support.reloads import reload
from tests.support.server import Server, send_until

APP = "tests.apps.proxied:app"
WORKERS = "2"
each_proxy = pytest.mark.parametrize("name", list(PROXIES))


@pytest.fixture
def pools(serve: Serve, tmp_path: Path) -> Callable[..., list[Server]]:
    """Start two pools."""

    def start(*arguments: str) -> list[Server]:
        env = {**os.environ, "HELD_AT": str(tmp_path / "held")}
        return [serve(APP, "--workers", WORKERS, *arguments, env=env) for _ in range(2)]

    return start


def addresses(servers: Sequence[Server]) -> list[str]:
    """Return where they serve."""
    return [each.address for each in servers]


def held(folder: Path) -> str:
    """Return the pid of the worker that holds a request; nothing: none does yet."""
    try:
        text = (folder / "held").read_text()
    except FileNotFoundError:
        return ""
    return text.strip() if text.endswith("\n") else ""


@each_proxy
def test_reload_loses_nothing(pools: Callable[..., list[Server]], tmp_path: Path, name: str) -> None:
    """All workers of a machine are replaced under load."""
    servers = pools()
    with proxy(name, tmp_path, addresses(servers)) as front, visitors(front, servers[0]) as people:
        old = servers[0].ready_pids()
        reload(servers[0])
        people.wait_more(50)
        new = servers[0].wait_workers(int(WORKERS))
        assert not set(old) & set(new)
        eventually(lambda: set(new) & set(people.served))
    assert people.failed == [], front.log


@each_proxy
def test_killed_worker_loses_nothing_that_may_be_asked_twice(
    pools: Callable[..., list[Server]], tmp_path: Path, name: str
) -> None:
    """Worker after worker is killed under load; GETs are answered, all of them."""
    servers = pools()
    with proxy(name, tmp_path, addresses(servers)) as front, visitors(front, servers[0]) as people:
        for victim in servers[0].wait_workers(int(WORKERS)):
            os.kill(victim, signal.SIGKILL)
            eventually(lambda gone=victim: gone not in servers[0].ready_pids())  # type: ignore[misc]  # bound now
            people.wait_more(30)
            servers[0].wait_workers(int(WORKERS))
    assert people.failed == [], front.log


@pytest.mark.parametrize("method", ["GET", "POST"])
@each_proxy
def test_request_of_a_killed_worker(pools: Callable[..., list[Server]], tmp_path: Path, name: str, method: str) -> None:
    """It was under way for certain. The proxy has another worker answer a GET; a POST it does not send twice: 502."""
    servers = pools()
    with proxy(name, tmp_path, addresses(servers)) as front, ByHand(front.connect()) as client:
        body = "Content-Length: 0\r\n" if method == "POST" else ""
        client.send(f"{method} /hold HTTP/1.1\r\nHost: test\r\n{body}\r\n".encode())
        victim = int(eventually(lambda: held(tmp_path)))
        os.kill(victim, signal.SIGKILL)
        answer = client.answer()
    if method == "GET":
        assert (answer.status, int(answer.body) != victim) == (200, True)
    else:
        assert answer.status == 502


@each_proxy
def test_machine_that_leaves_loses_nothing(pools: Callable[..., list[Server]], tmp_path: Path, name: str) -> None:
    """SIGTERM with --drain-delay under load: no request fails, neither during the delay nor after it."""
    servers = pools("--drain-delay", "60")
    leaving, staying = servers
    with proxy(name, tmp_path, addresses(servers)) as front, visitors(front, leaving) as people:
        leaving.signal(signal.SIGTERM)
        eventually(lambda: "--drain-delay" in leaving.log)
        people.wait_more(50)
        send_until(leaving, signal.SIGTERM, "stopping; open connections")  # the delay is over
        assert leaving.wait() == 0
        people.wait_more(50)
        assert set(staying.ready_pids()) & set(people.served)
    assert people.failed == [], front.log


@each_proxy
def test_machine_that_dies_loses_nothing_that_may_be_asked_twice(
    pools: Callable[..., list[Server]], tmp_path: Path, name: str
) -> None:
    """Every process of it is gone at once, under load; GETs are answered, all of them."""
    servers = pools()
    with proxy(name, tmp_path, addresses(servers)) as front, visitors(front, servers[1]) as people:
        servers[0].end()
        people.wait_more(100)
    assert people.failed == [], front.log
