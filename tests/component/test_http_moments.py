"""Moments of an HTTP connection that a socket gives only by chance: two things in one turn of the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.component.http_room import Witness, ask_for, respond
from tests.component.http_wire import Wired, settle
from tests.support.connections import on_both_loops

GET = ask_for(b"/")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
NEVER = float("inf")


class Gated:
    """Answers when the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = 0
        self.errors: list[BaseException] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        self.begun += 1
        await self.gate.wait()
        try:
            await respond(send, b"done")
        except OSError as error:
            self.errors.append(error)


@pytest.mark.parametrize("turns", range(6))
@on_both_loops
async def test_end_of_the_client_at_any_turn_of_a_pipeline(turns: int) -> None:
    """It may be seen while a request is answered, or between two: each is answered, then the connection closes."""
    app = Witness()
    async with Wired(app) as wired:
        wired.feed(b"".join(ask_for(b"/%d" % number) for number in range(4)))
        for _ in range(turns):
            await asyncio.sleep(0)
        keeps = wired.connection.eof_received()
        if not keeps:
            wired.transport.close()
        await settle()
        assert app.paths == ["/0", "/1", "/2", "/3"]
        assert wired.transport.written.count(b"HTTP/1.1 200 ") == 4
        assert wired.transport.is_closing()


@pytest.mark.parametrize("turns", range(6))
@on_both_loops
async def test_end_of_the_client_while_answers_need_no_turn(turns: int) -> None:
    """Each answer is complete as soon as its request begins: when overloaded, and with eager tasks."""
    async with Wired(Witness(), limit_concurrency=1) as wired:
        wired.connection._endpoint.load.begun = 1  # somebody else's
        wired.feed(GET * 4)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not wired.connection.eof_received():
            wired.transport.close()
        await settle()
        assert wired.transport.written.count(b"HTTP/1.1 503 ") == 4
        assert wired.transport.is_closing()


@pytest.mark.parametrize("end", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12"])
@pytest.mark.parametrize("turns", range(4))
@on_both_loops
async def test_end_within_the_second_request(turns: int, end: bytes) -> None:
    """The first is answered, the half one never is, and the connection closes, at the latest when it has lingered."""
    app = Witness()
    async with Wired(app) as wired:
        wired.feed(ask_for(b"/first") + end)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not wired.connection.eof_received():
            wired.transport.close()
        await settle()
        assert wired.transport.written.count(b"HTTP/1.1 200 ") == 1
        if wired.transport.has_ended:
            wired.connection.expire()
        assert wired.transport.is_closing()


@on_both_loops
async def test_no_request_is_begun_while_nothing_is_taken() -> None:
    """S19: the transport is full: those that are here wait in our buffer, those behind them in the kernel."""
    app = Gated()
    app.gate.set()
    async with Wired(app) as wired:
        wired.connection.pause_writing()
        wired.feed(GET * 3)
        await settle()
        assert app.begun <= 1
        wired.feed(GET * 10000)
        await settle()
        assert app.begun <= 1 and not wired.transport.is_reading_
        wired.connection.resume_writing()
        for _ in range(10000):
            await settle()
            if app.begun == 10003:
                break
        assert app.begun == 10003
        assert wired.transport.written.count(b"HTTP/1.1 200 ") == 10003


@on_both_loops
async def test_pipeline_that_waits_for_room_has_a_deadline() -> None:
    """S19: whether a request is begun meanwhile or not, who takes nothing is cut."""
    app = Gated()
    app.gate.set()
    async with Wired(app, write_s=5.0, keep_alive_s=0, head_s=0) as wired:
        wired.transport.unsent = 100_000
        wired.feed(GET[:9])
        wired.connection.pause_writing()
        wired.feed(GET[9:] + GET * 3)
        await settle()
        assert wired.connection.deadline < NEVER
        wired.connection.expire()
        assert wired.transport.lost is True


@pytest.mark.parametrize("write_s", [0.0, 60.0])
@pytest.mark.parametrize("unsent", [0, 1000])
@on_both_loops
async def test_lingering_has_an_end(write_s: float, unsent: int) -> None:
    """Also with a last piece too small for the transport to tell when it is gone."""
    async with Wired(Witness(), write_s=write_s) as wired:
        wired.transport.unsent = unsent
        wired.feed(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: other\r\n\r\n")
        await settle()
        assert wired.transport.has_ended and wired.transport.lost is None
        wired.transport.unsent = 0
        assert wired.connection.deadline < NEVER
        wired.connection.expire()
        assert wired.transport.lost is not None


@on_both_loops
async def test_refused_body_of_a_last_request_is_lingered_for() -> None:
    """RFC 9112 §9.6: the client is still sending, and a close at once would reset the answer it has not read yet."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Wired(Witness()) as wired:
        wired.feed(head + b"5\r\n")
        await settle()
        wired.feed(b"12345??")
        await settle()
        assert wired.transport.written.startswith(b"HTTP/1.1 400 ")
        assert wired.transport.has_ended and wired.transport.lost is None


@on_both_loops
async def test_answer_behind_an_abort_goes_nowhere() -> None:
    """The transport is aborted, and it is not yet told: send() raises, nothing is written."""
    app = Gated()
    async with Wired(app) as wired:
        wired.feed(GET * 2)
        await settle()
        wired.connection.abort()
        app.gate.set()
        await settle()
        assert len(app.errors) == app.begun and not wired.transport.written


@on_both_loops
async def test_answer_behind_a_loss_goes_nowhere() -> None:
    """The transport is gone: send() raises, also for the one that waits for room; the door is told when all ended."""
    app = Gated()
    async with Wired(app) as wired:
        wired.feed(GET * 2)
        await settle()
        wired.connection.connection_lost(ConnectionResetError())
        assert wired.door.open
        app.gate.set()
        await settle()
        assert len(app.errors) == 1 and not wired.transport.written
        assert not wired.door.open
        wired.door.opened(wired.connection)  # the room loses it once more
        wired.connection._endpoint.open.add(wired.connection)


@on_both_loops
async def test_time_passes_in_the_turn_of_the_answer() -> None:
    """The body's deadline passes after the answer was given and before anything else: nothing is written twice."""
    app = Gated()
    async with Wired(app, body_s=5.0) as wired:
        wired.feed(POST % 5 + b"12")
        app.gate.set()
        await settle()
        assert wired.transport.written.count(b"HTTP/1.1 ") == 1
        wired.connection.expire()
        wired.connection.expire()
        await settle()
        assert wired.transport.written.count(b"HTTP/1.1 ") == 1
        assert wired.transport.has_ended or wired.transport.lost is not None


@pytest.mark.parametrize("calls", [1, 2, 3])
@on_both_loops
async def test_expiring_is_harmless_in_each_phase(calls: int) -> None:
    """The sweep may look at a connection whose state has moved on: at most one answer, nothing behind the end."""
    heads = [b"", GET[:9], POST % 5, POST % 5 + b"12", GET, GET + GET[:9], GET * 3, b"\x00\r\n\r\n"]
    for data in heads:
        app = Gated()
        async with Wired(app, request_s=5.0) as wired:
            if data:
                wired.feed(data)
            await settle()
            for _ in range(calls):
                wired.connection.expire()
                await settle()
            app.gate.set()
            await settle()
            assert wired.transport.written.count(b"HTTP/1.1 ") <= data.count(b"HTTP/1.1") + 1
