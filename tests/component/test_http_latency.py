"""How long requests take is counted where somebody wants to know: each that an application answered, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hybrid.connection.load import TIMED_PER_FLUSH, Latencies, Load
from hybrid.ground.clock import monotonic_ns
from hybrid.handlers.http_shared import HttpShared
from hybrid.shared.http_settings import HttpSettings
from hybrid.shared.scoreboard import BUCKETS, Cell, Scoreboard
from tests.component.http_room import HttpRoom, Witness, ask_for, respond, serving
from tests.support.eventually import eventually_async

GET = ask_for(b"/")
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@asynccontextmanager
async def timed(app: Any, **settings: Any) -> AsyncIterator[tuple[HttpRoom, HttpShared]]:
    """Serve an application whose requests are timed."""
    shared = HttpShared.of(HttpSettings(**settings))
    shared.load.time_requests()
    async with serving(app, shared=shared) as room:
        yield room, shared


def count(shared: HttpShared) -> int:
    """Return how many requests were timed."""
    assert shared.load.latencies is not None
    return sum(shared.load.latencies.counts)


async def test_every_answer_is_counted_once() -> None:
    """One after another, pipelined, with a body, on many connections."""
    async with timed(Witness()) as (room, shared):
        for _ in range(2):
            client = await room.connect()
            for _ in range(3):
                await client.ask(GET)
            client.send(GET * 4)
            for _ in range(4):
                await client.response()
            await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert count(shared) == shared.load.begun == 16
        assert shared.load.in_flight == 0


async def test_it_is_in_the_place_of_its_time() -> None:
    """The application's time is in it; the place has the number of bits of its nanoseconds, the sum has them all."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await respond(send, b"late")

    async with timed(slow) as (room, shared):
        began = monotonic_ns()
        await (await room.connect()).ask(GET)
        took = monotonic_ns() - began
        latencies = shared.load.latencies
        assert latencies is not None
        (bits,) = [place for place, number in enumerate(latencies.counts) if number]
        assert 50_000_000 <= latencies.total_ns <= took
        assert bits == latencies.total_ns.bit_length()


async def test_what_no_application_answered_is_not_counted() -> None:
    """What is no request, and what is one too many."""
    hold = asyncio.Event()

    async def held(scope: Any, receive: Any, send: Any) -> None:
        await hold.wait()
        await respond(send, b"")

    async with timed(held, limit_concurrency=1) as (room, shared):
        first = await room.connect()
        first.send(GET)
        await eventually_async(lambda: shared.load.in_flight == 1)
        second = await room.connect()
        shared.load.answered += 3  # as if others were answered that were not timed: a refusal does not stand for them
        assert (await second.ask(GET))[0] == 503
        assert count(shared) == 0
        shared.load.answered -= 3
        assert b" 400 " in await room.ask(b"GET / HTTP/1.1\r\n\r\n")
        hold.set()
        assert (await first.response())[0] == 200
        assert (await second.ask(GET))[0] == 200
        assert count(shared) == shared.load.begun == 2


async def test_who_left_before_his_answer_is_not_counted() -> None:
    """There was none; nor is the next answer counted for him."""
    began = asyncio.Event()

    async def held(scope: Any, receive: Any, send: Any) -> None:
        began.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    async with timed(held) as (room, shared):
        client = await room.connect()
        client.send(GET)
        await began.wait()
        client.close()
        await eventually_async(lambda: shared.load.in_flight == 0)
        assert (count(shared), shared.load.begun) == (0, 1)


async def test_a_websocket_is_no_request_that_takes_long() -> None:
    """It lives for hours; what is said on it is not timed."""

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async with timed(socket) as (room, shared):
        client = await room.connect()
        client.send(UPGRADE)
        assert b" 101 " in await client.until(b"\r\n\r\n")
        await eventually_async(lambda: shared.load.in_flight == 0)
        client.close()
        await room.empty()
        assert (count(shared), shared.load.answered) == (0, 0)


async def test_where_nobody_wants_to_know_nothing_is_timed() -> None:
    """The connection does not even look at the clock."""
    async with serving(Witness()) as room:
        client = await room.connect()
        await client.ask(GET)
        (connection,) = room.door.open
        assert getattr(connection, "_begun_ns") == 0  # noqa: B009  # no Served has it


@pytest.mark.parametrize("per_flush", [10, 700, 5000, 40_000])
def test_of_very_many_requests_some_are_timed_for_all(per_flush: int) -> None:
    """All are counted, whatever their number; how many look at the clock stays about the same."""
    board = Scoreboard.create(1, 1)
    try:
        row = board.use_slot(0)
        load, looks = Load(), 0
        load.time_requests()
        for _ in range(20):
            looks = 0
            for _ in range(per_flush):
                load.begun += 1
                begun_ns = load.start_clock() if load.begun >= load.timed_at else 0
                load.answered += 1
                if begun_ns:
                    looks += 1
                    load.stop_clock(begun_ns)
            load.flush(row)
            counted = sum(row[Cell.LATENCIES + place] for place in range(BUCKETS))
            assert counted == load.answered == row[Cell.REQUESTS]
        assert min(per_flush, TIMED_PER_FLUSH) * 0.6 < looks <= min(per_flush, TIMED_PER_FLUSH * 2)
    finally:
        board.close()


def test_those_that_are_timed_stand_for_all() -> None:
    """A tenth of very many requests is slow, and in the histogram it is about a tenth."""
    load = Load()
    latencies = load.latencies = Latencies()
    board = Scoreboard.create(1, 1)
    try:
        row = board.use_slot(0)
        load.timed_at = 0
        for number in range(200_000):
            load.begun += 1
            is_timed = load.begun >= load.timed_at
            begun_ns = load.start_clock() if is_timed else 0
            load.answered += 1
            if begun_ns:
                latencies.add(1 << 30 if number % 10 == 0 else 1 << 20, load.answered)
            if number % 5000 == 4999:
                load.flush(row)
        assert sum(latencies.counts) == 200_000
        assert 0.07 < latencies.counts[31] / 200_000 < 0.13
    finally:
        board.close()


def test_the_counts_are_flushed_into_the_row() -> None:
    """And again only where there are more."""
    board = Scoreboard.create(1, 1)
    try:
        row = board.use_slot(0)
        load = HttpShared.of(HttpSettings()).load
        load.begun = 7
        load.flush(row)
        assert (row[Cell.REQUESTS], row[Cell.IN_FLIGHT], row[Cell.LATENCY_NS]) == (7, 7, 0)
        load.time_requests()
        assert load.latencies is not None
        load.latencies.counts[20], load.latencies.counts[63], load.latencies.total_ns = 3, 1, 99
        load.ceiling += 4
        load.flush(row)
        assert (row[Cell.IN_FLIGHT], row[Cell.LATENCY_NS]) == (3, 99)
        assert [row[Cell.LATENCIES + place] for place in (20, 63)] == [3, 1]
        assert sum(row[Cell.LATENCIES + place] for place in range(BUCKETS)) == 4
    finally:
        board.close()
