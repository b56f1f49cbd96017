"""Memory stays bounded in both directions, whatever the peer or the handler does, on uvloop and on asyncio."""

from __future__ import annotations

import asyncio

from anyio import DelimiterNotFound

from hybrid.connection.connection import Connection
from hybrid.connection.phases import HELD
from tests.component.test_connection_stream import Held
from tests.support.connections import Client, logged, on_both_loops, serving
from tests.support.eventually import eventually_async

TWO_READS = 2 * 256 * 1024
"""A loop reads at most 256 KiB at a time; one read may be on its way to the receiver while the next one arrives."""
BLOCK = b"x" * 65536


async def stuff(client: Client, total_bytes: int, sent: list[int]) -> None:
    """Send so much without a newline, and note the progress."""
    while sum(sent) < total_bytes:
        await client.send(BLOCK)
        sent.append(len(BLOCK))


async def stalled(progress: list[int]) -> int:
    """Return the length of ``progress`` once the loop has turned often without any."""
    unchanged = 0
    before = -1
    while unchanged < 200:
        await asyncio.sleep(0)
        unchanged = unchanged + 1 if len(progress) == before else 0
        before = len(progress)
    return before


@on_both_loops
async def test_handler_that_never_receives_stops_the_peer() -> None:
    """Of 128 MB that a peer wants to send, only what is allowed is kept; when the handler receives, all of it comes."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        sent: list[int] = []
        total = 128 * 1024 * 1024
        pushing = asyncio.ensure_future(stuff(client, total, sent))
        await eventually_async(lambda: conn._reading is HELD)
        await stalled(sent)
        assert not pushing.done()
        assert 65536 < len(conn._inbox) <= 65536 + TWO_READS
        got = 0
        while got < total:
            got += len(await conn.receive())
            assert len(conn._inbox) <= 65536 + TWO_READS
        await pushing


@on_both_loops
async def test_peer_that_never_reads_stops_the_handler() -> None:
    """A handler that sends for ever to a peer that never reads waits, with a bounded buffer; reading lets it go on."""
    sent: list[int] = []
    most = 0

    async def flood(conn: Connection) -> None:
        nonlocal most
        while True:
            await conn.send(BLOCK)
            sent.append(len(BLOCK))
            most = max(most, conn._transport.get_write_buffer_size())

    async with serving(flood) as served:
        client = await served.client(receive_buffer_bytes=65536)
        conn = await served.one()
        await eventually_async(lambda: conn._writer)
        before = await stalled(sent)
        assert conn._writer is not None
        assert conn._transport.get_write_buffer_size() <= 65536 + len(BLOCK)
        assert most <= 65536
        for _ in range(100):
            await client.receive_exactly(len(BLOCK))
        await eventually_async(lambda: len(sent) > before)


@on_both_loops
async def test_a_small_high_water_mark_is_kept() -> None:
    """The marks of the endpoint count, in both directions."""
    held = Held()
    async with serving(held, read_high_bytes=1000, write_high_bytes=1000) as served:
        client = await served.client()
        conn = await held.made
        assert conn._transport.get_write_buffer_limits()[1] == 1000
        await client.send(b"x" * 1001)
        await eventually_async(lambda: conn._reading is HELD)
        assert await conn.receive_exactly(1001) == b"x" * 1001


@on_both_loops
async def test_gigabyte_without_a_newline_is_refused_early() -> None:
    """receive_until gives up at its limit; what the peer goes on sending is not kept."""
    seen: list[int] = []

    async def read_line(conn: Connection) -> None:
        try:
            await conn.receive_until(b"\n", 100_000)
        except DelimiterNotFound:
            seen.append(len(conn._inbox))
            await conn.send(b"too long\n")

    with logged() as records:
        async with serving(read_line) as served:
            client = await served.client()
            sent: list[int] = []
            pushing = asyncio.ensure_future(stuff(client, 2**30, sent))
            await asyncio.wait([pushing])
            assert isinstance(pushing.exception(), ConnectionError)
            await served.all_closed()
            assert 100_000 <= seen[0] <= 100_000 + TWO_READS
            assert sum(sent) < 2**30
    assert not records


@on_both_loops
async def test_slow_lines_hold_back_the_peer() -> None:
    """A handler that takes one line and then does something else keeps no more than allowed."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        sent: list[int] = []
        pushing = asyncio.ensure_future(stuff(client, 128 * 1024 * 1024, sent))
        assert await conn.receive_exactly(10) == b"x" * 10
        await eventually_async(lambda: conn._reading is HELD)
        await stalled(sent)
        assert len(conn._inbox) <= 65536 + TWO_READS
        pushing.cancel()
