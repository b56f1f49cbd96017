"""The end of HTTP: no request is lost; what is in the middle of an answer is waited for, and cut in the end."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from hybrid.ground.states import Life
from tests.apps.http_knobs import FAREWELLS, PIECE, PIECES
from tests.process.conftest import Serve
from tests.support.eventually import eventually
from tests.support.http_clients import ByHand, Cut, crowd
from tests.support.server import Server

KNOBS = "tests.apps.http_knobs:app"
POST = b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
CLIENTS = 6
SOON_S = 15.0
"""A stop that waits for nobody, on a busy machine; the grace of these tests is longer."""


def by_hand(server: Server) -> ByHand:
    """Return a connection."""
    return ByHand(server.connect())


def terminate(server: Server) -> None:
    """Send SIGTERM; wait until every worker drains."""
    server.signal(signal.SIGTERM)
    eventually(lambda: all(worker.life is not Life.READY for worker in server.workers()))


def left_cleanly(server: Server, cancelled: int = 0) -> str:
    """Wait for exit code 0; so many requests did not end by themselves. Return the log."""
    assert server.wait() == 0, server.log
    assert sum(int(count) for count in re.findall(r"(\d+) were cancelled", server.log)) == cancelled, server.log
    assert server.log.count("lifespan: closed") == 2, server.log
    return server.log


def test_stop_under_load_loses_no_request(serve: Serve) -> None:
    """SIGTERM while clients hammer on kept connections: each request is answered, then the connection is refused."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    began = 0.0
    with crowd(server, CLIENTS) as people:
        people.wait_more(300)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        eventually(lambda: people.refused == CLIENTS)
    assert people.lost == []
    assert people.last >= CLIENTS
    assert "error" not in left_cleanly(server)
    assert time.monotonic() - began < SOON_S


def test_idle_connection_is_closed_in_order(serve: Serve) -> None:
    """A kept connection on which nothing is asked ends with a FIN, not with a reset, and long before the grace."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    with by_hand(server) as client:
        assert client.get("/pid").status == 200
        began = time.monotonic()
        terminate(server)
        assert client.is_closed()
    left_cleanly(server)
    assert time.monotonic() - began < SOON_S


def test_client_that_never_asked_holds_up_nothing(serve: Serve) -> None:
    """Connections that are only open, and half a head, cost a stop neither the grace nor an error."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20", "--header-timeout", "1")
    with by_hand(server) as silent, by_hand(server) as slow:
        slow.send(b"GET /pid HTTP/1.1\r\nHo")
        eventually(lambda: sum(worker.active for worker in server.workers()) == 2)
        began = time.monotonic()
        terminate(server)
        assert silent.is_closed()
        assert slow.head()[0] == 408
    assert "error" not in left_cleanly(server)
    assert time.monotonic() - began < SOON_S


def test_request_under_way_is_answered(serve: Serve) -> None:
    """Half of a request is there at SIGTERM; the other half comes, and the answer says that it is the last."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    with by_hand(server) as client:
        assert not client.get("/pid").is_last
        client.send(POST % (b"/echo", 10) + b"01234")
        terminate(server)
        client.send(b"56789")
        answer = client.answer()
        assert (answer.status, answer.body, answer.is_last) == (200, b"0123456789", True)
        assert client.is_closed()
    left_cleanly(server)


def test_expectation_under_way_is_met(serve: Serve) -> None:
    """A client that waits for 100 Continue gets it in the drain, too."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    with by_hand(server) as client:
        head = b"POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        client.send(head)
        assert client.head()[0] == 100
        terminate(server)
        client.send(b"body")
        assert client.answer().body == b"body"
        assert client.is_closed()
    left_cleanly(server)


def test_response_under_way_is_finished(serve: Serve) -> None:
    """A response that had begun is not hurried: a conversation in pieces, and a download that nobody reads yet."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    with by_hand(server) as talker, by_hand(server) as reader:
        talker.send(b"POST /mirror HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert talker.head()[0] == 200
        assert talker.chunk() == b"first"
        reader.send(b"GET /download HTTP/1.1\r\nHost: test\r\n\r\n")
        assert reader.head()[1]["content-length"] == str(len(PIECE) * PIECES)
        terminate(server)
        for word in (b"after", b"again"):
            talker.send(b"5\r\n%s\r\n" % word)
            assert talker.chunk() == word
        talker.send(b"0\r\n\r\n")
        assert talker.chunk() == b""
        assert talker.is_closed()
        assert reader._take(len(PIECE) * PIECES) == PIECE * PIECES
        assert reader.is_closed()
    left_cleanly(server)


@pytest.mark.parametrize("target", [KNOBS, "tests.apps.frameworks.starlette_app:app"], ids=["plain", "starlette"])
def test_endless_events_end(serve: Serve, target: str) -> None:
    """Server-sent events would outlast any grace: they end at SIGTERM, whole, with no error in the log."""
    server = serve(target, "--workers", "2", "--graceful-timeout", "20")
    with by_hand(server) as client:
        client.send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.head()[1]["content-type"].startswith("text/event-stream")
        assert client.chunk() == b"data: 0\n\n"
        began = time.monotonic()
        terminate(server)
        while client.chunk():
            pass
        assert client.is_closed()
    assert "error" not in left_cleanly(server)
    assert time.monotonic() - began < SOON_S


def test_application_that_hears_of_the_end_has_the_grace(serve: Serve) -> None:
    """receive() says http.disconnect at SIGTERM; what is sent after that arrives, to the last."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "20")
    with by_hand(server) as client:
        client.send(b"GET /farewell HTTP/1.1\r\nHost: test\r\n\r\n")
        client.head()
        assert client.chunk() == b"data: here\n\n"
        terminate(server)
        said = b""
        while piece := client.chunk():
            said += piece
        assert said.endswith(b"data: farewell %d\n\n" % (FAREWELLS - 1)) and said.count(b"farewell") == FAREWELLS
        assert client.is_closed()
    left_cleanly(server)


def test_application_is_cancelled_when_the_grace_has_passed(serve: Serve) -> None:
    """What goes on for ever is cancelled; its client sees that the response is not whole."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "0.3")
    with by_hand(server) as client:
        client.send(b"GET /stubborn HTTP/1.1\r\nHost: test\r\n\r\n")
        client.head()
        assert client.chunk() == b"more"
        server.signal(signal.SIGTERM)
        with pytest.raises(Cut):
            while client.chunk():
                pass
    assert "stubborn: cancelled" in left_cleanly(server, cancelled=1)


def test_request_without_an_answer_gets_503_when_the_grace_has_passed(serve: Serve) -> None:
    """A body that never comes: the request is refused when the time is up, not just cut."""
    server = serve(KNOBS, "--workers", "2", "--graceful-timeout", "0.3")
    with by_hand(server) as client:
        client.send(POST % (b"/echo", 10) + b"01234")
        eventually(lambda: sum(worker.active for worker in server.workers()) == 1)
        server.signal(signal.SIGTERM)
        answer = client.answer()
        assert (answer.status, answer.is_last) == (503, True)
    left_cleanly(server, cancelled=1)


def test_killed_worker_takes_only_its_own_requests(serve: Serve, tmp_path: Path) -> None:
    """SIGKILL under load: a request is lost only on a connection of the killed worker; soon there are two again."""
    server = serve(KNOBS, "--workers", "2")
    with crowd(server, CLIENTS, is_over_when_refused=False) as people:
        people.wait_more(200)
        killed, other = server.ready_pids()
        os.kill(killed, signal.SIGKILL)
        people.wait_more(300)
        new = eventually(lambda: pids if len(pids := server.ready_pids()) == 2 and killed not in pids else [])
        people.wait_more(200)
    assert other in new
    assert len(people.lost) + people.unaccepted <= CLIENTS
    assert {pid for pid, _ in people.lost} <= {killed, 0}
    assert people.refused == 0
    assert server.stop() == 0
