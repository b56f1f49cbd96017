"""The reading half without a socket: how the bytes arrive must not matter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from anyio import BrokenResourceError, DelimiterNotFound, EndOfStream, IncompleteRead
from hypothesis import given
from hypothesis import strategies as st

from hybrid.connection.connection import Connection
from hybrid.connection.endpoint import Endpoint
from hybrid.connection.flow import Flow
from hybrid.connection.phases import Phase
from tests.support.connections import RecordingDoor


class Wire(asyncio.Transport):
    """A transport that notes whether it is read; what arrives is the test's to say."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        self.written: list[bytes] = []

    def pause_reading(self) -> None:
        """Note it."""
        self.reading.clear()

    def resume_reading(self) -> None:
        """Note it."""
        self.reading.set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Know nothing."""
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take everything at once, as a peer does that reads faster than we write."""
        self.written.append(bytes(data))


class Alone(Flow):
    """A flow without a handler."""

    def __init__(self, endpoint: Endpoint, wire: Wire) -> None:
        super().__init__(endpoint)
        self._transport = wire
        self._phase = Phase.OPEN


async def no_handler(conn: Connection) -> None:
    """Do nothing."""


def flow(read_high_bytes: int = 65536) -> tuple[Flow, Wire]:
    """Return a flow on a wire of its own, in the running loop."""
    loop = asyncio.get_running_loop()
    endpoint = Endpoint(handler=no_handler, door=RecordingDoor(), loop=loop, read_high_bytes=read_high_bytes)
    wire = Wire()
    return Alone(endpoint, wire), wire


async def arrive(made: Flow, wire: Wire, pieces: Sequence[bytes], turns: int) -> None:
    """Let the pieces arrive, as a loop would: not while reading is paused, and with others' turns in between."""
    for piece in pieces:
        await wire.reading.wait()
        made.data_received(piece)
        for _ in range(turns):
            await asyncio.sleep(0)
    made.eof_received()


async def read_lines(made: Flow, limit: int) -> list[bytes]:
    """Return what receive_until finds, then what is left, then why it ended."""
    found: list[bytes] = []
    try:
        while True:
            found.append(await made.receive_until(b"ab", limit))
    except (DelimiterNotFound, IncompleteRead) as error:
        found.append(type(error).__name__.encode())
    try:
        rest = bytearray()
        while True:
            rest += await made.receive(3)
    except EndOfStream:
        return [*found, bytes(rest)]


def expected(payload: bytes, limit: int) -> list[bytes]:
    """Return what :func:`read_lines` must find, from the whole at once."""
    found: list[bytes] = []
    while True:
        index = payload.find(b"ab", 0, limit)
        if index < 0:
            why = b"DelimiterNotFound" if len(payload) >= limit else b"IncompleteRead"
            return [*found, why, payload]
        found.append(payload[:index])
        payload = payload[index + 2 :]


async def receive_by(made: Flow, kind: str, count: int) -> bytes:
    """Receive in one of the ways."""
    if kind == "receive":
        return await made.receive(count)
    if kind == "exactly":
        return await made.receive_exactly(count)
    return await made.__anext__()


PIECES = st.lists(st.text("abc", min_size=1, max_size=12).map(str.encode), max_size=10)


@given(pieces=PIECES, limit=st.integers(1, 20), high=st.integers(0, 20), turns=st.integers(0, 2))
def test_any_split_of_the_bytes_yields_the_same(pieces: list[bytes], limit: int, high: int, turns: int) -> None:
    """receive_until, its limit and what is left do not depend on how the bytes arrived."""

    async def main() -> None:
        made, wire = flow(high)
        arriving = asyncio.ensure_future(arrive(made, wire, pieces, turns))
        assert await read_lines(made, limit) == expected(b"".join(pieces), limit)
        await arriving

    asyncio.run(main())


@given(
    pieces=PIECES,
    operations=st.lists(st.tuples(st.sampled_from(["receive", "exactly", "next"]), st.integers(1, 9)), max_size=12),
    cancels=st.lists(st.booleans(), max_size=12),
    turns=st.integers(0, 2),
)
def test_no_byte_is_lost_doubled_or_moved(
    pieces: list[bytes], operations: list[tuple[str, int]], cancels: list[bool], turns: int
) -> None:
    """Whatever receives, and however often it is cancelled, the bytes come in order, each once."""

    async def main() -> None:
        made, wire = flow(5)
        arriving = asyncio.ensure_future(arrive(made, wire, pieces, turns))
        got = bytearray()
        for (kind, count), cancel in zip(operations, [*cancels, *[False] * len(operations)], strict=False):
            receiving = asyncio.ensure_future(receive_by(made, kind, count))
            await asyncio.sleep(0)
            if cancel:
                receiving.cancel()
            try:
                got += await receiving
            except (asyncio.CancelledError, EndOfStream, IncompleteRead, StopAsyncIteration):
                continue
        with contextlib.suppress(EndOfStream):
            while True:
                got += await made.receive()
        assert got == b"".join(pieces)
        await arriving

    asyncio.run(main())


async def test_search_goes_on_where_it_stopped() -> None:
    """A delimiter that never comes, in small pieces: the search is linear (a quadratic one runs into the timeout)."""
    made, _ = flow()
    limit = 48 * 1024 * 1024
    piece = b"x" * 2048
    waiting = asyncio.ensure_future(made.receive_until(b"\r\n", limit))
    for _ in range(limit // len(piece)):
        await asyncio.sleep(0)
        made.data_received(piece)
    try:
        await waiting
    except DelimiterNotFound:
        return
    raise AssertionError("a delimiter was found where there is none")


@pytest.mark.parametrize("operation", ["send", "receive", "exactly", "until"])
async def test_operations_that_need_not_wait_give_turns(operation: str) -> None:
    """A thousand of them in a row let other tasks run at least ten times, and no more than twenty: turns cost."""
    made, _ = flow()
    made.data_received(b"x\n" * 2000)
    turns = 0

    async def work() -> None:
        for _ in range(1000):
            if operation == "send":
                await made.send(b"x")
            elif operation == "until":
                await made.receive_until(b"\n", 10)
            else:
                await receive_by(made, operation, 1)

    working = asyncio.ensure_future(work())
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    assert 10 <= turns <= 20


async def test_sender_looks_again_after_it_was_woken() -> None:
    """Woken, but the transport is full again before the task runs: it waits on, and writes when there is room."""
    made, wire = flow()
    made.pause_writing()
    sending = asyncio.ensure_future(made.send(b"x"))
    await asyncio.sleep(0)
    made.resume_writing()
    made.pause_writing()
    for _ in range(3):
        await asyncio.sleep(0)
    assert wire.written == []
    made.resume_writing()
    await sending
    assert wire.written == [b"x"]


async def test_end_of_stream_outlives_a_break() -> None:
    """The peer ended in an orderly way and then broke the connection: receiving has ended, sending is broken."""
    made, _ = flow()
    made.eof_received()
    made.connection_lost(ConnectionResetError())
    with pytest.raises(EndOfStream):
        await made.receive()
    with pytest.raises(BrokenResourceError):
        await made.send(b"x")
