"""Life of a connection: its handler, its door, its end, on uvloop and on asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import socket
import tempfile
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream, IncompleteRead
from anyio.abc import SocketAttribute

from hybrid.connection.connection import Connection
from hybrid.connection.endpoint import Endpoint
from hybrid.connection.phases import BROKEN
from tests.component.test_connection_stream import Held, echo
from tests.support.connections import RecordingDoor, logged, on_both_loops, serving
from tests.support.eventually import eventually_async


@on_both_loops
async def test_returning_handler_flushes_then_closes() -> None:
    """What was sent arrives, however much, then the end; the door hears opened and closed, once each."""
    payload = b"x" * 20_000_000

    async def hand_over(conn: Connection) -> None:
        await conn.send(payload)

    async with serving(hand_over, write_high_bytes=50_000_000, state="ours") as served:
        client = await served.client()
        assert await client.receive_all() == payload
        await served.all_closed()
        assert len(served.door.opened_ones) == 1
        assert not served.door.failed_ones


@on_both_loops
async def test_handler_runs_in_its_own_task() -> None:
    """current_task is the connection's own, cancel scopes work in it, and contexts do not leak between connections."""
    seen: list[object] = []
    mark: contextvars.ContextVar[int] = contextvars.ContextVar("mark", default=0)

    async def look(conn: Connection) -> None:
        seen.append(mark.get())
        mark.set(len(seen))
        task = asyncio.current_task()
        with anyio.move_on_after(0) as scope:
            await conn.receive()
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(conn.send, b"x")
        assert asyncio.current_task() is task is conn._task
        assert mark.get() != 0
        assert conn.state == "ours"
        assert conn.tls is None

    with logged() as records:
        async with serving(look, state="ours", name="look") as served:
            for _ in range(2):
                client = await served.client()
                assert await client.receive_all() == b"x"
            await served.all_closed()
            assert seen == [0, 0]
    assert not records


@on_both_loops
async def test_raising_handler_is_logged_once_and_costs_its_connection() -> None:
    """One ERROR record with the peer and the traceback; the door hears failed, then closed; others are served."""

    async def fail(conn: Connection) -> None:
        if await conn.receive() == b"bad":
            raise ValueError("cannot bear it")
        await conn.send(b"fine")

    with logged() as records:
        async with serving(fail, name="fail") as served:
            bad, good = await served.client(), await served.client()
            await bad.send(b"bad")
            assert await bad.receive_all() == b""
            await good.send(b"good")
            assert await good.receive_all() == b"fine"
            await served.all_closed()
            host, port = bad.sock.getsockname()
            assert len(served.door.failed_ones) == 1
    assert [record.levelno for record in records] == [logging.ERROR]
    assert records[0].getMessage() == (
        f"handler fail failed, connection from {host}:{port} closed: ValueError: cannot bear it"
    )
    assert records[0].exc_info is not None
    assert isinstance(records[0].exc_info[1], ValueError)


def wrong_signature() -> None:
    """Take nothing, where a connection is given."""


def not_awaitable(conn: Connection) -> int:
    """Return what cannot be awaited."""
    return 1


def raises_at_once(conn: Connection) -> Awaitable[None]:
    """Raise before there is anything to await."""
    raise SystemExit(3)


async def leaves(conn: Connection) -> None:
    """Try to end the process."""
    await asyncio.sleep(0)
    raise SystemExit(3)


async def gives_up(conn: Connection) -> None:
    """Raise what Python itself raises in a coroutine that is thrown away."""
    raise GeneratorExit


async def interrupts(conn: Connection) -> None:
    """Try to end the process in another way."""
    raise KeyboardInterrupt


@on_both_loops
async def test_no_handler_can_end_the_loop_or_the_listener() -> None:
    """A wrong signature, a result that cannot be awaited, SystemExit …: each costs one connection."""
    handlers: list[Any] = [wrong_signature, not_awaitable, raises_at_once, leaves, interrupts, gives_up]
    turns = iter(handlers)

    def call(conn: Connection) -> Awaitable[object]:
        handler = next(turns, echo)
        return cast(Awaitable[object], handler() if handler is wrong_signature else handler(conn))

    with logged() as records:
        async with serving(call) as served:
            for _ in handlers:
                client = await served.client()
                assert await client.receive_all() == b""
            client = await served.client()
            await client.send(b"still serving")
            assert await client.receive() == b"still serving"
            assert len(served.door.failed_ones) == len(handlers)
        assert len(served.door.closed_ones) == len(handlers) + 1
    assert [record.levelname for record in records] == ["ERROR"] * len(handlers)


@on_both_loops
async def test_peer_that_leaves_is_no_failure_of_the_handler() -> None:
    """Errors that only say that the peer has gone, also in groups, are noted at debug level and not counted."""

    async def exactly(conn: Connection) -> None:
        await conn.receive_exactly(10)

    async def plain(conn: Connection) -> None:
        while True:
            await conn.receive()

    async def grouped(conn: Connection) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(conn.receive_exactly, 10)

    async def raises_os_error(conn: Connection) -> None:
        try:
            await conn.receive_exactly(10)
        except (BrokenResourceError, IncompleteRead):
            raise ConnectionResetError("reset") from None

    for handler in (exactly, plain, grouped, raises_os_error):
        for leave in ("end", "reset"):
            with logged() as records:
                async with serving(handler) as served:
                    client = await served.client()
                    conn = await served.one()
                    await eventually_async(lambda conn=conn: conn._reader)  # type: ignore[misc]
                    getattr(client, leave)()
                    await served.all_closed()
                    assert not served.door.failed_ones, handler
            assert [record.levelname for record in records] == ["DEBUG"], handler


@on_both_loops
async def test_disconnect_of_something_else_is_a_failure() -> None:
    """The same errors are the handler's when its own connection is well: they came from another one."""
    for error in (ConnectionResetError(), BrokenResourceError(), EndOfStream()):

        async def fail(conn: Connection, error: Exception = error) -> None:
            raise error

        with logged() as records:
            async with serving(fail) as served:
                await served.client()
                await served.all_closed()
                assert len(served.door.failed_ones) == 1
        assert [record.levelname for record in records] == ["ERROR"]


@on_both_loops
async def test_reset_does_not_interrupt_a_handler_that_is_busy_elsewhere() -> None:
    """The handler goes on until it touches the connection; only then is the connection done."""
    go_on = asyncio.Event()
    outcome: list[object] = []

    async def busy(conn: Connection) -> None:
        await go_on.wait()
        try:
            await conn.send(b"x")
        except BrokenResourceError as error:
            outcome.append(error)

    async with serving(busy) as served:
        client = await served.client()
        conn = await served.one()
        client.reset()
        await eventually_async(lambda: conn._phase is BROKEN)
        assert not served.door.closed_ones
        go_on.set()
        await served.all_closed()
        assert len(outcome) == 1


@on_both_loops
async def test_cancel_ends_handler_and_connection_quietly() -> None:
    """cancel(): the handler sees CancelledError, what it sent is flushed, nothing is logged."""
    payload = b"x" * 20_000_000
    cancelled: list[bool] = []

    async def wait(conn: Connection) -> None:
        await conn.send(payload)
        try:
            await conn.receive()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with logged() as records:
        async with serving(wait, write_high_bytes=50_000_000) as served:
            client = await served.client()
            conn = await served.one()
            await eventually_async(lambda: conn._reader)
            conn.cancel()
            assert await client.receive_all() == payload
            await served.all_closed()
            assert not served.door.failed_ones
    assert cancelled == [True]
    assert not records


@on_both_loops
async def test_cancel_before_the_first_step_still_closes() -> None:
    """A connection that is cancelled in the very moment it is made ends like any other."""

    class Hasty(RecordingDoor):
        def opened(self, connection: Any) -> None:
            super().opened(connection)
            connection.cancel()

    async def wait(conn: Connection) -> None:
        await conn.receive()

    async with serving(wait) as served:
        hasty = Hasty()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        endpoint = Endpoint(handler=wait, door=hasty, loop=loop)
        await loop.create_connection(lambda: cast(asyncio.BaseProtocol, Connection(endpoint)), sock=ours)
        await eventually_async(lambda: hasty.closed_ones)
        theirs.close()
        assert not served.door.opened_ones


@on_both_loops
async def test_abort_closes_though_the_handler_ignores_cancellation() -> None:
    """A handler that will not go: abort() closes the transport at once, and the door waits for the handler."""
    release = asyncio.Event()

    async def stubborn(conn: Connection) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with serving(stubborn) as served:
        client = await served.client()
        conn = await served.one()
        conn.cancel()
        conn.abort()
        assert await client.receive_all() == b""
        assert not served.door.closed_ones
        conn.abort()
        release.set()
        await served.all_closed()


@on_both_loops
async def test_abort_drops_what_is_unsent() -> None:
    """A peer that never reads keeps nothing open after abort(), also when the handler has returned."""

    async def hand_over(conn: Connection) -> None:
        await conn.send(b"x" * 20_000_000)

    async with serving(hand_over, write_high_bytes=50_000_000) as served:
        await served.client()
        conn = await served.one()
        await eventually_async(lambda: conn._task is not None and conn._task.done())
        assert not served.door.closed_ones
        conn.cancel()
        conn.abort()
        await served.all_closed()


@on_both_loops
async def test_uses_after_the_handler_returned_are_refused() -> None:
    """A task that the handler left behind gets ClosedResourceError."""
    left_behind: list[asyncio.Task[bytes]] = []

    async def leave(conn: Connection) -> None:
        left_behind.append(asyncio.ensure_future(conn.receive()))
        await eventually_async(lambda: conn._reader)

    async with serving(leave) as served:
        await served.client()
        await served.all_closed()
        with pytest.raises(ClosedResourceError):
            await left_behind[0]


@on_both_loops
async def test_draining_is_seen_and_awaited() -> None:
    """start_draining() shows in ``draining`` and wakes everyone who waits for it, now or later."""
    held = Held()
    async with serving(held) as served:
        await served.client()
        conn = await held.made
        seen = [conn.draining]
        waiters = [asyncio.ensure_future(conn.wait_draining()) for _ in range(2)]
        waiters[0].cancel()
        await eventually_async(lambda: conn._drain)
        conn.start_draining()
        await waiters[1]
        await conn.wait_draining()
        seen.append(conn.draining)
        assert seen == [False, True]


@on_both_loops
async def test_detach_hands_out_the_socket_and_the_bytes() -> None:
    """The socket blocks, lives on when the handler returns, and what was received or sent before is not lost."""
    given: asyncio.Future[tuple[socket.socket, bytes]] = asyncio.get_running_loop().create_future()
    payload = b"x" * 20_000_000

    async def give_away(conn: Connection) -> None:
        await eventually_async(lambda: conn._inbox)
        await conn.send(payload)
        given.set_result(await conn.detach())
        with pytest.raises(ClosedResourceError):
            await conn.receive()
        with pytest.raises(ClosedResourceError):
            await conn.detach()

    with logged() as records:
        async with serving(give_away, write_high_bytes=50_000_000) as served:
            client = await served.client()
            await client.send(b"early bytes")
            assert await client.receive_exactly(len(payload)) == payload
            await served.all_closed()
            sock, received = await given
            assert received == b"early bytes"
            with sock:
                assert os.get_blocking(sock.fileno())
                assert not sock.get_inheritable()
                assert sock.getpeername() == client.sock.getsockname()
                await client.send(b"to the socket")
                assert sock.recv(100) == b"to the socket"
                sock.sendall(b"from the socket")
                assert await client.receive() == b"from the socket"
            assert await client.receive() == b""
    assert not records


@on_both_loops
async def test_detach_is_refused_while_another_task_receives() -> None:
    """The bytes that the other task waits for would be lost between two readers."""
    held = Held()
    async with serving(held) as served:
        await served.client()
        conn = await held.made
        waiting = asyncio.ensure_future(conn.receive())
        await eventually_async(lambda: conn._reader)
        with pytest.raises(BusyResourceError):
            await conn.detach()
        waiting.cancel()


@on_both_loops
async def test_cancelled_detach_leaves_the_connection_as_it_was() -> None:
    """A peer that does not read keeps detach() waiting; cancelled, the connection works as before."""
    held = Held()
    async with serving(held, write_high_bytes=50_000_000) as served:
        client = await served.client()
        conn = await held.made
        await conn.send(b"x" * 20_000_000)
        with anyio.move_on_after(0) as scope:
            await conn.detach()
        assert scope.cancelled_caught
        assert conn._transport.get_write_buffer_limits()[1] == 50_000_000
        sending = asyncio.ensure_future(conn.send(b"y"))
        assert await client.receive_exactly(20_000_001) == b"x" * 20_000_000 + b"y"
        await sending


@on_both_loops
async def test_unix_socket_has_a_path_for_an_address() -> None:
    """local is the path; the client's unnamed end is ""; ports are not known."""
    held = Held()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "listener")
        async with serving(held, path=path) as served:
            client = await served.client()
            conn = await held.made
            assert conn.local == str(path)
            assert conn.peer == ""
            assert conn.extra(SocketAttribute.family) == socket.AF_UNIX
            assert conn.extra(SocketAttribute.local_address) == str(path)
            assert conn.extra(SocketAttribute.local_port, None) is None
            await client.send(b"x")
            assert await conn.receive() == b"x"


@on_both_loops
async def test_client_that_is_gone_before_it_is_served_harms_nobody() -> None:
    """A transport that is closing already, or a socket without a peer: the handler runs, peer is ("", 0)."""
    door = RecordingDoor()
    loop = asyncio.get_running_loop()
    outcomes: list[object] = []

    async def ask(conn: Connection) -> None:
        outcomes.append(conn.peer)
        try:
            outcomes.append(await conn.receive())
        except EndOfStream:
            outcomes.append("end")

    class Gone(asyncio.Transport):
        """What a loop hands over when accept() and a reset met: nothing about it can be learned."""

        def is_closing(self) -> bool:
            return True

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            raise OSError(107, "Transport endpoint is not connected")

        def close(self) -> None:
            """Be closed already."""

    connection = Connection(Endpoint(handler=ask, door=door, loop=loop, write_high_bytes=10))
    connection.connection_made(Gone())
    connection.connection_lost(None)
    await eventually_async(lambda: door.closed_ones)
    assert outcomes == [("", 0), "end"]
    assert connection.peer == ("", 0)


@on_both_loops
async def test_a_client_that_connects_and_resets_is_survived() -> None:
    """Hundreds of clients that reset at once cost nothing but themselves."""
    with logged(logging.INFO) as records:
        async with serving(echo) as served:
            for _ in range(200):
                client = await served.client()
                client.reset()
            last = await served.client()
            await last.send(b"x")
            assert await last.receive() == b"x"
            last.end()
            await served.all_closed()
            assert not served.door.failed_ones
    assert not records


@on_both_loops
async def test_a_closed_connection_leaves_no_garbage() -> None:
    """No reference cycle keeps a connection that is done: ten thousand an hour cost no garbage collection."""

    async def fail(conn: Connection) -> None:
        await conn.receive()
        raise ValueError

    handlers: list[Callable[[Connection], Awaitable[object]]] = [echo, fail]
    gc.disable()
    try:
        for handler in handlers:
            with logged() as records:
                async with serving(handler) as served:
                    client = await served.client()
                    reference = weakref.ref(await served.one())
                    await client.send(b"x")
                    client.end()
                    await client.receive_all()
                    await served.all_closed()
                    for told in (served.door.opened_ones, served.door.closed_ones, served.door.failed_ones):
                        told.clear()
                    records.clear()
                    await eventually_async(lambda reference=reference: reference() is None)  # type: ignore[misc]
    finally:
        gc.enable()
