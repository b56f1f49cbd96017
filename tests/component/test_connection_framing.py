"""receive_exactly, receive_until and lines on a connection, over a real socket, on uvloop and on asyncio."""

from __future__ import annotations

import asyncio

import pytest
from anyio import BrokenResourceError, DelimiterNotFound, EndOfStream, IncompleteRead

from hybrid.connection.connection import Connection
from tests.component.test_connection_stream import Held
from tests.support.connections import on_both_loops, serving
from tests.support.eventually import eventually_async


@on_both_loops
async def test_receive_exactly_waits_for_all_of_it() -> None:
    """So many bytes, also when they come in pieces, and also more of them than are kept for a slow handler."""
    held = Held()
    async with serving(held, read_high_bytes=10) as served:
        client = await served.client()
        conn = await held.made
        payload = bytes(range(256)) * 4000
        waiting = asyncio.ensure_future(conn.receive_exactly(len(payload)))
        await client.send(payload[:5])
        await client.send(payload[5:] + b"rest")
        assert await waiting == payload
        assert await conn.receive_exactly(0) == b""
        assert await conn.receive_exactly(4) == b"rest"
        with pytest.raises(ValueError, match="negative"):
            await conn.receive_exactly(-1)


@on_both_loops
async def test_incomplete_read_keeps_what_came() -> None:
    """A peer that ends too early: IncompleteRead, and what it sent can still be received."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await client.send(b"half")
        client.end()
        with pytest.raises(IncompleteRead):
            await conn.receive_exactly(8)
        with pytest.raises(IncompleteRead):
            await conn.receive_until(b"\n", 100)
        assert await conn.receive() == b"half"
        with pytest.raises(EndOfStream):
            await conn.receive()


@on_both_loops
async def test_receive_until_consumes_the_delimiter() -> None:
    """The delimiter is consumed and not returned, also one that is split between two arrivals."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        first = asyncio.ensure_future(conn.receive_until(b"\r\n", 100))
        await client.send(b"one\r")
        await eventually_async(lambda: conn._inbox == b"one\r")
        await client.send(b"\ntwo\r\nthree")
        assert await first == b"one"
        assert await conn.receive_until(b"\r\n", 100) == b"two"
        assert await conn.receive() == b"three"
        for delimiter, limit in ((b"", 10), (b"\n", 0)):
            with pytest.raises(ValueError, match="limit"):
                await conn.receive_until(delimiter, limit)


@on_both_loops
async def test_delimiter_is_anything_like_bytes() -> None:
    """A bytearray or a memoryview too, in both builds."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await client.send(b"one,two,three,")
        assert await conn.receive_until(b",", 100) == b"one"
        assert await conn.receive_until(bytearray(b","), 100) == b"two"
        assert await conn.receive_until(memoryview(b","), 100) == b"three"


@on_both_loops
async def test_receive_until_gives_up_at_the_limit_and_keeps_the_bytes() -> None:
    """DelimiterNotFound comes when the limit is reached, whether or not the delimiter follows right behind."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await client.send(b"12345\n")
        with pytest.raises(DelimiterNotFound):
            await conn.receive_until(b"\n", 5)
        assert await conn.receive_until(b"\n", 6) == b"12345"


@on_both_loops
async def test_lines_are_stripped_of_their_newlines() -> None:
    r"""\n and \r\n end a line, a lone \r does not, and the last line needs none."""
    lines: list[bytes] = []

    async def collect(conn: Connection) -> None:
        async for line in conn.lines():
            lines.append(line)

    async with serving(collect) as served:
        client = await served.client()
        await client.send(b"one\ntwo\r\n\n\r\nth\rree\r\r\nlast")
        client.end()
        await served.all_closed()
        assert lines == [b"one", b"two", b"", b"", b"th\rree\r", b"last"]


@on_both_loops
async def test_a_line_too_long_is_an_error() -> None:
    """The limit holds for every line, its newline included."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await client.send(b"1234567\n12345678\n")
        lines = conn.lines(8)
        assert await lines.__anext__() == b"1234567"
        with pytest.raises(DelimiterNotFound):
            await lines.__anext__()


@on_both_loops
async def test_a_reset_within_a_line_is_no_last_line() -> None:
    """A line cut by a reset is not taken for the last one."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        waiting = asyncio.ensure_future(conn.lines().__anext__())
        await client.send(b"half a li")
        await eventually_async(lambda: conn._inbox)
        client.reset()
        with pytest.raises(BrokenResourceError):
            await waiting
