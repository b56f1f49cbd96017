"""The benchmark of recycling calls each failure by its name: what a server does to a client, and what is counted."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.benchmarks.recycling import Client, Outcome, Tally, line, main
from tests.component.test_load_generator import TinyServer
from tests.support.eventually import eventually
from tests.support.ports import closed_port

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n42"

Serve = Callable[[int, socket.socket], None]


def once(answer: bytes) -> Serve:
    """Answer one request of each connection, and close."""

    def serve(_: int, sock: socket.socket) -> None:
        sock.recv(65536)
        if answer:
            sock.sendall(answer)

    return serve


def resets(_: int, sock: socket.socket) -> None:
    """Read a request, and leave with an RST."""
    sock.recv(65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def keeps(_: int, sock: socket.socket) -> None:
    """Answer each request."""
    while sock.recv(65536):
        sock.sendall(ANSWER)


def drops_the_second(_: int, sock: socket.socket) -> None:
    """Answer one request as if there were more to come, and leave when the next one is there."""
    sock.recv(65536)
    sock.sendall(ANSWER)
    sock.recv(65536)


@pytest.mark.parametrize(
    ("serve", "keeps_alive", "expected"),
    [
        (keeps, True, {Outcome.OK}),
        (keeps, False, {Outcome.OK}),
        (once(LAST), True, {Outcome.OK}),
        (once(ANSWER), False, {Outcome.OK}),
        (drops_the_second, True, {Outcome.OK, Outcome.KEPT_DROPPED}),
        (once(b""), True, {Outcome.NEW_DROPPED}),
        (resets, False, {Outcome.NEW_DROPPED}),
        (once(ANSWER[:-1]), True, {Outcome.CUT}),
        (once(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\n42"), True, {Outcome.WRONG}),
    ],
)
def test_failure_has_its_name(serve: Serve, keeps_alive: bool, expected: set[Outcome]) -> None:
    """And an answer that says it is the last one makes none."""
    tally = Tally()
    with closing(TinyServer(serve)) as server, closing(Client(server.port, tally, keeps=keeps_alive)) as client:
        for _ in range(4):
            client.ask()
    assert set(tally.outcomes) == expected
    assert tally.pids == ({b"42"} if Outcome.OK in expected else set())


def test_connection_that_was_closed_while_idle_is_no_failure() -> None:
    """Clients look before they send."""
    tally = Tally()
    with closing(TinyServer(once(ANSWER))) as server, closing(Client(server.port, tally, keeps=True)) as client:
        for _ in range(3):
            client.ask()
            eventually(lambda: server.accepted and not server.open)
    assert set(tally.outcomes) == {Outcome.OK}


def test_nobody_there_is_refused() -> None:
    """The worst of all: no worker listens."""
    tally = Tally()
    with closed_port() as port:
        Client(port, tally, keeps=True).ask()
    assert set(tally.outcomes) == {Outcome.REFUSED}
    assert tally.failed == sum(tally.outcomes.values()) and "refused" in line("none", tally)


def test_hybrid_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command starts it, loads it and ends it."""
    monkeypatch.setattr("tests.benchmarks.recycling.pin", lambda cpu: None)  # the test's process goes on
    main(["--servers", "hybrid", "--seconds", "0.3", "--clients", "4"])
    name, ok, failed, *_ = capsys.readouterr().out.splitlines()[-1].split()
    assert name == "hybrid" and int(ok) > 0 and int(failed) == 0
