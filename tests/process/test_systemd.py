"""A real pool under a service manager that the test plays: its words, its watchdog, its sockets."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hybrid.ground.errors import ExitCode
from tests.process.conftest import Serve
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.server import ROOT, Server, exactly, is_alive
from tests.support.systemd import NotifySocket, handing_over, is_in

pytestmark = pytest.mark.long

KNOBS = "tests.apps.knobs:knobs"
ECHO = "examples/echo.py:echo"
MANAGERS = "NOTIFY_,WATCHDOG_,LISTEN_,FDSTORE"

needs_activate = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate (package systemd)"
)


@pytest.fixture(params=["path", "abstract"])
def any_ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    """Both kinds of notify sockets that there are on one machine."""
    with NotifySocket(str(tmp_path / "notify") if request.param == "path" else f"@{uuid.uuid4()}") as ear:
        yield ear


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(str(tmp_path / "notify")) as ear:
        yield ear


def environment(ear: NotifySocket, **more: str) -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": ear.name, **more}


# ── words ──


@pytest.mark.parametrize("workers", ["2", "0"])
def test_boot_and_stop_are_told(workers: str, serve: Serve, any_ear: NotifySocket) -> None:
    """Time to boot, READY with our pid and what is served, STOPPING with the time that the grace takes; no more."""
    server = serve(KNOBS, "--workers", workers, "--graceful-timeout", "300", env=environment(any_ear))
    ready = any_ear.until("READY=1")
    assert ready["MAINPID"] == str(server.pid)
    count = "2 workers serve" if workers == "2" else "one process serves"
    assert ready["STATUS"] == f"{count} on {server.address}"
    asked = [int(each["EXTEND_TIMEOUT_USEC"]) for each in any_ear.heard if "EXTEND_TIMEOUT_USEC" in each]
    assert asked and max(asked) > 30e6  # --boot-timeout
    with server.connect() as client:
        client.sendall(b"hold\n")
        assert exactly(client, 8) == b"holding\n"
        any_ear.silence()
        server.signal(signal.SIGTERM)
        assert any_ear.until("STOPPING=1")["STATUS"].startswith("stopping")
        assert int(any_ear.until("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) > 300e6
        server.signal(signal.SIGQUIT)
    assert server.wait() == ExitCode.OK
    any_ear.silence()


def test_number_of_workers_is_told_as_it_changes(serve: Serve, ear: NotifySocket) -> None:
    """``systemctl status`` shows that one is missing, and that it is back."""
    server = serve(KNOBS, "--workers", "2", env=environment(ear))
    ear.until("READY=1")
    os.kill(server.ready_pids()[0], signal.SIGKILL)
    ear.until("STATUS=1 of 2 workers serve")
    ear.until("STATUS=2 workers serve")


def test_reload_is_told_whatever_comes_of_it(serve: Serve, ear: NotifySocket, tmp_path: Path) -> None:
    """RELOADING is newer than the signal, as Type=notify-reload wants, and READY follows; a failure says why."""
    app = tmp_path / "app.py"
    app.write_text("async def handle(conn): pass\n")
    server = serve(f"{app}:handle", "--workers", "1", env=environment(ear))
    ear.until("READY=1")
    sent_us = time.monotonic_ns() // 1000
    server.signal(signal.SIGHUP)
    assert int(ear.until("RELOADING=1")["MONOTONIC_USEC"]) >= sent_us
    assert ear.until("READY=1")["STATUS"] == f"1 worker serves on {server.address}"
    app.write_text("raise RuntimeError('broken')  # of another size, for its .pyc\n")
    server.signal(signal.SIGHUP)
    ear.until("RELOADING=1")
    assert "the last reload failed: the app cannot be imported" in ear.until("READY=1")["STATUS"]


def test_reload_without_a_pool_is_refused(serve: Serve, ear: NotifySocket) -> None:
    """``systemctl reload`` does not hang."""
    server = serve(ECHO, "--workers", "0", env=environment(ear))
    ear.until("READY=1")
    server.signal(signal.SIGHUP)
    ear.until("RELOADING=1")
    assert "it takes a pool" in ear.until("READY=1")["STATUS"]


@pytest.mark.parametrize("workers", ["1", "0"])
def test_app_that_cannot_be_imported_is_told(workers: str, serve: Serve, ear: NotifySocket) -> None:
    """The line of ``systemctl status`` says why, and stays; nobody is told that it is ready."""
    server = serve("tests.apps.bad_import:handle", "--workers", workers, ready=False, env=environment(ear))
    assert server.wait() == ExitCode.APP_NOT_LOADED
    said = ear.until("STOPPING=1")["STATUS"]
    assert "import" in said and "\n" not in said
    assert not any("STATUS" in each or "READY" in each for each in ear.so_far())


def test_address_in_use_is_told_with_its_number(serve: Serve, ear: NotifySocket) -> None:
    """ERRNO, so that ``systemctl show`` has it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        server = serve(KNOBS, "--bind", f"127.0.0.1:{port}", ready=False, env=environment(ear))
        assert server.wait() == ExitCode.USAGE
    failed = ear.until("STOPPING=1")
    assert failed["ERRNO"] == "98" and f"127.0.0.1:{port}: address in use" in failed["STATUS"]


def test_manager_that_is_gone_is_a_warning(serve: Serve, tmp_path: Path) -> None:
    """The server serves all the same, and says it once."""
    server = serve(ECHO, "--workers", "1", env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "none")})
    assert server.echoes()
    assert server.stop() == ExitCode.OK
    assert server.log.count("the service manager cannot be told anything") == 1


def test_program_that_embeds_a_pool_speaks_for_itself(ear: NotifySocket) -> None:
    """hybrid.run and hybrid.serve say nothing: the program is the service. Nor does the app see the socket."""
    code = """if True:
        import asyncio, hybrid
        async def main():
            async with hybrid.serve("tests.apps.knobs:knobs", bind="127.0.0.1:0", workers=1) as server:
                host, port = server.addresses[0].rsplit(":", 1)
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"environ NOTIFY_\\n")
                assert await reader.readline() == b"\\n"
                writer.close()
        asyncio.run(main())
        """
    subprocess.run([sys.executable, "-c", code], env=environment(ear), check=True, cwd=ROOT, timeout=60)
    assert ear.next(0.001) is None


# ── the watchdog ──


@pytest.mark.parametrize("workers", ["1", "0"])
def test_watchdog_is_fed_by_the_loop(workers: str, serve: Serve, ear: NotifySocket) -> None:
    """While the process is stopped nobody feeds it; when it goes on, somebody does."""
    server = serve(ECHO, "--workers", workers, env=environment(ear, WATCHDOG_USEC="200000"))
    for _ in range(3):
        ear.until("WATCHDOG=1")
    server.signal(signal.SIGSTOP)
    eventually(lambda: ear.next(0.3) is None)
    assert ear.next(0.5) is None
    server.signal(signal.SIGCONT)
    ear.until("WATCHDOG=1")


def test_watchdog_is_fed_while_workers_are_busy(serve: Serve, ear: NotifySocket) -> None:
    """It watches the parent. Workers have a watch of their own."""
    server = serve(KNOBS, "--workers", "1", env=environment(ear, WATCHDOG_USEC="200000"))
    with server.connect() as client:
        client.sendall(b"block\n")
        assert exactly(client, 9) == b"blocking\n"
        ear.silence()
        for _ in range(3):
            ear.until("WATCHDOG=1")


def test_watchdog_of_another_process_is_not_fed(serve: Serve, ear: NotifySocket) -> None:
    """Source: sd_watchdog_enabled(3): WATCHDOG_PID says whose it is."""
    serve(ECHO, "--workers", "1", env=environment(ear, WATCHDOG_USEC="1000", WATCHDOG_PID="1"))
    ear.until("READY=1")
    ear.silence()
    assert ear.next(0.3) is None


# ── what the app sees ──


@pytest.mark.parametrize("workers", ["1", "0"])
@pytest.mark.parametrize("preload", ["on", "off"])
def test_app_sees_nothing_of_it(workers: str, preload: str, serve: Serve, ear: NotifySocket, tmp_path: Path) -> None:
    """Or the app, or what it starts, could speak in our name, or take our sockets for its own."""
    env = environment(ear, WATCHDOG_USEC="60000000", FDSTORE="9", STILL_THERE="1")
    given = socket.create_server(("127.0.0.1", 0))
    with given, handing_over({"web": given.fileno()}, tmp_path) as popen:
        server = serve(KNOBS, "--workers", workers, "--preload", preload, "--bind=127.0.0.1:0", env=env, **popen)
    with server.connect() as client:
        client.sendall(f"environ STILL_THERE,{MANAGERS}\n".encode())
        assert client.recv(1000) == b"STILL_THERE\n"


# ── sockets that are handed over ──


@needs_activate
@pytest.mark.parametrize("name", [(), ("--fdname=web",)])
def test_socket_activation(name: tuple[str, ...], tmp_path: Path) -> None:
    """The program of systemd listens; who connects before the server runs starts it, and is served."""
    port = free_port()
    log = tmp_path / "log"
    serve = (sys.executable, "-m", "hybrid", ECHO, "--workers", "1")
    command = ("systemd-socket-activate", f"--listen=127.0.0.1:{port}", *name, "-E", "PYTHONPATH", *serve)
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stderr=output, start_new_session=True)
    try:
        with eventually(lambda: connected(port), 20) as client:
            client.settimeout(20)
            client.sendall(b"hello\n")
            assert exactly(client, 6) == b"hello\n"
        said = eventually(lambda: text if f"on 127.0.0.1:{port}" in (text := log.read_text()) else "")
        assert (f"sockets of the service manager: 127.0.0.1:{port} (web)" in said) == bool(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == ExitCode.OK
    finally:
        process.kill()
        process.wait(20)


def connected(port: int) -> socket.socket:
    """Return a client. Raises: AssertionError: nobody listens yet."""
    try:
        return socket.create_connection(("127.0.0.1", port))
    except ConnectionRefusedError as error:
        raise AssertionError(port) from error


def test_socket_at_an_address_that_is_bound_too_is_taken_for_it(serve: Serve, tmp_path: Path) -> None:
    """``--bind`` may repeat what the .socket unit says."""
    given = socket.create_server(("127.0.0.1", 0))
    bind = f"127.0.0.1:{given.getsockname()[1]}"
    with given, handing_over({"web": given.fileno()}, tmp_path) as popen:
        server = serve(ECHO, "--workers", "1", "--bind", bind, **popen)
    assert server.said["addresses"] == [bind]
    assert server.echoes()


# ── sockets that are kept ──


def kept(serve: Serve, ear: NotifySocket, *arguments: str) -> Server:
    """Return a server whose sockets have been stored."""
    server = serve(KNOBS, "--workers", "1", *arguments, env=environment(ear, FDSTORE="4"))
    ear.until("READY=1")
    return server


def everybody_gone(server: Server) -> bool:
    return not is_alive(server.pid) and not server.everyone()


@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_queue_outlives_the_server(
    kind: str, how: signal.Signals, serve: Serve, ear: NotifySocket, tmp_path: Path
) -> None:
    """After a crash, and over a restart: who connects while there is no server waits, and is served by the next."""
    tcp, unix = f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/app.sock"
    bind = {"tcp": tcp, "unix": unix, "abstract": f"unix:@{uuid.uuid4()}"}[kind]
    first = kept(serve, ear, "--bind", bind)
    (name,) = ear.stored
    assert name.startswith("hybrid/") and ":" not in name
    assert [each["FDPOLL"] for each in ear.heard if "FDSTORE" in each] == ["0"]
    first.signal(how)
    eventually(lambda: everybody_gone(first))
    clients = [connect(first, bind) for _ in range(3)]
    for client in clients:
        client.sendall(b"pid\n")
    with handing_over(ear.stored, tmp_path) as popen:
        second = serve(KNOBS, "--workers", "1", "--bind", bind, env=environment(ear, FDSTORE="4"), **popen)
    assert second.said["addresses"] == [bind]
    for client in clients:
        with client:
            assert int(client.recv(100)) in second.ready_pids()
    assert f"{bind} (kept since an earlier start)" in second.log
    ear.heard.clear()
    ear.until("READY=1")
    assert not any("FDSTORE" in each for each in ear.heard)  # the manager has it already


def connect(server: Server, bind: str) -> socket.socket:
    """Return a client that is in the queue of ``bind``."""
    if bind.startswith("unix:@"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(b"\0" + bind[len("unix:@") :].encode())
        return client
    return server.connect(bind)


def test_socket_that_nothing_binds_any_more_is_ended(serve: Serve, ear: NotifySocket, tmp_path: Path) -> None:
    """Who waits in its queue is not kept waiting, the port is free for others, and the store is told to forget it."""
    port, other = free_port(), free_port()
    first = kept(serve, ear, "--bind", f"127.0.0.1:{port}")
    first.signal(signal.SIGKILL)
    eventually(lambda: everybody_gone(first))
    waiting = first.connect()
    with handing_over(ear.stored, tmp_path) as popen:
        second = serve(KNOBS, "--workers", "1", "--bind", f"127.0.0.1:{other}", env=environment(ear), **popen)
    with waiting, pytest.raises(ConnectionResetError):
        waiting.sendall(b"pid\n")
        waiting.recv(100)
    assert f"closing 127.0.0.1:{port}, kept by the service manager: nothing binds this address any more" in second.log
    assert second.said["addresses"] == [f"127.0.0.1:{other}"]
    with closing(socket.create_server(("127.0.0.1", port))):
        ear.until("FDSTOREREMOVE=1")
    assert not ear.stored


def test_socket_in_the_way_of_a_new_address_is_ended_first(serve: Serve, ear: NotifySocket, tmp_path: Path) -> None:
    """From all interfaces to one, with the same port."""
    port = free_port()
    first = kept(serve, ear, "--bind", f"0.0.0.0:{port}")
    first.signal(signal.SIGTERM)
    eventually(lambda: everybody_gone(first))
    with handing_over(ear.stored, tmp_path) as popen:
        second = serve(KNOBS, "--workers", "1", "--bind", f"127.0.0.1:{port}", env=environment(ear), **popen)
    assert second.said["addresses"] == [f"127.0.0.1:{port}"]


def test_unix_socket_whose_file_is_gone_is_made_anew(serve: Serve, ear: NotifySocket, tmp_path: Path) -> None:
    """Nobody could reach the old one."""
    path = tmp_path / "app.sock"
    first = kept(serve, ear, "--bind", f"unix:{path}")
    assert first.stop() == ExitCode.OK
    path.unlink()
    with handing_over(ear.stored, tmp_path) as popen:
        second = serve(KNOBS, "--workers", "1", "--bind", f"unix:{path}", env=environment(ear), **popen)
    with second.connect() as client:
        client.sendall(b"echo hello\n")
        assert client.recv(100) == b"hello\n"
    assert "its socket file is gone" in second.log


@pytest.mark.parametrize("workers", ["1", "0"])
def test_stored_sockets_alone_do_not_say_what_is_served(
    workers: str, serve: Serve, ear: NotifySocket, tmp_path: Path
) -> None:
    """They are no --bind: without one the server listens where it always does."""
    port, new = free_port(), free_port()
    old = socket.create_server(("127.0.0.1", port))
    with old, handing_over({f"hybrid/127.0.0.1_{port}": old.fileno()}, tmp_path) as popen:
        server = serve(KNOBS, "--workers", workers, "--port", str(new), env=environment(ear), **popen)
    assert server.said["addresses"] == [f"127.0.0.1:{new}"]
    assert is_in(f"FDNAME=hybrid/127.0.0.1_{port}", ear.until("FDSTOREREMOVE"))


def test_nothing_is_kept_without_a_store(serve: Serve, ear: NotifySocket, tmp_path: Path) -> None:
    """Then a stop refuses who comes, and removes the socket file."""
    server = serve(KNOBS, "--workers", "1", "--bind", f"unix:{tmp_path}/app.sock", env=environment(ear))
    ear.until("READY=1")
    assert server.stop() == ExitCode.OK
    assert not ear.stored and not (tmp_path / "app.sock").exists()


def test_upgraded_parent_goes_on(serve: Serve, ear: NotifySocket, tmp_path: Path) -> None:
    """SIGUSR2: it says that it is ready, feeds the watchdog, and stores nothing twice."""
    env = environment(ear, FDSTORE="4", WATCHDOG_USEC="400000")
    path = tmp_path / "app.sock"
    server = serve(KNOBS, "--workers", "1", "--bind", f"unix:{path}", env=env)
    ear.until("READY=1")
    server.signal(signal.SIGUSR2)
    ear.heard.clear()
    assert ear.until("READY=1")["MAINPID"] == str(server.pid)
    ear.until("WATCHDOG=1")
    assert server.stop() == ExitCode.OK
    ear.so_far()
    assert path.exists() and not any("FDSTORE" in each for each in ear.heard)


def test_reuseport_keeps_nothing(serve: Serve, ear: NotifySocket) -> None:
    """A kept socket would get its share of those who come while nobody accepts on it."""
    kept(serve, ear, "--accept", "reuseport")
    assert not ear.stored
