"""A worker that has served enough says so, once, and serves on; the test is its parent."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from hybrid.ground.states import Cause
from hybrid.shared.messages import Op, Record
from hybrid.shared.recycling_settings import RecyclingSettings
from hybrid.shared.scoreboard import NOT_ACCEPTING, Cell
from hybrid.shared.settings import AppSettings, Settings
from tests.process.conftest import Serve
from tests.support.eventually import eventually
from tests.support.lone_worker import LoneWorker
from tests.support.server import exactly

HELLO = "tests.apps.hello:hello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def settings(target: str, **recycling: Any) -> Settings:
    """Return settings of a worker that draws no jitter."""
    limits = RecyclingSettings(**{"jitter_percent": 0, **recycling})
    return replace(Settings(), app=AppSettings(target=target), recycling=limits)


def ask(client: socket.socket, times: int = 1) -> bytes:
    """Ask on a connection that stays; return the last answer."""
    answer = b""
    for _ in range(times):
        client.sendall(GET)
        answer = b""
        while not answer.endswith(b"hello\n"):
            more = client.recv(4096)
            assert more, answer
            answer += more
    return answer


def test_requests_wear_a_worker_out() -> None:
    """On one connection, kept alive. It says so once, serves on, and drains when it is told to."""
    with LoneWorker(settings(HELLO, max_requests=3)) as worker, worker.connect() as client:
        ask(client, 3)
        assert worker.hear() == Record(Op.WORN_OUT, a=Cause.REQUESTS, b=3, c=3)
        assert b"connection: close" not in ask(client, 4).lower()
        eventually(lambda: worker.requests == 7)
        with worker.connect() as late:
            ask(late)
        worker.tell(Record(Op.DRAIN, a=10_000))
        assert worker.last_words() == []
        assert worker.process.wait(10) == 0


def test_parent_that_does_not_listen_is_told_later() -> None:
    """It was stopped, and its ear is full: what the worker has to say would be lost, and nobody would replace it."""
    with LoneWorker(settings(HELLO, max_requests=3)) as worker, worker.connect() as client:
        for _ in range(600):  # an answer each, and nobody reads them
            worker.tell(Record(Op.PARK))
            worker.tell(Record(Op.UNPARK))
        ask(client, 3)
        eventually(lambda: worker.requests == 3)
        for _ in range(3):
            ticked_ns = worker.row[Cell.HEARTBEAT_NS]
            eventually(lambda before=ticked_ns: worker.row[Cell.HEARTBEAT_NS] > before)  # type: ignore[misc]  # a default
        heard = worker.hear()
        while heard.op is not Op.WORN_OUT:
            heard = worker.hear()


def test_connections_count_where_there_are_no_requests() -> None:
    """A stream handler's worker: three connections, whatever is said on them."""
    with LoneWorker(settings("examples.echo:echo", max_requests=3)) as worker:
        for _ in range(3):
            with worker.connect() as client:
                client.sendall(b"x" * 10)
                assert exactly(client, 10) == b"x" * 10
        assert worker.hear() == Record(Op.WORN_OUT, a=Cause.REQUESTS, b=3, c=3)
        assert worker.requests == 0


def test_time_wears_a_worker_out() -> None:
    """Though it has served nobody."""
    with LoneWorker(settings(HELLO, max_lifetime_s=1.1)) as worker:
        said = worker.hear()
        assert (said.op, said.a, said.c) == (Op.WORN_OUT, Cause.LIFETIME, 1)
        assert said.b >= 1


def test_memory_of_its_own_wears_a_worker_out() -> None:
    """The app keeps 8 MB for each request; what it had before it served is no reason."""
    with (
        LoneWorker(settings("tests.apps.leaks:keeps", max_memory_bytes=64 << 20)) as worker,
        worker.connect() as client,
    ):
        ask(client, 8)
        said = worker.hear()
        assert (said.op, said.a, said.c) == (Op.WORN_OUT, Cause.MEMORY, 64 << 20)
        assert said.b >= 64 << 20
        ask(client)


@pytest.mark.parametrize("limit", [{}, {"max_requests": 1000, "max_lifetime_s": 1000.0, "max_memory_bytes": 1 << 40}])
def test_worker_below_its_limits_says_nothing(limit: dict[str, Any]) -> None:
    """And a worker without limits never does."""
    with LoneWorker(settings(HELLO, **limit)) as worker, worker.connect() as client:
        ask(client, 10)
        eventually(lambda: worker.requests == 10)
        worker.tell(Record(Op.DRAIN))
        assert worker.last_words() == []


def test_worker_that_drains_already_says_nothing() -> None:
    """It is on its way out; nobody has to replace it for its wear."""
    with LoneWorker(settings(HELLO, max_requests=1)) as worker, worker.connect() as first, worker.connect() as second:
        for client in (first, second):
            client.sendall(GET[:5])  # has begun, so it is waited for
        eventually(lambda: worker.row.active == 2)
        worker.tell(Record(Op.DRAIN, a=10_000))
        eventually(lambda: worker.row[Cell.ACTIVE] & NOT_ACCEPTING)
        first.sendall(GET[5:])
        eventually(lambda: worker.requests == 1)
        beaten = worker.row[Cell.HEARTBEAT_NS]
        eventually(lambda: worker.row[Cell.HEARTBEAT_NS] > beaten)
        second.sendall(GET[5:])
        assert worker.last_words() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--workers", "0", "--max-requests", "5"), "--max-lifetime and --max-memory have no effect without a pool"),
        (("--workers", "2", "--recycle-jitter", "5"), "--recycle-jitter has no effect without --max-requests"),
    ],
)
def test_option_without_effect_is_said_to_have_none(serve: Serve, options: tuple[str, ...], said: str) -> None:
    """Once, by the first worker, or the process itself."""
    server = serve(HELLO, *options)
    eventually(lambda: server.log.count(said) == 1)


def test_pool_replaces_worn_workers_and_loses_nothing(serve: Serve) -> None:
    """A new connection for each request: all are answered, by one process after another, and the log says why."""
    server = serve(HELLO, "--workers", "1", "--max-requests", "5", "--recycle-jitter", "0")
    first = server.ready_pids()
    answered = 0

    def replaced_twice() -> bool:
        nonlocal answered
        with server.connect() as client:
            ask(client)
        answered += 1
        return server.log.count("takes the place of worker") >= 2

    eventually(replaced_twice)
    assert answered >= 10
    assert first != server.wait_workers(1)
    assert "is to be replaced: it has served " in server.log
