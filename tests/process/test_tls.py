"""A pool that speaks TLS: its boot, its clients, its stop."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from hybrid.shared.models import MODELS
from tests.apps.http_knobs import PIECE, PIECES
from tests.process.conftest import Serve
from tests.support.certificates import PASSWORD, Certificates, make_certificates
from tests.support.clients import ask, hear, say
from tests.support.eventually import eventually
from tests.support.forked import NOBODY
from tests.support.server import Server, descriptor_links, exactly, until_eof
from tests.support.variations import long, mostly_long

STREAM, BLOCKING, HTTP = "tests.apps.knobs:knobs", "tests.apps.blocking:knobs", "tests.apps.http_knobs:app"
PAIRS = [
    *((STREAM, name) for name, model in MODELS.items() if model.loop),
    *((BLOCKING, name) for name, model in MODELS.items() if model.threaded),
]
SHORT = ((STREAM, "shared"), (STREAM, "passing"), (BLOCKING, "threads"), (BLOCKING, "fork"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Close what is entered here at the end of the test."""
    with ExitStack() as stack:
        yield stack


def wrapped(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """Return a client whose handshake is complete."""
    sock = server.connect()
    try:
        return context.wrap_socket(sock, server_hostname="localhost", session=session)
    except BaseException:
        sock.close()
        raise


def counts(server: Server) -> tuple[int, int, int]:
    """Return how many connections are open, were accepted, and were lost by the handler."""
    workers = server.workers()
    return (
        sum(each.active for each in workers),
        sum(each.accepted for each in workers),
        sum(each.errors for each in workers),
    )


# ── serving ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "model"),
    mostly_long(PAIRS, SHORT.__contains__),
    ids=[f"{model}-{target[11:]}" for target, model in PAIRS],
)
def test_every_way_of_accepting(
    serve: Serve, certificates: Certificates, clients: ExitStack, target: str, model: str
) -> None:
    """Clients with TLS are served, one without costs its connection alone, and all are counted; none is left."""
    server = serve(target, "--workers", "2", "--accept", model, "--ssl-certfile", certificates.server)
    context = certificates.client_context()
    several = [clients.enter_context(wrapped(server, context)) for _ in range(4)]
    for number, client in enumerate(several):
        assert ask(client, f"echo {number}") == str(number)
    with server.connect() as plain, suppress(ConnectionError):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until_eof(plain)
    for client in several:
        assert ask(client, "echo still here") == "still here"
        client.close()
    eventually(lambda: counts(server) == (0, 5, 0))
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_curl(serve: Serve, certificates: Certificates) -> None:
    """A real client of HTTPS: keep-alive, an upload, a large download to its last byte."""
    curl = shutil.which("curl") or pytest.skip("curl is not installed")
    server = serve(
        HTTP, "--workers", "1", "--ssl-certfile", certificates.certificate, "--ssl-keyfile", certificates.key
    )
    port = server.address.rpartition(":")[2]
    command = [curl, "-sS", "--noproxy", "*", "--max-time", "20", "--cacert", certificates.authority, "-w"]
    command += ["%{ssl_verify_result} %{http_version} %{num_connects} %{size_download} "]
    urls = [f"https://localhost:{port}{path}" for path in ("/download", "/echo")]
    run = subprocess.run(
        [*command, "--data-binary", "hello", "-o", os.devnull, urls[1], "-o", os.devnull, urls[1]],
        capture_output=True, timeout=30,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, b"0 1.1 1 5 0 1.1 0 5 "), run.stderr
    run = subprocess.run([*command, "-o", os.devnull, urls[0]], capture_output=True, timeout=30)
    assert run.stdout.split()[3] == str(len(PIECE) * PIECES).encode(), run.stderr


def test_session_is_resumed_at_another_worker(serve: Serve, certificates: Certificates) -> None:
    """The context was made before the fork: a ticket of one worker is good at the other."""
    server = serve(STREAM, "--workers", "2", "--ssl-certfile", certificates.server)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = certificates.client_context(version=version)
        with wrapped(server, context) as first:
            pid, session = ask(first, "pid"), first.session
            assert not first.session_reused

            def elsewhere(context: ssl.SSLContext = context, session: Any = session, pid: str = pid) -> bool:
                with wrapped(server, context, session) as client:
                    assert client.session_reused
                    return ask(client, "pid") != pid

            # The first client is held: the worker with the fewest, the other one, takes the next.
            eventually(elsewhere)


@pytest.mark.parametrize("target", [STREAM, BLOCKING])
def test_clients_certificates(serve: Serve, certificates: Certificates, target: str) -> None:
    """required: none, and one that nobody vouches for, are turned away; that is no failure of the handler's."""
    options = ("--ssl-certfile", certificates.server, "--ssl-ca-certs", certificates.authority)
    server = serve(target, "--workers", "1", *options, "--ssl-verify", "required")
    with wrapped(server, certificates.client_context(certificates.client)) as client:
        assert ask(client, "echo hello") == "hello"
    for certificate in ("", certificates.stranger):
        with pytest.raises(OSError), wrapped(server, certificates.client_context(certificate)) as client:
            client.sendall(b"echo hello\n")
            assert client.recv(100), "an orderly end"
    eventually(lambda: counts(server) == (0, 3, 0))
    assert server.log.count("no TLS with") == 1  # the stranger's; who shows nothing is for --log-level debug
    assert "CERTIFICATE_VERIFY_FAILED" in server.log


# ── the stop ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", [STREAM, BLOCKING])
def test_open_connection_finishes(serve: Serve, certificates: Certificates, target: str) -> None:
    """A drain with an open TLS connection: it goes on, ends when its client is done, and the pool leaves with 0."""
    server = serve(target, "--workers", "2", "--ssl-certfile", certificates.server)
    with wrapped(server, certificates.client_context()) as client:
        assert ask(client, "echo before") == "before"
        server.signal(signal.SIGTERM)
        eventually(lambda: "DRAINING" in {worker.life.name for worker in server.workers()})
        assert ask(client, "echo after") == "after"
    assert server.wait() == 0
    assert not re.search(r"[1-9]\d* (were cancelled|cut)", server.log)


@pytest.mark.parametrize("target", [STREAM, BLOCKING])
def test_stalled_handshake_does_not_hold_up_a_stop(serve: Serve, certificates: Certificates, target: str) -> None:
    """A client that never says hello is cut when the grace is over."""
    options = ("--graceful-timeout", "0.3", "--ssl-handshake-timeout", "300", "--ssl-certfile", certificates.server)
    server = serve(target, "--workers", "1", *options)
    with server.connect() as silent:
        eventually(lambda: counts(server)[0] == 1)
        assert server.stop() == 0
        assert "SIGKILL" not in server.log
        with suppress(ConnectionError):
            until_eof(silent)


# ── the boot ─────────────────────────────────────────────────────────────────────────────────────────────────


KEY_READERS = [("1", "on"), long("1", "off"), ("0", "on")]
"""The mold, a worker, or the one process; the last does not ask whether to preload."""


@pytest.mark.parametrize(("workers", "preload"), KEY_READERS)
def test_encrypted_key(
    serve: Serve, certificates: Certificates, workers: str, preload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened with the password from the environment, which is in no title and no log."""
    monkeypatch.setenv("HYBRID_SSL_KEYFILE_PASSWORD", PASSWORD)
    options = ("--ssl-certfile", certificates.certificate, "--ssl-keyfile", certificates.encrypted_key)
    server = serve(STREAM, "--workers", workers, "--preload", preload, *options, "--log-level", "debug")
    with wrapped(server, certificates.client_context()) as client:
        assert ask(client, "echo hello") == "hello"
    for pid in server.everyone():
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert PASSWORD not in server.log


@pytest.mark.parametrize(("workers", "preload"), KEY_READERS)
def test_boot_without_the_password_fails_once_and_at_once(
    serve: Serve, certificates: Certificates, workers: str, preload: str
) -> None:
    """No question at the terminal, no second attempt, exit code 2, and the remedy."""
    options = ("--ssl-certfile", certificates.certificate, "--ssl-keyfile", certificates.encrypted_key)
    server = serve(STREAM, "--workers", workers, "--preload", preload, *options, ready=False)
    said = server.wait_said()
    assert (said["event"], said["exit_code"]) == ("failed", 2)
    assert server.wait() == 2
    assert "the key is encrypted. Give its password: HYBRID_SSL_KEYFILE_PASSWORD" in said["error"]
    assert server.log.count("the key is encrypted") == 1
    assert "pass phrase" not in server.log


@pytest.mark.root
def test_key_that_root_alone_may_read(
    serve: Serve, certificates: Certificates, nobody_python: dict[str, Any], tmp_path: Path
) -> None:
    """--user nobody: the parent opens the key, the mold reads it once, and the app's code cannot."""
    key = tmp_path / "key.pem"
    key.write_bytes(Path(certificates.key).read_bytes())
    key.chmod(0o600)
    options = ("--ssl-certfile", certificates.certificate, "--ssl-keyfile", str(key), "--user", str(NOBODY))
    server = serve(STREAM, "--workers", "1", *options, "--group", str(NOBODY), cwd="/", **nobody_python)
    with wrapped(server, certificates.client_context()) as client:
        assert ask(client, "who").startswith(f"{NOBODY} {NOBODY} ")
    for pid in [server.mold_pid(), *server.ready_pids()]:
        assert not [link for link in descriptor_links(pid) if "key.pem" in link or "hybrid-tls" in link]


# ── peers that are none ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", [long(STREAM), BLOCKING, HTTP])
def test_stalled_handshakes_are_cut(serve: Serve, certificates: Certificates, target: str) -> None:
    """--ssl-handshake-timeout: others are served meanwhile, and the log says nothing of it."""
    options = ("--ssl-handshake-timeout", "2", "--ssl-certfile", certificates.server)
    server = serve(target, "--workers", "1", *options)
    with ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(5)]  # before the others in the queue
        with wrapped(server, certificates.client_context()) as client:
            if target == HTTP:
                client.sendall(b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                assert exactly(client, 9) == b"HTTP/1.1 "
            else:
                say(client, "echo hello")
                assert hear(client) == "hello"
        for each in silent:
            with suppress(ConnectionError):
                until_eof(each)
        eventually(lambda: counts(server) == (0, 6, 0))
    assert "no TLS" not in server.log


def test_clients_that_reset(serve: Serve, certificates: Certificates) -> None:
    """A hundred that leave in their handshake: none is left, the server serves on."""
    server = serve(STREAM, "--workers", "2", "--ssl-certfile", certificates.server)
    for _ in range(100):
        client = server.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        client.close()
    eventually(lambda: counts(server)[0] == 0)
    with wrapped(server, certificates.client_context()) as client:
        assert ask(client, "echo hello") == "hello"
    assert "Traceback" not in server.log
