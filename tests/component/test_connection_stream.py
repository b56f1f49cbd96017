"""A connection keeps what anyio promises for a byte stream. Each test runs on uvloop and on asyncio."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import anyio
import anyio.abc
import anyio.streams.tls
import pytest
from anyio import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    EndOfStream,
    TypedAttributeLookupError,
)
from anyio.abc import SocketAttribute

from hybrid.connection.connection import Connection
from hybrid.connection.phases import BROKEN, FINISHED
from tests.support.connections import on_both_loops, serving
from tests.support.eventually import eventually_async


async def echo(conn: Connection) -> None:
    """Echo."""
    async for chunk in conn:
        await conn.send(chunk)


class Held:
    """A handler that only lends its connection to the test."""

    def __init__(self) -> None:
        self.made: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self.release = asyncio.Event()

    async def __call__(self, conn: Connection) -> None:
        """Hand out the connection, wait."""
        self.made.set_result(conn)
        await self.release.wait()


@on_both_loops
async def test_connection_is_a_byte_stream() -> None:
    """isinstance() agrees that a connection is an anyio.abc.ByteStream."""
    held = Held()
    async with serving(held) as served:
        await served.client()
        conn = await held.made
        assert isinstance(conn, anyio.abc.ByteStream)
        async with conn as same:
            assert same is conn
        with pytest.raises(ClosedResourceError):
            await conn.receive()


@on_both_loops
async def test_echo_returns_every_byte() -> None:
    """Several MB come back unchanged through receive and send, though both sides have to wait for each other."""
    payload = bytes(range(256)) * 16384
    async with serving(echo) as served:
        client = await served.client()

        async def push() -> None:
            await client.send(payload)
            client.end()

        sending = asyncio.ensure_future(push())
        assert await client.receive_all() == payload
        await sending
        await served.all_closed()


@on_both_loops
async def test_receive_returns_at_most_max_bytes() -> None:
    """What is more than max_bytes stays for the next receive, whether it waited or was kept."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        waiting = asyncio.ensure_future(conn.receive(3))
        await client.send(b"abcdefgh")
        assert await waiting == b"abc"
        assert await conn.receive(4) == b"defg"
        assert await conn.receive() == b"h"
        with pytest.raises(ValueError, match="at least 1"):
            await conn.receive(0)


@on_both_loops
async def test_iteration_yields_at_most_65536_bytes() -> None:
    """async for keeps anyio's promise on the size of a chunk, and ends at the peer's end."""
    chunks: list[bytes] = []

    async def collect(conn: Connection) -> None:
        async for chunk in conn:
            chunks.append(chunk)

    async with serving(collect) as served:
        client = await served.client()
        await client.send(b"x" * 1_000_000)
        client.end()
        await served.all_closed()
        assert sum(map(len, chunks)) == 1_000_000
        assert 0 < max(map(len, chunks)) <= 65536


@on_both_loops
async def test_receive_at_the_end_raises_end_of_stream_again_and_again() -> None:
    """The peer's half-close ends receiving, not sending."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        waiting = asyncio.ensure_future(conn.receive())
        client.end()
        with pytest.raises(EndOfStream):
            await waiting
        with pytest.raises(EndOfStream):
            await conn.receive()
        await conn.send(b"still here")
        assert await client.receive() == b"still here"
        await conn.aclose()
        with pytest.raises(ClosedResourceError):
            await conn.receive()


@on_both_loops
async def test_bytes_before_the_end_are_received_first() -> None:
    """The end does not overtake what came before it."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await client.send(b"last words")
        client.end()
        await eventually_async(lambda: conn._reading is FINISHED)
        assert await conn.receive() == b"last words"
        with pytest.raises(EndOfStream):
            await conn.receive()


@on_both_loops
async def test_send_eof_ends_sending_only() -> None:
    """After send_eof the peer sees the end and may still send; a further send is an error, a further send_eof not."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await conn.send(b"bye")
        await conn.send_eof()
        await conn.send_eof()
        assert await client.receive_all() == b"bye"
        with pytest.raises(ClosedResourceError):
            await conn.send(b"more")
        await client.send(b"answer")
        assert await conn.receive() == b"answer"


@on_both_loops
async def test_second_receive_is_refused() -> None:
    """Two tasks that receive get BusyResourceError, and the first one its bytes."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        first = asyncio.ensure_future(conn.receive())
        await eventually_async(lambda: conn._reader)
        for second in (conn.receive, conn.__anext__):
            with pytest.raises(BusyResourceError):
                await second()
        with pytest.raises(BusyResourceError):
            await conn.receive_exactly(1)
        with pytest.raises(BusyResourceError):
            await conn.receive_until(b"\n", 10)
        await client.send(b"mine")
        assert await first == b"mine"


@on_both_loops
async def test_second_send_is_refused_while_the_first_waits() -> None:
    """Two tasks that send get BusyResourceError as soon as the first has to wait."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        payload = b"x" * 20_000_000
        first = asyncio.ensure_future(conn.send(payload))
        await eventually_async(lambda: conn._writer)
        with pytest.raises(BusyResourceError):
            await conn.send(b"y")
        assert await client.receive_exactly(len(payload)) == payload
        await first


@on_both_loops
async def test_a_waiting_send_learns_of_the_end() -> None:
    """Who waits in send gets ClosedResourceError when another task closes, BrokenResourceError when the peer resets."""
    for ours, error in ((True, ClosedResourceError), (False, BrokenResourceError)):
        held = Held()
        async with serving(held) as served:
            client = await served.client()
            conn = await held.made
            sending = asyncio.ensure_future(conn.send(b"x" * 20_000_000))
            await eventually_async(lambda conn=conn: conn._writer)  # type: ignore[misc]
            if ours:
                conn.abort()
            else:
                client.reset()
            with pytest.raises(error):
                await sending


@on_both_loops
async def test_aclose_wakes_who_receives() -> None:
    """A pending receive gets ClosedResourceError when another task closes."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        waiting = asyncio.ensure_future(conn.receive())
        await eventually_async(lambda: conn._reader)
        await conn.aclose()
        with pytest.raises(ClosedResourceError):
            await waiting
        client.end()
        assert await client.receive_all() == b""
        await conn.aclose()
        for use in (conn.receive(), conn.__anext__(), conn.send(b"x"), conn.send_eof(), conn.receive_exactly(1)):
            with pytest.raises(ClosedResourceError):
                await use


@on_both_loops
async def test_aclose_drops_what_was_not_received() -> None:
    """After aclose nothing is received, also not what had arrived."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await client.send(b"unread")
        await eventually_async(lambda: conn._inbox)
        await conn.aclose()
        with pytest.raises(ClosedResourceError):
            await conn.receive()


@on_both_loops
async def test_aclose_sends_what_is_unsent() -> None:
    """Closing in an orderly way: the peer gets every byte first."""
    held = Held()
    async with serving(held, write_high_bytes=50_000_000) as served:
        client = await served.client()
        conn = await held.made
        payload = b"x" * 20_000_000
        await conn.send(payload)
        closing = asyncio.ensure_future(conn.aclose())
        assert await client.receive_all() == payload
        await closing


@on_both_loops
async def test_cancelled_aclose_closes_at_once() -> None:
    """A peer that does not read cannot keep a connection open: cancelled, or forcefully, it closes without flushing."""
    held = Held()
    async with serving(held, write_high_bytes=50_000_000) as served:
        await served.client()
        conn = await held.made
        await conn.send(b"x" * 20_000_000)
        await anyio.aclose_forcefully(conn)
        held.release.set()
        await served.all_closed()


@on_both_loops
async def test_reset_breaks_receive_and_send() -> None:
    """After the peer's RST a receive gets BrokenResourceError with the cause, and so does every later use."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        waiting = asyncio.ensure_future(conn.receive())
        await eventually_async(lambda: conn._reader)
        client.reset()
        with pytest.raises(BrokenResourceError) as caught:
            await waiting
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        for use in (conn.receive(), conn.__anext__(), conn.send(b"x"), conn.send_eof(), conn.receive_until(b"\n", 9)):
            with pytest.raises(BrokenResourceError):
                await use


@on_both_loops
async def test_bytes_before_a_reset_are_received_first() -> None:
    """What had arrived before the reset is not lost with it."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        await client.send(b"last words")
        await eventually_async(lambda: conn._inbox)
        client.reset()
        await eventually_async(lambda: conn._phase is BROKEN)
        assert await conn.receive() == b"last words"
        with pytest.raises(BrokenResourceError):
            await conn.receive()


@on_both_loops
async def test_sending_in_a_loop_to_a_peer_that_left_ends() -> None:
    """A handler that only sends and never waits learns of a reset, and others get turns meanwhile."""
    turns = 0

    async def chargen(conn: Connection) -> None:
        while True:
            await conn.send(b"x" * 10)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(chargen) as served:
        counting = asyncio.ensure_future(count_turns())
        client = await served.client()
        await client.receive()
        client.reset()
        await served.all_closed()
        counting.cancel()
        assert turns > 0
        assert not served.door.failed_ones


@on_both_loops
async def test_a_handler_whose_bytes_are_there_already_gives_turns() -> None:
    """Thousands of lines that arrived at once are not handled in one go."""
    turns_between: list[int] = []
    turns = 0
    seen = asyncio.Event()

    async def take(conn: Connection) -> None:
        await eventually_async(lambda: len(conn._inbox) == 20_000)
        turns_between.append(turns)
        async for _ in conn.lines():
            pass
        turns_between.append(turns)
        seen.set()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(take) as served:
        counting = asyncio.ensure_future(count_turns())
        client = await served.client()
        await client.send(b"x\n" * 10_000)
        client.end()
        await seen.wait()
        counting.cancel()
        assert turns_between[1] - turns_between[0] >= 100


@on_both_loops
async def test_cancelled_receive_loses_no_bytes() -> None:
    """asyncio's cancel at the worst moment, after the bytes were handed over and before the task ran, keeps them."""
    held = Held()
    async with serving(held) as served:
        await served.client()
        conn = await held.made
        for receive in (
            conn.receive,
            conn.__anext__,
            lambda: conn.receive_exactly(1),
            lambda: conn.receive_until(b"!", 9),
        ):
            waiting = asyncio.ensure_future(receive())
            await eventually_async(lambda: conn._reader)
            conn.data_received(b"prec")  # as the loop calls it; the socket would not let us choose the moment
            waiting.cancel()
            conn.data_received(b"ious!")
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await conn.receive_exactly(9) == b"precious!"


@on_both_loops
async def test_cancel_scope_around_receive_loses_no_bytes() -> None:
    """anyio's timeouts cancel a receive without harm: what comes later is received later."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        for _ in range(3):
            with anyio.move_on_after(0) as scope:
                await conn.receive()
            assert scope.cancelled_caught
        await client.send(b"abc")
        with anyio.fail_after(5):
            assert await conn.receive() == b"abc"


@on_both_loops
async def test_cancelled_send_leaves_the_connection_usable() -> None:
    """A send that waited and was cancelled blocks no later one."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        payload = b"x" * 20_000_000
        with anyio.move_on_after(0) as scope:
            await conn.send(payload)
        assert scope.cancelled_caught
        sending = asyncio.ensure_future(conn.send(b"y"))
        assert await client.receive_exactly(len(payload) + 1) == payload + b"y"
        await sending


@on_both_loops
async def test_a_buffer_may_be_reused_after_send() -> None:
    """A bytearray that the caller changes after send() is sent as it was."""
    held = Held()
    async with serving(held, write_high_bytes=50_000_000) as served:
        client = await served.client()
        conn = await held.made
        buffer = bytearray(b"a" * 20_000_000)
        await conn.send(buffer)
        buffer[:] = b"b" * len(buffer)
        buffer.clear()
        assert await client.receive_exactly(20_000_000) == b"a" * 20_000_000


@on_both_loops
async def test_only_bytes_can_be_sent() -> None:
    """A number or a text is an error, not so many zeros; the connection stays usable."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        wrong: list[Any] = [5, "text"]
        for item in wrong:
            with pytest.raises(TypeError):
                await conn.send(item)
        await conn.send(memoryview(b"fine"))
        assert await client.receive() == b"fine"


@on_both_loops
async def test_attributes_are_anyios() -> None:
    """extra() finds every SocketAttribute of a TCP connection, with the right values."""
    held = Held()
    async with serving(held) as served:
        client = await served.client()
        conn = await held.made
        mine = client.sock.getsockname()
        assert conn.extra(SocketAttribute.family) == socket.AF_INET
        assert conn.extra(SocketAttribute.local_address) == conn.local == served.where
        assert conn.extra(SocketAttribute.local_port) == served.where[1]
        assert conn.extra(SocketAttribute.remote_address) == conn.peer == mine
        assert conn.extra(SocketAttribute.remote_port) == mine[1]
        assert conn.extra(SocketAttribute.raw_socket).getsockname() == served.where
        with pytest.raises(TypedAttributeLookupError):
            conn.extra(anyio.streams.tls.TLSAttribute.tls_version)
        assert conn.extra(anyio.streams.tls.TLSAttribute.tls_version, None) is None
