"""Two pools behind a real proxy, with the configuration of ``examples``: reloads, deaths and stops lose no request.

What a proxy may do about a request that was cut is said in the examples: it sends a GET again, and connects elsewhere
when nobody accepts. A POST that was under way in a worker that is killed is lost, and must be.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.support.control import control_pid
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand
from tests.support.proxies import CLIENTS, PROXIES, Proxy, agent_address, agent_line, proxy, visitors
from tests.support.reloads import reload
from tests.support.server import Server, send_until
from tests.support.variations import long, mostly_long

APP = "tests.apps.proxied:app"
WORKERS = "2"
PATIENCE_S = 25.0
each_proxy = pytest.mark.parametrize("name", mostly_long(PROXIES, "haproxy".__eq__))


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


# ── HAProxy and the agent ──


def test_haproxy_drains_a_machine_that_leaves(pools: Callable[..., list[Server]], tmp_path: Path) -> None:
    """The agent says so during --drain-delay: nobody is sent there any more before the door closes, and nothing fails.

    Not a POST either, which is not asked again: there is none on its way.
    """
    servers = pools("--drain-delay", "60", "--agent-bind", "127.0.0.1:0")
    leaving, staying = servers
    agents = [agent_address(each) for each in servers]
    with (
        proxy("haproxy", tmp_path, addresses(servers), agents) as front,
        visitors(front, leaving, "GET", "POST") as people,
    ):
        eventually(lambda: front.stats()["app1"]["agent_status"] == "L7OK")
        going = leaving.ready_pids()
        leaving.signal(signal.SIGTERM)
        eventually(lambda: front.stats()["app1"]["status"].startswith("DRAIN"))
        people.wait_more(50)
        before = sum(people.served.get(pid, 0) for pid in going)
        people.wait_more(50)
        assert sum(people.served.get(pid, 0) for pid in going) - before <= CLIENTS  # what was under way
        send_until(leaving, signal.SIGTERM, "stopping; open connections")  # the delay is over
        assert leaving.wait() == 0
        people.wait_more(50)
        assert front.stats()["app2"]["status"].startswith("UP")
        assert set(staying.ready_pids()) & set(people.served)
    assert people.failed == [], front.log


def test_haproxy_spares_a_parked_machine_and_comes_back(pools: Callable[..., list[Server]], tmp_path: Path) -> None:
    """SIGWINCH: nobody accepts, and HAProxy sends nobody. Again: it serves as before."""
    servers = pools("--agent-bind", "127.0.0.1:0")
    agents = [agent_address(each) for each in servers]
    with proxy("haproxy", tmp_path, addresses(servers), agents) as front:
        eventually(lambda: front.stats()["app1"]["agent_status"] == "L7OK")
        servers[0].signal(signal.SIGWINCH)
        eventually(lambda: front.stats()["app1"]["status"].startswith("DRAIN"))
        assert agent_line(servers[0]) == "drain\n"
        with visitors(front, servers[1], "GET", "POST") as people:
            people.wait_more(20)
        assert people.failed == []
        servers[0].signal(signal.SIGWINCH)
        eventually(lambda: front.stats()["app1"]["status"].startswith("UP"))
        wanted = set(servers[0].wait_workers(int(WORKERS)))
        with visitors(front, servers[1]) as people:
            eventually(lambda: wanted & set(people.served))
        assert people.failed == []


def weight(front: Proxy, name: str) -> int:
    """Return the weight that HAProxy gives to a machine now, of 100."""
    return int(front.stats()[name]["weight"])


@pytest.mark.parametrize("how", ["loop", long("connections")])
def test_haproxy_gives_less_to_a_loaded_machine(pools: Callable[..., list[Server]], tmp_path: Path, how: str) -> None:
    """Its loops have no time, or it holds nearly all the connections that it may: the weight falls, and comes back."""
    servers = pools("--agent-bind", "127.0.0.1:0", "--limit-connections", "50")
    agents = [agent_address(each) for each in servers]
    load = blocked(servers[0]) if how == "loop" else held_connections(servers[0], 95)
    with proxy("haproxy", tmp_path, addresses(servers), agents) as front:
        with load:
            eventually(lambda: weight(front, "app1") < 70, PATIENCE_S)
            assert weight(front, "app2") > weight(front, "app1")
        eventually(lambda: weight(front, "app1") > 75, PATIENCE_S)


@contextmanager
def blocked(server: Server) -> Iterator[None]:
    """Hold every loop of a server for the length of a block, without any CPU."""
    over = threading.Event()

    def block() -> None:
        while not over.is_set():
            with ByHand(server.connect()) as client:
                client.get("/block")

    threads = [threading.Thread(target=block) for _ in range(2 * int(WORKERS))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)


@contextmanager
def held_connections(server: Server, count: int) -> Iterator[None]:
    """Have so many connections open that say nothing."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(server.connect())
        yield


def test_agent_answers_again_when_control_was_killed(pools: Callable[..., list[Server]]) -> None:
    """Who asks meanwhile waits for the next control process; the pool serves."""
    server, _other = pools("--agent-bind", "127.0.0.1:0")
    assert agent_line(server) == "up ready 100%\n"
    os.kill(control_pid(server), signal.SIGKILL)
    assert agent_line(server).startswith("up ready ")
