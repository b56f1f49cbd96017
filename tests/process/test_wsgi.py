"""WSGI on a real pool: no request is lost at a stop or a reload, memory stays, and a thread holds nobody up."""

from __future__ import annotations

import re
import signal
import socket
import threading
from pathlib import Path

import httpx
import pytest

import hybrid
from hybrid.ground.states import Life
from hybrid.shared.procfs import open_descriptors
from tests.apps.http_knobs import PIECE, PIECES
from tests.apps.wsgi_knobs import Environ, StartResponse
from tests.process.conftest import Serve
from tests.support.certificates import make_certificates
from tests.support.eventually import eventually, eventually_async
from tests.support.http_clients import ByHand, Crowd, crowd
from tests.support.reloads import reload
from tests.support.server import Server

KNOBS = "tests.apps.wsgi_knobs:app"
CLIENTS = 6
MIB = 1 << 20


def by_hand(server: Server) -> ByHand:
    """Return a connection."""
    return ByHand(server.connect())


def terminate(server: Server) -> None:
    """Send SIGTERM; wait until every worker drains."""
    server.signal(signal.SIGTERM)
    eventually(lambda: all(worker.life is not Life.READY for worker in server.workers()))


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_stop_under_load_loses_no_request(serve: Serve) -> None:
    """SIGTERM while clients hammer on kept connections: each request is answered, then the connection is refused."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    assert "serves WSGI application app" in server.log and "8 threads" in server.log
    with crowd(server, CLIENTS) as people:
        people.wait_more(300)
        server.signal(signal.SIGTERM)
        eventually(lambda: people.refused == CLIENTS)
    assert people.lost == [] and people.last >= CLIENTS
    assert server.wait() == 0 and "error" not in server.log


def test_reload_under_load_loses_no_request(serve: Serve) -> None:
    """Other workers, the same answers."""
    server = serve(KNOBS, "--workers", "2")
    before = server.ready_pids()
    with Crowd(server, is_over_when_refused=False).busy(CLIENTS) as people:
        people.wait_more(100)
        reload(server)
        people.wait_more(100)
        eventually(lambda: not set(before) & {worker.pid for worker in server.workers()})
    assert people.lost == [] and people.refused == 0
    assert server.stop() == 0 and "error" not in server.log


def test_what_is_under_way_is_finished(serve: Serve) -> None:
    """A request in its thread, half of a body, and a download that nobody reads yet, at SIGTERM."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    with by_hand(server) as waits, by_hand(server) as uploads, by_hand(server) as reads:
        waits.send(b"GET /slow?0.5 HTTP/1.1\r\nHost: test\r\n\r\n")
        uploads.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234")
        reads.send(b"GET /download HTTP/1.1\r\nHost: test\r\n\r\n")
        assert reads.head()[1]["content-length"] == str(len(PIECE) * PIECES)
        eventually(lambda: sum(worker.active for worker in server.workers()) == 3)
        terminate(server)
        uploads.send(b"56789")
        assert uploads.answer().body == b"0123456789"
        answer = waits.answer()
        assert (answer.body, answer.is_last) == (b"slow", True)
        assert reads._take(len(PIECE) * PIECES) == PIECE * PIECES
        assert reads.is_closed() and waits.is_closed() and uploads.is_closed()
    assert server.wait() == 0 and not re.search(r"[1-9]\d* (were cancelled|cut)|error", server.log)


def test_thread_that_never_returns_does_not_keep_the_worker(serve: Serve) -> None:
    """Its client gets 503 when the grace is over; the worker leaves without it."""
    server = serve(KNOBS, "--workers", "1", "--graceful-timeout", "0.3")
    with by_hand(server) as client:
        client.send(b"GET /sleeps HTTP/1.1\r\nHost: test\r\n\r\n")
        eventually(lambda: "sleeps: begun" in server.log)
        server.signal(signal.SIGTERM)
        answer = client.answer()
        assert (answer.status, answer.is_last) == (503, True)
    assert server.wait() == 0
    assert "GET /sleeps from" in server.log and "its thread runs on" in server.log


def test_threads_that_never_return_leave_the_others(serve: Serve) -> None:
    """Those that are left serve on; what waits for one gets 504, and costs nothing."""
    server = serve(KNOBS, "--workers", "1", "--threads", "2", "--request-timeout", "1", "--graceful-timeout", "0")
    with by_hand(server) as stuck, by_hand(server) as other:
        stuck.send(b"GET /sleeps HTTP/1.1\r\nHost: test\r\n\r\n")
        eventually(lambda: "sleeps: begun" in server.log)
        assert other.get("/pid").status == 200
        assert stuck.answer().status == 504
        assert other.get("/pid").status == 200
        other.send(b"GET /sleeps HTTP/1.1\r\nHost: test\r\n\r\n")
        eventually(lambda: server.log.count("sleeps: begun") == 2)
        with by_hand(server) as waits:
            assert waits.get("/pid").status == 504
    assert "no thread had begun with it" in server.log
    assert server.stop() == 0


def test_large_bodies_cost_little_memory(serve: Serve) -> None:
    """An upload and a download of far more than the worker may grow by, with a client that reads slowly."""
    server = serve(KNOBS, "--workers", "1")
    (pid,) = server.ready_pids()
    with by_hand(server) as client:
        assert client.get("/pid").body == b"%d" % pid
        before = peak_bytes(pid)
        client.send(b"POST /count HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            client.send(bytes(MIB))
        assert client.answer().body == b"%d" % (64 * MIB)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(b"GET /download HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.head()[0] == 200
        assert client._take(len(PIECE) * PIECES) == PIECE * PIECES
        assert peak_bytes(pid) - before < 12 * MIB
    assert server.stop() == 0


def test_clients_that_die_leave_nothing(serve: Serve) -> None:
    """In the head, in the body, before the answer, within it: no descriptor and no thread is kept."""
    server = serve(KNOBS, "--workers", "1", "--threads", "2")
    (pid,) = server.ready_pids()
    with by_hand(server) as client:
        assert client.get("/pid").status == 200
        before = len(open_descriptors(pid))
        stages = (
            b"GET /pi",
            b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123",
            b"POST /count HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n0123",
            b"GET /slow?0.1 HTTP/1.1\r\nHost: test\r\n\r\n",
            b"GET /download HTTP/1.1\r\nHost: test\r\n\r\n",
        )
        for stage in stages * 3:
            with by_hand(server) as dies:
                dies.send(stage)
        eventually(lambda: sum(worker.active for worker in server.workers()) == 1)
        assert client.get("/pid").status == 200
        eventually(lambda: len(open_descriptors(pid)) == before)
    assert server.stop() == 0
    assert "error" not in server.log


def test_access_log_has_the_requests(serve: Serve) -> None:
    """Status and length of what the application said, and of what was said in its place."""
    server = serve(KNOBS, "--workers", "1", "--access-log", "--access-log-file", "-", "--graceful-timeout", "0.2")
    with by_hand(server) as client, by_hand(server) as stuck:
        client.get("/pid?a=b")
        client.get("/nowhere")
        stuck.send(b"GET /sleeps HTTP/1.1\r\nHost: test\r\n\r\n")
        eventually(lambda: "sleeps: begun" in server.log)
        server.signal(signal.SIGTERM)
        assert stuck.answer().status == 503
    assert server.wait() == 0
    log = server.log
    assert re.search(r'"GET /pid\?a=b HTTP/1\.1" 200 \d+ ', log) and '"GET /nowhere HTTP/1.1" 404 12 ' in log
    assert log.count('"GET /sleeps HTTP/1.1" 503 20 ') == 1


def test_access_log_says_how_much_of_a_file_was_taken(serve: Serve, tmp_path: Path) -> None:
    """A client that leaves within a large file took a part of it."""
    with (tmp_path / "large").open("wb") as large:
        large.truncate(64 * MIB)
    (tmp_path / "sends.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        f"    return environ['wsgi.file_wrapper'](open({str(tmp_path / 'large')!r}, 'rb'))\n"
    )
    server = serve(f"{tmp_path / 'sends.py'}:app", "--workers", "1", "--access-log", "--access-log-file", "-")
    with by_hand(server) as leaves:
        leaves.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        assert leaves.socket.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        left = 4 * MIB
        while left > 0:
            left -= len(leaves.socket.recv(1 << 16))
    eventually(lambda: "GET /large" in server.log)
    found = re.search(r'"GET /large HTTP/1.1" 200 (\d+) ', server.log)
    assert found is not None and 4 * MIB <= int(found[1]) < 64 * MIB
    assert server.stop() == 0


@pytest.mark.parametrize("workers", ["0", "1"])
def test_no_pool_is_needed(serve: Serve, workers: str, tmp_path: Path) -> None:
    """--workers 0 serves WSGI as well, on a unix socket, too."""
    server = serve(KNOBS, "--workers", workers, "--bind", "127.0.0.1:0")
    with by_hand(server) as client:
        port = client.socket.getpeername()[1]
        said = client.get("/scheme").body.decode().split("|")
        assert said == ["http", "None", "127.0.0.1", str(port), "127.0.0.1", str(workers != "0"), "None"]
    assert server.stop() == 0


def test_child_of_a_fork_does_not_serve(serve: Serve, tmp_path: Path) -> None:
    """An application that forks and returns in the child gets one answer, from the parent; the child ends."""
    (tmp_path / "forks.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    pid = os.fork()\n"
        "    if pid: os.waitpid(pid, 0)\n"
        "    start_response('200 OK', [])\n"
        "    return [b'%d' % os.getpid()] if pid else iter([bytes(50000)] * 4)\n"  # more than fits
    )
    server = serve(f"{tmp_path / 'forks.py'}:app", "--workers", "1", "--interface", "wsgi")
    (pid,) = server.ready_pids()
    with by_hand(server) as client:
        for _ in range(2):
            assert client.get("/").body == b"%d" % pid
    eventually(lambda: server.log.count("called os.fork and returned in the child") == 2)
    assert server.stop() == 0


def test_failed_boot_says_what_is_wrong(serve: Serve) -> None:
    """--interface wsgi for what is none, and a lifespan word that is for ASGI."""
    server = serve("tests.apps.http_knobs:app", "--interface", "wsgi", ready=False)
    assert server.wait() != 0 and "it is async; a WSGI application is a plain callable" in server.log
    server = serve(KNOBS, "--lifespan", "on", ready=False)
    assert server.wait() != 0 and "it is for ASGI applications, and 'app' is a WSGI application" in server.log


def test_tls(serve: Serve, tmp_path: Path) -> None:
    """The environ says so, and what of the client's certificate was verified; bodies and files pass."""
    certificates = make_certificates(tmp_path)
    (tmp_path / "large").write_bytes(PIECE * 20)
    (tmp_path / "tells.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    if environ['PATH_INFO'] == '/file':\n"
        f"        return environ['wsgi.file_wrapper'](open({str(tmp_path / 'large')!r}, 'rb'))\n"
        "    keys = ('wsgi.url_scheme', 'HTTPS', 'SSL_PROTOCOL', 'SSL_CLIENT_VERIFY')\n"
        "    said = [environ[key] for key in keys] + [str('SSL_CLIENT_S_DN' in environ)]\n"
        "    return ['|'.join(said + [environ.get('SSL_CLIENT_CERT', '')[:27]]).encode()]\n"
    )
    options = (
        "--ssl-certfile",
        certificates.server,
        "--ssl-ca-certs",
        certificates.authority,
        "--ssl-verify",
        "optional",
    )
    server = serve(f"{tmp_path / 'tells.py'}:app", "--workers", "1", *options)
    url = f"https://localhost:{server.address.rpartition(':')[2]}"
    said = []
    for certificate in ("", certificates.client):
        with httpx.Client(verify=certificates.client_context(certificate), trust_env=False) as http:
            said.append(http.get(f"{url}/").text)
            assert http.get(f"{url}/file").content == PIECE * 20
    assert said[0] == "https|on|TLSv1.3|NONE|False|"
    assert said[1] == "https|on|TLSv1.3|SUCCESS|True|-----BEGIN CERTIFICATE-----"
    assert server.stop() == 0


async def test_function_of_the_caller_without_a_pool() -> None:
    """hybrid.serve(app, workers=0) runs it in threads beside the caller's loop; they end with it."""
    before = set(threading.enumerate())

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [str(threading.current_thread() not in before).encode()]

    async with hybrid.serve(app, bind="127.0.0.1:0", workers=0, threads=3) as server:
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://{server.addresses[0]}/")).text == "True"
        assert len(set(threading.enumerate()) - before) >= 3
    await eventually_async(lambda: not any(each.name.startswith("hybrid-") for each in threading.enumerate()))
