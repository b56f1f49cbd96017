"""What is measured of reloads is counted right: whoever loses a request is found, and whoever grows."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.benchmarks import mixed_load, reload_time, reloads
from tests.benchmarks.apps_reloaded import answer_to
from tests.benchmarks.mixed_load import TALKS, Client, Kind, Load, Outcome, Tally
from tests.benchmarks.reload_time import NEW, OLD, Answer, Ending, Reload, Site, new_since
from tests.benchmarks.reloads import Log, Look, Run
from tests.component.test_load_generator import TinyServer
from tests.support.eventually import eventually, eventually_async
from tests.support.ports import closed_port
from tests.support.server import running

KEPT = Kind("kept", "fast", 1, (0.01, 0.01), keeps=True)
NEW_ONES = Kind("new", "fast", 1, (0.01, 0.01), keeps=False)
NO_LINGER = struct.pack("ii", 1, 0)


def http(number: int, *fields: str) -> bytes:
    """Return the right answer of an HTTP server."""
    body = answer_to("fast", number)
    head = "\r\n".join(["HTTP/1.1 200 OK", f"content-length: {len(body)}", *fields])
    return head.encode() + b"\r\n\r\n" + body


def fine(number: int) -> bytes:
    """Return the right answer of a stream server."""
    return answer_to("fast", number) + b"\n"


def reset(sock: socket.socket) -> None:
    """Let the connection end with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


Deed = Callable[[socket.socket, int], bool]
"""What a server does with the request of this number; whether it goes on with the connection."""


def says(answer: Callable[[int], bytes], *, goes_on: bool = True) -> Deed:
    """Answer."""

    def deed(sock: socket.socket, number: int) -> bool:
        sock.sendall(answer(number))
        return goes_on

    return deed


def closes(sock: socket.socket, number: int) -> bool:
    """Say nothing, and close."""
    return False


def resets(sock: socket.socket, number: int) -> bool:
    """Say nothing, and reset."""
    reset(sock)
    return False


def dawdles(sock: socket.socket, number: int) -> bool:
    """Close, but not soon."""
    threading.Event().wait(0.1)
    return False


@contextmanager
def doing(*deeds: Deed) -> Iterator[TinyServer]:
    """Serve: what is done with the first request, with the second … on whatever connection; then the last one again."""
    asked = iter(range(1_000_000))

    def serve(_: int, sock: socket.socket) -> None:
        while sock.recv(65536):
            number = next(asked)
            if not deeds[min(number, len(deeds) - 1)](sock, number):
                return

    server = TinyServer(serve)
    try:
        yield server
    finally:
        server.close()


def asked(port: int, talk: str, kind: Kind, times: int) -> Tally:
    """Ask so often, one after the other, requests of the numbers 0, 1 …; return what was counted."""
    tally = Tally()

    async def ask() -> None:
        client = Client(port, TALKS[talk], kind, tally)
        for number in range(times):
            await client.ask(number)
        client.close()

    asyncio.run(ask())
    return tally


HTTP, STREAM = says(http), says(fine)
LAST_OF_HTTP = says(lambda number: http(number, "Connection: close"), goes_on=False)
LAST_OF_STREAM = says(lambda number: fine(number).replace(b"\n", b" last\n"), goes_on=False)
HALF_OF_HTTP = says(lambda number: http(number)[:-3], goes_on=False)
HALF_OF_STREAM = says(lambda number: fine(number)[:-3], goes_on=False)


@pytest.mark.parametrize(
    ("talk", "kind", "deeds", "counted"),
    [
        ("http", NEW_ONES, [HTTP], [Outcome.OK] * 3),
        ("http", KEPT, [HTTP], [Outcome.OK] * 3),
        ("http", KEPT, [HTTP, LAST_OF_HTTP, HTTP], [Outcome.OK] * 3),
        ("http", NEW_ONES, [HTTP, resets, HTTP], [Outcome.OK, Outcome.RESET, Outcome.OK]),
        ("http", NEW_ONES, [HTTP, closes, HTTP], [Outcome.OK, Outcome.UNANSWERED, Outcome.OK]),
        ("http", KEPT, [HTTP, HALF_OF_HTTP, HTTP], [Outcome.OK, Outcome.CUT, Outcome.OK]),
        ("http", NEW_ONES, [HALF_OF_HTTP, HTTP], [Outcome.CUT, Outcome.OK, Outcome.OK]),
        ("http", KEPT, [HTTP, says(lambda _: http(7)), HTTP], [Outcome.OK, Outcome.WRONG]),
        ("http", KEPT, [says(lambda _: b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")], [Outcome.WRONG] * 3),
        ("stream", NEW_ONES, [STREAM], [Outcome.OK] * 3),
        ("stream", KEPT, [STREAM, LAST_OF_STREAM, STREAM], [Outcome.OK] * 3),
        ("stream", KEPT, [STREAM, closes, STREAM], [Outcome.OK, Outcome.UNANSWERED, Outcome.OK]),
        ("stream", KEPT, [STREAM, resets, STREAM], [Outcome.OK, Outcome.RESET, Outcome.OK]),
        ("stream", KEPT, [STREAM, HALF_OF_STREAM, STREAM], [Outcome.OK, Outcome.CUT, Outcome.OK]),
        ("stream", KEPT, [says(lambda number: fine(number + 1))], [Outcome.WRONG] * 3),
    ],
)
def test_each_request_is_counted_as_what_it_was(
    talk: str, kind: Kind, deeds: list[Deed], counted: list[Outcome]
) -> None:
    """A client that meets a reset has lost a request, and so has one that meets half an answer, or another's."""
    with doing(*deeds) as server:
        tally = asked(server.port, talk, kind, len(counted))
    expected = {outcome: counted.count(outcome) for outcome in counted}
    assert {outcome: number for (_, outcome), number in tally.outcomes.items()} == expected
    assert tally.failed == len(counted) - counted.count(Outcome.OK)
    assert len(tally.notes) == tally.failed


@pytest.mark.parametrize(
    ("talk", "last"),
    [
        ("http", says(lambda number: http(number, "Connection: close"))),
        ("stream", says(lambda number: fine(number).replace(b"\n", b" last\n"))),
    ],
)
def test_behind_the_last_answer_nothing_is_asked(talk: str, last: Deed) -> None:
    """Whether the connection is closed already or not."""
    with doing(last) as server:
        assert asked(server.port, talk, KEPT, 3).failed == 0
        assert server.accepted == 3


@pytest.mark.parametrize("deed", [closes, resets])
def test_a_kept_connection_that_was_being_closed_is_tried_once_more(deed: Deed) -> None:
    """It is counted as that, and what becomes of the second attempt as well; no failure, but nothing to be hidden."""
    with doing(HTTP, deed, lambda sock, _: HTTP(sock, 1)) as server:
        tally = asked(server.port, "http", KEPT, 2)
    assert tally.outcomes == {("kept", Outcome.OK): 2, ("kept", Outcome.RETRIED): 1}
    assert tally.failed == 0


def test_what_is_tried_again_may_fail() -> None:
    """On its new connection it is a request like every other."""
    with doing(HTTP, closes) as server:
        tally = asked(server.port, "http", KEPT, 2)
    assert tally.outcomes == {("kept", Outcome.OK): 1, ("kept", Outcome.RETRIED): 1, ("kept", Outcome.UNANSWERED): 1}


def test_a_request_that_was_taken_and_dropped_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection was not being closed: it was, some time later."""
    monkeypatch.setattr(mixed_load, "CROSSED_S", 0.05)
    with doing(HTTP, dawdles, HTTP) as server:
        tally = asked(server.port, "http", KEPT, 2)
    assert tally.outcomes == {("kept", Outcome.OK): 1, ("kept", Outcome.UNANSWERED): 1}


def test_nobody_listens_and_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, and none in time."""
    with closed_port() as port:
        assert asked(port, "http", KEPT, 2).outcomes == {("kept", Outcome.REFUSED): 2}
    monkeypatch.setattr(mixed_load, "PATIENCE_S", 0.05)
    with doing(lambda _sock, _number: True) as server:
        assert asked(server.port, "stream", KEPT, 1).outcomes == {("kept", Outcome.LATE): 1}


def test_an_idle_connection_may_be_closed_but_not_spoken_to() -> None:
    """Its end is a server's right, and seen before it is used again; bytes that nobody has asked for are a failure."""
    tally = Tally()

    async def two(end: Callable[[socket.socket], None]) -> None:
        client = Client(server.port, TALKS["http"], KEPT, tally)
        await client.ask(0)
        assert client._sock is not None
        end(held[-1])
        await asyncio.get_running_loop().run_in_executor(None, eventually, lambda: has_something(client._sock))
        await client.ask(0)
        client.close()

    held: list[socket.socket] = []

    def holds(sock: socket.socket, _: int) -> bool:
        held.append(sock)
        return HTTP(sock, 0)

    with doing(holds) as server:
        asyncio.run(two(lambda sock: sock.shutdown(socket.SHUT_WR)))
        assert tally.outcomes == {("kept", Outcome.OK): 2}
        asyncio.run(two(lambda sock: sock.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")))
    assert tally.outcomes == {("kept", Outcome.OK): 4, ("kept", Outcome.WRONG): 1}


def has_something(sock: socket.socket | None) -> bool:
    """Whether a read would not wait."""
    assert sock is not None
    with suppress(BlockingIOError):
        sock.recv(1, socket.MSG_PEEK)
        return True
    return False


def test_the_table_says_why() -> None:
    """By kind, and each of the first failures."""
    load = Load(1, TALKS["http"], (KEPT, NEW_ONES))
    load.tally.add(KEPT, Outcome.OK, 0.5)
    load.tally.add(NEW_ONES, Outcome.REFUSED, 0.1, "nobody was there")
    table = load.table()
    assert "1 refused" in table
    assert "new: refused after 100.0 ms; nobody was there" in table
    assert not load.has_come


# ── reloads ──────────────────────────────────────────────────────────────────────────────────────────────────


FLAT = {"at the beginning": Look(20, 9000, 17000, 4), "at the end": Look(20, 9000, 17000, 4)}


def judged(looks: dict[str, Look], *outcomes: Outcome, times: int = 1) -> list[str]:
    """Return the problems of a run in which requests ended so, besides those that were answered."""
    load = Load(1, TALKS["http"], (KEPT,))
    for outcome in (Outcome.OK, *outcomes):
        for _ in range(times):
            load.tally.add(KEPT, outcome, 0.1)
    run = Run(looks=looks)
    run.judge(load)
    return run.problems


@pytest.mark.parametrize("outcome", mixed_load.FAILURES)
def test_one_lost_request_is_a_problem(outcome: Outcome) -> None:
    """However many were answered."""
    assert judged(FLAT) == []
    assert judged(FLAT, outcome) == ["1 requests failed"]


def test_what_has_grown_is_a_problem() -> None:
    """Descriptors and memory of the parent, processes; so is one request in a thousand that had to be sent again."""
    assert judged(FLAT | {"at the end": Look(21, 9000, 17000, 4)}) == ["the parent has 1 descriptors more"]
    assert judged(FLAT | {"at the end": Look(20, 9000, 19000, 4)}) == ["the parent has 2000 kB more"]
    assert judged(FLAT | {"at the end": Look(20, 9000, 17000, 5)}) == ["there are 1 processes more"]
    assert judged(FLAT | {"at the end": Look(19, 9000, 17000, 3)}) == []
    assert judged(FLAT, Outcome.RETRIED) == ["1 requests met a kept connection that was being closed"]
    assert judged(FLAT, *[Outcome.OK] * 1000, Outcome.RETRIED) == []


async def test_the_log_tells_of_reloads(tmp_path: Path) -> None:
    """Line by line, also one that is written in two parts."""
    path = tmp_path / "log"
    path.write_text("[parent] info    reloaded: generation 2 serves with 2 workers after 1.25 s\n[parent] error   rel")
    with Log(path) as log:
        assert await log.reload_over() == 1.25
        assert await log.reload_over(0.05) == "no reload was through within 0.05 s"
        with path.open("a") as file:
            file.write("oad failed: the app cannot be imported\nfurther lines\n")
        assert await log.reload_over() == "reload failed: the app cannot be imported"


@pytest.mark.long
def test_reloads_of_a_real_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One reload: nothing is lost, and it says so."""
    monkeypatch.setattr(reloads, "KINDS", (KEPT, NEW_ONES))
    assert reloads.main(["--count", "1", "--workers", "1", "--target", "http"]) == 0
    told = capsys.readouterr().out
    assert "reloads done: 1" in told
    assert "at the end" in told


@pytest.mark.long
async def test_a_killed_worker_is_found(tmp_path: Path) -> None:
    """Its requests are lost, and the run says that they are."""
    log = tmp_path / "log"
    slow = Kind("slow", "slow", 4, (0.0, 0.0), keeps=False)
    with running(reloads.APPS["http"], "--workers", "1", "--bind", "127.0.0.1:0", log=log) as server:
        server.wait_ready()
        async with Load(int(server.address.rpartition(":")[2]), TALKS["http"], (slow,)) as load:
            await eventually_async(lambda: sum(worker.active for worker in server.workers()))
            os.kill(server.ready_pids()[0], signal.SIGKILL)
            await eventually_async(lambda: load.tally.failed)
        run = Run()
        run.judge(load)
    assert any("requests failed" in problem for problem in run.problems)


# ── the time that a reload takes ─────────────────────────────────────────────────────────────────────────────


def answers(*said: str) -> list[Answer]:
    """Return what came of requests that were sent a tenth of a second apart, each answered after 10 ms."""
    return [Answer(at / 10, 0.01, each) for at, each in enumerate(said)]


def test_new_code_is_served_when_no_old_code_is() -> None:
    """A late old answer counts, in whatever order they came; so does a failure."""
    assert new_since(answers(OLD, NEW, NEW)) == pytest.approx((0.11, 0.1))
    assert new_since(answers(OLD, NEW, OLD, NEW, NEW, NEW)) == pytest.approx((0.31, 0.2))
    assert new_since(answers(NEW, "refused", NEW)[::-1]) == pytest.approx((0.21, 0.0))
    assert new_since(answers(NEW, NEW, OLD)) is None
    assert new_since([]) is None
    assert new_since([Answer(0.0, 2.0, NEW), Answer(0.1, 1.9, NEW)]) == (2.0, 0.1)  # nobody answered for two seconds


def test_the_row_of_a_server_tells_of_failures_and_of_old_code() -> None:
    """Medians of rounds, with their range."""
    good = Reload(Ending.NEW, 0.5, 1.0, answers(OLD, NEW), 100.0, 200.0)
    bad = Reload(Ending.NEW, 0.7, 3.0, answers(OLD, "refused", NEW), 100.0, 300.0)
    told = reload_time.line("hybrid", [good, bad])
    assert "0.60 s (0.50–0.70)" in told
    assert "2.00 s (1.00–3.00)" in told
    assert "1 of    5" in told
    assert "300 MB   1 refused" in told
    old = Reload(Ending.OLD, None, None, answers(OLD), 100.0, 100.0)
    assert "100 MB   1 x old code, from fresh workers" in reload_time.line("gunicorn", [old])
    assert "3.00 s (3.00–3.00)" in reload_time.line("uvicorn", [old, bad])


def test_no_version_is_taken_for_another(tmp_path: Path) -> None:
    """Compiled code is taken for fresh when time, to the second, and length of the source fit."""
    site = Site(tmp_path, 1)
    sizes = set()
    for version in (OLD, NEW):
        site.write(version)
        source = (tmp_path / "apps_heap.py").read_text()
        assert f"VERSION = {version}" in source
        assert "MEGABYTES = 1\n" in source
        sizes.add(len(source))
    assert len(sizes) == 2


@pytest.mark.long
def test_a_reload_of_a_real_server_is_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a small one."""
    monkeypatch.setattr(reload_time, "_IDLE_LOOKS", 2)
    monkeypatch.setattr(reload_time, "STEADY_S", 0.2)
    assert reload_time.main(["--servers", "hybrid", "--rounds", "1", "--workers", "1", "--megabytes", "1"]) == 0
    assert "0 of" in capsys.readouterr().out
